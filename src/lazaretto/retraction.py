"""Taking records out of the training store: the files that hold them are written anew without them, in one commit.

The files that were taken out stay where they are, attested and hashed by ``verify``: they are the evidence, and no
reader of a later version opens them. delta-rs offers no commit that removes some files and adds others already written
(its DELETE writes files of its own, unsynced and without a digest), so the commit is written here, as the Delta
protocol has it (https://github.com/delta-io/delta/blob/master/PROTOCOL.md), and read back before anybody relies on it.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

from lazaretto.durable import file_mode_like, make_folder_like_parent, sync_folder
from lazaretto.errors import IntegrityViolated
from lazaretto.store import check_commit, missing, statistics, sync_log, write_file
from lazaretto.table import LOG, active_files, open_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import polars as pl

    from lazaretto.attest import StoreFile


def write_remainders(folder: Path, unit: str, frames: Iterable[tuple[int, pl.DataFrame]]) -> tuple[StoreFile, ...]:
    """Write what stays of some files, synced but not committed yet.

    Args:
        folder: The table's.
        unit: The recall's id; the files' own folder. What an earlier, unfinished attempt left there is replaced.
        frames: Number of a file, counted among those that are taken out, and what stays of it with all its columns;
            no frame where nothing stays. Taken one at a time.
    """
    target = folder / unit
    shutil.rmtree(target, ignore_errors=True)
    written = []
    for number, frame in frames:
        make_folder_like_parent(target)
        name = f"{unit}/part-{number:05}.parquet"
        written.append(write_file(folder / name, name, frame))
    if written:
        sync_folder(target)
        sync_folder(folder)
    return tuple(written)


def commit_retraction(
    folder: Path, unit: str, base: int, removed: Sequence[StoreFile], added: Sequence[StoreFile], modified: int
) -> int:
    """Take files out of the table and add others in one commit, unless that was done already; gives the version.

    Args:
        folder: The table's.
        unit: The recall's id, the application transaction.
        base: Version the table must be at; the commit makes the next one.
        removed: Files the table is made of.
        added: What `write_remainders` gave.
        modified: Milliseconds since 1970.

    Raises:
        IntegrityViolated: The table is at another version, lacks one of the files, or holds a commit of this name with
            other content.
    """
    table = open_table(folder)
    if table is None:
        raise IntegrityViolated(f"the store {folder} has vanished")
    if table.transaction_version(unit) is None:
        if table.version() != base:
            raise IntegrityViolated(f"the store {folder} is at version {table.version()} where {base} was expected")
        fault = missing(folder, added)
        active = active_files(table)
        absent = next((file.path for file in removed if active.get(file.path) != file.size), None)
        if absent is not None:
            fault = f"the store {folder} is not made of {absent}, which was to be taken out"
        if fault:
            raise IntegrityViolated(fault)
        _write_commit(folder, base + 1, unit, _actions(unit, removed, added, modified))
    sync_log(folder)
    check_commit(folder, base + 1, unit, added, removed)
    return base + 1


def _actions(
    unit: str, removed: Iterable[StoreFile], added: Iterable[StoreFile], modified: int
) -> Iterable[dict[str, object]]:
    yield {
        "commitInfo": {
            "timestamp": modified,
            "operation": "DELETE",
            "operationParameters": {},
            "engineInfo": "lazaretto",
        }
    }
    yield {"txn": {"appId": unit, "version": 1, "lastUpdated": modified}}
    for file in removed:
        yield {
            "remove": {
                "path": file.path,
                "deletionTimestamp": modified,
                "dataChange": True,
                "extendedFileMetadata": True,
                "partitionValues": {},
                "size": file.size,
            }
        }
    for file in added:
        yield {
            "add": {
                "path": file.path,
                "partitionValues": {},
                "size": file.size,
                "modificationTime": modified,
                "dataChange": True,
                "stats": statistics(file),
            }
        }


def _write_commit(folder: Path, version: int, unit: str, actions: Iterable[dict[str, object]]) -> None:
    """Put a commit into the log, whole and on the disk; never over one that is there."""
    log = folder / LOG
    # A name that is no commit's: what a killed process leaves of it is swept.
    aside = log / f".{unit}.new"
    content = "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions)
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file_mode_like(log))
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(aside, log / f"{version:020}.json")
        except FileExistsError:
            raise IntegrityViolated(
                f"the store {folder} has a commit {version} that is not the one for {unit}"
            ) from None
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(log)
