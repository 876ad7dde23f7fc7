"""A detector that fails holds the batch: it is named, the others are heard, and no record is lost or let through."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.contract import parse_contract
from lazaretto.detectors import fitting, table
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.outliers import Histogram
from lazaretto.pipelines.scan import Options
from lazaretto.pipelines.standalone import scan_files
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lazaretto.detector import Views

ROWS = 400
LATE = 100
"""Records that are not in the fit."""
BOOM = "ValueError: boom at once"


@dataclass
class Nothing:
    """The summary of a detector that looks at nothing."""

    def merge(self, other: Self) -> Self:
        return other


@dataclass
class Broken:
    """A detector with one fault; ``late``: only once each of the five folds has been scored for the fit."""

    fault: str
    late: bool = False
    name: str = "broken"
    family: ClassVar[str] = "outlier"
    needs_label: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("compact",)
    calls = 0

    def summarise(self, _views: Views) -> Nothing:
        if self.fault == "fit":
            raise ValueError("boom\nat once")
        return Nothing()

    def finish(self, _summary: Nothing) -> Broken:
        return self

    def score(self, views: Views) -> NDArray[np.float64]:
        self.calls += 1
        sound = views["compact"][:, 0].astype(np.float64)
        if self.late and self.calls <= 5:
            return sound
        if self.fault == "score":
            raise ValueError("boom\nat once")
        faulty: dict[str, Any] = {"short": sound[1:], "list": sound.tolist(), "silent": np.full(len(views), np.nan)}
        return faulty.get(self.fault, sound)  # type: ignore[no-any-return]  one of them is no array on purpose

    def explain(self, views: Views) -> list[str]:
        if self.fault == "explain":
            raise ValueError("boom\nat once")
        return ["said"] * (len(views) - (self.fault == "few"))


def scan(folder: Path, detectors: str, monkeypatch: pytest.MonkeyPatch, *broken: Broken) -> dict[str, Any]:
    for one in broken:
        monkeypatch.setitem(table.DETECTORS, one.name, lambda one=one: one)
    rng = np.random.default_rng(0)
    columns = {"id": [f"r{i}" for i in range(ROWS)], **{name: rng.normal(size=ROWS) for name in "xyz"}}
    pl.DataFrame(columns).write_csv(folder / "d.csv")
    numbers = "".join(f"  {name}: {{type: number}}\n" for name in "xyz")
    text = f"dataset: d\nid: id\ncolumns:\n  id: {{type: category}}\n{numbers}policy: {{detectors: {detectors}}}\n"
    summary = scan_files([str(folder / "d.csv")], parse_contract(text, "c.yaml"), folder / "out", Options(device="cpu"))
    verdicts = pl.read_parquet(folder / "out" / "verdicts.parquet")
    assert verdicts["record_id"].to_list() == columns["id"]
    assert summary["hold"] == (verdicts["decision"] == "quarantine").all()
    return summary


def named(summary: dict[str, Any], name: str, why: str) -> bool:
    said = any(name in reason and why in reason for reason in summary["hold_reasons"])
    return said and why in summary["failed_detectors"][name] and summary["quarantined"] == ROWS


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("fit", BOOM),
        ("score", BOOM),
        ("short", "its scores have the shape"),
        ("list", "its scores are a list"),
        ("silent", "it gave only 0 finite scores"),
    ],
)
def test_a_detector_that_fails_while_the_panel_is_fitted_is_left_out_and_named(
    fault: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = scan(tmp_path, "[hbos, broken]", monkeypatch, Broken(fault))
    assert named(summary, "broken", why)
    verdicts = pl.read_parquet(tmp_path / "out" / "verdicts.parquet")
    assert verdicts["p_value"].is_finite().all()
    assert "score.broken" not in verdicts.columns


@pytest.mark.parametrize(("fault", "why"), [("score", BOOM), ("short", "its scores have the shape")])
def test_a_detector_that_fails_on_the_batch_leaves_its_scores_missing_which_is_suspicious(
    fault: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Records of the fit have their scores from it; the others are scored once it is done.
    monkeypatch.setitem(fitting.SAMPLE_ROWS, "table", ROWS - LATE)
    summary = scan(tmp_path, "[hbos, broken]", monkeypatch, Broken(fault, late=True))
    assert named(summary, "broken", why)
    verdicts = pl.read_parquet(tmp_path / "out" / "verdicts.parquet")
    missing = verdicts.filter(pl.col("score.broken").is_nan())
    assert len(missing) == LATE
    assert verdicts["score.hbos"].is_finite().all()
    assert (missing["p_value"] <= 0.01).all()
    assert LATE <= summary["suspects"] < ROWS
    reasons = missing["reasons"].to_list()
    assert all(any("a missing score counts as the most suspicious" in one for one in said) for said in reasons)


@pytest.mark.parametrize(("fault", "why"), [("explain", BOOM), ("few", "sentences for")])
def test_a_verdict_stands_though_its_explanation_failed(
    fault: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scan(tmp_path, "[hbos, broken]", monkeypatch, Broken("none"))
    summary = scan(tmp_path, "[hbos, broken]", monkeypatch, Broken(fault))
    assert named(summary, "broken", why)
    assert (whole["suspects"], whole["hold"]) == (summary["suspects"], False)
    reasons = pl.read_parquet(tmp_path / "out" / "verdicts.parquet")["reasons"].explode()
    assert reasons.str.contains("broken: the explanation failed").any()


def test_when_every_detector_fails_nothing_is_admitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = scan(tmp_path, "[broken, worse]", monkeypatch, Broken("fit"), Broken("score", name="worse"))
    assert named(summary, "broken", BOOM)
    assert named(summary, "worse", BOOM)
    assert summary["null"]["kind"] == "none"
    assert pl.read_parquet(tmp_path / "out" / "verdicts.parquet")["p_value"].is_nan().all()


def test_when_every_detector_stands_aside_nothing_is_admitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = scan(tmp_path, "[margin, knn_label]", monkeypatch)
    assert set(summary["stood_aside"]) == {"margin", "knn_label"}
    assert summary["quarantined"] == ROWS
    assert "no detector of the policy" in summary["hold_reasons"][0]


def test_a_detector_that_fails_on_the_calibration_records_is_left_out() -> None:
    digests = [blake2b(str(row).encode(), digest_size=16).hexdigest() for row in range(900)]
    frame = pl.DataFrame({"x": np.random.default_rng(0).normal(size=900), DIGEST: digests})
    contract = parse_contract("dataset: d\ncolumns: {x: {type: number}}\n", "c.yaml")
    detectors = (Histogram(), Broken("score", late=True))
    panel = fit_panel(frame[:500], frame[500:], contract, detectors, 0, torch.device("cpu"))
    assert panel.names == ("hbos",)
    assert panel.failed == {"broken": BOOM}
    assert 0 < (panel.score(frame[:500]).p_value <= 0.05).mean() < 0.1
