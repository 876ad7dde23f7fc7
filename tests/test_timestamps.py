"""A time that no calendar has rejects its record; it neither wraps around nor ends the process."""

from __future__ import annotations

import io

import polars as pl
import pytest

from lazaretto.contract import Column
from lazaretto.pipelines.canonical import convert
from tests.reading import contract_of, read_files

FAR = 2**62
OUTSIDE = [
    pl.Series([FAR, 0, None]).cast(pl.Datetime("us")),
    pl.Series([FAR, 0, None]).cast(pl.Datetime("ms")),
    pl.Series([-FAR, 0, None]).cast(pl.Datetime("ms", "UTC")),
    pl.Series([FAR, 0, None]).cast(pl.Datetime("us", "Europe/Berlin")),
    pl.Series([2**31 - 1, 0, None], dtype=pl.Int32).cast(pl.Date),
    pl.Series([-(2**31), 0, None], dtype=pl.Int32).cast(pl.Date),
    pl.Series(["9999-12-31T23:59:59-14:00", "1970-01-01", None]),
    pl.Series(["0001-01-01T00:00+14:00", "1970-01-01T00:00Z", None]),
    pl.Series(["0000-01-01", "1970-01-01", None]),
]


@pytest.mark.parametrize("raw", OUTSIDE, ids=lambda raw: f"{raw.dtype}")
def test_a_time_outside_the_calendar_is_a_fault_of_its_record_alone(raw: pl.Series) -> None:
    found = convert([raw], "t", Column(type="timestamp"))
    assert found.values.dtype == pl.Datetime("us", "UTC")
    assert found.values.to_physical().to_list() == [None, 0, None]
    assert list(found.faults) == [0]
    assert "lies outside the years 1 to 9999" in found.faults[0]


@pytest.mark.parametrize("raw", OUTSIDE[:6], ids=lambda raw: f"{raw.dtype}")
def test_such_a_time_where_a_number_is_due_is_told_as_its_number(raw: pl.Series) -> None:
    found = convert([raw], "t", Column(type="number"))
    assert f"{raw.to_physical()[0]} " in found.faults[0]
    assert "from 1970' is not a number" in found.faults[0]
    assert found.faults[1].startswith("t: 1970-01-01")


def test_the_first_and_the_last_moment_of_the_calendar_are_kept() -> None:
    raw = pl.Series(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
    found = convert([raw], "t", Column(type="timestamp"))
    assert found.faults == {}
    assert found.values.dt.year().to_list() == [1, 9999]


def test_nanoseconds_reach_as_far_as_64_bits_do() -> None:
    raw = pl.Series([-(2**63), 2**63 - 1]).cast(pl.Datetime("ns"))
    found = convert([raw], "t", Column(type="timestamp"))
    assert found.faults == {}
    assert found.values.dt.year().to_list() == [1677, 2262]


def test_a_parquet_with_such_times_loses_only_their_records() -> None:
    times = pl.Series([FAR, 0]).cast(pl.Datetime("ms"))
    deep = pl.Series([[{"day": days}] for days in (2**31 - 1, 0)], dtype=pl.List(pl.Struct({"day": pl.Int32})))
    frame = pl.DataFrame({"t": times, "y": ["a", "b"], "deep": deep.cast(pl.List(pl.Struct({"day": pl.Date})))})
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    read = read_files({"d.parquet": buffer.getvalue()}, contract_of("t: timestamp", label="y"))
    assert read.reasons == {0: f"t: '{FAR} ms from 1970' lies outside the years 1 to 9999"}
    assert read.originals == {0: f'{{"t": {FAR}, "y": "a", "deep": [{{"day": {2**31 - 1}}}]}}'.encode()}
    assert read.frame["y"].to_list() == ["b"]
