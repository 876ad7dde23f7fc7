from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from lazaretto.contract import Contract, canonical_schema, parse_contract
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.records import RECORD_ID
from lazaretto.store import commit, ensure_table, log_files, sweep, sweep_log, write_files
from lazaretto.table import active_files, open_table
from tests.harness import DATASET, contract, publish, stored

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.attest import StoreFile
    from lazaretto.config import Workspace

EVERY_TYPE = """\
dataset: all
columns:
  i: {type: integer, nullable: true}
  n: {type: number, nullable: true}
  b: {type: boolean, nullable: true}
  c: {type: category}
  t: {type: text}
  p: {type: image, nullable: true}
  w: {type: timestamp, nullable: true}
  v: {type: vector, dimensions: 2, nullable: true}
"""


def records(ids: list[str]) -> pl.DataFrame:
    x = [float(i) for i in range(len(ids))]
    return pl.DataFrame({"id": ids, "x": x, "late": [True] * len(ids), RECORD_ID: ids})


def put(folder: Path, unit: str, *frames: pl.DataFrame) -> tuple[StoreFile, ...]:
    base = ensure_table(folder, contract())
    files = write_files(folder, unit, unit, frames, contract())
    commit(folder, unit, base, files, 0)
    return files


def table_of(folder: Path) -> DeltaTable:
    table = open_table(folder)
    assert table is not None
    return table


def test_a_batch_is_one_commit_with_its_id_as_transaction(tmp_path: Path) -> None:
    files = put(tmp_path, "b-1", records(["a", "b"]), records([]), records(["c"]))
    table = table_of(tmp_path)
    assert table.version() == 2
    assert table.transaction_version("b-1") == 1
    assert active_files(table) == {file.path: file.size for file in files}
    assert [file.rows for file in files] == [2, 1]
    assert pl.read_delta(table)[RECORD_ID].sort().to_list() == ["a", "b", "c"]


def test_digests_and_sizes_are_those_of_the_files(tmp_path: Path) -> None:
    for file in put(tmp_path, "b-1", records(["a", "b"])):
        content = (tmp_path / file.path).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.size)


def test_equal_records_give_equal_files(tmp_path: Path) -> None:
    first, second = (put(tmp_path / name, "b-1", records(["a", "b"])) for name in "xy")
    assert first == second


def test_the_store_itself_refuses_what_was_not_admitted(tmp_path: Path) -> None:
    put(tmp_path, "b-1", records(["a"]))
    row = {"id": ["z"], "x": [1.0], "late": [True], RECORD_ID: ["z"], "_batch_id": ["b-9"]}
    for verdict in ("quarantine", "", None):
        forged = pa.table({**row, "_verdict": pa.array([verdict], pa.string())})
        with pytest.raises((DeltaError, ValueError), match=r"validation check|[Nn]on-nullable|[Ii]nvalid|null"):
            write_deltalake(tmp_path, forged, mode="append")
    assert table_of(tmp_path).version() == 2


def test_a_commit_that_was_made_is_not_made_again(tmp_path: Path) -> None:
    files = put(tmp_path, "b-1", records(["a"]))
    assert commit(tmp_path, "b-1", 1, files, 0) == 2
    assert table_of(tmp_path).version() == 2


def test_a_commit_on_another_version_than_planned_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "b-1", records(["a"]))
    files = write_files(tmp_path, "b-2", "b-2", [records(["b"])], contract())
    with pytest.raises(IntegrityViolated, match="at version 2 where 1 was expected"):
        commit(tmp_path, "b-2", 1, files, 0)


def test_a_forged_commit_of_our_name_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "b-1", records(["a"]))
    files = write_files(tmp_path, "b-2", "b-2", [records(["b"]), records(["c"])], contract())
    commit(tmp_path, "b-2", 2, files[:1], 0)
    with pytest.raises(IntegrityViolated, match="is not the one for b-2"):
        commit(tmp_path, "b-2", 2, files, 0)


def test_a_file_that_vanished_or_shrank_is_not_committed(tmp_path: Path) -> None:
    base = ensure_table(tmp_path, contract())
    files = write_files(tmp_path, "b-1", "b-1", [records(["a"])], contract())
    (tmp_path / files[0].path).write_bytes(b"short")
    with pytest.raises(IntegrityViolated, match="another size"):
        commit(tmp_path, "b-1", base, files, 0)


