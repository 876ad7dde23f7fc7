"""Detectors that run only where a contract names them: what each points at, beside a twin without it."""

from __future__ import annotations

import numpy as np

from lazaretto.detector import Views, fit
from lazaretto.detectors.isolated import IsolatedGradients
from lazaretto.detectors.learning import EarlyLoss
from lazaretto.detectors.table import DETECTORS, ONLY_BY_NAME, make_detectors

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


def test_they_run_where_they_are_named_and_not_by_default() -> None:
    default = {detector.name for detector in make_detectors("default")}
    assert default == set(DETECTORS) - ONLY_BY_NAME
    assert {detector.name for detector in make_detectors(sorted(ONLY_BY_NAME))} == ONLY_BY_NAME
    families = {name: make().family for name, make in DETECTORS.items()}
    assert {families[name] for name in default} == set(families.values())
