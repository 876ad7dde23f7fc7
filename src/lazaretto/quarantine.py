"""Where what was not admitted waits, encrypted: quarantined records, rejected ones, and the files that arrived.

Every batch has its own random key, wrapped by the workspace's master key with the batch's id as associated data.
Destroying the wrapped key erases the batch for good.

A batch's folder holds ``key.json``, ``records-*.parquet`` (canonical rows, one file a partition), ``rejects.parquet``,
``originals`` (every file of the snapshot, one after the other) and ``manifest`` (what lies where, with every digest);
all but the key are sealed files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from lazaretto.attest import canonical_json
from lazaretto.durable import make_folder, sync_folder, write_durably
from lazaretto.errors import IntegrityViolated
from lazaretto.parquet import scan_parquet
from lazaretto.records import ROW
from lazaretto.sealed import SealedReader, SealedWriter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from lazaretto.records import SourceFile

KEY_FILE = "key.json"
MANIFEST = "manifest"
ORIGINALS = "originals"
REJECTS = "rejects.parquet"
ROW_GROUP = 4096
"""Records decrypted at least to read one."""
_BLOCK = 1 << 20
_NONCE_BYTES = 12


class Identity(NamedTuple):
    """Which batch; bound into the wrapped key."""

    dataset: str
    batch: str

    @property
    def associated_data(self) -> bytes:
        """What a wrapped key is only good for."""
        return f"lazaretto batch key\n{self.dataset}\n{self.batch}".encode()


@dataclass(frozen=True)
class Original:
    """One file of the snapshot inside ``originals``."""

    name: str
    root: str
    sha256: str
    offset: int
    size: int


@dataclass(frozen=True)
class Part:
    """One file of quarantined records."""

    name: str
    rows: int
    first: int
    """``_row`` of its first record."""
    last: int


@dataclass(frozen=True)
class Manifest:
    """What a batch's quarantine holds."""

    dataset: str
    batch: str
    parts: tuple[Part, ...]
    rejects: int
    originals: tuple[Original, ...]
    files: dict[str, str]
    """SHA-256 of every sealed file but the manifest, by name."""

    @property
    def records(self) -> int:
        """Quarantined records."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True)
class Content:
    """What is to be sealed."""

    records: Iterable[pl.DataFrame]
    """Quarantined canonical rows, one frame a partition, ``_row`` ascending; taken one at a time."""
    rejects: Path
    originals: tuple[SourceFile, ...]


class Sealed(NamedTuple):
    """A batch as it was sealed."""

    manifest: Manifest
    digest: str
    """SHA-256 (hex) of the sealed manifest."""


def seal_batch(folder: Path, identity: Identity, master: bytes, content: Content) -> Sealed:
    """Write a batch's quarantine.

    The folder appears when everything in it is complete and on the disk. An earlier, unfinished one is replaced.

    Raises:
        IntegrityViolated: The batch was sealed before.
    """
    aside = folder.with_name(f".{folder.name}.part")
    if folder.exists():
        raise IntegrityViolated(
            f"the quarantine {folder} exists, but the ledger does not know the batch",
            hint="restore the ledger that belongs to this workspace",
        )
    shutil.rmtree(aside, ignore_errors=True)
    make_folder(aside)
    key = os.urandom(32)
    _wrap(aside / KEY_FILE, identity, master, key)
    digests: dict[str, str] = {}
    parts = tuple(_seal_records(aside, key, content.records, digests))
    rejects = _seal_rejects(aside, key, content.rejects, digests)
    originals = _seal_originals(aside, key, content.originals, digests)
    manifest = Manifest(identity.dataset, identity.batch, parts, rejects, originals, digests)
    with SealedWriter(aside / MANIFEST, key, MANIFEST) as out:
        out.write(canonical_json(asdict(manifest)))
        digest = out.finish()
    sync_folder(aside)
    aside.replace(folder)
    sync_folder(folder.parent)
    return Sealed(manifest, digest)


class Quarantined:
    """A sealed batch, opened with the master key.

    Raises:
        IntegrityViolated: Key or manifest are missing, altered, or those of another batch.
    """

    def __init__(self, folder: Path, identity: Identity, master: bytes) -> None:
        self.folder = folder
        self._key = _unwrap(folder / KEY_FILE, identity, master)
        with SealedReader(folder / MANIFEST, self._key, MANIFEST) as source:
            content: dict[str, Any] = json.loads(source.read())
        content["parts"] = tuple(Part(**part) for part in content["parts"])
        content["originals"] = tuple(Original(**item) for item in content["originals"])
        self.manifest = Manifest(**content)
        self.digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        """SHA-256 (hex) of the sealed manifest."""

    def records(self) -> Iterator[pl.DataFrame]:
        """All quarantined records, one frame a part, ``_row`` ascending."""
        for part in self.manifest.parts:
            yield pl.concat(list(self._read(part.name, None)))

    def select(self, rows: Collection[int]) -> pl.DataFrame:
        """The records at these positions of the batch, ``_row`` ascending.

        Raises:
            IntegrityViolated: One of them is not here.
        """
        wanted = sorted(set(rows))
        frames = [
            frame
            for part in self.manifest.parts
            if (here := [row for row in wanted if part.first <= row <= part.last])
            for frame in self._read(part.name, here)
        ]
        found = sum(frame.height for frame in frames)
        if found != len(wanted):
            raise IntegrityViolated(f"quarantine {self.folder} holds {found} of the {len(wanted)} records asked for")
        return pl.concat(frames)

    def rejects(self) -> Iterator[pl.DataFrame]:
        """The rejected records with their original bytes, in pieces."""
        yield from self._read(REJECTS, None)

    def original(self, item: Original) -> Iterator[bytes]:
        """The bytes of a file that arrived, in pieces."""
        with SealedReader(self.folder / ORIGINALS, self._key, ORIGINALS) as source:
            source.seek(item.offset)
            left = item.size
            while left:
                piece = source.read(min(_BLOCK, left))
                left -= len(piece)
                yield piece

    def check(self) -> list[str]:
        """Decrypt everything; one sentence for each thing that is not as it was sealed."""
        faults = [*self._file_faults()]
        for part in self.manifest.parts:
            faults += self._count_faults(part.name, part.rows)
        faults += self._count_faults(REJECTS, self.manifest.rejects)
        for item in self.manifest.originals:
            try:
                digest = hashlib.sha256()
                for piece in self.original(item):
                    digest.update(piece)
                if digest.hexdigest() != item.sha256:
                    faults.append(f"original file {item.name} in {self.folder} is not the one that arrived")
            except IntegrityViolated as fault:
                faults.append(fault.message)
                break  # all originals lie in one file
        return list(dict.fromkeys(faults))

    def _file_faults(self) -> Iterator[str]:
        expected = {*self.manifest.files, KEY_FILE, MANIFEST}
        for name in sorted({path.name for path in self.folder.iterdir()} - expected):
            yield f"{self.folder / name} does not belong there"
        for name, sha256 in self.manifest.files.items():
            try:
                with (self.folder / name).open("rb") as source:
                    same = hashlib.file_digest(source, "sha256").hexdigest() == sha256
            except OSError as error:
                yield f"quarantine file {self.folder / name} cannot be read: {error.strerror}"
                continue
            if not same:
                yield f"quarantine file {self.folder / name} was altered, cut short, or is not what it is called"

    def _count_faults(self, name: str, rows: int) -> list[str]:
        try:
            found = sum(frame.height for frame in self._read(name, None))
        except IntegrityViolated as fault:
            return [fault.message]
        return [] if found == rows else [f"{self.folder / name} holds {found} records instead of {rows}"]

    def _read(self, name: str, rows: list[int] | None) -> Iterator[pl.DataFrame]:
        import pyarrow.parquet as pq

        with SealedReader(self.folder / name, self._key, name) as source, pq.ParquetFile(source) as parquet:
            place = parquet.schema_arrow.get_field_index(ROW)
            for group in range(parquet.num_row_groups):
                if rows is not None:
                    seen = parquet.metadata.row_group(group).column(place).statistics
                    if not any(seen.min <= row <= seen.max for row in rows):
                        continue
                frame = pl.DataFrame(pl.from_arrow(parquet.read_row_group(group)))
                yield frame if rows is None else frame.filter(pl.col(ROW).is_in(rows))


def erase_batch(folder: Path) -> None:
    """Destroy a batch's key: nothing in its folder can be read again. What is erased stays erased."""
    key = folder / KEY_FILE
    if key.exists():
        with key.open("r+b") as out:
            length = os.fstat(out.fileno()).st_size
            out.write(os.urandom(length))
            out.flush()
            os.fsync(out.fileno())
        key.unlink()
        sync_folder(folder)


