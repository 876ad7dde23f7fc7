from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import InputRefused
from lazaretto.pipelines import read_parquet as module
from tests.reading import Read, contract_of, parquet_of, read_files, read_parquet

SMALL = parquet_of(pl.DataFrame({"a": range(200), "b": [str(i) for i in range(200)]}))
AB = contract_of("a: integer; b: text")


def read_arrow(table: pa.Table, columns: str) -> Read:
    out = io.BytesIO()
    pq.write_table(table, out)
    return read_files({"t.parquet": out.getvalue()}, contract_of(columns))


def read_values(values: list[object], arrow_type: pa.DataType, column: str) -> Read:
    return read_arrow(
        pa.table({"a": pa.array(values, arrow_type), "k": range(len(values))}), f"a: {column}; k: integer"
    )


@pytest.mark.parametrize(
    ("values", "arrow_type", "column", "expected"),
    [
        ([1, None], pa.int8(), "integer", [1, None]),
        ([3.0, float("nan")], pa.float64(), "integer", [3, None]),
        ([Decimal("3.00")], pa.decimal128(9, 2), "integer", [3]),
        ([Decimal(2**53 + 1)], pa.decimal128(20, 0), "integer", [2**53 + 1]),
        (["7", "-2.0"], pa.string(), "integer", [7, -2]),
        ([2**40], pa.uint64(), "number", [2.0**40]),
        ([0.1], pa.float32(), "number", [float(np.float32(0.1))]),
        ([0.5], pa.float16(), "number", [0.5]),
        ([True, None], pa.bool_(), "boolean", [True, None]),
        (["TRUE", "false"], pa.large_string(), "boolean", [True, False]),
        ([3, 4], pa.uint8(), "category", ["3", "4"]),
        ([True], pa.bool_(), "category", ["true"]),
        (["x", None, "x"], pa.dictionary(pa.int8(), pa.string()), "category", ["x", None, "x"]),
        ([b"abc"], pa.binary(), "text", ["abc"]),
        (["x"], pa.string_view(), "text", ["x"]),
        ([None], pa.null(), "number", [None]),
        ([[1, 2], None], pa.list_(pa.int32()), "{type: vector, dimensions: 2, nullable: true}", [[1.0, 2.0], None]),
        ([[1.5, 2]], pa.list_(pa.float64(), 2), "{type: vector, dimensions: 2}", [[1.5, 2.0]]),
        ([dt.date(2024, 1, 2)], pa.date32(), "timestamp", [dt.datetime(2024, 1, 2, tzinfo=dt.UTC)]),
        ([dt.datetime(2024, 1, 2)], pa.timestamp("ms"), "timestamp", [dt.datetime(2024, 1, 2, tzinfo=dt.UTC)]),  # noqa: DTZ001  a time without a zone is what is read here
        (
            [dt.datetime(2024, 1, 2, tzinfo=dt.UTC)],
            pa.timestamp("ns", "Asia/Tokyo"),
            "timestamp",
            [dt.datetime(2024, 1, 2, tzinfo=dt.UTC)],
        ),
    ],
)
def test_a_column_converts_exactly(values: list[object], arrow_type: pa.DataType, column: str, expected: list) -> None:
    read = read_values(values, arrow_type, column)
    assert read.frame["a"].to_list() == expected
    assert not read.parsed.holds


@pytest.mark.parametrize(
    ("value", "arrow_type", "column", "reason"),
    [
        (3.5, pa.float64(), "integer", "a: 3.5 is not a whole number"),
        (2**63, pa.uint64(), "integer", "a: 9223372036854775808 does not fit into 64 bits"),
        (1e300, pa.float64(), "integer", "a: 1e+300 does not fit into 64 bits"),
        (float("inf"), pa.float64(), "integer", "a: inf is infinite"),
        (float("-inf"), pa.float64(), "number", "a: -inf is infinite"),
        ("NA", pa.string(), "number", "a: 'NA' is not a number"),
        (" 1", pa.string(), "number", "a: ' 1' is not a number"),
        ("yes", pa.string(), "boolean", "a: 'yes' is neither true nor false"),
        (b"\xff", pa.binary(), "text", "a: 1 bytes are not UTF-8 text"),
        ([1, 2, 3], pa.list_(pa.int32()), "{type: vector, dimensions: 2}", "a: a list of 3 is not a vector of 2"),
        ([1, None], pa.list_(pa.int32()), "{type: vector, dimensions: 2}", "a: a list of 2 is not a vector of 2"),
        ("secret", pa.string(), "{type: number, pii: true}", "a: a value is not a number"),
    ],
)
def test_a_value_that_does_not_convert_rejects_its_record(
    value: object, arrow_type: pa.DataType, column: str, reason: str
) -> None:
    read = read_values([value, None], arrow_type, column)
    assert read.reasons[0].startswith(reason)
    assert read.frame["k"].to_list() == [1]


