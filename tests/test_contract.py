from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazaretto.contract import Contract, canonical_schema, load_contract, parse_contract
from lazaretto.errors import ContractError

if TYPE_CHECKING:
    from pathlib import Path

FLIGHTS = """
dataset: flights
id: flight_id
label: late
source: carrier
columns:
  distance: {type: integer, min: 1, max: 10000}
  origin:   {type: category, values: [EWR, no, 007, yes, 1.0, true]}
  visib:    {type: number, min: 0, max: 100, nullable: true}
  note:     {type: text, max_chars: 20000, pii: true}
  photo:    {type: image, max_pixels: 1000000}
  when:     {type: timestamp}
  wet:      {type: boolean}
  vector:   {type: vector, dimensions: 3}
groups: [origin]
expectations: [{type: expect_column_to_exist, column: no}]
trusted: trusted/*.parquet
policy: {false_quarantine_rate: 0.01, hold_when_quarantined_over: 0.2, fdr: 0.1, detectors: default, probe: auto}
"""


def flights() -> Contract:
    return parse_contract(FLIGHTS, "flights.yaml")


def faults_of(text: str) -> list[str]:
    with pytest.raises(ContractError) as caught:
        parse_contract(text, "c.yaml")
    return caught.value.message.splitlines()


def faults_in_column(text: str) -> list[str]:
    return faults_of(f"dataset: d\ncolumns:\n  a: {text}\n")


def test_every_type_has_its_canonical_polars_type() -> None:
    assert list(canonical_schema(flights()).items()) == [
        ("distance", pl.Int64()),
        ("origin", pl.String()),
        ("visib", pl.Float64()),
        ("note", pl.String()),
        ("photo", pl.Binary()),
        ("when", pl.Datetime("us", "UTC")),
        ("wet", pl.Boolean()),
        ("vector", pl.List(pl.Float32())),
        ("flight_id", pl.String()),
        ("late", pl.String()),
        ("carrier", pl.String()),
    ]


def test_category_values_are_kept_as_written() -> None:
    assert flights().columns["origin"].values == ("EWR", "no", "007", "yes", "1.0", "true")


def test_words_that_old_yaml_takes_for_truth_values_stay_text_everywhere() -> None:
    contract = parse_contract("dataset: d\nlabel: yes\ncolumns: {no: {type: number}, on: {type: text}}", "c")
    assert contract.label == "yes"
    assert list(contract.columns) == ["no", "on"]
    assert flights().expectations == ({"type": "expect_column_to_exist", "column": "no"},)


def test_id_label_and_source_are_implied_and_are_no_features() -> None:
    contract = flights()
    assert list(contract.all_columns)[-3:] == ["flight_id", "late", "carrier"]
    assert contract.all_columns["late"].type == "category"
    assert not contract.all_columns["late"].nullable
    assert contract.feature_names == ("distance", "origin", "visib", "note", "photo", "when", "wet", "vector")


def test_the_digest_changes_with_anything_said_and_with_nothing_else() -> None:
    same = parse_contract("# a comment\n" + FLIGHTS, "elsewhere.yaml")
    assert same.digest == flights().digest
    for old, new in (("max: 100,", "max: 99,"), ("fdr: 0.1", "fdr: 0.2"), ("distance:", "distanse:"), ("007", "7")):
        assert parse_contract(FLIGHTS.replace(old, new), "c").digest != flights().digest


def test_an_unknown_key_names_the_line_the_place_and_the_nearest_key() -> None:
    text = "dataset: d\ncolumns:\n  visib:\n    type: number\n    nulable: true\n"
    assert faults_of(text) == [
        "contract c.yaml, line 5: unknown key 'nulable' in columns.visib; did you mean 'nullable'?"
    ]


