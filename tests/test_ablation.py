"""The ablation in small: real flights, few detectors, each family out, a rare class, and the report."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from benchmarks.ablation import Ablated, Measured, Refit, Skewed, ablated, fitted, skewed, thinned
from benchmarks.ablation_report import write_report
from benchmarks.data import DATA_SETS, DataSet
from benchmarks.detection import recall_of
from benchmarks.plans import Case, case
from lazaretto.detectors.table import ONLY_BY_NAME

if TYPE_CHECKING:
    from pathlib import Path

SEED = 104
BEFORE = Ablated("flights", "flood", "flood", 0, 9, 0.9, {"label": 0.5, "outlier": 0.95}, {"hbos": 0.97}, 1.0)
RARE = Skewed("flights", "flood", "flood", 0, "target", "late", 100, 500, 10, 1000, 10, 10, 0.9, 0.84, 1.0, 0.02)


@pytest.fixture(scope="module")
def flights() -> DataSet:
    small = dataclasses.replace(DATA_SETS["flights"](None), batch=500, trusted=300)
    names = ["hbos", "mahalanobis", "wrong_label", "copies", "company"]
    policy = small.contract.policy.model_copy(update={"detectors": names})
    return dataclasses.replace(small, contract=small.contract.model_copy(update={"policy": policy}))


@pytest.mark.parametrize("family", ["hygiene", "outlier", "representation"])
def test_leaving_a_family_out_is_fitting_without_it(flights: DataSet, family: str) -> None:
    batch = flights.draw(SEED)[1]
    panel, frame = fitted(batch, flights.contract, SEED)
    names = {one.name for one in panel.detectors if one.family == family}
    again, same = fitted(batch, flights.contract, SEED, family)
    assert set(again.names) == set(panel.names) - names
    quick = Refit.of(panel, frame, flights.contract).without(panel.score(frame).raw, names)
    np.testing.assert_allclose(quick, again.score(same).suspicion, atol=1e-6)


def test_an_attack_is_judged_without_each_family_and_with_a_rare_class(
    flights: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(step=100)
    monkeypatch.setattr("benchmarks.ablation.time.perf_counter", lambda: next(ticks))
    one = ablated(flights, "trigger_outside", SEED, tmp_path)
    assert set(one.without) == {"hygiene", "outlier", "label", "representation"}
    assert set(one.alone) == {"hbos", "mahalanobis", "wrong_label", "copies", "company"}
    # Flights are late so seldom that ten to one leaves little out: what is in the record already is not run again.
    rare = list(skewed(flights, one, tmp_path, done={(*one.key, "target", "10"), (*one.key, "source", "10")}))
    assert [(two.role, two.ratio, two.poisons) for two in rare] == [("target", 100, 5), ("source", 100, 5)]
    assert all(two.left == max(1, round(two.largest / 100)) for two in rare)
    assert all(two.held is not None and 0 <= two.held <= 1 and two.seconds >= 100 for two in rare)
    assert one.by_name is None
    record = Measured(tmp_path / "record.jsonl")
    for found in (one, *rare):
        record.add(found)
    assert Measured(tmp_path / "record.jsonl").found == record.found


def test_detectors_that_run_only_by_name_are_judged_beside_the_default(flights: DataSet, tmp_path: Path) -> None:
    policy = flights.contract.policy.model_copy(update={"detectors": "default"})
    data = dataclasses.replace(flights, contract=flights.contract.model_copy(update={"policy": policy}))
    one = ablated(data, "trigger_outside", SEED, tmp_path)
    assert one.by_name is not None
    assert not set(one.alone) & ONLY_BY_NAME
    found = case(data, "trigger_outside", SEED, tmp_path)
    panel, frame = fitted(found.batch, data.contract, SEED)
    assert set(one.alone) == set(panel.names)
    assert one.recall == pytest.approx(recall_of(panel.score(frame).suspicion, found))


def test_a_class_is_thinned_of_clean_records_alone() -> None:
    labels = pl.Series("label", ["a"] * 40 + ["b"] * 30 + ["b"] * 5)
    truth = np.arange(75) >= 70
    found = Case(pl.DataFrame(), labels.to_frame(), truth, np.zeros(75, dtype=np.bool_), pl.DataFrame())
    rare, drawn, largest = thinned(found, labels, "b", 10, 0)
    assert rare is not None
    assert (drawn, largest, int(rare.truth.sum()), len(rare.batch)) == (30, 40, 5, 49)
    assert thinned(rare, rare.batch["label"], "b", 10, 0)[0] is None


def test_the_report_says_what_is_lost_and_what_missed(tmp_path: Path) -> None:
    text = write_report([BEFORE], [RARE], tmp_path, "a machine")
    assert (tmp_path / "ablation.md").read_text() == text
    assert (tmp_path / "ablation.svg").stat().st_size > 1_000
    assert "| flights | flood | 9 | 0.90 | - | **0.95** | **0.50** | - | - | - | 0.97 (hbos) |" in text
    assert "- Without *label*, lost: flights: flood (-0.40)." in text
    assert "not on flights: flood (0.90, hbos alone 0.97)" in text
    assert "| 50% | 0.90 | 0.84 | +0.06 | missed | 2.0% |" in text
    assert "only by name" not in text
    told = write_report([dataclasses.replace(BEFORE, by_name=0.8)], [], None, "-")
    assert "the mean recall of these 1 attacks is 0.800 in place of 0.900; changed: flights: flood (-0.10)." in told
    assert "| 0.90 | 0.86 | +0.04 | met | 2.0% |" in write_report(
        [BEFORE], [dataclasses.replace(RARE, recall=0.86)], None, "-"
    )
