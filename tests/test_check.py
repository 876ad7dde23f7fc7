"""Validation of parsed batches: who fails, why, and when the whole batch must wait."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from lazaretto.contract import Column, Contract, Policy, canonical_schema
from lazaretto.expectations import evaluate, frames, masks
from lazaretto.expectations.check import CheckResult, check
from lazaretto.expectations.gx import Evaluator, Outcome
from lazaretto.expectations.suite import Suite
from lazaretto.records import ROW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pandas as pd

    Checked = Callable[..., CheckResult]

UNIQUE = "expect_column_values_to_be_unique"
BETWEEN = "expect_column_values_to_be_between"
MEAN = "expect_column_mean_to_be_between"
NUMBER = {"x": Column(type="integer", nullable=True)}


def contract_of(columns: dict[str, Column], *expectations: dict[str, Any], **more: Policy) -> Contract:
    return Contract(dataset="flights", columns=columns, expectations=expectations, **more)


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    """Write columns as canonical partitions of two records each and check them."""

    def run(contract: Contract, data: dict[str, list[Any]], *, size: int = 2, **more: Any) -> CheckResult:  # noqa: ANN401  what check takes
        schema = canonical_schema(contract)
        frame = pl.DataFrame({name: data[name] for name in schema}, schema=schema).with_row_index(ROW)
        frame = frame.with_columns(pl.col(ROW).cast(pl.UInt64))
        partitions = []
        for start in range(0, frame.height, size):
            partitions.append(tmp_path / f"part-{start:05d}.parquet")
            frame.slice(start, size).write_parquet(partitions[-1])
        return check(partitions, contract, tmp_path / "out", **more)

    return run


def failures(result: CheckResult) -> list[tuple[int, str, str]]:
    return sorted(pl.read_parquet(result.failures).rows())


def test_a_clean_batch_passes_and_every_record_was_evaluated(checked: Checked) -> None:
    seen: list[int] = []
    columns = {"x": Column(type="integer", min=1, max=9), "s": Column(type="category", values=("a", "b"))}
    result = checked(contract_of(columns), {"x": [1, 5, 9], "s": ["a", "b", "a"]}, on_rows=seen.append)
    assert (result.holds, failures(result), result.evaluated, result.expected) == ((), [], 3, 3)
    assert all(item["success"] for item in result.results)
    assert sum(seen) == 3


def test_every_failing_record_says_why_in_words(checked: Checked) -> None:
    columns = {
        "distance": Column(type="integer", min=1, max=10),
        "origin": Column(type="category", values=("EWR", "JFK")),
        "note": Column(type="text", max_chars=3, nullable=True),
    }
    data = {"distance": [-5, 11, None, 2], "origin": ["EWR", "XXX", "JFK", "JFK"], "note": [None, "abcd", "abc", ""]}
    result = checked(contract_of(columns), data)
    assert failures(result) == [
        (0, "distance", "distance is -5, below the minimum 1"),
        (1, "distance", "distance is 11, above the maximum 10"),
        (1, "note", "note has 4 characters, above the maximum 3"),
        (1, "origin", "origin is 'XXX', not one of EWR and JFK"),
        (2, "distance", "distance is missing"),
    ]
    assert result.holds == ()


def test_a_reason_shows_at_most_40_printable_characters_of_a_cell(checked: Checked) -> None:
    columns = {"s": Column(type="category", values=("a",))}
    result = checked(contract_of(columns), {"s": ["\x1b[31m" + "x" * 500, "a\u202eb"]})
    reasons = [reason for _, _, reason in failures(result)]
    assert reasons[0] == f"s is '\N{REPLACEMENT CHARACTER}[31m{'x' * 34}…', not a"
    assert reasons[1] == "s is 'a\N{REPLACEMENT CHARACTER}b', not a"


PRIVATE = {
    "s": Column(type="text", pii=True, max_chars=4, nullable=True),
    "n": Column(type="integer", pii=True, min=7, nullable=True),
    "m": Column(type="integer", nullable=True),
}


def test_a_reason_shows_nothing_of_personal_data(checked: Checked) -> None:
    expectations = (
        {"type": "expect_column_values_to_match_regex", "column": "s", "regex": "^z"},
        {"type": "expect_column_values_to_be_in_set", "column": "n", "value_set": [9]},
        {"type": "expect_column_pair_values_to_be_equal", "column_A": "m", "column_B": "n"},
        {"type": "expect_column_values_to_be_json_parseable", "column": "s"},
        {"type": UNIQUE, "column": "s"},
        {"type": "expect_compound_columns_to_be_unique", "column_list": ["s", "m"]},
        {"type": "expect_column_value_lengths_to_equal", "column": "s", "value": 2},
    )
    data = {"s": ["secret", "secret"], "n": [-4242, -4242], "m": [8, 8]}
    result = checked(contract_of(PRIVATE, *expectations), data)
    text = " ".join(reason for _, _, reason in failures(result))
    assert len(failures(result)) == 18
    assert "secret" not in text
    assert "4242" not in text
    assert "secret" not in str((result.results, result.holds))


def test_no_record_at_all_never_passes(checked: Checked) -> None:
    result = checked(contract_of(NUMBER), {"x": []})
    assert result.holds == ("no record is left to validate",)
    assert not any(item["success"] for item in result.results)


def test_an_empty_suite_never_passes(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazaretto.expectations.check.build_suite", lambda _: Suite("flights", ()))
    result = checked(contract_of(NUMBER), {"x": [1]})
    assert result.holds == ("the contract promises nothing: no expectation was evaluated",)


@pytest.mark.parametrize(("rows", "nullable", "held"), [(2, False, True), (2, True, False), (30, True, True)])
def test_a_column_without_any_value_holds_the_batch(checked: Checked, rows: int, nullable: bool, held: bool) -> None:
    columns = {"x": Column(type="integer", nullable=nullable), "y": Column(type="boolean")}
    result = checked(contract_of(columns), {"x": [None] * rows, "y": [True] * rows}, size=20)
    assert (result.holds == (f"column 'x' holds no value in any of {rows} records",)) == held


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_parsing_should_have_removed_holds_the_batch(checked: Checked, value: float) -> None:
    columns = {"x": Column(type="number", min=0, max=10, nullable=True)}
    result = checked(contract_of(columns), {"x": [1.0, value, 2.0]})
    assert result.holds == ("column 'x' holds NaN or infinity, which parsing should have removed",)


def test_a_column_of_another_type_holds_the_batch_and_nothing_is_evaluated(tmp_path: Path) -> None:
    pl.DataFrame({ROW: [0], "x": ["1"]}, schema={ROW: pl.UInt64, "x": pl.String}).write_parquet(tmp_path / "p.parquet")
    result = check([tmp_path / "p.parquet"], contract_of(NUMBER), tmp_path)
    assert "column 'x' is String in partition p.parquet, not Int64" in result.holds
    assert result.evaluated == 0


def test_a_missing_column_and_an_unreadable_partition_hold_the_batch(tmp_path: Path) -> None:
    pl.DataFrame({ROW: [0]}, schema={ROW: pl.UInt64}).write_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no PAR1")
    result = check([tmp_path / "a.parquet", tmp_path / "b.parquet"], contract_of(NUMBER), tmp_path)
    assert "column 'x' is missing from partition a.parquet" in result.holds
    assert any(hold.startswith("partition b.parquet cannot be read") for hold in result.holds)


def test_fewer_records_than_were_parsed_hold_the_batch(checked: Checked) -> None:
    result = checked(contract_of(NUMBER), {"x": [1, 2]}, expected=3)
    assert result.holds[0] == "3 records were parsed, the partitions hold 2, and validation read 2"
    assert result.holds[1] == "only 2 of 3 records were evaluated"


@pytest.mark.parametrize(("policy", "held"), [({"min_records": 3}, True), ({"max_records": 1}, True), ({}, False)])
def test_a_batch_outside_its_volume_is_held(checked: Checked, policy: dict[str, int], held: bool) -> None:
    result = checked(contract_of(NUMBER, policy=Policy(**policy)), {"x": [1, 2]})
    assert bool(result.holds) == held
    assert all("expect_table_row_count_to_be_between is not met: observed 2" in hold for hold in result.holds)


def test_equal_values_are_found_across_partitions_and_parts(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "BUCKET_BYTES", 64)
    columns = {"i": Column(type="category"), "x": Column(type="number", nullable=True)}
    pair = {"type": "expect_compound_columns_to_be_unique", "column_list": ["i", "x"]}
    data = {"i": ["a", "b", "c", "d", "e", "a"], "x": [0.0, None, 1.0, None, -0.0, -0.0]}
    result = checked(contract_of(columns, {"type": UNIQUE, "column": "i"}, {"type": UNIQUE, "column": "x"}, pair), data)
    assert [(row, column) for row, column, _ in failures(result)] == [
        (0, "i"), (0, "i, x"), (0, "x"), (4, "x"), (5, "i"), (5, "i, x"), (5, "x"),
    ]  # fmt: skip
    assert failures(result)[0][2] == "i is 'a', which occurs more than once"
    assert result.holds == ()


def test_an_aggregate_is_taken_over_the_whole_batch_and_not_per_chunk(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "CHUNK_ROWS", 2)
    good = {"type": MEAN, "column": "x", "min_value": 4.9, "max_value": 5.1}
    bad = {"type": "expect_column_max_to_be_between", "column": "x", "max_value": 9}
    result = checked(contract_of(NUMBER, good, bad), {"x": [0, 0, 10, 10]})
    assert result.holds == ("expect_column_max_to_be_between on x is not met: observed 10; asked for max_value 9",)
    assert [item["observed"] for item in result.results if item["observed"] is not None] == [5, 10]


def test_an_aggregate_over_more_than_fits_holds_the_batch(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "WHOLE_BYTES", 16)
    result = checked(contract_of(NUMBER, {"type": MEAN, "column": "x", "min_value": 0}), {"x": [1, 2, 3]})
    assert len(result.holds) == 1
    assert "at once" in result.holds[0]


def test_order_is_judged_across_partitions(checked: Checked) -> None:
    rising = {"type": "expect_column_values_to_be_increasing", "column": "x"}
    result = checked(contract_of(NUMBER, rising), {"x": [1, 5, None, 4, 6]})
    assert failures(result) == [(3, "x", "x is 4, out of increasing order")]


@pytest.mark.parametrize(("mostly", "held"), [(0.5, False), (0.8, True)])
def test_a_tolerated_share_rejects_nobody_and_holds_when_it_is_exceeded(
    checked: Checked, mostly: float, held: bool
) -> None:
    entry = {"type": BETWEEN, "column": "x", "min_value": 0, "mostly": mostly}
    result = checked(contract_of(NUMBER, entry), {"x": [1, -1, 1, None]})
    assert failures(result) == []
    assert bool(result.holds) == held
    assert all("1 of 3 records fail, and at most 20.00% may" in hold for hold in result.holds)


@pytest.mark.parametrize(
    "entry", [{"type": BETWEEN, "column": "x", "min_value": 5}, {"type": MEAN, "column": "x", "min_value": 5}]
)
def test_a_warning_is_reported_and_changes_nothing(checked: Checked, entry: dict[str, Any]) -> None:
    result = checked(contract_of(NUMBER, {**entry, "severity": "warning"}), {"x": [1, 2]})
    assert (failures(result), result.holds) == ([], ())
    assert result.results[-1]["success"] is False


def test_a_row_condition_limits_who_can_fail(checked: Checked) -> None:
    condition = {"type": "comparison", "column": "s", "operator": "==", "parameter": "a"}
    columns = {**NUMBER, "s": Column(type="category")}
    between = {"type": BETWEEN, "column": "x", "min_value": 0, "row_condition": condition}
    unique = {"type": UNIQUE, "column": "x", "row_condition": condition}
    mean = {"type": MEAN, "column": "x", "max_value": 0, "row_condition": condition}
    data = {"x": [-1, -2, 1, -2, 1], "s": ["a", "b", "a", "b", "b"]}
    result = checked(contract_of(columns, between, unique, mean), data)
    assert failures(result) == [(0, "x", "x is -1, below the minimum 0")]
    assert (result.holds, result.evaluated) == ((), 5)


def test_what_no_mask_can_say_is_asked_of_great_expectations(checked: Checked) -> None:
    columns = {"s": Column(type="text", nullable=True)}
    result = checked(contract_of(columns, {"type": "expect_column_values_to_be_json_parseable", "column": "s"}), {
        "s": ["{}", None, "{", "[1]", "nope"]
    })  # fmt: skip
    assert failures(result) == [(2, "s", "s is '{', which is not JSON"), (4, "s", "s is 'nope', which is not JSON")]
    assert result.results[-1]["rows_by"] == "great expectations"


@pytest.mark.parametrize("answer", [False, True])
def test_a_broken_mask_lets_no_failing_record_through(
    checked: Checked, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    monkeypatch.setitem(masks._MASKS, BETWEEN, lambda columns, _: columns[0].is_not_null() & pl.lit(answer))
    result = checked(contract_of({"x": Column(type="integer", min=0)}), {"x": [-1, 2, -3]})
    assert {row for row, _, _ in failures(result)} >= {0, 2}
    assert result.results[-1]["rows_by"] == "great expectations"


def test_counts_that_cannot_be_told_apart_hold_the_batch(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Evaluator.run

    def lie(self: Evaluator, frame: pd.DataFrame, indices: Sequence[int], *, rows: bool = False) -> dict[int, Outcome]:
        found = real(self, frame, indices, rows=rows)
        return {index: Outcome(success=False, evaluated=3, unexpected=1, positions=()) for index in found}

    monkeypatch.setattr(Evaluator, "run", lie)
    result = checked(contract_of({"x": Column(type="integer", min=0)}), {"x": [1, 2, 3]}, size=3)
    assert any("counts failing records that cannot be told apart" in hold for hold in result.holds)


def test_an_expectation_that_raises_holds_the_batch_and_quotes_no_cell(checked: Checked) -> None:
    columns = {"s": Column(type="text")}
    schema = {"type": "expect_column_values_to_match_json_schema", "column": "s", "json_schema": {}}
    result = checked(contract_of(columns, schema), {"s": ["{}", "not json but secret"]})
    assert any("could not be evaluated (JSONDecodeError)" in hold for hold in result.holds)
    assert result.evaluated == 0
    assert "secret" not in str((result.holds, result.results))


def test_an_answer_that_never_came_holds_the_batch(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Evaluator.run
    monkeypatch.setattr(Evaluator, "run", lambda self, frame, indices, **more: real(self, frame, [], **more) | {
        index: Outcome(success=True) for index in indices
    })  # fmt: skip
    result = checked(contract_of({"x": Column(type="integer")}), {"x": [1, 2]})
    assert "expect_column_values_to_not_be_null on x could not be evaluated (records were left out)" in result.holds
    assert result.evaluated == 0


def test_images_and_vectors_are_checked_without_great_expectations_seeing_them(checked: Checked) -> None:
    columns = {"photo": Column(type="image"), "place": Column(type="vector", dimensions=2)}
    data = {
        "photo": [b"x", None, b"y", b"z", b"z"],
        "place": [[1.0, 2.0], [1.0, 2.0], [1.0], [math.inf, 0.0], None],
    }
    assert failures(checked(contract_of(columns), data)) == [
        (1, "photo", "photo is missing"),
        (2, "place", "place has 1 numbers, not 2"),
        (3, "place", "place holds a number that is missing or infinite"),
        (4, "place", "place is missing"),
    ]


def test_types_are_judged_without_the_nulls_that_would_make_floats_of_integers(checked: Checked) -> None:
    good = {"type": "expect_column_values_to_be_of_type", "column": "x", "type_": "int64"}
    bad = {"type": "expect_column_type_to_be", "column": "x", "type_": "float64"}
    result = checked(contract_of(NUMBER, good, bad), {"x": [1, None, None, None]})
    assert [hold.split(":")[0] for hold in result.holds] == ["expect_column_type_to_be on x is not met"]


def test_column_names_are_judged_as_the_partitions_have_them(checked: Checked) -> None:
    wrong = {"type": "expect_table_columns_to_match_ordered_list", "column_list": ["x", "z"]}
    right = {"type": "expect_table_column_count_to_equal", "value": 1}
    result = checked(contract_of(NUMBER, wrong, right), {"x": [1]})
    assert len(result.holds) == 1
    assert result.holds[0].startswith("expect_table_columns_to_match_ordered_list is not met")


def test_moments_are_compared_in_utc(checked: Checked) -> None:
    entry = {"type": BETWEEN, "column": "t", "min_value": "2024-01-01T00:00:00+01:00"}
    moments = [datetime(2023, 12, 31, 23, tzinfo=UTC), datetime(2023, 12, 31, 22, 59, tzinfo=UTC)]
    result = checked(contract_of({"t": Column(type="timestamp")}, entry), {"t": moments})
    assert [row for row, _, _ in failures(result)] == [1]
    assert "below the minimum 2023-12-31T23:00:00+00:00" in failures(result)[0][2]


def test_chunks_get_shorter_where_cells_are_long(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(frames, "BATCH_ROWS", 4)
    seen: list[int] = []
    result = checked(contract_of({"s": Column(type="text")}), {"s": ["x" * 1_000] * 20}, size=20, on_rows=seen.append)
    assert (max(seen), sum(seen), result.evaluated) == (8, 20, 20)


def test_a_hostile_cell_cannot_stall_a_pattern(checked: Checked) -> None:
    entry = {"type": "expect_column_values_to_match_regex", "column": "s", "regex": r"^(\w+\s?)*$"}
    result = checked(contract_of({"s": Column(type="text")}, entry), {"s": ["a" * 40_000 + "!", "ab cd", "a\n"]})
    assert [row for row, _, _ in failures(result)] == [0]
