"""What an attacker who can write the store might do to it; each is refused by gate, loader, ingest and verify."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import polars as pl
from deltalake import CommitProperties, Transaction, write_deltalake
from deltalake.transaction import AddAction

from tests.harness import DATASET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lazaretto.config import Workspace


def _files(workspace: Workspace) -> list[Path]:
    return sorted(workspace.store(DATASET).glob("b-*/*.parquet"))


def _commit(workspace: Workspace, version: int) -> Path:
    return workspace.store(DATASET) / "_delta_log" / f"{version:020}.json"


def flipped_bit(workspace: Workspace) -> None:
    """One bit of a value in a data file; its size stays."""
    path = _files(workspace)[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def swapped_file(workspace: Workspace) -> None:
    """A poisoned file of the very same size in place of a good one."""
    path = _files(workspace)[0]
    size = path.stat().st_size
    poisoned = pl.read_parquet(path).with_columns(late=pl.lit(value=True))
    poisoned.write_parquet(path, compression="uncompressed", statistics=False)
    content = path.read_bytes()
    path.write_bytes(content[:size].ljust(size, b"\0"))


def removed_file(workspace: Workspace) -> None:
    """A data file is gone."""
    _files(workspace)[0].unlink()


def longer_file(workspace: Workspace) -> None:
    """A data file grew."""
    path = _files(workspace)[0]
    path.write_bytes(path.read_bytes() + b"x")


def appended_commit(workspace: Workspace) -> None:
    """Records appended with an ordinary Delta writer, their verdict forged so that the table takes them."""
    frame = pl.read_parquet(_files(workspace)[0])
    write_deltalake(str(workspace.store(DATASET)), frame.to_arrow(), mode="append")


def forged_commit(workspace: Workspace) -> None:
    """A commit that looks like one of ours."""
    from lazaretto.table import open_table

    table = open_table(workspace.store(DATASET))
    assert table is not None
    path = _files(workspace)[0]
    (workspace.store(DATASET) / "b-9").mkdir()
    shutil.copy(path, workspace.store(DATASET) / "b-9" / "part-00000.parquet")
    action = AddAction("b-9/part-00000.parquet", path.stat().st_size, {}, 0, data_change=True, stats="{}")
    properties = CommitProperties(app_transactions=[Transaction("b-9", 1)])
    table.create_write_transaction([action], "append", table.schema(), commit_properties=properties)


def removed_commit(workspace: Workspace) -> None:
    """The newest commit is gone."""
    _commit(workspace, 3).unlink()


def altered_commit(workspace: Workspace) -> None:
    """The newest commit names other statistics, so that readers leave out records."""
    path = _commit(workspace, 3)
    path.write_text(path.read_text().replace("numRecords", "numRecordz"))


def altered_schema(workspace: Workspace) -> None:
    """The first commit no longer says what the columns are."""
    path = _commit(workspace, 0)
    path.write_text(path.read_text().replace('\\"name\\":\\"x\\"', '\\"name\\":\\"y\\"'))


def checkpoint_beside_the_log(workspace: Workspace) -> None:
    """A Delta checkpoint, which readers believe instead of the commits."""
    from lazaretto.table import open_table

    table = open_table(workspace.store(DATASET))
    assert table is not None
    table.create_checkpoint()


def removed_attestation(workspace: Workspace) -> None:
    """The newest attestation is gone."""
    (workspace.attestations(DATASET) / "000002.dsse.json").unlink()


def removed_first_attestation(workspace: Workspace) -> None:
    """The oldest attestation is gone."""
    (workspace.attestations(DATASET) / "000001.dsse.json").unlink()


def replayed_attestation(workspace: Workspace) -> None:
    """An older attestation in the place of the newest."""
    folder = workspace.attestations(DATASET)
    shutil.copy(folder / "000001.dsse.json", folder / "000002.dsse.json")


def altered_attestation(workspace: Workspace) -> None:
    """An attestation whose payload was edited."""
    path = workspace.attestations(DATASET) / "000002.dsse.json"
    envelope = json.loads(path.read_text())
    envelope["payload"] = envelope["payload"][:100] + "AAAA" + envelope["payload"][104:]
    path.write_text(json.dumps(envelope))


def put_back(workspace: Workspace) -> None:
    """Store and attestations together as they were one publication ago: every signature holds."""
    removed_commit(workspace)
    removed_attestation(workspace)
    newest = json.loads(_commit(workspace, 2).read_text().splitlines()[1])["add"]["path"].split("/")[0]
    for folder in workspace.store(DATASET).glob("b-*"):
        if folder.name != newest:
            shutil.rmtree(folder)


SEEN_BY_THE_GATE: tuple[Callable[[Workspace], None], ...] = (
    removed_file,
    longer_file,
    appended_commit,
    forged_commit,
    removed_commit,
    altered_commit,
    altered_schema,
    checkpoint_beside_the_log,
    removed_attestation,
    removed_first_attestation,
    replayed_attestation,
    altered_attestation,
    put_back,
)
SEEN_IN_THE_BYTES: tuple[Callable[[Workspace], None], ...] = (flipped_bit, swapped_file)
"""Same size, same log: found where the bytes are hashed, by the loader as it reads and by verify."""
