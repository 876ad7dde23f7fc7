"""Signed attestations: what a store version holds, who made it so, and what came before.

Each is an in-toto Statement v1 in a DSSE envelope, signed with Ed25519. They form a chain: an attestation names the
digest of the one before it, its epoch is one more, and it carries the digest of the whole set of active files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lazaretto.durable import file_mode_like, make_folder, write_durably
from lazaretto.errors import IntegrityViolated
from lazaretto.signers import Generation, Signers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:lazaretto:store-version:v1"
SUFFIX = ".dsse.json"
ADMISSION = "admission"
"""Kind: what a batch's judging admitted."""
RELEASE = "release"
"""Kind: single records a person released from quarantine."""
BATCH_RELEASE = "batch-release"
"""Kind: what waited only because its batch was held, released as a whole."""
RECALL = "recall"
"""Kind: records that were admitted taken out again."""
WHOLE_BATCH = (ADMISSION, BATCH_RELEASE)
NOTHING = "0" * 64
"""Digest named by the first attestation of a data set as the one before it."""


@dataclass(frozen=True)
class StoreFile:
    """One Parquet file of the store."""

    path: str
    """Relative to the table's folder, with ``/``."""
    sha256: str
    size: int
    """Bytes."""
    rows: int


@dataclass(frozen=True)
class LogFile:
    """One commit of the Delta log."""

    version: int
    sha256: str


@dataclass(frozen=True)
class Attestation:
    """What one publication made of the store."""

    workspace: str
    dataset: str
    epoch: int
    """1 for the first publication of the data set, then one more each time."""
    version: int
    """Version of the Delta table."""
    kind: str
    """`ADMISSION`, `RELEASE`, `BATCH_RELEASE` or `RECALL`."""
    unit: str
    """Id of the batch, release or recall; also the Delta application transaction."""
    batch: str
    """The batch the records came in, or that was recalled; empty for a recall of other records."""
    issued_at: str
    """UTC, ISO 8601."""
    previous: str
    """Digest of the attestation before this one."""
    active_digest: str
    """`digest_of_files` of every file of this version."""
    active_files: int
    active_rows: int
    added: tuple[StoreFile, ...]
    removed: tuple[str, ...] = ()
    """Paths that were active before and are no longer."""
    log: tuple[LogFile, ...] = ()
    """Commits of the Delta log since the attestation before this one."""
    counts: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of contract, policy, verdicts and quarantine."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the signed payload."""
        return hashlib.sha256(self.payload()).hexdigest()

    def payload(self) -> bytes:
        """The in-toto statement, canonical JSON."""
        whole = {"name": f"{self.dataset}@{self.version}", "digest": {"sha256": self.active_digest}}
        statement = {
            "_type": STATEMENT_TYPE,
            "subject": [whole, *({"name": f.path, "digest": {"sha256": f.sha256}} for f in self.added)],
            "predicateType": PREDICATE_TYPE,
            "predicate": asdict(self),
        }
        return canonical_json(statement)


@dataclass(frozen=True)
class Chain:
    """A data set's attestations, oldest first, verified together."""

    dataset: str
    attestations: tuple[Attestation, ...]

    @property
    def head(self) -> Attestation | None:
        """The newest attestation."""
        return self.attestations[-1] if self.attestations else None

    def at(self, version: int) -> Attestation | None:
        """The attestation of exactly this table version."""
        return next((a for a in self.attestations if a.version == version), None)

    def recalled(self, attestation: Attestation) -> Attestation | None:
        """The first recall after an attestation that took out a file which its version is made of."""
        held = self.files(attestation.epoch).keys()
        later = self.attestations[attestation.epoch :]
        return next((entry for entry in later if not held.isdisjoint(entry.removed)), None)

    def lineage(self, path: str) -> list[str]:
        """A store file and what it is a remainder of, back to the file in which its records were admitted."""
        found = [path]
        while found[-1] in self._remainders:
            # A recall names its files by the number of the file, among those it took out, that they remain of.
            number = found[-1].rpartition("-")[2].removesuffix(".parquet")
            found.append(self._remainders[found[-1]].removed[int(number)])
        return found

    @cached_property
    def _remainders(self) -> dict[str, Attestation]:
        """File that a recall wrote -> the recall."""
        return {file.path: entry for entry in self.attestations if entry.kind == RECALL for file in entry.added}

    def holds(self, attestation: Attestation, batch: str) -> bool:
        """Whether the batch as a whole was let in and any of it is in a version: not all of it was recalled.

        A record released on its own does not make it so.
        """
        let_in = (entry for entry in self.attestations if entry.batch == batch and entry.kind in WHOLE_BATCH)
        brought = {file.path for entry in let_in for file in entry.added}
        return any(self.lineage(path)[-1] in brought for path in self.files(attestation.epoch))

    def files(self, epoch: int) -> dict[str, StoreFile]:
        """The files active after an epoch, by path, in the order they were added."""
        active: dict[str, StoreFile] = {}
        for attestation in self.attestations[:epoch]:
            for path in attestation.removed:
                active.pop(path, None)
            active.update((file.path, file) for file in attestation.added)
        return active


