"""Every mask flags exactly the records that Great Expectations finds, on data made to be awkward."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazaretto.contract import Column, Contract
from lazaretto.expectations import frames, masks
from lazaretto.expectations.gx import Evaluator
from lazaretto.expectations.suite import Expectation, build_suite

if TYPE_CHECKING:
    from types import ModuleType

C = "expect_column_values_to_"
P = "expect_column_pair_values_"
L = "expect_column_value_lengths_to_"
NONE = {"ignore_row_if": "neither"}
EITHER = {"ignore_row_if": "either_value_is_missing"}
NEVER = {"ignore_row_if": "never"}
ANY = {"ignore_row_if": "any_value_is_missing"}
MOMENT = "2024-01-01T00:00:01+00:00"

PROMISES: list[tuple[str, dict[str, Any]]] = [
    *((C + name, {"column": column}) for name in ("be_null", "not_be_null") for column in "insbt"),
    (C + "be_between", {"column": "i", "min_value": 0}),
    (C + "be_between", {"column": "i", "min_value": 0, "max_value": 2, "strict_min": True}),
    (C + "be_between", {"column": "n", "max_value": 1.5, "strict_max": True}),
    (C + "be_between", {"column": "t", "min_value": MOMENT, "max_value": MOMENT}),
    (C + "be_in_set", {"column": "i", "value_set": [0, 2]}),
    (C + "be_in_set", {"column": "n", "value_set": [0, 1.5]}),
    (C + "be_in_set", {"column": "s", "value_set": ["a", "é"]}),
    (C + "be_in_set", {"column": "b", "value_set": [True]}),
    (C + "not_be_in_set", {"column": "i", "value_set": [0, 2]}),
    (C + "not_be_in_set", {"column": "s", "value_set": ["a", "é"]}),
    *((C + "be_unique", {"column": column}) for column in "insbt"),
    (L + "be_between", {"column": "s", "min_value": 1, "max_value": 2}),
    (L + "be_between", {"column": "s", "max_value": 2, "strict_max": True}),
    (L + "equal", {"column": "s", "value": 1}),
    *((C + "match_regex", {"column": "s", "regex": r}) for r in (r"^\w+$", r"\d", "^a?(1| )*$", r"[\s.]", "(?i)A", "")),
    (C + "not_match_regex", {"column": "s", "regex": r"[^\w&\d]|^$"}),
    (C + "match_regex_list", {"column": "s", "regex_list": ["a", r"\S"], "match_on": "all"}),
    (C + "match_regex_list", {"column": "s", "regex_list": ["a", "1"]}),
    (C + "not_match_regex_list", {"column": "s", "regex_list": ["a", "1"]}),
    *((P + "a_to_be_greater_than_b", {"column_A": "i", "column_B": "n", **more}) for more in ({}, NONE, EITHER)),
    (P + "a_to_be_greater_than_b", {"column_A": "t", "column_B": "u", "or_equal": True}),
    *((P + "to_be_equal", {"column_A": "s", "column_B": "z", **more}) for more in ({}, NONE, EITHER)),
    (P + "to_be_equal", {"column_A": "i", "column_B": "n"}),
    (P + "to_be_in_set", {"column_A": "i", "column_B": "s", "value_pairs_set": [[0, "a"], [None, "a"], [1, None]]}),
    *(("expect_multicolumn_sum_to_equal", {"column_list": ["i", "n"], "sum_total": 1, **m}) for m in ({}, NEVER, ANY)),
    *(("expect_multicolumn_values_to_be_equal", {"column_list": ["s", "z"], **m}) for m in ({}, NEVER, ANY)),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["s", "z"]}),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["i", "n"], **NEVER}),
    *(("expect_compound_columns_to_be_unique", {"column_list": ["i", "s"], **more}) for more in ({}, NEVER, ANY)),
    (C + "be_increasing", {"column": "i"}),
    (C + "be_increasing", {"column": "t", "strictly": True}),
    (C + "be_decreasing", {"column": "n", "strictly": True}),
]
COLUMNS = {
    "i": Column(type="integer", nullable=True),
    "n": Column(type="number", nullable=True),
    "s": Column(type="text", nullable=True),
    "z": Column(type="category", nullable=True),
    "b": Column(type="boolean", nullable=True),
    "t": Column(type="timestamp", nullable=True),
    "u": Column(type="timestamp", nullable=True),
}
SUITE = build_suite(
    Contract(dataset="d", columns=COLUMNS, expectations=tuple({"type": name, **kwargs} for name, kwargs in PROMISES))
).expectations[len(COLUMNS) :]

texts = st.one_of(st.none(), st.text(st.sampled_from("aA1 é٣_.\n&"), max_size=3))
moments = st.one_of(st.none(), st.integers(0, 3).map(lambda second: datetime(2024, 1, 1, 0, 0, second, tzinfo=UTC)))
row = st.tuples(
    st.one_of(st.none(), st.integers(-2, 3)),
    st.one_of(st.none(), st.sampled_from([-0.0, 0.0, 0.5, 1.5, 1.0, 2.0, -2.0])),
    texts,
    texts,
    st.one_of(st.none(), st.booleans()),
    moments,
    moments,
)
SCHEMA = {
    "i": pl.Int64,
    "n": pl.Float64,
    "s": pl.String,
    "z": pl.String,
    "b": pl.Boolean,
    "t": pl.Datetime("us", "UTC"),
    "u": pl.Datetime("us", "UTC"),
}


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(SUITE)


def test_every_mask_is_among_the_promises_below() -> None:
    assert {item.type for item in SUITE} == set(masks._MASKS)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, min_size=1, max_size=12))
def test_masks_and_great_expectations_name_the_same_records(rows: list[Any], evaluator: Evaluator) -> None:
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    outcomes = evaluator.run(frames.to_pandas(frame, frame.columns), range(len(SUITE)), rows=True)
    for index, item in enumerate(SUITE):
        mask = masks.failing(item, frame)
        assert mask is not None
        assert outcomes[index].error is None, (item, outcomes[index])
        assert mask.arg_true().to_list() == sorted(outcomes[index].positions), item
        assert mask.sum() == outcomes[index].unexpected, item


CONDITIONS = [
    {"type": "comparison", "column": {"name": "i"}, "operator": ">", "parameter": 0},
    {"type": "comparison", "column": {"name": "s"}, "operator": "IN", "parameter": ["a", "b"]},
    {"type": "nullity", "column": {"name": "n"}, "is_null": True},
    {"type": "and", "conditions": [{"type": "nullity", "column": {"name": "n"}, "is_null": False}]},
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_row_condition_selects_what_great_expectations_would(condition: dict[str, Any], gx: ModuleType) -> None:
    frame = pl.DataFrame({"i": [1, 0, 3, 1], "s": ["a", "b", "c", "a"], "n": [None, 1.0, None, 2.0]})
    item = Expectation("expect_column_values_to_be_unique", {"column": "i", "row_condition": condition})
    ours = masks.failing(item, frame)
    theirs = gx.expectations.ExpectColumnValuesToBeUnique(column="i", row_condition=condition)
    source = gx.get_context(mode="ephemeral").data_sources.add_pandas("p").add_dataframe_asset("a")
    found = source.add_batch_definition_whole_dataframe("b").get_batch({"dataframe": frame.to_pandas()})
    result = found.validate(theirs, result_format="COMPLETE").result
    assert ours is not None
    assert ours.arg_true().to_list() == result["unexpected_index_list"]


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">=", "IN", "NOT_IN"])
def test_a_null_is_in_no_comparison(operator: str) -> None:
    parameter: Any = [1] if "IN" in operator else 1
    condition = {"type": "comparison", "column": {"name": "i"}, "operator": operator, "parameter": parameter}
    frame = pl.DataFrame({"i": [None]}, schema={"i": pl.Int64})
    assert frame.select(masks.selects(condition)).item() is False


def test_great_expectations_does_not_hold_on_to_a_frame_it_has_judged(evaluator: Evaluator) -> None:
    frame = frames.to_pandas(
        pl.DataFrame([(1, 0.5, "a", "b", True, None, None)], schema=SCHEMA, orient="row"), [*SCHEMA]
    )
    kept = weakref.ref(frame)
    gc.disable()  # a million records would wait for the collector
    try:
        evaluator.run(frame, range(len(SUITE)), rows=True)
        del frame
        assert kept() is None
    finally:
        gc.enable()


def test_nan_fails_nothing_but_not_null() -> None:
    frame = pl.DataFrame({"n": [float("nan"), 5.0]})
    between = Expectation("expect_column_values_to_be_between", {"column": "n", "min_value": 0, "max_value": 1})
    missing = Expectation("expect_column_values_to_not_be_null", {"column": "n"})
    found = [masks.failing(item, frame) for item in (between, missing)]
    assert [mask.to_list() for mask in found if mask is not None] == [[False, True], [True, False]]


def test_there_is_no_mask_for_what_polars_cannot_say() -> None:
    item = Expectation("expect_column_values_to_be_json_parseable", {"column": "s"})
    assert masks.failing(item, pl.DataFrame({"s": ["{}"]})) is None


@pytest.mark.parametrize("values", [[2**53 + 1, None, 2**53], [-(2**63), None], [2**63 - 1, None, 0]])
def test_whole_numbers_beyond_the_exact_floats_reach_pandas_unrounded(values: list[int | None]) -> None:
    found = frames.to_pandas(pl.DataFrame({"i": values}, schema={"i": pl.Int64}), ["i"])["i"]
    assert [None if value is None else int(value) for value in found] == values


def test_numbers_reach_pandas_in_numpy_and_texts_as_its_own_type() -> None:
    frame = pl.DataFrame([(1, 0.5, "a", "b", True, None, None)], schema=SCHEMA, orient="row")
    found = frames.to_pandas(frame, frame.columns)
    assert "".join(found[name].dtype.kind for name in "inb") == "ifb"
    assert [str(found[name].dtype) for name in "sz"] == ["str", "str"]
