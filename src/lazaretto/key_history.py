"""The history of keys: a chain of signed records of each rotation, revocation and re-attestation.

Trust begins at the first public keys, which are pinned by hand (``publisher.pub``, ``audit.pub``, ``policy.pub``, never
replaced). A record is signed by two keys: the one it is about, as it was before, and that of a witness. So a stolen key
alone can endorse no other. The history lies in the workspace and, where there is one, in the folder of keys too; the
longer of the two counts when the other is its beginning.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lazaretto.attest import NOTHING, canonical_json, opened
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.keys import AUDIT, POLICY, PUBLISHER, private_key, public_key, raw_public_key
from lazaretto.seen import check_seen_keys
from lazaretto.signers import Generation, Pin, Signers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from lazaretto.config import Workspace

RECORD_TYPE = "application/vnd.lazaretto.key-record+json"
HISTORY = "history.json"
WITNESS = {PUBLISHER: POLICY, AUDIT: POLICY, POLICY: PUBLISHER}
"""Whose key signs a record beside the one it is about."""
ROTATED = "rotated"
REVOKED = "revoked"
REATTESTED = "reattested"
_READ_HINT = "restore it from a backup; whoever may write it is not to be trusted"


@dataclass(frozen=True)
class KeyRecord:
    """One thing that was said of a key."""

    workspace: str
    number: int
    """1 for the first."""
    previous: str
    """Digest of the record before."""
    kind: str
    """`ROTATED`, `REVOKED` or `REATTESTED`."""
    name: str
    """publisher, audit or policy."""
    at: str
    """UTC, ISO 8601."""
    by: str
    old: str
    """The key as it was, raw, hexadecimal."""
    new: str
    """The key from now on; the same where none was changed."""
    pins: dict[str, list[Any]] = field(default_factory=dict)
    """Subject -> number and digest of the newest it signed; of a re-attestation, up to where it vouches."""
    since: str = ""
    """Of a revocation: from when on the key may have been in other hands."""
    sound: dict[str, int] = field(default_factory=dict)
    """Of a revocation: subject -> number up to which it had signed before that."""
    why: str = ""

    def payload(self) -> bytes:
        """What is signed."""
        return canonical_json(asdict(self))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what is signed."""
        return hashlib.sha256(self.payload()).hexdigest()


def history_file(workspace: Workspace) -> Path:
    """Where the history lies in the workspace, for everybody to read."""
    return workspace.state / "keys" / HISTORY


def read_envelopes(workspace: Workspace) -> list[str]:
    """The records' envelopes, oldest first, not verified.

    Raises:
        IntegrityViolated: A copy cannot be read, or the two copies contradict each other.
    """
    copies = [_envelopes(path) for path in (history_file(workspace), workspace.keys / HISTORY)]
    shorter, longer = sorted(copies, key=len)
    if longer[: len(shorter)] != shorter:
        raise IntegrityViolated(
            f"{workspace.keys / HISTORY} and {history_file(workspace)} tell different histories of the keys",
            hint="one of them was forged: compare with another machine's copy before anything is trusted",
        )
    return longer


def _envelopes(path: Path) -> list[str]:
    try:
        content = json.loads(path.read_bytes())["records"]
        return [canonical_json(envelope).decode() for envelope in content]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"the history of keys {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityViolated(f"the history of keys {path} is damaged", hint=_READ_HINT) from error


