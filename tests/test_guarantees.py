"""The benchmark of the guarantees in small: one fit of real flights gives what two contracts would, and a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from benchmarks.data import DATA_SETS, DataSet
from benchmarks.guarantees import RATE, Run, Task, fitted, record, recorded, runs_of, tasks, together
from benchmarks.guarantees_report import holds, mean_error, write_report
from benchmarks.guarantees_settings import PAIR, SETTINGS, Setting, drawn, skewed
from lazaretto.detectors.table import make_detectors

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.detector import Detector


class Small(Setting):
    """With few detectors: what they find is measured elsewhere."""

    def detectors(self) -> tuple[Detector[Any], ...]:
        return make_detectors(["hbos", "mahalanobis", "margin"])


SMALL = Small("flights", "flights", "flights", batch=300, trusted=500)


@pytest.fixture(scope="module")
def flights() -> DataSet:
    return DATA_SETS["flights"](None)


def test_the_panel_together_is_the_one_a_contract_without_the_key_gives(flights: DataSet) -> None:
    found = drawn(SMALL, flights, "clean", 0.0, 104)
    panel, batch = fitted(SMALL, found, flights.contract, 104)
    plain, _ = fitted(SMALL, found, flights.contract, 104, "together")
    assert panel.calibration_groups
    assert not plain.calibration_groups
    assert np.array_equal(together(panel).score(batch).p_value, plain.score(batch).p_value)


def test_a_fit_is_measured_recorded_and_reported(flights: DataSet, tmp_path: Path) -> None:
    runs = runs_of(Task(SMALL, "clean", 0.0, 104), flights)
    assert [run.calibration for run in runs] == ["together", "per_class"]
    assert all(run.held < 0.05 and run.recall is None for run in runs)
    record(runs, tmp_path / "runs.jsonl")
    assert list(recorded(tmp_path / "runs.jsonl").values()) == runs
    text = write_report(runs, tmp_path / "out", "a machine")
    assert (tmp_path / "out" / "guarantees.md").read_text() == text
    assert (tmp_path / "out" / "guarantees.svg").stat().st_size > 1_000
    assert "| flights | per class | 1 |" in text


def test_a_rate_holds_up_to_two_standard_errors_above_its_limit() -> None:
    mean, error = mean_error([0.010, 0.012, 0.014, 0.012])
    assert (mean, error) == (pytest.approx(0.012), pytest.approx(0.000816, rel=1e-3))
    assert holds(mean, 0.0011, RATE) == "holds"
    assert holds(mean, 0.0009, RATE) == "**does not hold**"
    assert holds(*mean_error([0.05]), RATE) == "-"


def test_a_poisoned_trusted_set_carries_the_trigger_of_the_batch(flights: DataSet) -> None:
    found = drawn(SMALL, flights, PAIR, 0.1, 104)
    names = [n for n in found.batch.columns if found.batch.filter(pl.Series(found.truth))[n].n_unique() == 1]
    trigger = found.batch.filter(pl.Series(found.truth)).select(n for n in names if n in flights.contract.feature_names)
    carried = found.trusted.join(trigger.unique(), on=trigger.columns, how="semi")
    assert {"late"} == set(carried["late"])
    assert 50 <= len(carried) <= 53


def test_every_setting_is_drawn_and_images_and_poisoned_trusted_sets_one_time_in_ten() -> None:
    todo = list(tasks(20, 1000))
    assert {task.setting.name for task in todo} == {setting.name for setting in SETTINGS}
    of = {name: {task.seed for task in todo if task.setting.name == name} for name in ("flights", "fashion trust")}
    assert of == {"flights": set(range(1000, 1020)), "fashion trust": {1000, 1010}}
    assert len({key for task in todo for key in task.keys}) == 2 * len(todo)


def test_a_skewed_pool_has_as_few_of_the_rarest_class_as_asked_for(flights: DataSet) -> None:
    late = skewed(flights.pool, "late", 101, 104)["late"].value_counts(sort=True)
    assert late["late"].to_list() == ["on_time", "late"]
    assert late["count"][0] // late["count"][1] == 100


def test_a_trusted_set_may_hold_more_of_a_rare_class_than_the_batch_and_none_of_its_records(flights: DataSet) -> None:
    setting = Small("s", "flights", "s", batch=800, trusted=400, one_in=101, rare_trusted=120)
    found = drawn(setting, flights, "clean", 0.0, 104)
    assert len(found.trusted) == 400
    assert (found.trusted["late"] == "late").sum() == 120
    assert (found.batch["late"] == "late").sum() < 30
    assert not set(found.trusted["flight_id"]) & set(found.batch["flight_id"])


def test_runs_of_another_kind_of_fit_have_other_keys() -> None:
    run = Run("flights", "clean", 0.0, 1000, "together", 1.0)
    assert run.key == Task(SETTINGS[0], "clean", 0.0, 1000).keys[0]
