"""The training store: one Delta table per data set, appended to once per batch or release, rewritten only by a recall.

The files are written here, hashed while they are written and synced before they are committed; then one Delta commit
adds them all, with the batch or release id as application transaction. (delta-rs' own writer syncs nothing, hashes
nothing and leaves unnamed files behind when it is killed.) The table carries a CHECK constraint, so that no other
Delta writer can append a record that was not admitted. Nothing is ever optimised or vacuumed: attestations name files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import polars as pl

from lazaretto.attest import LogFile, StoreFile
from lazaretto.contract import canonical_schema
from lazaretto.durable import file_mode_like, make_folder, make_folder_like_parent, refusal, sync_file, sync_folder
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.records import RECORD_ID
from lazaretto.table import LOG, active_files, open_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from deltalake import DeltaTable, Schema

    from lazaretto.contract import Contract

BATCH_ID = "_batch_id"
"""Store column: the batch a record came in."""
VERDICT = "_verdict"
"""Store column: always ``admit``; the table refuses anything else."""
ADMIT = "admit"
CONSTRAINT = f"{VERDICT} = '{ADMIT}'"
EMPTY_VERSION = 1
"""Version of a table that was made and holds nothing: 0 makes it, 1 adds the constraint."""

_DELTA_TYPES = {
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "category": "string",
    "text": "string",
    "image": "binary",
    "timestamp": "timestamp",
}


class _HashingFile:
    """A binary file to write to that hashes and counts what passes."""

    closed = False

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        return self._out.write(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        """Left to who opened it."""


def ensure_table(folder: Path, contract: Contract) -> int:
    """Make the table if there is none, with its constraint; gives its newest version.

    Raises:
        UsageError: The table's columns are not those of the contract.
        IntegrityViolated: The table cannot be read or lacks its constraint.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    table = open_table(folder)
    if table is None:
        shutil.rmtree(folder / LOG, ignore_errors=True)
        make_folder(folder)
        try:
            table = DeltaTable.create(folder, _delta_schema(contract), name=contract.dataset)
        except (DeltaError, ValueError) as error:
            raise refusal(error, folder) or UsageError(
                f"the contract of {contract.dataset} makes no Delta table: {error}"
            ) from error
    if table.version() == 0:
        table.alter.add_constraint({"only_admitted": CONSTRAINT})
    if table.version() <= EMPTY_VERSION:
        sync_log(folder)  # every time: whoever made the table may have been killed before it was on the disk
    check_columns(folder, table, contract)
    if table.metadata().configuration.get("delta.constraints.only_admitted") != CONSTRAINT:
        raise IntegrityViolated(f"the store {folder} has lost its constraint {CONSTRAINT}")
    return table.version()


def check_columns(folder: Path, table: DeltaTable, contract: Contract) -> None:
    """Refuse a contract whose columns are not those of the table.

    Raises:
        UsageError: A column was added, removed, or changed its type.
    """
    have = {field.name: str(field.type) for field in table.schema().fields}
    want = {field.name: str(field.type) for field in _delta_schema(contract).fields}
    changed = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
    if changed:
        raise UsageError(
            f"the contract of {contract.dataset} and its store {folder} differ in {', '.join(changed)}",
            hint="a store keeps its columns: give the changed contract a new data set name",
        )


def write_files(
    folder: Path, unit: str, batch: str, frames: Iterable[pl.DataFrame], contract: Contract
) -> tuple[StoreFile, ...]:
    """Write admitted records to files of the table's folder, synced but not committed yet.

    Args:
        folder: The table's.
        unit: Batch or release id; the files' own folder. What an earlier, unfinished attempt left there is replaced.
        batch: Id of the batch the records came in.
        frames: Canonical records, one frame a partition, each written to one file; taken one at a time.
        contract: Names the columns.

    Raises:
        IntegrityViolated: The table has files of that unit.
    """
    target = folder / unit
    if target.exists():  # else the log, which takes long to read when there are many publications, need not be asked
        table = open_table(folder)
        if table is not None and any(path.startswith(f"{unit}/") for path in active_files(table)):
            raise IntegrityViolated(f"the store {folder} holds {unit} already")
        shutil.rmtree(target, ignore_errors=True)
    written: list[StoreFile] = []
    schema = canonical_schema(contract)
    for frame in frames:
        if not frame.height:
            continue
        make_folder_like_parent(target)
        name = f"{unit}/part-{len(written):05}.parquet"
        rows = frame.select(*(pl.col(column).cast(kind) for column, kind in schema.items()), RECORD_ID).with_columns(
            pl.lit(batch).alias(BATCH_ID), pl.lit(ADMIT).alias(VERDICT)
        )
        written.append(write_file(folder / name, name, rows))
    if written:
        sync_folder(target)
        sync_folder(folder)
    return tuple(written)


