from __future__ import annotations

import datetime as dt
import resource
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from lazaretto.errors import InputRefused, UsageError
from lazaretto.pipelines.partitions import PartitionWriter
from lazaretto.pipelines.read import parse
from lazaretto.pipelines.readers import Originals
from lazaretto.pipelines.rejects import REJECT_SCHEMA, RejectWriter, merge_rejects, read_rejects
from lazaretto.pipelines.repeats import Repeats
from lazaretto.pipelines.snapshot import snapshot
from lazaretto.records import REJECT_COLUMNS
from tests.reading import contract_of, parquet_of, read_csv, read_files, read_parquet

if TYPE_CHECKING:
    from pathlib import Path

AB = contract_of("a: integer; b: text")
WITH_ID = contract_of("a: integer; b: text", id="key")


def test_partitions_hold_the_contracts_columns_in_order_then_row_id_and_digest() -> None:
    read = read_csv("b,x,a\none,9,1\n", AB)
    assert dict(read.frame.schema) == {
        "a": pl.Int64, "b": pl.String, "_row": pl.UInt64, "_record_id": pl.String, "_digest": pl.String,
    }  # fmt: skip
    assert read.rejects.columns == list(REJECT_COLUMNS)
    assert dict(read.rejects.schema) == REJECT_SCHEMA


def test_rows_count_over_all_files_in_the_order_given() -> None:
    files = {"2.csv": b"a,b\n1,x\nbad,y\n", "1.jsonl": b'{"a": 2, "b": "x"}\n', "0.parquet": parquet_of(
        pl.DataFrame({"a": [3, 4], "b": ["x", "y"]})
    )}  # fmt: skip
    read = read_files(files, AB)
    assert read.frame.select("_row", "a").rows() == [(0, 1), (2, 2), (3, 3), (4, 4)]
    assert list(read.reasons) == [1]
    assert read.parsed.arrived == 5


def test_equal_content_has_equal_digests_in_every_format() -> None:
    csv, jsonl = b'b,a\n"x",1\n,2\n', b'{"a": 1, "b": "x"}\n{"a": 2.0, "b": null}\n'
    parquet = parquet_of(pl.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}))
    frames = [read_files({name: raw}, AB).frame for name, raw in
              (("t.csv", csv), ("t.jsonl", jsonl), ("t.parquet", parquet))]  # fmt: skip
    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])


def test_different_content_has_different_digests() -> None:
    frame = pl.DataFrame({"a": ["x", "", None, "", "yx", "y"], "b": ["", "x", "x", None, "", "x"]})
    read = read_parquet(frame, contract_of("a: text; b: text"))
    assert read.frame["_digest"].n_unique() == frame.height


def test_digests_do_not_change_with_column_order_or_a_column_that_has_no_value() -> None:
    frame = pl.DataFrame({"a": [1], "b": ["x"], "c": [None]}, schema_overrides={"c": pl.Float64})
    digests = {
        read_parquet(frame, contract_of(columns)).frame["_digest"][0]
        for columns in ("a: integer; b: text", "b: text; a: integer", "a: integer; c: number; b: category")
    }
    assert len(digests) == 1


def test_zero_is_zero_whatever_its_sign() -> None:
    read = read_parquet(pl.DataFrame({"n": [0.0, -0.0]}), contract_of("n: number"))
    assert read.frame["_digest"].n_unique() == 1


def test_without_an_id_equal_records_are_numbered_apart() -> None:
    read = read_csv("a,b\n1,x\n2,y\n1,x\n1,x\n", AB)
    digest = read.frame["_digest"][0]
    assert read.frame["_record_id"].to_list() == [digest, read.frame["_digest"][1], f"{digest}-2", f"{digest}-3"]


