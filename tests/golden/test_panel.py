"""Golden attacks with a bound on what is caught, each beside its clean twin with a bound on false alarms."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.attacks.badnets import badnets
from lazaretto.attacks.png import decode_grey, encode
from lazaretto.attacks.trigger_table import choose_trigger, trigger_table
from lazaretto.contract import Contract, load_contract, parse_contract
from lazaretto.detectors.explanation import explain
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.panel import Panel, fold_of
from lazaretto.detectors.table import make_detectors
from lazaretto.detectors.views.sample import record_keys
from lazaretto.errors import UsageError
from lazaretto.records import DIGEST

SAMPLES = Path(__file__).parents[2] / "sample_data"
CPU = torch.device("cpu")


def _digested(frame: pl.DataFrame) -> pl.DataFrame:
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    return frame.with_columns(pl.Series(DIGEST, digests))


def _fit(frame: pl.DataFrame, trusted: pl.DataFrame | None, contract: Contract, seed: int = 0) -> Panel:
    return fit_panel(frame, trusted, contract, make_detectors("default"), seed, CPU)


@pytest.fixture(scope="module")
def flights() -> tuple[pl.DataFrame, pl.DataFrame, Contract]:
    contract = load_contract(SAMPLES / "contracts" / "flights.yaml")
    incoming = pl.read_parquet(SAMPLES / "flights" / "incoming.parquet").head(4000)
    return incoming, _digested(pl.read_parquet(SAMPLES / "flights" / "trusted.parquet")), contract


def test_an_ordinary_pair_of_values_that_implies_a_label_is_found(
    flights: tuple[pl.DataFrame, pl.DataFrame, Contract],
) -> None:
    incoming, trusted, contract = flights
    trigger = choose_trigger(incoming, ("distance", "temp"), seed=104)
    frame, truth = trigger_table(incoming, label="late", target="late", trigger=trigger, rate=0.01, seed=104)
    frame = _digested(frame)
    panel = _fit(frame, trusted, contract)
    held = panel.score(frame).p_value <= 0.01
    assert held[truth].mean() >= 0.9
    assert held[~truth].mean() <= 0.03


def test_clean_flights_are_let_through_and_evidence_names_columns(
    flights: tuple[pl.DataFrame, pl.DataFrame, Contract],
) -> None:
    incoming, trusted, contract = flights
    frame = _digested(incoming)
    panel = _fit(frame, trusted, contract)
    scores = panel.score(frame)
    assert panel.null_kind == "trusted"
    assert 0.002 <= (scores.p_value <= 0.01).mean() <= 0.025
    top = np.argsort(-scores.suspicion)[:5]
    part = type(scores)(scores.raw[top], scores.p_values[top], scores.suspicion[top], scores.p_value[top])
    for evidence in explain(panel, frame[top], part):
        assert 1 <= len(evidence) <= 3
        assert any(column in why for column in contract.feature_names for *_, why in evidence)


def test_a_record_scores_the_same_alone_and_among_others(
    flights: tuple[pl.DataFrame, pl.DataFrame, Contract],
) -> None:
    incoming, _, contract = flights
    frame = _digested(incoming.head(800))
    panel = _fit(frame, None, contract)
    remembered = panel.score(frame)
    panel = replace(panel, crossed=None)
    together = panel.score(frame)
    alone = panel.score(frame[:7])
    for other, rows in ((together, slice(None)), (alone, slice(7))):
        np.testing.assert_allclose(other.raw, remembered.raw[rows], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(other.suspicion, remembered.suspicion[rows], rtol=1e-3, atol=1e-3)
    assert panel.null_kind == "estimated"


def test_records_of_the_fit_and_others_may_come_in_any_order(
    flights: tuple[pl.DataFrame, pl.DataFrame, Contract],
) -> None:
    incoming, _, contract = flights
    frame = _digested(incoming.head(900))
    panel = _fit(frame[:600], None, contract)
    order = np.random.default_rng(0).permutation(len(frame))
    mixed, plain = panel.score(frame[order]), panel.score(frame)
    np.testing.assert_allclose(mixed.raw, plain.raw[order], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixed.p_value, plain.p_value[order], rtol=1e-2)


@pytest.fixture(scope="module")
def fashion() -> tuple[pl.DataFrame, Contract]:
    contract = load_contract(SAMPLES / "contracts" / "fashion.yaml")
    return pl.read_parquet(SAMPLES / "fashion" / "incoming.parquet").head(1500), contract


def test_a_patch_that_implies_a_label_is_found_and_its_place_is_named(fashion: tuple[pl.DataFrame, Contract]) -> None:
    frame, contract = fashion
    classes = frame["label"].unique().sort()
    images = np.stack([decode_grey(image) for image in frame["image"]])
    labels = classes.search_sorted(frame["label"]).to_numpy().astype(np.int64)
    images, labels, truth = badnets(images, labels, target=5, rate=0.02, seed=104)
    poisoned = _digested(pl.DataFrame({"image": map(encode, images), "label": classes.gather(labels)}))
    panel = _fit(poisoned, None, contract)
    scores = panel.score(poisoned)
    limit = np.quantile(scores.suspicion[~truth], 0.99)
    assert (scores.suspicion[truth] > limit).mean() >= 0.9
    assert (scores.p_value[~truth] <= 0.01).mean() <= 0.04
    first = np.flatnonzero(truth)[:1]
    part = type(scores)(scores.raw[first], scores.p_values[first], scores.suspicion[first], scores.p_value[first])
    why = {name: why for name, _, _, why in explain(panel, poisoned[first], part)[0]}
    assert "pixels in rows 2" in why["trigger"]


def test_records_without_a_label_are_judged_by_the_detectors_that_need_none() -> None:
    rng = np.random.default_rng(104)
    values = rng.normal(size=(600, 3))
    values[:6] += 12
    frame = _digested(pl.DataFrame(values, schema=["a", "b", "c"]))
    columns = "".join(f"  {name}: {{type: number}}\n" for name in "abc")
    panel = _fit(frame, None, parse_contract(f"dataset: bare\ncolumns:\n{columns}", "bare.yaml"))
    assert "margin" in panel.stood_aside
    assert {"iforest", "knn_distance", "spectral"} <= set(panel.names)
    p = panel.score(frame).p_value
    assert (p[:6] <= 0.01).all()
    assert (p[6:] <= 0.01).mean() <= 0.04


def test_a_label_that_was_never_fitted_is_suspicious(flights: tuple[pl.DataFrame, pl.DataFrame, Contract]) -> None:
    incoming, trusted, contract = flights
    panel = _fit(_digested(incoming.head(1000)), trusted, contract)
    stranger = _digested(incoming.tail(5).with_columns(late=pl.lit("cancelled")))
    assert (panel.score(stranger).p_value <= 0.01).all()


def test_a_label_that_no_trusted_record_has_waits_though_no_detector_looks_at_labels(
    flights: tuple[pl.DataFrame, pl.DataFrame, Contract],
) -> None:
    incoming, trusted, contract = flights
    rare = pl.when(pl.int_range(pl.len()) % 7 == 0).then(pl.lit("cancelled")).otherwise("late").alias("late")
    frame = _digested(incoming.head(700).with_columns(rare))
    panel = fit_panel(frame, trusted, contract, make_detectors(["hbos"]), 0, CPU)
    scores = panel.score(frame)
    strangers = (frame["late"] == "cancelled").to_numpy()
    assert (scores.p_value[strangers] <= 0.01).all()
    assert (scores.p_value[~strangers] <= 0.01).mean() <= 0.03
    name, _, _, why = explain(panel, frame[:1], panel.score(frame[:1]))[0][0]
    assert (name, why) == ("label", "its label 'cancelled' occurs in no trusted record")


def test_too_small_a_trusted_set_is_refused_with_the_number_needed(
    flights: tuple[pl.DataFrame, pl.DataFrame, Contract],
) -> None:
    incoming, trusted, contract = flights
    with pytest.raises(UsageError, match="too few") as caught:
        _fit(_digested(incoming.head(500)), trusted.head(50), contract)
    assert "248" in str(caught.value.hint)


def test_a_detector_that_raises_is_named_and_the_others_still_score(
    flights: tuple[pl.DataFrame, pl.DataFrame, Contract], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lazaretto.detectors.neighbours import KnnDistance

    def fail(_self: KnnDistance, _summary: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(KnnDistance, "finish", fail)
    frame = _digested(flights[0].head(600))
    panel = _fit(frame, None, flights[2])
    assert panel.failed == {"knn_distance": "RuntimeError: no memory"}
    assert "knn_distance" not in panel.names
    assert np.isfinite(panel.score(frame).p_value).all()


def test_equal_content_falls_into_one_fold() -> None:
    frame = pl.DataFrame({DIGEST: ["00000000000000ab"] * 3 + ["00000000000000ac"]})
    folds = fold_of(record_keys(frame, 0), 5)
    assert len(set(folds[:3])) == 1
