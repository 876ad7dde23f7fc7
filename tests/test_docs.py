"""The Data Docs page shows what was met and no value of a record; the reference pages name all there is."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from lazaretto.attest import Attestation
from lazaretto.contract import OPTIONS, Column, Contract, Policy, parse_contract
from lazaretto.detectors.table import DETECTORS
from lazaretto.expectations.check import check
from lazaretto.expectations.docs import data_docs
from lazaretto.pipelines.cases import Case
from lazaretto.pipelines.scan import Options
from lazaretto.pipelines.standalone import OUTPUTS, scan_files
from lazaretto.records import RECORD_ID, REJECT_COLUMNS, ROW
from lazaretto.store import BATCH_ID, EMPTY_VERSION, VERDICT

DOCS = Path(__file__).parent.parent / "docs"

ATTACK = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("docs")
    columns = {
        "city": Column(type="category", values=("EWR", "JFK")),
        "<script>alert(1)</script>": Column(type="integer"),
    }
    entry = {"type": "expect_column_most_common_value_to_be_in_set", "column": "city", "value_set": ["LGA"]}
    contract = Contract(dataset="flights", columns=columns, expectations=(entry,))
    data = {ROW: [0, 1], "city": ["secret", "secret"], ATTACK: [4242, 4242]}
    pl.DataFrame(data, schema_overrides={ROW: pl.UInt64}).write_parquet(folder / "part.parquet")
    result = check([folder / "part.parquet"], contract, folder)
    return data_docs(result, folder / "docs", datetime(2024, 5, 6, tzinfo=UTC)).read_text(encoding="utf-8")


def test_the_page_names_every_expectation_and_whether_it_was_met(page: str) -> None:
    assert "city" in page
    assert "values must belong to this set" in page
    assert "Failed" in page
    assert "2024-05-06" in page


def test_no_value_of_a_record_is_on_the_page(page: str) -> None:
    assert "secret" not in page
    assert "4242" not in page


def test_the_page_loads_and_runs_nothing(page: str) -> None:
    assert not re.search(r"<(script|link|img|iframe|object|embed)\b", page, re.IGNORECASE)
    assert "Content-Security-Policy" in page.split("</head>", maxsplit=1)[0]
    assert "<script>alert(1)" not in page


def code(page: str) -> set[str]:
    """What a reference page names in backticks."""
    text = re.sub(r"^```.*?^```", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", text))


def row_of(page: str, name: str) -> str:
    """The line of a table that begins with a name."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if re.match(rf"\| (`\w+`, )*`{name}`[,` ]", line))


def test_the_example_of_the_contract_page_parses_and_uses_every_key_type_and_option() -> None:
    text = (DOCS / "contract.md").read_text(encoding="utf-8")
    contract = parse_contract(text.split("```yaml\n")[1].split("```", maxsplit=1)[0], "docs/contract.md")
    assert contract.model_fields_set == set(Contract.model_fields)
    assert contract.policy.model_fields_set == set(Policy.model_fields)
    assert {column.type for column in contract.columns.values()} == set(OPTIONS)
    assert set().union(*(column.model_fields_set for column in contract.columns.values())) == set(Column.model_fields)


@pytest.mark.parametrize("model", [Contract, Column, Policy])
def test_the_contract_page_names_every_key(model: type[Contract | Column | Policy]) -> None:
    words = {word for said in code("contract.md") for word in re.findall(r"\w+", said)}
    assert set(model.model_fields) <= words


def test_the_contract_page_has_a_row_for_every_type_with_its_options() -> None:
    for kind, options in OPTIONS.items():
        assert all(f"`{option}`" in row_of("contract.md", kind) for option in options), kind


def test_the_contract_page_has_a_row_for_every_policy_with_its_default() -> None:
    for name, field in Policy.model_fields.items():
        default = "none" if field.default is None else str(field.default)
        assert default in row_of("contract.md", name).split("|")[2], name


def test_the_contract_page_has_every_detector_beside_its_family_and_whether_it_needs_a_label() -> None:
    text = (DOCS / "contract.md").read_text(encoding="utf-8")
    for name, make in DETECTORS.items():
        line = next((line for line in text.splitlines() if line.startswith(f"| {make().family} | `{name}` |")), "")
        assert line, name
        needs = line.split("|")[4]
        assert make().needs_label == ("label" in needs or "as `trigger`" in needs), name


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    lines = [f"{i * 37 % 101},{'ab'[i % 2]}" for i in range(240)]
    (folder / "t.csv").write_text("\n".join(["x,k", *lines, "1000000,a", "oops,a"]))
    policy = "policy: {detectors: [hbos], false_quarantine_rate: 0.1}"
    contract = f"dataset: d\ncolumns: {{x: {{type: number}}, k: {{type: category}}}}\n{policy}"
    scan_files([str(folder / "t.csv")], parse_contract(contract, "c"), folder / "out", Options(device="cpu"))
    return folder / "out"


def test_the_outputs_page_names_every_file_and_column_a_scan_leaves(scanned: Path) -> None:
    named = code("outputs.md")
    assert {path.name for path in scanned.iterdir()} == set(OUTPUTS) <= named
    for name in ("verdicts", "evidence", "rejects"):
        columns = pl.read_parquet_schema(scanned / f"{name}.parquet")
        assert {c for c in columns if not c.startswith("score.")} <= named, name
    assert len(pl.read_parquet(scanned / "rejects.parquet")) == 1
    [said, *_] = json.loads(pl.read_parquet(scanned / "evidence.parquet")["evidence"][0])
    assert set(said) <= named


def test_the_outputs_page_names_every_key_of_the_summary(scanned: Path) -> None:
    summary = json.loads((scanned / "summary.json").read_text())
    inside = [summary["null"], summary["digests"], *summary["detectors"], *summary["stages"]]
    for keys in (summary, *inside):
        assert set(keys) <= code("outputs.md")


def test_the_outputs_page_names_the_store_and_every_field_of_cases_and_attestations() -> None:
    shown = {field.name for kind in (Case, Attestation) for field in fields(kind)}
    assert shown | {RECORD_ID, BATCH_ID, VERDICT, *REJECT_COLUMNS} <= code("outputs.md")
    assert f"**version {EMPTY_VERSION + 1}**" in (DOCS / "outputs.md").read_text(encoding="utf-8")


def test_no_table_of_the_documents_is_broken_by_an_empty_line() -> None:
    for page in [*DOCS.glob("*.md"), *DOCS.parent.glob("*.md"), *DOCS.parent.glob("*/README.md")]:
        for table in re.findall(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            assert re.search(r"^\|[-:| ]+\|$", table, flags=re.MULTILINE), f"{page.name}: {table[:80]}"


def test_the_threat_model_names_tests_that_are_there() -> None:
    text = (DOCS / "threat-model.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 40
    for path, name in named:
        source = (DOCS.parent / path).read_text()
        assert not name or f"def {name}(" in source, f"{path} has no {name}"
    rows = [
        line for line in text.split("## Ways in", 1)[1].split("## What is not", 1)[0].splitlines() if line[:2] == "| "
    ]
    assert all("`tests/" in row for row in rows[1:])
