"""Contracts become suites; what a user adds is checked before any data is read."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lazaretto.contract import Column, Contract, Policy
from lazaretto.errors import ContractError
from lazaretto.expectations.catalog import KINDS, REFUSED
from lazaretto.expectations.suite import Suite, build_suite, read_suite, write_suite

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

COLUMNS = {
    "distance": Column(type="integer", min=1, max=10_000),
    "visib": Column(type="number", min=0, nullable=True),
    "origin": Column(type="category", values=("EWR", "JFK", "LGA")),
    "note": Column(type="text", max_chars=200, pii=True),
    "when": Column(type="timestamp"),
    "photo": Column(type="image", nullable=True),
    "place": Column(type="vector", dimensions=3),
}
MEAN = "expect_column_mean_to_be_between"
MAP = "expect_column_values_to_be_between"
REGEX = "expect_column_values_to_match_regex"


def with_expectation(**entry: object) -> Suite:
    return build_suite(Contract(dataset="flights", columns=COLUMNS, expectations=(entry,)))


def test_every_promise_of_the_contract_becomes_an_expectation() -> None:
    contract = Contract(dataset="flights", id="flight", columns=COLUMNS, policy=Policy(min_records=10))
    suite = build_suite(contract)
    said = {(item.type.removeprefix("expect_"), item.columns) for item in suite.expectations}
    assert ("column_values_to_be_between", ("distance",)) in said
    assert ("column_values_to_not_be_null", ("distance",)) in said
    assert ("column_values_to_not_be_null", ("visib",)) not in said
    assert ("column_values_to_be_in_set", ("origin",)) in said
    assert ("column_value_lengths_to_be_between", ("note",)) in said
    assert ("column_values_to_be_unique", ("flight",)) in said
    assert ("table_row_count_to_be_between", ()) in said
    assert sum(kind == "column_to_exist" for kind, _ in said) == len(COLUMNS) + 1


def test_a_suite_is_the_same_bytes_every_time_and_holds_no_random_id() -> None:
    first, second = (build_suite(Contract(dataset="flights", columns=COLUMNS)).to_json() for _ in range(2))
    assert first == second
    assert '"id"' not in first


def test_great_expectations_loads_the_json_without_dropping_anything(gx: ModuleType) -> None:
    condition = {"type": "nullity", "column": "visib", "is_null": False}
    suite = with_expectation(type=MAP, column="distance", max_value=9, row_condition=condition, severity="warning")
    loaded = gx.ExpectationSuite(**json.loads(suite.to_json()))
    assert [item.expectation_type for item in loaded.expectations] == [item.type for item in suite.expectations]
    assert loaded.expectations[-1].severity == "warning"


def test_the_catalog_is_what_great_expectations_offers(gx: ModuleType) -> None:
    from great_expectations.expectations import core

    ours = {"mostly", "row_condition", "condition_parser", "severity", "library_metadata"}
    for name in dir(core):
        found = getattr(core, name)
        if not getattr(found, "expectation_type", "") or found.expectation_type in REFUSED:
            continue
        kind = KINDS[found.expectation_type]
        own = set(found.__fields__) - set(gx.expectations.expectation.BatchExpectation.__fields__) - ours
        assert own == set(kind.arguments), name
        required = {key for key, item in found.__fields__.items() if item.required}
        assert required <= set(kind.required), name
        assert kind.span == "dtype" or ("mostly" in found.__fields__) == kind.by_record, name


def test_the_catalog_names_no_expectation_that_does_not_exist(gx: ModuleType) -> None:
    from great_expectations.expectations.registry import get_expectation_impl

    for name in {*KINDS, *REFUSED} - {"expect_multicolumn_values_to_be_unique"}:  # gone since 1.0, still in old texts
        assert get_expectation_impl(name).expectation_type == name


def test_a_misspelt_type_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ContractError, match=r"expectations\[0\].*did you mean 'expect_column_mean_to_be_between'"):
        with_expectation(type="expect_colum_mean_to_be_betwen", column="distance", min_value=1)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"type": MEAN, "colunm": "distance", "min_value": 1}, "unknown argument 'colunm'; did you mean 'column'"),
        ({"type": MEAN, "min_value": 1}, "argument 'column' is missing"),
        ({"type": MEAN, "column": "distance"}, "one of min_value and max_value is needed"),
        ({"type": MEAN, "column": "distanze", "min_value": 1}, "not a column of the contract; did you mean 'distance'"),
        ({"type": MEAN, "column": "origin", "min_value": 1}, "column 'origin' is of type category"),
        ({"type": MEAN, "column": "distance", "min_value": "low"}, "min_value must be a number, not 'low'"),
        ({"type": MEAN, "column": "distance", "min_value": float("nan")}, "must be a number"),
        ({"type": MEAN, "column": "distance", "min_value": 3, "max_value": 2}, "greater than max_value"),
        ({"type": MEAN, "column": "distance", "min_value": 3, "mostly": 0.9}, "unknown argument 'mostly'"),
        ({"type": MAP, "column": "distance", "min_value": 3, "mostly": 0}, "mostly is 0"),
        ({"type": MAP, "column": "distance", "min_value": 3, "severity": "high"}, "severity is 'high'"),
        ({"type": MAP, "column": "when", "min_value": "soon"}, "must be a date or time"),
        ({"type": "expect_column_values_to_be_in_set", "column": "distance", "value_set": ["1"]}, "never does"),
        ({"type": "expect_column_values_to_be_in_set", "column": "origin", "value_set": "EWR"}, "list of values"),
        ({"type": "expect_column_values_to_be_unique", "column": "place"}, "column 'place' is of type vector"),
        ({"type": "expect_column_pair_values_to_be_equal", "column_A": "note", "column_B": "when"}, "not compare"),
        ({"type": "expect_compound_columns_to_be_unique", "column_list": ["note"]}, "two or more"),
        ({"type": MAP, "kwargs": {"column": "distance", "min_value": 1}, "max_value": 2}, "beside kwargs"),
        ({"type": MAP, "column": "distance", "min_value": 1, "row_condition": "distance > 1"}, "code for pandas"),
        ({"type": MAP, "column": "distance", "min_value": 1, "row_condition": {"type": "xor"}}, "allowed: comparison"),
        ({"type": "expect_table_row_count_to_equal", "value": 1.5}, "whole number"),
    ],
)
def test_an_expectation_that_makes_no_sense_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        with_expectation(**entry)


@pytest.mark.parametrize("name", sorted(name for name in REFUSED if name.startswith("expect_")))
def test_an_expectation_that_cannot_be_evaluated_here_says_what_to_use_instead(name: str) -> None:
    with pytest.raises(ContractError, match=f"{name} cannot be used: "):
        with_expectation(type=name)


@pytest.mark.parametrize(
    "pattern",
    [r"(?=a)b", r"(a)\1", r"(?<!a)b", r"\bword\b", r"a{,3}", r"(?x)a b", "(", r"[^\W]", r"\u00e9", "a" * 20_000],
)
def test_a_pattern_that_is_not_linear_or_has_two_meanings_is_refused(pattern: str) -> None:
    with pytest.raises(ContractError, match="the pattern"):
        with_expectation(type=REGEX, column="note", regex=pattern)


def test_arguments_may_stand_beside_the_type_or_under_kwargs() -> None:
    beside = with_expectation(type=MAP, column="distance", min_value=3)
    under = with_expectation(type=MAP, kwargs={"column": "distance", "min_value": 3}, meta={"why": "copied"})
    assert beside == under


@pytest.mark.parametrize(
    ("entry", "scope"),
    [
        ({"type": MAP, "column": "distance", "min_value": 3}, "record"),
        ({"type": MAP, "column": "distance", "min_value": 3, "mostly": 1}, "record"),
        ({"type": MAP, "column": "distance", "min_value": 3, "mostly": 0.9}, "batch"),
        ({"type": MEAN, "column": "distance", "min_value": 3}, "batch"),
        ({"type": "expect_table_row_count_to_equal", "value": 3}, "batch"),
    ],
)
def test_what_names_records_rejects_them_and_what_tolerates_some_holds_the_batch(
    entry: dict[str, Any], scope: str
) -> None:
    assert with_expectation(**entry).expectations[-1].scope == scope


def test_an_expectation_said_twice_is_kept_once() -> None:
    entry = {"type": MAP, "column": "distance", "min_value": 1, "max_value": 10_000}
    contract = Contract(dataset="flights", columns=COLUMNS, expectations=(entry, entry))
    assert build_suite(contract) == build_suite(Contract(dataset="flights", columns=COLUMNS))


def test_a_moment_is_normalised_to_utc() -> None:
    suite = with_expectation(type=MAP, column="when", min_value="2024-01-31")
    assert suite.expectations[-1].kwargs["min_value"] == "2024-01-31T00:00:00+00:00"


def test_a_suite_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    suite = with_expectation(type=MEAN, column="distance", min_value=3, severity="info")
    write_suite(suite, tmp_path / "suites" / "flights.json")
    assert read_suite(tmp_path / "suites" / "flights.json") == suite


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"name": "x", "expectations": [{"type": "expect_nothing"}]}'])
def test_a_suite_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "suite.json"
    path.write_text(text)
    with pytest.raises(ContractError, match=r"suite\.json"):
        read_suite(path)


def test_building_a_suite_imports_neither_great_expectations_nor_pandas() -> None:
    code = (
        "import sys; from lazaretto.contract import *; from lazaretto.expectations.suite import build_suite;"
        "build_suite(Contract(dataset='d', columns={'a': Column(type='text')}, expectations=("
        f"{{'type': '{REGEX}', 'column': 'a', 'regex': 'x'}},)));"
        "import lazaretto.expectations.check;"
        "sys.exit(any(name in sys.modules for name in ('great_expectations', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_expectation_cannot_be_changed() -> None:
    item = with_expectation(type=MEAN, column="distance", min_value=3).expectations[-1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.severity = "info"  # type: ignore[misc]  # frozen