def unchanged(path: Path, sha256: str, what: str, hint: str | None = None) -> bytes:
    """The bytes of a file, if they are those whose digest was kept.

    Args:
        path: The file.
        sha256: Their digest, hex.
        what: What it no longer is, for the message: ``what was written when the batch was judged``.
        hint: What to do then.

    Raises:
        IntegrityViolated: It cannot be read, or holds other bytes.
    """
    content = _content(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise IntegrityViolated(f"{path} is not {what}", hint=hint)
    return content


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys, no blanks and ASCII only: equal values give equal bytes. Takes no floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def digest_of_files(files: Iterable[StoreFile]) -> str:
    """SHA-256 (hex) over path, digest, size and rows of files, whatever their order."""
    return _digest_of_lines(_line(file) for file in files)


def _line(file: StoreFile) -> str:
    return f"{file.path}\0{file.sha256}\0{file.size}\0{file.rows}"


def _digest_of_lines(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def seal(payload: bytes, payload_type: str, *keys: Ed25519PrivateKey) -> bytes:
    """A DSSE envelope around a payload, signed with every key given, as JSON text."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # exported, but not marked so

    envelope = Envelope(payload, payload_type, {})
    for key in keys:
        envelope.sign(CryptoSigner(key))
    return json.dumps(envelope.to_dict(), indent=1, sort_keys=True).encode() + b"\n"


def unseal(path: Path, payload_type: str, key: Ed25519PublicKey, whose: str = "publisher") -> bytes:
    """The payload of an envelope whose signature holds.

    Raises:
        IntegrityViolated: It cannot be read, is of another type, or is not signed with this key.
    """
    return opened(_content(path), payload_type, {whose: key}, str(path))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntegrityViolated(f"{path} cannot be read: {error.strerror}") from error


def opened(content: bytes, payload_type: str, keys: Mapping[str, Ed25519PublicKey], where: str) -> bytes:
    """The payload of an envelope that every one of these keys has signed.

    Args:
        content: The envelope, JSON text.
        payload_type: What it must hold.
        keys: By their name, for the message.
        where: What to call the envelope.

    Raises:
        IntegrityViolated: It is none, is of another type, or a signature is missing or does not hold.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import FormatError, VerificationError
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # exported, but not marked so

    name = ""
    try:
        envelope = Envelope.from_dict(json.loads(content))
        for name, key in keys.items():  # noqa: B007  the last one is named below
            envelope.verify([SSlibKey.from_crypto(key)], 1)
    except VerificationError as error:
        raise IntegrityViolated(f"{where} is not signed with the {name}'s key") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, FormatError) as error:
        raise IntegrityViolated(f"{where} is no signed envelope") from error
    if envelope.payload_type != payload_type:
        raise IntegrityViolated(f"{where} is a signed {envelope.payload_type!r}, not a {payload_type!r}")
    payload: bytes = envelope.payload
    return payload


def sign(folder: Path, attestation: Attestation, key: Ed25519PrivateKey) -> Path:
    """Sign an attestation and put it into its data set's folder; gives the file."""
    path = folder / f"{attestation.epoch:06}{SUFFIX}"
    make_folder(folder)
    write_durably(path, seal(attestation.payload(), PAYLOAD_TYPE, key), mode=file_mode_like(folder))
    return path


def verify(folder: Path, workspace: str, dataset: str, key: Ed25519PublicKey | Signers) -> Chain:
    """Read a data set's attestations and check every signature and every link.

    Args:
        folder: Where the attestations lie.
        workspace: The workspace's id; an attestation of another one is refused.
        dataset: The data set's name; the same.
        key: The publisher's, or every key the publisher had, each with how far it counts.

    Raises:
        IntegrityViolated: One is missing, altered, moved, forged, or does not fit the one before it.
    """
    signers = key if isinstance(key, Signers) else Signers("publisher", (Generation(key),))
    attestations: list[Attestation] = []
    active = _Active()
    prefix = hashlib.sha256(json.dumps([workspace, dataset]).encode()).digest()
    for number, path in enumerate(numbered(folder, f"attestation {{}} of {dataset}"), start=1):
        content, signer = _content(path), signers.key(dataset, number)
        prefix = hashlib.sha256(prefix + signer.public_bytes_raw() + content).digest()
        attestation = _VERIFIED.get(prefix)
        if attestation is None:
            attestation = _parse(path, opened(content, PAYLOAD_TYPE, {signers.name: signer}, str(path)))
            active.follow([*attestations, attestation])
            fault = _link_fault(attestation, attestations[-1] if attestations else None, active)
            if (attestation.workspace, attestation.dataset, attestation.epoch) != (workspace, dataset, number):
                fault = f"is that of epoch {attestation.epoch} of {attestation.dataset} in {attestation.workspace}"
            if fault:
                raise IntegrityViolated(f"attestation {path} {fault}")
            if len(_VERIFIED) >= _REMEMBERED:
                _VERIFIED.clear()
            _VERIFIED[prefix] = attestation
        attestations.append(attestation)
    signers.check_pins(dataset, [entry.digest for entry in attestations])
    return Chain(dataset, tuple(attestations))


def numbered(folder: Path, said: str) -> list[Path]:
    """The envelopes of a folder, numbered from 1 on; ``said`` has a place for the name of one that is missing.

    Raises:
        IntegrityViolated: One is missing.
    """
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    for number, name in enumerate(names, start=1):
        if name != f"{number:06}{SUFFIX}":
            raise IntegrityViolated(f"{said.format(f'{number:06}{SUFFIX}')} is missing from {folder}")
    return [folder / name for name in names]


_VERIFIED: dict[bytes, Attestation] = {}
"""What this process verified: digest of the keys and of all bytes up to an attestation's -> the attestation.

A command reads its data set's chain several times; the same bytes after the same bytes under the same keys give the
same answer, so that only the bytes are read and hashed again.
"""
_REMEMBERED = 20_000


class _Active:
    """The files active after the attestations followed so far."""

    def __init__(self) -> None:
        self.lines: dict[str, str] = {}
        self.rows: dict[str, int] = {}
        self._followed = 0

    def follow(self, attestations: Sequence[Attestation]) -> None:
        """Go on to the last of a data set's attestations."""
        for attestation in attestations[self._followed :]:
            for path in attestation.removed:
                self.lines.pop(path, None)
                self.rows.pop(path, None)
            self.lines.update((file.path, _line(file)) for file in attestation.added)
            self.rows.update((file.path, file.rows) for file in attestation.added)
        self._followed = len(attestations)


def _link_fault(attestation: Attestation, before: Attestation | None, active: _Active) -> str:
    if attestation.previous != (before.digest if before else NOTHING):
        return "does not follow the one before it"
    if before and attestation.version <= before.version:
        return f"is of version {attestation.version}, not after {before.version}"
    expected = range(before.version + 1 if before else 0, attestation.version + 1)
    if tuple(item.version for item in attestation.log) != tuple(expected):
        return "does not name every commit since the one before it"
    said = (attestation.active_digest, attestation.active_files, attestation.active_rows)
    if said != (_digest_of_lines(active.lines.values()), len(active.lines), sum(active.rows.values())):
        return "does not add up to the files it says are active"
    return ""


def _parse(path: Path, payload: bytes) -> Attestation:
    try:
        statement: dict[str, Any] = json.loads(payload)
        predicate: dict[str, Any] = dict(statement["predicate"])
        predicate["added"] = tuple(StoreFile(**item) for item in predicate["added"])
        predicate["log"] = tuple(LogFile(**item) for item in predicate["log"])
        predicate["removed"] = tuple(predicate["removed"])
        attestation = Attestation(**predicate)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityViolated(f"{path} is no attestation of this kind") from error
    # The statement's other parts follow from the predicate; an envelope that says more or otherwise is not ours.
    if attestation.payload() != payload:
        raise IntegrityViolated(f"{path} is no attestation of this kind")
    return attestation
