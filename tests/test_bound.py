"""What could be found of wrong labels, in small: the models know the right labels, and the report says what is out of
reach."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.bound import Bound, _doubt, bound, read
from benchmarks.bound_report import write_report
from benchmarks.data import DATA_SETS, DataSet
from benchmarks.record import Record, Run

if TYPE_CHECKING:
    from pathlib import Path

SEED = 104
RECALLS = {"trees": 0.3, "boosting": 0.2}


@pytest.fixture(scope="module")
def flights() -> DataSet:
    return dataclasses.replace(DATA_SETS["flights"](None), batch=500, trusted=300)


def test_models_that_know_the_other_labels_find_some_of_the_wrong_ones(flights: DataSet, tmp_path: Path) -> None:
    one = bound(flights, "flip_random", SEED, tmp_path)
    _, batch, rest = flights.draw(SEED)
    assert one.poisons == round(0.05 * len(batch))
    assert one.taught == len(rest) + 300
    assert set(one.recalls) == {"logistic regression", "trees", "boosting", "together"}
    assert all(0 <= recall <= 1 for recall in one.recalls.values())
    # Four in five flights are in time: what is learnt is better than that.
    assert one.accuracy > (batch["late"] == "on_time").mean() > 0.6
    # The two labels are each other's only other one; what is not the source's own is never doubted.
    other = bound(flights, "source", SEED, tmp_path)
    assert max(other.recalls.values()) >= max(one.recalls.values())


def test_an_attack_on_more_than_labels_has_no_such_bound(flights: DataSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="changes more than labels"):
        bound(flights, "trigger_outside", SEED, tmp_path)


def test_a_record_is_doubted_by_how_much_likelier_another_label_is() -> None:
    logs = np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.25, 0.25]])
    claimed = np.array([0, 0, 1])
    anywhere = np.ones(3, dtype=np.bool_)
    np.testing.assert_allclose(np.exp(_doubt(logs, claimed, (anywhere, None))), [2 / 7, 6, 2])
    np.testing.assert_allclose(np.exp(_doubt(logs, claimed, (claimed == 0, 1))), [2 / 7, 3, 0])


def test_the_report_says_what_is_out_of_reach_beside_what_was_found(tmp_path: Path) -> None:
    found = [Bound("flights", "flip_boundary", "flips", seed, 9, 99, RECALLS, 0.8, 1.0) for seed in (0, 1)]
    record = Record(tmp_path / "record.jsonl")
    record.add(Run("flights", "flip_boundary", "flips", "label", "Lazaretto", 0, 9, recall_at_rate=0.25))
    text = write_report(found, [tmp_path / "record.jsonl"], tmp_path, "a machine")
    assert (tmp_path / "bound.md").read_text() == text
    assert (tmp_path / "bound.svg").stat().st_size > 1_000
    assert "| 0.40, out of reach | 0.30 / 0.30 (2) | 0.25 / 0.25 (1) |" in text
    within = dataclasses.replace(found[0], recalls={"trees": 0.5})
    assert "| 0.40 | 0.50 / 0.50 (1) | - |" in write_report([within], [], None, "-")
    assert read(tmp_path / "none.jsonl") == {}
