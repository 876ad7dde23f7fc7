"""The audit log: a hash chain of what was done, in the ledger, with a signed checkpoint outside it.

Every entry holds the hash of the one before it, so that an entry can be neither altered nor taken out without the
hashes after it changing. The checkpoint pins the newest hash: a C2SP signed note (https://c2sp.org/signed-note) whose
body is laid out as a C2SP checkpoint (https://c2sp.org/tlog-checkpoint): origin, size, hash. One departure: where a
transparency log puts the root of a Merkle tree, here stands the head of the hash chain.

Entries name ids, counts and digests. They never hold a sample's content or a secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lazaretto.attest import NOTHING, canonical_json
from lazaretto.errors import IntegrityViolated
from lazaretto.signers import WHOLE_LOG, Signers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from lazaretto.config import Workspace

_ED25519 = b"\x01"
"""Signature type of the signed-note format."""
_KEY_ID_BYTES = 4


@dataclass(frozen=True)
class Entry:
    """One thing that was done."""

    seq: int
    """1 for the first entry."""
    at: str
    """UTC, ISO 8601."""
    actor: str
    action: str
    """What was done, as ``thing.verb``: ``batch.admitted``, ``case.released``."""
    dataset: str
    subject: str
    """Id of what it was done to."""
    detail: dict[str, Any]
    """Counts, ids and digests."""
    previous: str = NOTHING

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the previous hash and the entry's canonical JSON."""
        content = [self.seq, self.at, self.actor, self.action, self.dataset, self.subject, self.detail]
        return hashlib.sha256(self.previous.encode() + b"\n" + canonical_json(content)).hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """A signed statement of how long the log was and where its chain ended."""

    origin: str
    size: int
    head: str
    """Hash (hex) of entry number ``size``."""
    anchored: tuple[tuple[str, int], ...] = ()
    """Id of each anchor it goes to, and how many checkpoints that one then has: one that is taken away is missed."""

    @property
    def body(self) -> bytes:
        """The text that is signed; what is said of anchors is one extension line of the format."""
        head = base64.b64encode(bytes.fromhex(self.head)).decode()
        anchored = " ".join(f"{name}:{count}" for name, count in self.anchored)
        extension = f"anchored {anchored}\n" if anchored else ""
        return f"{self.origin}\n{self.size}\n{head}\n{extension}".encode()


def time_text(moment: datetime) -> str:
    """A moment as the ledger and the audit log have it: UTC, ISO 8601, to the second; ordered like the moments."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def digest_of(value: object) -> str:
    """SHA-256 (hex) of a value's canonical JSON: what an entry holds in place of text that may quote a sample."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def holds(entry: Entry, said: str) -> bool:
    """Whether an entry is still the one that the ledger's hash is of."""
    try:
        return entry.hash == said
    except (ValueError, TypeError, AttributeError, RecursionError):  # no entry of ours is without a canonical JSON
        return False


def origin_of(workspace: Workspace) -> str:
    """Name of a workspace's audit log, which is also the name of its key."""
    return f"lazaretto/{workspace.id}/audit"


def verify_chain(stored: Iterable[tuple[Entry, str]], checkpoints: Iterable[tuple[str, Checkpoint]] = ()) -> int:
    """Check a log against itself and against checkpoints; gives the number of entries.

    Args:
        stored: Entries in order, each with the hash the ledger has for it.
        checkpoints: Checkpoints to hold it against, each with where it comes from.

    Raises:
        IntegrityViolated: An entry was altered, removed or inserted, or the log is shorter than a checkpoint says.
    """
    wanted: dict[int, list[tuple[str, Checkpoint]]] = {}
    for where, checkpoint in checkpoints:
        wanted.setdefault(checkpoint.size, []).append((where, checkpoint))
    head, count = NOTHING, 0
    for entry, said in stored:
        count += 1
        if entry.seq != count:
            raise IntegrityViolated(f"audit entry {count} is missing")
        if entry.previous != head or not holds(entry, said):
            raise IntegrityViolated(f"audit entry {count} ({entry.action} {entry.subject}) was altered")
        head = said
        for where, checkpoint in wanted.pop(count, []):
            if checkpoint.head != head:
                raise IntegrityViolated(f"the audit log is not the one that checkpoint {where} was signed for")
    for size, missing in wanted.items():
        if size:
            raise IntegrityViolated(f"the audit log has {count} entries but checkpoint {missing[0][0]} saw {size}")
    return count


def read_checkpoint(path: Path, origin: str, key: Ed25519PublicKey | Signers) -> Checkpoint:
    """A checkpoint whose signature holds.

    Raises:
        IntegrityViolated: It cannot be read, is not signed with the audit key, or is that of another log.
    """
    try:
        note = path.read_bytes()
    except OSError as error:
        raise IntegrityViolated(f"audit checkpoint {path} cannot be read: {error.strerror}") from error
    return parse_checkpoint(note, origin, key, str(path))


def parse_checkpoint(note: bytes, origin: str, key: Ed25519PublicKey | Signers, where: str) -> Checkpoint:
    """The same, given its content.

    Raises:
        IntegrityViolated: It is not signed with the audit key that counts for it, or is that of another log.
    """
    text = note.rpartition(b"\n\n")[0] + b"\n"
    lines = text.decode(errors="replace").split("\n")
    # Which of several keys must have signed it, only the text itself can say: it is believed once that key's
    # signature was found to hold.
    size = int(lines[1]) if len(lines) > 1 and lines[1].isascii() and lines[1].isdecimal() else 0
    body = open_note(note, origin, key if not isinstance(key, Signers) else key.key(WHOLE_LOG, size), where)
    try:
        said, size_, head, *rest = lines[:-1]
        anchored = tuple(_anchored(rest[0])) if rest else ()
        checkpoint = Checkpoint(said, int(size_), base64.b64decode(head, validate=True).hex(), anchored)
    except ValueError as error:
        raise IntegrityViolated(f"audit checkpoint {where} is not in the checkpoint format") from error
    if checkpoint.origin != origin or checkpoint.body != body:
        raise IntegrityViolated(f"audit checkpoint {where} is that of {checkpoint.origin!r}, not of {origin!r}")
    return checkpoint


def _anchored(line: str) -> Iterator[tuple[str, int]]:
    for part in line.removeprefix("anchored ").split(" "):
        name, _, count = part.partition(":")
        yield name, int(count)


def sign_note(body: bytes, name: str, key: Ed25519PrivateKey) -> bytes:
    """A C2SP signed note: the text, an empty line, and one Ed25519 signature line."""
    signature = base64.b64encode(_key_id(name, key.public_key()) + key.sign(body)).decode()
    return body + f"\n\u2014 {name} {signature}\n".encode()


def open_note(note: bytes, name: str, key: Ed25519PublicKey, where: str) -> bytes:
    """The text of a signed note.

    Raises:
        IntegrityViolated: No signature of this key holds.
    """
    from cryptography.exceptions import InvalidSignature

    body, _, signatures = note.rpartition(b"\n\n")
    body += b"\n"
    for line in signatures.split(b"\n"):
        parts = line.decode(errors="replace").split(" ")
        try:
            dash, named, encoded = parts
            raw = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            continue
        if (dash, named) != ("\u2014", name) or raw[:_KEY_ID_BYTES] != _key_id(name, key):
            continue
        try:
            key.verify(raw[_KEY_ID_BYTES:], body)
        except InvalidSignature:
            break
        return body
    raise IntegrityViolated(f"audit checkpoint {where} is not signed with the audit key")


def _key_id(name: str, key: Ed25519PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key.public_bytes_raw()).digest()[:_KEY_ID_BYTES]