def test_all_records_that_share_an_id_are_rejected_across_files_with_their_bytes() -> None:
    files = {"1.csv": b"key,a,b\nk1,1,x\nk2,2,y\n", "2.csv": b'key,a,b\nk3,zzz,x\n"k1",1,x\n'}
    read = read_files(files, WITH_ID)
    assert read.frame["_record_id"].to_list() == ["k2"]
    assert read.reasons == {
        0: "key: 'k1' is the id of another record of this batch too",
        2: "a: 'zzz' is not a whole number",
        3: "key: 'k1' is the id of another record of this batch too",
    }
    assert read.originals == {0: b"k1,1,x", 2: b"k3,zzz,x", 3: b'"k1",1,x'}
    assert read.rejects["record_id"].to_list() == ["k1", "k3", "k1"]
    assert read.parsed.rejected == 3


def test_a_batch_of_nothing_but_shared_ids_leaves_no_partition() -> None:
    read = read_csv("key,a,b\n1,1,x\n1,1,x\n", WITH_ID)
    assert read.parsed.partitions == ()
    assert read.parsed.rejected == read.parsed.arrived == 2


def test_a_missing_id_is_left_to_validation_and_is_shared_with_nobody() -> None:
    read = read_csv("key,a,b\n,1,x\n,1,x\n7,1,x\n", WITH_ID)
    assert read.frame["_record_id"].to_list() == ["row-0", "row-1", "7"]


def test_a_personal_id_is_not_shown() -> None:
    contract = contract_of("key: {type: text, pii: true}; a: integer", id="key")
    read = read_csv("key,a\nanna,1\nanna,2\n", contract)
    assert read.reasons[0] == "key: the value is the id of another record of this batch too"


def test_an_integer_id_is_its_digits() -> None:
    read = read_parquet(
        pl.DataFrame({"key": [7, 8], "a": [1, 1]}), contract_of("key: {type: integer}; a: integer", id="key")
    )
    assert read.frame["_record_id"].to_list() == ["7", "8"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-02", (2024, 1, 2)),
        ("2024-01-02T03:04", (2024, 1, 2, 3, 4)),
        ("2024-01-02 03:04:05Z", (2024, 1, 2, 3, 4, 5)),
        ("2024-01-02T03:04:05.1234567+05:30", (2024, 1, 1, 21, 34, 5, 123456)),
        ("2024-01-02T03:04:05-0200", (2024, 1, 2, 5, 4, 5)),
        ("2024-01-02T03:04:05+01", (2024, 1, 2, 2, 4, 5)),
        ("0001-01-01", (1, 1, 1)),
        ("2024-02-30", None),
        ("2024-1-2", None),
        ("2024-01-02T25:00", None),
        ("02/01/2024", None),
        ("1704164645", None),
        ("2024-01-02T03:04.5", None),
        ("2024-01-02T03:04:05 Z", None),
    ],
)
def test_timestamps_are_iso_8601_and_utc_unless_they_say_otherwise(text: str, moment: tuple[int, ...] | None) -> None:
    read = read_csv(f"t,a\n{text},1\n2000-01-01,2\n", contract_of("t: timestamp; a: integer"))
    if moment is None:
        assert read.reasons == {0: f"t: '{text}' is not an ISO 8601 timestamp"}
    else:
        assert read.frame["t"][0] == dt.datetime(*moment, tzinfo=dt.UTC)


def test_vectors_in_csv_are_json_lists() -> None:
    text = 'v\n"[1, 2.5]"\n"[1]"\n[1\n"[1, true]"\n"[1, 1e99]"\n\n"[3, 4]"\n'
    read = read_csv(text, contract_of("v: {type: vector, dimensions: 2, nullable: true}"))
    assert read.frame["v"].to_list() == [[1.0, 2.5], [3.0, 4.0]]
    assert len(read.reasons) == 4
    assert read.parsed.arrived == 6


def test_partitions_are_full_and_bounded_by_bytes(tmp_path: Path) -> None:
    writer = PartitionWriter(tmp_path, rows=10, size=10_000)
    for start in range(0, 35, 7):
        writer.add(pl.DataFrame({"_row": range(start, start + 7), "x": ["y"] * 7}))
    writer.add(pl.DataFrame({"_row": [35], "x": ["y" * 20_000]}))
    writer.finish()
    frames = [pl.read_parquet(path) for path in writer.paths]
    assert [frame.height for frame in frames] == [10, 10, 10, 6]
    assert pl.concat(frames)["_row"].to_list() == list(range(36))