def _seal_records(folder: Path, key: bytes, frames: Iterable[pl.DataFrame], digests: dict[str, str]) -> Iterator[Part]:
    import pyarrow.parquet as pq

    number = 0
    for frame in frames:
        if not frame.height:
            continue
        name = f"records-{number:05}.parquet"
        number += 1
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        with SealedWriter(folder / name, key, name) as out:
            pq.write_table(table, out, compression="zstd", row_group_size=ROW_GROUP)
            digests[name] = out.finish()
        rows = frame[ROW]
        yield Part(name, frame.height, int(rows[0]), int(rows[-1]))


def _seal_rejects(folder: Path, key: bytes, rejects: Path, digests: dict[str, str]) -> int:
    with SealedWriter(folder / REJECTS, key, REJECTS) as out, rejects.open("rb") as source:
        shutil.copyfileobj(source, out, _BLOCK)
        digests[REJECTS] = out.finish()
    return int(scan_parquet(rejects).select(pl.len()).collect().item())


def _seal_originals(
    folder: Path, key: bytes, files: tuple[SourceFile, ...], digests: dict[str, str]
) -> tuple[Original, ...]:
    index: list[Original] = []
    with SealedWriter(folder / ORIGINALS, key, ORIGINALS) as out:
        for file in files:
            offset = out.tell()
            with file.copy.open("rb") as source:
                shutil.copyfileobj(source, out, _BLOCK)
            index.append(Original(file.name, file.root, file.sha256, offset, out.tell() - offset))
        digests[ORIGINALS] = out.finish()
    return tuple(index)


def _wrap(path: Path, identity: Identity, master: bytes, key: bytes) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    wrapped = AESGCM(master).encrypt(nonce, key, identity.associated_data)
    parts = {"nonce": nonce, "wrapped": wrapped}
    content = {"algorithm": "AES-256-GCM", **{name: base64.b64encode(part).decode() for name, part in parts.items()}}
    write_durably(path, json.dumps(content).encode() + b"\n")


def _unwrap(path: Path, identity: Identity, master: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        content = json.loads(path.read_bytes())
        nonce, wrapped = (base64.b64decode(content[name], validate=True) for name in ("nonce", "wrapped"))
        return AESGCM(master).decrypt(nonce, wrapped, identity.associated_data)
    except FileNotFoundError:
        raise IntegrityViolated(f"the key of {identity.batch} is gone: its quarantine cannot be read again") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InvalidTag) as error:
        raise IntegrityViolated(f"the key {path} was altered, or was made with another master key") from error