def commit(folder: Path, unit: str, base: int, files: Sequence[StoreFile], modified: int) -> int:
    """Add files to the table in one commit, unless that was done already; gives the version they are in.

    Args:
        folder: The table's.
        unit: Batch or release id, the application transaction.
        base: Version the table must be at; the commit makes the next one.
        files: What `write_files` gave.
        modified: Milliseconds since 1970.

    Raises:
        IntegrityViolated: The table is at another version, or holds a commit of this name with other content.
    """
    from deltalake import CommitProperties, Transaction
    from deltalake.transaction import AddAction, PostCommitHookProperties

    table = open_table(folder)
    if table is None:
        raise IntegrityViolated(f"the store {folder} has vanished")
    # delta-rs takes the same transaction twice, so a retry has to look first.
    if table.transaction_version(unit) is None:
        if table.version() != base:
            raise IntegrityViolated(f"the store {folder} is at version {table.version()} where {base} was expected")
        fault = missing(folder, files)
        if fault:
            raise IntegrityViolated(fault)
        table.create_write_transaction(
            [AddAction(f.path, f.size, {}, modified, data_change=True, stats=statistics(f)) for f in files],
            mode="append",
            schema=table.schema(),
            partition_by=[],
            commit_properties=CommitProperties(max_commit_retries=0, app_transactions=[Transaction(unit, 1)]),
            # A checkpoint is one more file that says what the table is; old log files are what attestations name.
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )
    sync_log(folder)
    check_commit(folder, base + 1, unit, files)
    return base + 1


def log_files(folder: Path, first: int, last: int) -> tuple[LogFile, ...]:
    """Digests of the Delta commits from one version to another, both included.

    Raises:
        IntegrityViolated: One is missing.
    """
    return tuple(
        LogFile(version, hashlib.sha256(read_commit(folder, version)).hexdigest()) for version in range(first, last + 1)
    )


def read_commit(folder: Path, version: int) -> bytes:
    """The bytes of one Delta commit.

    Raises:
        IntegrityViolated: It cannot be read.
    """
    path = folder / LOG / f"{version:020}.json"
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntegrityViolated(f"commit {path} of the store cannot be read: {error.strerror}") from error


def sweep(folder: Path, published: set[str]) -> None:
    """Remove the unit folders that an interrupted write left; those of published units stay."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name != LOG and path.name not in published:
            shutil.rmtree(path, ignore_errors=True)


def sweep_log(folder: Path) -> None:
    """Remove what an interrupted commit left in the log: delta-rs stages a commit beside it, under another name."""
    log = folder / LOG
    for path in log.iterdir() if log.is_dir() else ():
        if path.suffix != ".json":
            path.unlink(missing_ok=True)


def write_file(path: Path, name: str, rows: pl.DataFrame) -> StoreFile:
    """Write one file of the store, hashed while it is written, and synced; a file of that name must not be there.

    Args:
        path: Where.
        name: Its path within the table.
        rows: All columns of the store.
    """
    import pyarrow.parquet as pq

    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode_like(path.parent)), "wb") as out:
        hashing = _HashingFile(out)
        # The Arrow schema is left out: readers are to see the Delta types, not polars' wide ones.
        pq.write_table(table, hashing, compression="zstd", store_schema=False)
        out.flush()
        os.fsync(out.fileno())
    return StoreFile(name, hashing.hash.hexdigest(), hashing.size, rows.height)


def statistics(file: StoreFile) -> str:
    """What a commit says of a file's content."""
    bounds = {VERDICT: ADMIT}
    return json.dumps({"numRecords": file.rows, "minValues": bounds, "maxValues": bounds, "nullCount": {VERDICT: 0}})


def missing(folder: Path, files: Iterable[StoreFile]) -> str:
    """What is wrong with files that shall be committed; empty when all are there with their size."""
    for file in files:
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.size:
            return f"store file {path} is missing or has another size than was written"
    return ""


def check_commit(
    folder: Path, version: int, unit: str, files: Iterable[StoreFile], removed: Iterable[StoreFile] = ()
) -> None:
    """Refuse a commit that says anything but: add these files and remove those, for this transaction.

    Raises:
        IntegrityViolated: It does.
    """
    try:
        actions = [json.loads(line) for line in read_commit(folder, version).splitlines() if line]
        added, gone = (
            sorted((action[kind]["path"], action[kind]["size"]) for action in actions if kind in action)
            for kind in ("add", "remove")
        )
        units = [action["txn"]["appId"] for action in actions if "txn" in action]
        kinds = {kind for action in actions for kind in action}
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityViolated(f"commit {version} of the store {folder} is not one of ours") from error
    expected = [sorted((file.path, file.size) for file in some) for some in (files, removed)]
    known = kinds <= {"add", "remove", "txn", "commitInfo"}
    if [added, gone] != expected or units != [unit] or not known:
        raise IntegrityViolated(f"commit {version} of the store {folder} is not the one for {unit}")


def sync_log(folder: Path) -> None:
    """Wait until the newest commits and their names, and nothing beside them, are on the disk."""
    sweep_log(folder)  # delta-rs says nothing when it cannot remove what it staged, and the gate takes no file more
    for path in sorted((folder / LOG).glob("*.json"))[-2:]:
        sync_file(path)
    for path in (folder / LOG, folder, folder.parent):
        sync_folder(path)


def _delta_schema(contract: Contract) -> Schema:
    from deltalake import Field, Schema
    from deltalake.schema import ArrayType, PrimitiveType

    fields: list[Any] = []
    for name, column in contract.all_columns.items():
        if column.type == "vector":
            kind: Any = ArrayType(PrimitiveType("float"), contains_null=True)
        else:
            kind = PrimitiveType(_DELTA_TYPES[column.type])
        fields.append(Field(name, kind))
    fields += [Field(RECORD_ID, PrimitiveType("string")), Field(BATCH_ID, PrimitiveType("string"))]
    # Not nullable: in SQL a CHECK on a null is neither true nor false, and passes.
    fields.append(Field(VERDICT, PrimitiveType("string"), nullable=False))
    return Schema(fields)