@pytest.mark.parametrize("in_memory", [0, 40, 10**6])
def test_repeats_are_the_same_in_memory_and_on_disk(in_memory: int, tmp_path: Path) -> None:
    keys = np.random.default_rng(0).integers(0, 60, 100)
    repeats = Repeats(tmp_path / "scratch", in_memory=in_memory)
    for start in range(0, 100, 30):
        rows = np.arange(start, min(start + 30, 100), dtype=np.uint64)
        repeats.add(pl.Series([str(keys[row]) for row in rows]), rows)
    found = repeats.resolve(100)
    expected = [int((keys[: i + 1] == key).sum()) if (keys == key).sum() > 1 else 0 for i, key in enumerate(keys)]
    assert found is not None
    assert found.tolist() == expected
    repeats.close()
    assert not any(tmp_path.iterdir())


def test_rejects_merge_in_order_of_row(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).permutation(30_000)
    parts = []
    for place in range(2):
        path = tmp_path / f"{place}.parquet"
        mine = np.sort(rows[place::2])
        with RejectWriter(path) as writer:
            frame = pl.DataFrame({"_row": mine, "reason": [str(row) for row in mine]})
            writer.add(
                frame.with_columns(pl.lit(None).alias(name) for name in REJECT_COLUMNS if name not in frame.columns)
            )
        parts.append(read_rejects(path))
    assert merge_rejects(tmp_path / "all.parquet", parts) == 30_000
    merged = pl.read_parquet(tmp_path / "all.parquet")
    assert merged["_row"].to_list() == list(range(30_000))
    assert merged["reason"].to_list() == [str(row) for row in range(30_000)]


def test_originals_can_be_fetched_later_for_any_rows(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text('a,b\n1,"x"\n2,y,\n')
    (tmp_path / "2.jsonl").write_text('{"a": 1}\n{"a":  2}\n')
    batch = snapshot([tmp_path / "1.csv", tmp_path / "2.jsonl"], "d", tmp_path / "snapshot")
    arrived = Originals(batch, AB)
    first = arrived.fetch(np.array([0, 1], dtype=np.uint64))
    assert first["original"].to_list() == [b'1,"x"', b"2,y,"]
    assert arrived.fetch(np.array([3], dtype=np.uint64)).row(0)[1:] == (f"{tmp_path}/2.jsonl, line 2", b'{"a":  2}')
    with pytest.raises(IndexError, match="no row 4"):
        arrived.fetch(np.array([4], dtype=np.uint64))


def test_parsing_again_replaces_what_was_there_and_a_refusal_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("a,b\n1,x\n")
    (tmp_path / "bad.csv").write_text('a,b\n1,x\n2,"y\n')
    work = tmp_path / "work"
    work.mkdir()
    for _ in range(2):
        parsed = parse(snapshot([tmp_path / "good.csv"], "d", tmp_path / "s"), AB, work)
    assert pl.read_parquet(parsed.partitions).height == 1
    with pytest.raises(InputRefused):
        parse(snapshot([tmp_path / "bad.csv"], "d", tmp_path / "s"), AB, work)
    assert not any(work.iterdir())


def test_progress_counts_every_record(tmp_path: Path) -> None:
    counted: list[int] = []
    (tmp_path / "t.csv").write_text("a,b\n" + "1,x\n" * 100 + "1\n")
    (tmp_path / "w").mkdir()
    parse(snapshot([tmp_path / "t.csv"], "d", tmp_path / "s"), AB, tmp_path / "w", on_rows=counted.append)
    assert sum(counted) == 101


def test_a_full_disk_while_parsing_is_one_clear_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{n},x{n}\n" for n in rng.integers(0, 2**60, 2000)))
    batch = snapshot([tmp_path / "t.csv"], "d", tmp_path / "s")
    (tmp_path / "w").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(UsageError, match="no space left"):
            parse(batch, AB, tmp_path / "w")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
