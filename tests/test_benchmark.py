"""The benchmark in small: real flights, one attack, our own methods, and the report that is made of the runs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from benchmarks.data import DATA_SETS, DataSet
from benchmarks.detection import OURS, auroc, measured, recall_at_rate, sources_named
from benchmarks.detection_report import TARGETS, write_report
from benchmarks.plans import PLANS, Case, Plan, case
from benchmarks.provenance import provenance
from benchmarks.record import Record, Run
from lazaretto.attacks.catalogue import ATTACKS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def flights() -> DataSet:
    return dataclasses.replace(DATA_SETS["flights"](None), batch=900, trusted=400)


def _case(truth: list[bool], cover: list[bool]) -> Case:
    nothing = pl.DataFrame()
    return Case(nothing, nothing, np.array(truth), np.array(cover), nothing)


def test_recall_counts_poisons_above_all_but_a_percent_of_the_clean_and_covers_as_neither() -> None:
    clean = np.arange(100.0)
    found = _case([False] * 100 + [True, True, False], [False] * 102 + [True])
    assert recall_at_rate(np.concatenate([clean, [200.0, 50.0, 300.0]]), found) == 0.5
    assert recall_at_rate(np.concatenate([clean, [np.nan, 50.0, 300.0]]), found) == 0.5
    assert auroc(np.concatenate([clean, [200.0, 150.0, -1.0]]), found) == 1.0


def test_a_case_is_planted_once_and_read_again_as_it_was(flights: DataSet, tmp_path: Path) -> None:
    first, again = (case(flights, "trigger_outside", 104, tmp_path) for _ in range(2))
    assert first.batch.equals(again.batch)
    assert np.array_equal(first.truth, again.truth)
    assert len(list(tmp_path.iterdir())) == 2  # the batch, and what the attacker wants of a model
    assert first.truth.sum() == 9
    ids = [set(part["flight_id"]) for part in (first.trusted, first.batch, first.rest)]
    assert not (ids[0] & ids[1])
    assert not (ids[0] & ids[2])
    assert not (ids[1] & ids[2])


def test_a_run_is_measured_recorded_and_reported(flights: DataSet, tmp_path: Path) -> None:
    runs = list(measured(flights, "trigger_outside", 104, ["Lazaretto"], tmp_path))
    assert runs[0].recall_at_rate is not None
    assert runs[0].recall_at_rate >= 0.8
    assert set(runs[0].detectors) >= {"trigger", "margin", "copies"}
    Record(tmp_path / "runs.jsonl").add(runs[0])
    kept = Record(tmp_path / "runs.jsonl").runs.values()
    assert [dataclasses.replace(run, code="", processor="") for run in kept] == runs
    text = write_report(runs, tmp_path / "out", "a machine")
    assert (tmp_path / "out" / "benchmark.md").read_text() == text
    assert (tmp_path / "out" / "benchmark.svg").stat().st_size > 1_000
    assert "| flights | two-column trigger, out of range, 1.0% | 9 | 0.99 " in text


def test_a_run_tells_whether_the_poisoned_source_was_named_and_the_report_says_which_seed_was_missed() -> None:
    sources = pl.DataFrame({"carrier": ["UA", "UA", "DL"]})
    found = dataclasses.replace(_case([True, True, False], [False] * 3), batch=sources)
    rows = [{"name": name, "wrong_labels": {"p_value": 0.001, "share": 0.2, "named": True}} for name in ("UA", "DL")]
    run = Run("flights", "source", "one source", "label", "Lazaretto", 7, 2)
    both = dataclasses.replace(run, **sources_named(rows, "carrier", found))
    assert (both.source_named, both.innocents_named) == (True, 1)
    neither = dataclasses.replace(run, seed=8, **sources_named([], "carrier", found))
    assert (neither.source_named, neither.innocents_named) == (False, 0)
    row = "| flights | one source | Lazaretto | named missed | 1 of 2 | 8 | 1 in 1 of 2 batches |"
    assert row in write_report([both, neither], None, "a machine")
    assert sources_named([], None, found) == {}
    assert "source, named" not in write_report([run], None, "a machine")


def test_a_missed_target_is_called_missed() -> None:
    run = Run("flights", "flood", "flood of copies, 2 %", "batch", "Lazaretto", 0, 10, recall_at_rate=0.5, auroc=0.9)
    assert "| 1.00 missed |" in write_report([run], None, "a machine")


def test_attacks_are_told_one_by_one_over_all_data_and_the_worst_seed_where_it_is_far_below() -> None:
    def run(data: str, attack: str, seed: int, recall: float, method: str = "Lazaretto") -> Run:
        return Run(data, attack, f"the {attack}", "batch", method, seed, 10, recall_at_rate=recall, auroc=0.9)

    clean = Run("mnist", "clean", "clean", "clean", "Lazaretto", 0, 0, held=0.004)
    runs = [run("mnist", "flood", 0, 1.0), run("mnist", "flood", 1, 0.6), run("fashion", "flood", 0, 0.3), clean]
    runs += [run("mnist", "sig", 0, 0.95), run("mnist", "sig", 1, 0.93), run("flights", "source", 0, 0.0)]
    runs += [run("mnist", "sig", 0, 0.1, "PyOD KNN")]
    text = write_report(runs, None, "a machine")
    assert "| the flood | 1.00 | mnist 0.80 (worst 0.60); fashion 0.30 |" in text
    assert "| the sig | 0.90 | mnist 0.94 |" in text
    assert "| the source |  | flights 0.00 |" in text
    assert "| clean batches: share held | 0.01 | mnist 0.40% (worst 0.40%) |" in text
    # The source is to be named, its records not all found: 0.55 of one and 0.94 of the other.
    assert "attacks, each the mean of its data sets: 0.74, target 0.90 missed; the worst is 0.55 (the flood)" in text


def test_what_was_measured_says_with_which_code_and_where(tmp_path: Path) -> None:
    run = Run("flights", "flood", "flood of copies, 2 %", "batch", "Lazaretto", 0, 10, recall_at_rate=0.5, auroc=0.9)
    record = Record(tmp_path / "record.jsonl")
    record.add(run)
    (measured,) = Record(tmp_path / "record.jsonl").runs.values()
    assert measured.processor
    peer, older = (dataclasses.replace(run, method="PyOD KNN", code="1234567"), dataclasses.replace(run, code="old"))
    elsewhere = dataclasses.replace(older, data="mnist", seed=1)
    text = "\n".join(provenance([peer, older, elsewhere]))
    assert "| 1234567 | not recorded | peers: flights |" in text
    assert "| old | not recorded | Lazaretto: flights, mnist |" in text
    assert measured.code in "\n".join(provenance([measured]))


def test_ours_come_first_whichever_was_read_first() -> None:
    run = Run("flights", "flood", "flood of copies, 2 %", "batch", "Lazaretto", 0, 10, recall_at_rate=0.5, auroc=0.9)
    peer, trusted = (dataclasses.replace(run, method=name) for name in ("PyOD KNN", "Lazaretto, trusted"))
    head = "| data | attack | poisons | target | Lazaretto | Lazaretto, trusted | PyOD KNN | best alone |"
    assert head in write_report([peer, trusted, run], None, "a machine")


def test_every_plan_is_an_attack_of_the_catalogue_and_has_a_target_or_a_reason() -> None:
    for name, entries in PLANS.items():
        assert name in DATA_SETS
        for entry in entries:
            attack = entry.split(" ")[0]
            assert attack in ATTACKS or attack == "foreign"
            assert entry in TARGETS or attack == "source"


def test_a_plan_gives_the_rate_it_names(flights: DataSet) -> None:
    assert Plan.named("trigger_outside 0.003", flights).rate == 0.003
    assert Plan.named("trigger_outside", flights).title.endswith("1.0%")
    assert set(OURS.values()) == {True, False}