def test_files_of_a_published_unit_are_never_written_over(tmp_path: Path) -> None:
    put(tmp_path, "b-1", records(["a"]))
    with pytest.raises(IntegrityViolated, match="holds b-1 already"):
        write_files(tmp_path, "b-1", "b-1", [records(["z"])], contract())


def test_sweeping_removes_what_was_never_published_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, "b-1", records(["a"]))
    write_files(tmp_path, "b-2", "b-2", [records(["b"])], contract())
    (tmp_path / "_delta_log" / "00000000000000000003.json#1").write_text("half")
    sweep(tmp_path, {"b-1"})
    sweep_log(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_delta_log", "b-1"]
    assert len(list((tmp_path / "_delta_log").iterdir())) == 3
    assert table_of(tmp_path).version() == 2


def test_a_table_whose_making_was_interrupted_is_finished(tmp_path: Path) -> None:
    ensure_table(tmp_path, contract())
    (tmp_path / "_delta_log" / "00000000000000000001.json").unlink()
    assert ensure_table(tmp_path, contract()) == 1
    (tmp_path / "_delta_log" / "00000000000000000001.json").unlink()
    (tmp_path / "_delta_log" / "00000000000000000000.json").unlink()
    assert ensure_table(tmp_path, contract()) == 1


def test_a_contract_with_other_columns_is_refused_in_words(tmp_path: Path) -> None:
    ensure_table(tmp_path, contract())
    other = contract().model_copy(update={"columns": {**contract().columns, "x": contract().columns["late"]}})
    with pytest.raises(UsageError, match="differ in x"):
        ensure_table(tmp_path, other)


def test_every_type_survives_the_store(tmp_path: Path) -> None:
    every: Contract = parse_contract(EVERY_TYPE, "all.yaml")
    rows = {
        "i": [2**62, None],
        "n": [0.1, None],
        "b": [True, None],
        "c": ["ä", ""],
        "t": ["line\nbreak", "x" * 9000],
        "p": [b"\x89PNG\x00", None],
        "w": [datetime(2026, 1, 1, 0, 0, 0, 1, UTC), None],
        "v": [[1.5, 2.5], None],
    }
    frame = pl.DataFrame(rows, schema=canonical_schema(every)).with_columns(pl.Series(RECORD_ID, ["a", "b"]))
    base = ensure_table(tmp_path, every)
    commit(tmp_path, "b-1", base, write_files(tmp_path, "b-1", "b-1", [frame], every), 0)
    back = pl.read_delta(str(tmp_path)).select(frame.columns)
    assert back.equals(frame)
    assert dict(back.schema) == dict(frame.schema)


def test_a_missing_commit_is_said_so(tmp_path: Path) -> None:
    put(tmp_path, "b-1", records(["a"]))
    assert [log.version for log in log_files(tmp_path, 0, 2)] == [0, 1, 2]
    with pytest.raises(IntegrityViolated, match="cannot be read"):
        log_files(tmp_path, 0, 3)


def test_a_damaged_log_is_one_sentence(tmp_path: Path) -> None:
    put(tmp_path, "b-1", records(["a"]))
    (tmp_path / "_delta_log" / "00000000000000000002.json").write_text("{")
    with pytest.raises(IntegrityViolated, match="cannot be read"):
        open_table(tmp_path)


def test_no_checkpoint_is_written_however_many_commits(tmp_path: Path) -> None:
    ensure_table(tmp_path, contract())
    table_of(tmp_path).alter.set_table_properties({"delta.checkpointInterval": "2"})
    for number in range(5):
        put(tmp_path, f"b-{number}", records([str(number)]))
    assert {path.suffix for path in (tmp_path / "_delta_log").iterdir()} == {".json"}


def test_commits_say_how_many_records_they_add(workspace: Workspace) -> None:
    publish(workspace)
    lines = (workspace.store(DATASET) / "_delta_log" / f"{2:020}.json").read_text().splitlines()
    added = [json.loads(json.loads(line)["add"]["stats"])["numRecords"] for line in lines if '"add"' in line]
    assert sum(added) == stored(workspace).height == 8
