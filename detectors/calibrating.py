"""Calibrates a fitted panel: tails, fusion and null of each fold, from the scores that other folds gave."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.calibrate import EstimatedNull, Excess, PerClassNull, TrustedNull, consensus, weigh
from lazaretto.detectors.drawn import FEWEST_SCORES
from lazaretto.detectors.panel import DetectorsFailed, Panel, Scores, fold_of, with_consensus
from lazaretto.detectors.rare_classes import RareClasses
from lazaretto.tails import CLEAN, Tail, WideTail, fitted_tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lazaretto.detector import Views
    from lazaretto.detectors.drawn import Drawn


def calibrated_by_able(panel: Panel, crossed: NDArray[np.float64], drawn: Drawn) -> Panel:
    """The panel calibrated without the detectors that failed or fail now; uncalibrated if that leaves none."""
    names = panel.names
    sources = [drawn.which != number for number in range(drawn.folds)]
    if drawn.is_reference.any():
        sources = [drawn.is_reference]
    failed = {**_silent(crossed, names, sources), **panel.failed}
    while True:
        able = tuple(detector for detector in panel.detectors if detector.name not in failed)
        panel = replace(panel, detectors=able, failed=failed)
        if not able:
            return panel
        try:
            scores = crossed[:, [names.index(name) for name in panel.names]]
            return _calibrated(panel, scores, drawn)
        except DetectorsFailed as broken:
            failed = {**failed, **broken.faults}


def _silent(crossed: NDArray[np.float64], names: Sequence[str], sources: Sequence[NDArray[np.bool_]]) -> dict[str, str]:
    """Detectors with too few finite scores to say what is usual."""
    finite = np.isfinite(crossed)
    least = np.min([finite[source].sum(axis=0) for source in sources], axis=0)
    return {
        name: f"it gave only {count} finite scores of the {FEWEST_SCORES} it is calibrated on"
        for name, count in zip(names, least.tolist(), strict=True)
        if count < FEWEST_SCORES
    }


def _calibrated(panel: Panel, crossed: NDArray[np.float64], drawn: Drawn) -> Panel:
    """Tails and fusion of each fold from the other folds' cross-fitted scores; then the null."""
    which, is_reference, calibration = drawn.which, drawn.is_reference, drawn.calibration
    folds = []
    for number, uncalibrated in enumerate(panel.folds):
        others = which != number
        # Trusted records show each detector's clean tail; without them it is read off the batch, robustly.
        source = is_reference if is_reference.any() else others
        kinds = [getattr(detector, "tail", "wide") for detector in panel.detectors]
        if is_reference.any():
            kinds = ["known" if kind == "known" else "clean" for kind in kinds]
        tails = {n: fitted_tail(crossed[source, i], kinds[i]) for i, n in enumerate(panel.names)}
        labels = drawn.fitted.labels
        rare = RareClasses.of(panel.detectors, crossed[others], labels[others], len(panel.classes))
        fold = replace(uncalibrated, tails=tails, rare=rare)
        p = fold.p_values(panel.names, crossed, labels)
        agreed = consensus(p[source])
        agreement = Tail.fit(agreed, CLEAN) if is_reference.any() else WideTail.fit(agreed)
        batch = with_consensus(p[others & ~is_reference], agreement)
        fusion = Excess.of(batch) if is_reference.any() else weigh(batch, panel.priors, panel.odds)
        folds.append(replace(fold, agreement=agreement, fusion=fusion))
    panel = replace(panel, folds=tuple(folds))
    if calibration is None:
        return replace(panel, folds=tuple(replace(f, null=EstimatedNull()) for f in folds))
    judged = [panel.judged(number, calibration) for number in range(len(folds))]
    nulls = [_null(scores.suspicion, calibration, drawn) for scores in judged]
    unvouched = _unvouched(panel, crossed, drawn, judged)
    folds = [replace(fold, null=null) for fold, null in zip(folds, nulls, strict=True)]
    return replace(panel, folds=tuple(folds), unvouched=unvouched)


def _unvouched(
    panel: Panel, crossed: NDArray[np.float64], drawn: Drawn, judged: Sequence[Scores]
) -> NDArray[np.float64] | None:
    """(trusted,) p-values of the trusted records as if they were any others: estimated, from the same raw scores.

    None where too few scores are finite to estimate anything.

    Args:
        panel: The panel, its null not needed.
        crossed: (fitted, detectors) cross-fitted scores.
        drawn: What was drawn for what.
        judged: What each fold says of the calibration records; each is looked up in the fold it would be in.
    """
    if drawn.calibration is None:
        raise ValueError("there is no trusted set")
    sources = [drawn.which != number for number in range(drawn.folds)]
    if _silent(crossed, panel.names, sources) or (~panel.unknown(drawn.fitted)).sum() < FEWEST_SCORES:
        return None
    nobody = np.zeros_like(drawn.is_reference)
    blind = _calibrated(panel, crossed, replace(drawn, is_reference=nobody, calibration=None))
    which = fold_of(drawn.calibration.keys, drawn.folds)
    p = np.empty(len(drawn.trusted_rows))
    fitted, held_out = np.split(drawn.trusted_rows, [drawn.is_reference.sum()])
    for number, scores in enumerate(judged):
        mine = drawn.is_reference & (drawn.which == number)
        p[fitted[mine[drawn.is_reference]]] = blind.fused(number, crossed[mine], drawn.fitted.take(mine)).p_value
        here = which == number
        p[held_out[here]] = blind.fused(number, scores.raw[here], drawn.calibration.take(here)).p_value
    return p


def _null(suspicion: NDArray[np.float64], calibration: Views, drawn: Drawn) -> TrustedNull | PerClassNull:
    if drawn.fewest is None:
        return TrustedNull(np.sort(suspicion))
    return PerClassNull.of(suspicion, calibration.labels, len(calibration.classes), drawn.fewest)
