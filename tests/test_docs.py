"""The Data Docs page shows what was met, no value of a record, and loads nothing from anywhere."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from lazaretto.contract import Column, Contract
from lazaretto.expectations.check import check
from lazaretto.expectations.docs import data_docs
from lazaretto.records import ROW

if TYPE_CHECKING:
    from pathlib import Path


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