def read_history(workspace: Workspace, *, remember: bool = False) -> tuple[KeyRecord, ...]:
    """The records, each signature and each link verified.

    Args:
        workspace: Whose.
        remember: Whether this machine remembers how far it went, so that a later putting back is noticed.

    Raises:
        IntegrityViolated: A record was altered, forged or removed.
        UsageError: A public key that is needed is not there.
    """
    records: list[KeyRecord] = []
    keys: dict[str, Ed25519PublicKey] = {}
    for number, envelope in enumerate(read_envelopes(workspace), start=1):
        where = f"record {number} of the history of keys"
        record = record_of(envelope, where)
        signed_by = {name: _key(workspace, keys, name) for name in (record.name, WITNESS[record.name])}
        payload = opened(
            envelope.encode(), RECORD_TYPE, {name: key for name, key in signed_by.items() if key is not None}, where
        )
        previous = records[-1].digest if records else NOTHING
        own = signed_by[record.name]
        sound = (
            payload == record.payload()
            and (record.workspace, record.number, record.previous) == (workspace.id, number, previous)
            and (own is None or own.public_bytes_raw().hex() == record.old)
        )
        if not sound:
            raise IntegrityViolated(f"{where} does not follow from what was before it", hint=_READ_HINT)
        if own is not None:
            keys[record.name] = raw_public_key(record.new)
        records.append(record)
    check_seen_keys(workspace, [record.digest for record in records], remember=remember)
    return tuple(records)


def _key(workspace: Workspace, known: dict[str, Ed25519PublicKey], name: str) -> Ed25519PublicKey | None:
    """The key of a name as of now; None for the audit key where a machine that only reads data lacks it."""
    if name not in known:
        if name == AUDIT and not (workspace.keys / f"{AUDIT}.pub").exists():
            return None
        known[name] = public_key(workspace.keys, name)
    return known[name]


def record_of(envelope: str, where: str) -> KeyRecord:
    """What an envelope says, its signatures not yet looked at.

    Raises:
        IntegrityViolated: It says nothing of a key.
    """
    try:
        record = KeyRecord(**json.loads(base64.b64decode(json.loads(envelope)["payload"])))
        known = record.kind in {ROTATED, REVOKED, REATTESTED} and record.name in WITNESS
        known = known and len(bytes.fromhex(record.new)) == len(bytes.fromhex(record.old)) == 32  # noqa: PLR2004  Ed25519
        known = known and all(int(pin[0]) >= 0 and isinstance(pin[1], str) for pin in record.pins.values())
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise IntegrityViolated(f"{where} is damaged", hint=_READ_HINT) from error
    if not known:
        raise IntegrityViolated(f"{where} is damaged", hint=_READ_HINT)
    return record


def signers_of(workspace: Workspace, name: str, *, remember: bool = False) -> Signers:
    """Every key a name had, each with how far it counts.

    Raises:
        IntegrityViolated: The history of keys was tampered with.
        UsageError: A public key is missing.
    """
    first = public_key(workspace.keys, name)
    return replayed(name, first, read_history(workspace, remember=remember))


def replayed(name: str, first: Ed25519PublicKey, records: Sequence[KeyRecord]) -> Signers:
    """What a history makes of a pinned key."""
    generations, vouched = [Generation(first)], dict[str, Pin]()
    for record in (record for record in records if record.name == name):
        pins = {subject: Pin(int(number), digest) for subject, (number, digest) in record.pins.items()}
        if record.kind == REATTESTED:
            vouched.update(pins)
            continue
        retired = replace(generations[-1], until=pins)
        if record.kind == REVOKED:
            retired = replace(retired, revoked_at=record.at, since=record.since, sound=record.sound)
            # Whatever was vouched for with the stolen key itself counts no more.
            vouched = {subject: pin for subject, pin in vouched.items() if pin.number <= record.sound.get(subject, 0)}
        generations[-1:] = [retired, Generation(raw_public_key(record.new))]
    return Signers(name, tuple(generations), vouched)


def signing_key(workspace: Workspace, name: str) -> Ed25519PrivateKey:
    """The private key in use.

    Raises:
        UsageError: It is missing, or is one that was retired.
    """
    key = private_key(workspace.keys, name)
    if not read_envelopes(workspace):
        return key
    if key.public_key().public_bytes_raw() != signers_of(workspace, name).current.public_bytes_raw():
        raise UsageError(
            f"{workspace.keys / name}.key is not the {name}'s key in use: it was retired, or its change interrupted",
            hint="bring the new key here; after an interruption, run the same lazaretto keys command again",
        )
    return key


def envelope_texts(envelopes: Sequence[str]) -> bytes:
    """The content of a history file."""
    content: Mapping[str, Any] = {"records": [json.loads(envelope) for envelope in envelopes]}
    return json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