def test_an_unlike_unknown_key_lists_what_is_allowed() -> None:
    assert faults_of("dataset: d\ncolumns: {a: {type: number}}\nqqq: 1")[0].startswith(
        "contract c.yaml, line 3: unknown key 'qqq'; allowed: dataset, id, label"
    )


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        ("{type: intger}", "columns.a.type is 'intger'; did you mean 'integer'? allowed: integer, number"),
        ("{type: text, min: 3}", "columns.a: 'min' does not apply to a column of type text"),
        ("{type: number, values: [a]}", "columns.a: 'values' does not apply to a column of type number"),
        ("{type: text, max_pixels: 9}", "columns.a: 'max_pixels' does not apply to a column of type text"),
        ("{type: number, min: x}", "columns.a.min: must be a number, not 'x'"),
        ("{type: number, min: 5, max: 1}", "columns.a: min 5 is greater than max 1"),
        ("{type: number, max: .nan}", "columns.a: max must be finite"),
        ("{type: integer, min: 1.5}", "columns.a: min 1.5 is not a whole number"),
        ("{type: integer, max: 9223372036854775808}", "columns.a: max 9223372036854775808 does not fit into 64 bits"),
        ("{type: category, values: [a, a]}", "columns.a: value 'a' is listed twice"),
        ("{type: category, values: [a, null]}", "columns.a.values[1] must be text"),
        ("{type: category, values: []}", "columns.a.values is empty"),
        ("{type: vector}", "columns.a: a vector column needs 'dimensions'"),
        ("{type: text, nullable: no}", "columns.a.nullable must be true or false, not 'no'"),
        ("{nullable: true}", "key 'type' is missing in columns.a"),
        ("number", "columns.a must be a mapping of keys to values"),
        ("{type: number, type: text}", "key 'type' in columns.a is written twice (first on line 3)"),
        ("&x {type: number}\n  b: *x", "alias *x is not allowed"),
        ("!!python/object:os.system {}", "tag tag:yaml.org,2002:python/object:os.system is not allowed"),
    ],
)
def test_a_fault_in_a_column_says_what_and_where(column: str, fault: str) -> None:
    found = faults_in_column(column)
    assert len(found) == 1
    assert fault in found[0]
    assert found[0].startswith(f"contract c.yaml, line {4 if 'alias' in fault else 3}: ")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("dataset: a/b", "dataset is 'a/b'; allowed: letters, digits"),
        ("label: 3", "label must be text; quote it if it looks like a number, not 3"),
        ("features: [x, bb]", "'bb' in features is not a column"),
        ("features: [xx]", "'xx' in features is not a column; did you mean 'x'?"),
        ("features: [x, x]", "'x' is listed twice in features"),
        ("{label: x, features: [x]}", "'x' is the label and cannot be a feature"),
        ("{label: x, id: x}", "label and id are the same column 'x'"),
        ("{label: pic}", "label column 'pic' is of type image; allowed: category, integer, boolean"),
        ("{id: x, columns: {x: {type: text, nullable: true}, y: {type: text}}}", "id column 'x' cannot be nullable"),
        ("groups: [pic]", "group column 'pic' is of type image"),
        ("{columns: {_a: {type: text}}}", "column name '_a' is reserved"),
        (
            "{columns: {at: {type: timestamp}, at time: {type: number}}}",
            "column 'at time' is called like the time of the timestamp 'at': rename one of them",
        ),
        ("{columns: {}}", "columns is empty"),
        ("{label: x, columns: {x: {type: category}}}", "no column is left to judge"),
        ("expectations: [{tpe: 1}]", "an expectation needs 'type'"),
        ("policy: {fdr: 2}", "policy.fdr is 2: input should be less than 1"),
        ("policy: {probe: resnet}", "must be 'auto', the only probe there is, not 'resnet'"),
        ("policy: {false_quarantine_rte: 0.1}", "did you mean 'false_quarantine_rate'?"),
        ("policy: {min_records: 5, max_records: 4}", "policy: min_records 5 is greater than max_records 4"),
        ("policy: {detectors: all}", "policy.detectors: must be 'default' or a list of detector names, not 'all'"),
    ],
)
def test_a_fault_in_the_contract_says_what(line: str, fault: str) -> None:
    import yaml

    whole = {"dataset": "d", "columns": {"x": {"type": "integer"}, "pic": {"type": "image"}}}
    found = faults_of(yaml.safe_dump({**whole, **yaml.safe_load(line)}))
    assert len(found) == 1
    assert fault in found[0]


def test_all_faults_are_reported_at_once_in_file_order() -> None:
    found = faults_of("dataset: d\ncolumns:\n  a: {type: nmber}\n  a: {type: text}\nlabl: x\nfeatures: x\n")
    assert [line.split(":")[0] for line in found] == [f"contract c.yaml, line {n}" for n in (3, 4, 5, 6)]


@pytest.mark.parametrize("text", ["", "- a", "a: [", "\x00", "'", "a: b: c", "[" * 5000, "? [a]\n: b", "x" * 2_000_000])
def test_what_is_no_contract_is_one_clear_error(text: str) -> None:
    assert all(line.startswith("contract c.yaml") for line in faults_of(text))


@given(st.text(max_size=60))
def test_no_text_ends_in_anything_but_a_contract_error(text: str) -> None:
    with pytest.raises(ContractError):
        parse_contract(text, "c")


@given(st.integers(0, len(FLIGHTS) - 1), st.sampled_from(list("{}[]:,#&*!|>'\"%@`-? \n\t0é")))
def test_a_contract_with_one_character_changed_is_read_or_refused(position: int, character: str) -> None:
    with contextlib.suppress(ContractError):
        parse_contract(FLIGHTS[:position] + character + FLIGHTS[position + 1 :], "c")


def test_a_loaded_contract_knows_its_path(tmp_path: Path) -> None:
    path = tmp_path / "flights.yaml"
    path.write_text("\ufeff" + FLIGHTS, encoding="utf-8")
    assert load_contract(path).path == path


def test_a_contract_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"dataset: \xe9")
    for name, words in (("none.yaml", "does not exist"), ("latin.yaml", "not UTF-8"), (".", "cannot be read")):
        with pytest.raises(ContractError, match=words) as caught:
            load_contract(tmp_path / name)
        assert caught.value.exit_code == 2


def test_a_contract_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        flights().dataset = "other"  # type: ignore[misc]  the point of the test
