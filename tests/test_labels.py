"""Labels made up by a sender neither switch off what judges labels nor pass themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from lazaretto.contract import parse_contract
from lazaretto.pipelines.scan import Judged, Options, judge

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = "columns:\n  i: {type: integer}\n  a: {type: number}\n  b: {type: number}\n"
POLICY = "policy: {detectors: [margin, knn_label, wrong_label]}\n"
FLIPS = 20


def records(count: int, start: int) -> pl.DataFrame:
    rng = np.random.default_rng(start)
    y = rng.integers(0, 2, count)
    x = rng.normal(size=(count, 2)) + 4.0 * y[:, None]
    label = np.where(y == 1, "yes", "no")
    return pl.DataFrame({"i": np.arange(start, start + count), "a": x[:, 0], "b": x[:, 1], "l": label})


def judged(folder: Path, junk: int, kind: str, *, trusted: bool) -> tuple[Judged, pl.DataFrame]:
    labels = records(600, 0)["l"].to_list()
    labels[:FLIPS] = ["no" if label == "yes" else "yes" for label in labels[:FLIPS]]
    labels[600 - junk :] = [f"junk{number}" for number in range(junk)]
    records(600, 0).with_columns(pl.Series("l", labels)).write_parquet(folder / "b.parquet")
    records(400, 10_000).write_parquet(folder / "t.parquet")
    contract = parse_contract(f"dataset: d\nid: i\nlabel: l\n{COLUMNS}  l: {{type: {kind}}}\n{POLICY}", "c.yaml")
    options = Options(trusted=(str(folder / "t.parquet"),) if trusted else ())
    done = judge([folder / "b.parquet"], contract, folder / "out", options)
    return done, pl.read_parquet(folder / "out" / "verdicts.parquet")


@pytest.mark.parametrize("trusted", [True, False])
def test_labels_made_up_for_a_record_each_wait_and_flips_are_still_seen(tmp_path: Path, trusted: bool) -> None:
    done, verdicts = judged(tmp_path, 80, "category", trusted=trusted)
    assert done.summary["stood_aside"] == {}
    assert (verdicts["decision"][520:] == "quarantine").all()
    assert (verdicts["decision"][:FLIPS] == "quarantine").mean() > 0.8
    assert (verdicts["decision"][FLIPS:520] == "admit").mean() > 0.9


def test_a_label_that_has_become_no_class_holds_the_batch(tmp_path: Path) -> None:
    done, verdicts = judged(tmp_path, 600, "category", trusted=False)
    reason = "its label 'l' has too many values to be classes: no label was judged"
    assert reason in done.summary["hold_reasons"]
    assert (verdicts["decision"] == "quarantine").all()
