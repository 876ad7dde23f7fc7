"""The suites kept for people and diffs say what the sample contracts say today."""

from __future__ import annotations

from pathlib import Path

import pytest

from lazaretto.contract import load_contract
from lazaretto.expectations.suite import build_suite

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["fashion", "flights"])
def test_a_kept_suite_is_in_step_with_its_contract(name: str) -> None:
    built = build_suite(load_contract(ROOT / "sample_data" / "contracts" / f"{name}.yaml")).to_json()
    kept = (ROOT / "expectations" / "suites" / f"{name}.json").read_text(encoding="utf-8")
    assert kept == built, f"write it again: lazaretto contract show sample_data/contracts/{name}.yaml --json"
