"""Detectors that run only where a contract names them: what each points at, beside a twin without it."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.contract import parse_contract
from lazaretto.detector import Views, fit
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.isolated import IsolatedGradients
from lazaretto.detectors.learning import DropoutConsistency, EarlyLoss
from lazaretto.detectors.table import DETECTORS, ONLY_BY_NAME, make_detectors
from lazaretto.records import DIGEST

CLASSES, EACH, ODD = 3, 200, 6


def _views(arrays: dict[str, np.ndarray]) -> Views:
    keys = np.random.default_rng(0).permutation(np.arange(1, CLASSES * EACH + 1)).astype(np.uint64)
    labels = np.repeat(np.arange(CLASSES), EACH)
    return Views(keys, labels, arrays, {}, tuple(f"c{number}" for number in range(CLASSES)))


def _logits(*, early: bool) -> Views:
    rng = np.random.default_rng(204)
    logits = rng.normal(0, 0.3, (CLASSES * EACH, 4, CLASSES))
    logits[np.arange(len(logits)), :, np.repeat(np.arange(CLASSES), EACH)] += [1.0, 2.0, 3.0, 4.0]
    if early:
        logits[:ODD, :, 0] += 4.0
    return _views({"logits": logits.astype(np.float32)})


def test_what_is_learnt_at_once_is_pointed_at() -> None:
    views = _logits(early=True)
    scorer = fit(EarlyLoss(), [views])
    scores = scorer.score(views)
    assert set(np.argsort(-scores)[:ODD].tolist()) == set(range(ODD))
    assert "already gives its label 'c0' 98%" in scorer.explain(views.take(np.arange(1)))[0]


def test_where_all_of_a_class_is_learnt_alike_nothing_stands_out() -> None:
    views = _logits(early=False)
    assert fit(EarlyLoss(), [views]).score(views).max() < 4


def _gradients(*, alone: bool) -> Views:
    rng = np.random.default_rng(204)
    gradients = rng.normal(size=(CLASSES * EACH, 16))
    if alone:
        gradients[:ODD] = 100 * np.eye(16)[:ODD]
    return _views({"gradients": gradients.astype(np.float32)})


def test_a_gradient_that_no_other_is_like_is_pointed_at() -> None:
    views = _gradients(alone=True)
    # The state is of other records, as it is in a scan.
    scorer = fit(IsolatedGradients(), [views.take(np.arange(ODD, len(views)))])
    scores = scorer.score(views)
    assert (scores[:ODD] > np.quantile(scores[ODD:], 0.99)).all()
    assert "of the records labelled 'c0'" in scorer.explain(views.take(np.arange(1)))[0]


def test_gradients_of_one_kind_are_all_near_a_medoid() -> None:
    views = _gradients(alone=False)
    scores = fit(IsolatedGradients(), [views.take(np.arange(ODD, len(views)))]).score(views)
    assert (scores[:ODD] < np.quantile(scores[ODD:], 0.99)).all()


def _dropped(*, sure: bool) -> Views:
    rng = np.random.default_rng(204)
    dropped = rng.beta(6.0, 2.0, (CLASSES * EACH, 16))
    if sure:
        dropped[:ODD] = rng.uniform(0.98, 1.0, (ODD, 16))
    return _views({"dropped": dropped.astype(np.float32)})


def test_a_label_that_half_a_network_keeps_is_pointed_at() -> None:
    views = _dropped(sure=True)
    scorer = fit(DropoutConsistency(), [views])
    scores = scorer.score(views)
    assert set(np.argsort(-scores)[:ODD].tolist()) == set(range(ODD))
    assert "gives its label 'c0' 99% even with half of what it knows left out" in scorer.explain(views)[0]


def test_where_all_labels_shift_alike_nothing_stands_out() -> None:
    views = _dropped(sure=False)
    assert fit(DropoutConsistency(), [views]).score(views).max() < 5


@pytest.mark.parametrize("flipped", [0, 60])
def test_a_label_that_goes_against_the_trusted_ones_is_pointed_at(flipped: int) -> None:
    rng = np.random.default_rng(204)
    classes = rng.integers(0, 3, 2_400)
    values = 5.0 * np.eye(3, 5)[classes] + rng.normal(size=(2_400, 5))
    labels = np.where(np.arange(2_400) < flipped, (classes + 1) % 3, classes)
    columns = [f"x{number}" for number in range(5)]
    frame = pl.DataFrame(values, schema=columns).with_columns(y=pl.Series([f"c{label}" for label in labels]))
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    frame = frame.with_columns(pl.Series(DIGEST, digests))
    numbers = ", ".join(f"{name}: {{type: number}}" for name in columns)
    contract = parse_contract(f"dataset: d\nlabel: y\ncolumns: {{y: {{type: category}}, {numbers}}}\n", "c")
    detectors = make_detectors(["trusted_alignment", "dropout_consistency"])
    panel = fit_panel(frame[:1_600], frame[1_600:], contract, detectors, 0, torch.device("cpu"))
    scores = panel.score(frame[:1_600]).raw[:, 0]
    clean = scores[flipped:]
    assert np.median(clean) < 0
    assert (scores[:flipped] > np.quantile(clean, 0.99)).sum() >= 0.9 * flipped
    assert set(panel.names) == {"trusted_alignment", "dropout_consistency"}


def test_without_trusted_records_nothing_is_compared_with_them() -> None:
    frame = pl.DataFrame({"x": np.arange(400.0), "z": np.arange(400.0) % 7, "y": ["a", "b"] * 200})
    frame = frame.with_columns(pl.Series(DIGEST, [f"{number:016x}" for number in range(400)]))
    columns = "{x: {type: number}, z: {type: number}, y: {type: category}}"
    contract = parse_contract(f"dataset: d\nlabel: y\ncolumns: {columns}\n", "c")
    panel = fit_panel(frame, None, contract, make_detectors(["trusted_alignment", "margin"]), 0, torch.device("cpu"))
    assert panel.stood_aside == {
        "trusted_alignment": "these records have no trusted set that is large enough to compare with"
    }


def test_they_run_where_they_are_named_and_not_by_default() -> None:
    default = {detector.name for detector in make_detectors("default")}
    assert default == set(DETECTORS) - ONLY_BY_NAME
    assert {detector.name for detector in make_detectors(sorted(ONLY_BY_NAME))} == ONLY_BY_NAME
    families = {name: make().family for name, make in DETECTORS.items()}
    assert {families[name] for name in default} == set(families.values())
