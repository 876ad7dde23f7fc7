"""Calibrates a fitted panel: tails, fusion and null of each fold, from the scores that other folds gave."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.calibrate import (
    EstimatedNull,
    Excess,
    PerClassNull,
    TrustedNull,
    Weights,
    consensus,
    weigh,
    weigh_by_class,
)
from lazaretto.detectors.class_scale import ClassScale
from lazaretto.detectors.drawn import FEWEST_SCORES
from lazaretto.detectors.panel import DetectorsFailed, Fold, Panel, Scores, fold_of, with_consensus
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
    failed = {**_silent(crossed, names, _sources(drawn)), **panel.failed}
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


def oddity(panel: Panel, crossed: NDArray[np.float64], drawn: Drawn) -> NDArray[np.float64] | None:
    """(fitted,) consensus of the detectors on each record, by the fold that it is in; None where none can be asked.

    Args:
        panel: Not yet calibrated.
        crossed: (fitted, detectors) cross-fitted scores.
        drawn: What was drawn for what.
    """
    failed = {**_silent(crossed, panel.names, _sources(drawn)), **panel.failed}
    kept = [place for place, name in enumerate(panel.names) if name not in failed]
    if not kept:
        return None
    panel, scores = replace(panel, detectors=tuple(panel.detectors[place] for place in kept)), crossed[:, kept]
    said = np.empty(len(scores))
    for number in range(drawn.folds):
        mine = drawn.which == number
        p = _tailed(panel, scores, drawn, number).p_values(panel.names, scores[mine], drawn.fitted.labels[mine])
        said[mine] = consensus(p)
    return said


def _sources(drawn: Drawn) -> list[NDArray[np.bool_]]:
    """The records that show what is usual: trusted ones, or without any those of the other folds."""
    if drawn.is_reference.any():
        return [drawn.is_reference]
    return [drawn.which != number for number in range(drawn.folds)]


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
    for number in range(len(panel.folds)):
        others = which != number
        source = is_reference if is_reference.any() else others
        fold = _tailed(panel, crossed, drawn, number)
        p = fold.p_values(panel.names, crossed, drawn.fitted.labels)
        agreed = consensus(p[source])
        agreement = Tail.fit(agreed, CLEAN) if is_reference.any() else WideTail.fit(agreed)
        batch = with_consensus(p[others & ~is_reference], agreement)
        fusion = Excess.of(batch) if is_reference.any() else _weighed(panel, batch, drawn.fitted.labels[others])
        folds.append(replace(fold, agreement=agreement, fusion=fusion))
    panel = replace(panel, folds=tuple(folds))
    if calibration is None:
        return replace(panel, folds=tuple(replace(f, null=EstimatedNull()) for f in folds))
    judged = [panel.judged(number, calibration) for number in range(len(folds))]
    nulls = [_null(scores.suspicion, calibration, drawn) for scores in judged]
    unvouched = _unvouched(panel, crossed, drawn, judged)
    folds = [replace(fold, null=null) for fold, null in zip(folds, nulls, strict=True)]
    return replace(panel, folds=tuple(folds), unvouched=unvouched, vouched=_vouched(judged, drawn))


def _weighed(panel: Panel, batch: NDArray[np.float64], labels: NDArray[np.int64]) -> Weights:
    """What each detector counts for, from (rows, detectors + 1) p-values of records with these (rows,) labels."""
    overall = weigh(batch, panel.priors, panel.odds)
    return weigh_by_class(overall, batch, labels, len(panel.classes), panel.within_classes)


def _tailed(panel: Panel, crossed: NDArray[np.float64], drawn: Drawn, number: int) -> Fold:
    """The fold with tails, and with what is usual in rare classes, from (fitted, detectors) cross-fitted scores."""
    others, labels = drawn.which != number, drawn.fitted.labels
    # Trusted records show each detector's clean tail; without them it is read off the batch, robustly.
    source = drawn.is_reference if drawn.is_reference.any() else others
    kinds = [getattr(detector, "tail", "wide") for detector in panel.detectors]
    if drawn.is_reference.any():
        kinds = ["known" if kind == "known" else "clean" for kind in kinds]
    scales = {
        one.name: ClassScale.of(crossed[others, i], labels[others], len(panel.classes))
        for i, one in enumerate(panel.detectors)
        if getattr(one, "scaled", False)
    }
    fold = replace(panel.folds[number], scales=scales)
    usual = (fold.scaled(name, crossed[source, i], labels[source]) for i, name in enumerate(panel.names))
    tails = {n: fitted_tail(seen, kind) for n, seen, kind in zip(panel.names, usual, kinds, strict=True)}
    rare = RareClasses.of(panel.detectors, crossed[others], labels[others], len(panel.classes))
    return replace(fold, tails=tails, rare=rare)


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


def _vouched(judged: Sequence[Scores], drawn: Drawn) -> NDArray[np.float64] | None:
    """(trusted,) the p-value that each calibrating record has among the others, by the fold it would be in."""
    if drawn.calibration is None or drawn.fewest is not None:
        return None
    p = np.full(len(drawn.trusted_rows), np.nan)
    held_out = drawn.trusted_rows[drawn.is_reference.sum() :]
    which = fold_of(drawn.calibration.keys, drawn.folds)
    for number, scores in enumerate(judged):
        here, said = which == number, scores.suspicion
        as_high = len(said) - np.searchsorted(np.sort(said), said[here], side="left")
        p[held_out[here]] = as_high / len(said)
    return p


def _null(suspicion: NDArray[np.float64], calibration: Views, drawn: Drawn) -> TrustedNull | PerClassNull:
    if drawn.fewest is None:
        return TrustedNull(np.sort(suspicion))
    return PerClassNull.of(suspicion, calibration.labels, len(calibration.classes), drawn.fewest)