@pytest.mark.parametrize(
    ("value", "arrow_type", "column"),
    [
        ([1], pa.list_(pa.int64()), "integer"),
        (1, pa.int64(), "boolean"),
        (1, pa.int64(), "timestamp"),
        ({"x": 1}, pa.struct([("x", pa.int64())]), "text"),
        (Decimal("1.00"), pa.decimal256(60, 2), "number"),
        ([("k", 1)], pa.map_(pa.string(), pa.int64()), "text"),
        (dt.timedelta(1), pa.duration("s"), "number"),
        (["x"], pa.list_(pa.string()), "{type: vector, dimensions: 1}"),
    ],
)
def test_a_column_that_can_never_convert_holds_the_batch_and_rejects_where_it_has_values(
    value: object, arrow_type: pa.DataType, column: str
) -> None:
    read = read_values([None, value], arrow_type, column)
    assert len(read.parsed.holds) == 1
    assert "the column 'a' is " in read.parsed.holds[0]
    assert "where the contract says" in read.reasons[1]
    assert read.frame["a"].to_list() == [None]


def test_text_that_is_not_utf8_rejects_its_record_alone() -> None:
    broken = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"\xffx"))
    read = read_arrow(pa.table({"a": broken}), "a: text")
    assert read.frame["a"].to_list() == ["x"]
    assert read.reasons == {0: "a: 1 bytes are not UTF-8 text"}


def test_the_original_of_a_record_is_its_whole_row_as_json() -> None:
    frame = pl.DataFrame({"a": [1.0, 0.5], "z": [b"\x00", b"\xff"], "when": [dt.date(2024, 1, 2)] * 2})
    original = json.loads(read_parquet(frame, contract_of("a: integer")).originals[1])
    assert original == {"a": 0.5, "z": {"base64": "/w=="}, "when": "2024-01-02"}


def test_originals_are_found_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTITION_ROWS", 7)
    frame = pl.DataFrame({"a": [i + 0.5 * (i % 3 == 0) for i in range(50)], "other": range(50)})
    read = read_parquet(frame, contract_of("a: integer"))
    assert read.frame["a"].to_list() == [i for i in range(50) if i % 3]
    assert [json.loads(raw)["other"] for raw in read.rejects["original"]] == list(range(0, 50, 3))


def test_a_column_name_with_a_dot_is_itself() -> None:
    frame = pl.DataFrame({"a": [{"b": 1}], "a.b": [2]})
    assert read_parquet(frame, contract_of("a.b: integer")).frame["a.b"].to_list() == [2]


@pytest.mark.parametrize("cut", [4, 40, -1, -9])
def test_a_truncated_file_is_refused(cut: int) -> None:
    with pytest.raises(InputRefused, match="no readable Parquet"):
        read_files({"t.parquet": SMALL[:cut]}, AB)


def test_a_file_without_rows_or_known_columns_or_with_a_column_twice_is_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(InputRefused, match="the column 'a' twice"):
        read_arrow(table, "a: integer")
    with pytest.raises(InputRefused, match="holds no records"):
        read_parquet(pl.DataFrame({"a": []}, schema={"a": pl.Int64}), AB)
    with pytest.raises(InputRefused, match="none of the contract's columns"):
        read_parquet(pl.DataFrame({"x": [1]}), AB)


@given(st.integers(4, len(SMALL) - 5), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_any_damage_ends_in_a_refused_file_or_in_every_record_accounted_for(place: int, mask: int) -> None:
    raw = bytearray(SMALL)
    raw[place] ^= mask
    try:
        read = read_files({"t.parquet": bytes(raw)}, AB)
    except InputRefused:
        return
    assert read.parsed.arrived == read.frame.height + read.parsed.rejected
