"""Fits the panel: views, probe, every detector across folds, tails, fusion, and the null.

See `lazaretto.detectors.panel` for why records are judged by the folds they are not in.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.calibrate import (
    CLEAN,
    EstimatedNull,
    Excess,
    PerClassNull,
    Tail,
    TrustedNull,
    WideTail,
    consensus,
    fitted_tail,
    weigh,
)
from lazaretto.detector import UNKNOWN_LABEL, Detector, Views, fit
from lazaretto.detectors.panel import (
    DetectorsFailed,
    Fold,
    Near,
    Panel,
    Scores,
    complaint,
    encode_labels,
    enriched,
    fold_of,
    raw_scores,
    with_consensus,
)
from lazaretto.detectors.views.encode import Encoder
from lazaretto.detectors.views.images import HALVES
from lazaretto.detectors.views.neighbours import Neighbours
from lazaretto.detectors.views.probe import Recipe, train
from lazaretto.detectors.views.sample import record_keys
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from lazaretto.contract import Contract, Policy
    from lazaretto.detector import Scorer
    from lazaretto.detectors.views.probe import Probe

SAMPLE_ROWS = {"table": 20_000, "image": 10_000}
"""Most records of a batch the panel is fitted on; a larger batch is represented by its bottom-k sample."""
FEWEST_ROWS = 200
"""Fewer fitted records than this say nothing: the batch is held."""
FEWEST_DISTINCT = 20
"""Fewer different records than this in a batch, and it is held: they cannot be judged by folds they are not in."""

_FOLDS = 5
_FOLDS_OF_MANY = 2
_MANY_ROWS = 10_000
_NEIGHBOURS = 15
_INDEXED = 4_000
_FEWEST_VOTERS = 200
"""With fewer trusted records in the fit they do not vote."""
_FEWEST_SCORES = 20
"""What a `Tail` is fitted on at least."""
_MOST_CLASSES = 1_000
_FEWEST_OF_A_CLASS = 5
"""Without a trusted set a label that fewer records have is nobody's to vouch for: it is unknown, and waits."""
_REFERENCE_SHARE = 2
"""One trusted record in this many joins the fit; the others are held out for calibration."""
_FITTED_VIEWS = {
    "hidden",
    "neighbour_labels",
    "neighbour_distances",
    "class_distances",
    "logits",
    "gradient_norms",
    "gradients",
}
"""Views that a fold's probe and neighbours add to those of the encoder."""


def fit_panel(
    sample: pl.DataFrame,
    trusted: pl.DataFrame | None,
    contract: Contract,
    detectors: Sequence[Detector[Any]],
    seed: int,
    device: torch.device,
    keys: int | None = None,
) -> Panel:
    """Fit every detector.

    Args:
        sample: Canonical records of the batch (its bottom-k sample).
        trusted: Canonical trusted records, or None.
        contract: Names the features and the label.
        detectors: The detectors the policy asks for.
        seed: Fixes probe, projections and forests.
        device: Where torch computes.
        keys: The `key_seed` that draws folds and calibration records; by default the seed itself.

    Raises:
        UsageError: If the trusted set is too small for the policy's false-quarantine rate, or the policy wants classes
            calibrated by themselves and there is none.
    """
    require_trusted(contract.policy, given=trusted is not None)
    clock = _Clock()
    keys = seed if keys is None else keys
    everything = sample if trusted is None else pl.concat([sample, trusted])
    encoder, arrays, names = Encoder.fit(everything, contract, seed, device)
    classes = _classes(sample, trusted, contract)
    label = contract.label if classes else None
    labels = encode_labels(everything, label, classes)
    base = Views(record_keys(everything, keys), labels, arrays, names, classes)
    clock.lap("views")
    drawn = _Drawn.of(base, len(sample), contract.policy)
    fitted, which = drawn.fitted, drawn.which
    probe = None
    if len(classes) > 1:
        probe = train(fitted["features"], fitted.labels, which, len(classes), _recipe(len(fitted), seed), device)
        clock.lap("probe")
    voters = None
    if drawn.is_reference.sum() >= _FEWEST_VOTERS:
        voters = _index(fitted.take(drawn.is_reference), "compact", _INDEXED, device)
    able, aside = _able(detectors, fitted, classes, _FITTED_VIEWS | ({"votes"} if voters else set()))
    folds, judged, failed = _fit_folds(able, drawn, probe, voters, device, clock)
    kept = tuple(d for d in able if d.name not in failed)
    withheld = frozenset(name for name, column in contract.all_columns.items() if column.pii)
    panel = Panel(encoder, probe, classes, label, keys, kept, folds, aside, failed, clock.seconds, withheld)
    crossed = np.full((len(fitted), len(kept)), np.nan)
    for number, views in enumerate(judged):
        crossed[which == number], broken = raw_scores(folds[number].scorers, panel.names, views)
        failed.update(broken)
    done = _able_calibrated(panel, crossed, drawn)
    clock.lap("calibration")
    return done


@dataclass(frozen=True)
class _Drawn:
    """The records drawn for each purpose."""

    fitted: Views
    folds: int
    which: NDArray[np.int64]
    """(fitted,) fold of each record."""
    is_reference: NDArray[np.bool_]
    """(fitted,) whether it is a trusted record."""
    calibration: Views | None
    """Trusted records that no fit sees; None without a trusted set."""
    fewest: int | None
    """Calibrating records that a class needs to be calibrated by itself; None where all are calibrated together."""
    trusted_rows: NDArray[np.int64]
    """(trusted,) place in the trusted set of those in the fit, then of those that calibrate."""

    @classmethod
    def of(cls, base: Views, batch: int, policy: Policy) -> _Drawn:
        """Draw from the batch's records, the first ``batch`` of ``base``, and the trusted records after them."""
        held_out = np.zeros(len(base), dtype=bool)
        rate = policy.false_quarantine_rate
        per_class = policy.calibration == "per_class" and len(base.classes) > 0
        if len(base) > batch:
            held_out[batch:] = base.keys[batch:] % np.uint64(_REFERENCE_SHARE) != 0
            _require_enough(int(held_out.sum()), len(base) - batch, rate)
            if per_class:  # a record without a class calibrates none
                _require_enough(int((held_out & (base.labels != UNKNOWN_LABEL)).sum()), len(base) - batch, rate)
        fitted = base.take(~held_out)
        folds = _FOLDS if len(fitted) <= _MANY_ROWS else _FOLDS_OF_MANY
        calibration = base.take(held_out) if len(base) > batch else None
        is_reference = np.flatnonzero(~held_out) >= batch
        fewest = _fewest_calibrating(rate) if per_class else None
        rows = np.argsort(held_out[batch:], kind="stable")
        return cls(fitted, folds, fold_of(fitted.keys, folds), is_reference, calibration, fewest, rows)


def _fit_folds(
    able: Sequence[Detector[Any]],
    drawn: _Drawn,
    probe: Probe | None,
    voters: Neighbours | None,
    device: torch.device,
    clock: _Clock,
) -> tuple[tuple[Fold, ...], list[Views], dict[str, str]]:
    """The fold states without calibration, the views of each fold's own records, and the detectors that failed."""
    states: list[tuple[Near, dict[str, Scorer]]] = []
    judged: list[Views] = []
    failed: dict[str, str] = {}
    fitted = drawn.fitted
    indexed = _INDEXED if len(fitted) <= _MANY_ROWS else _INDEXED // 2

    def fit_each(detectors: Sequence[Detector[Any]], partitions: list[Views], scorers: dict[str, Scorer]) -> None:
        for detector in detectors:
            try:
                scorers[detector.name] = fit(detector, partitions)
            except Exception as error:  # noqa: BLE001  one broken detector holds the batch, it must not hide the others
                failed[detector.name] = complaint(error)
            clock.lap(detector.name)

    for number in range(drawn.folds):
        outside = fitted.take(drawn.which != number)
        near = Near(
            _index(outside, "compact", indexed, device),
            {half: _index(outside, half, indexed, device) for half in HALVES if half in outside},
            voters,
        )
        clock.lap("neighbours")
        views = enriched(probe, near, number, outside)
        clock.lap("probe views")
        scorers: dict[str, Scorer] = {}
        fit_each([d for d in able if not getattr(d, "crossed", False)], [views], scorers)
        states.append((near, scorers))
        judged.append(enriched(probe, near, number, fitted.take(drawn.which == number)))
    for number, (_, scorers) in enumerate(states):
        others = [views for other, views in enumerate(judged) if other != number]
        fit_each([d for d in able if getattr(d, "crossed", False)], others, scorers)
    return tuple(Fold(near, scorers) for near, scorers in states), judged, failed


def _index(views: Views, view: str, limit: int, device: torch.device) -> Neighbours:
    return Neighbours.of(views[view], views.keys, views.labels, len(views.classes), _NEIGHBOURS, limit, device)


def _able_calibrated(panel: Panel, crossed: NDArray[np.float64], drawn: _Drawn) -> Panel:
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
        name: f"it gave only {count} finite scores of the {_FEWEST_SCORES} it is calibrated on"
        for name, count in zip(names, least.tolist(), strict=True)
        if count < _FEWEST_SCORES
    }


def _calibrated(panel: Panel, crossed: NDArray[np.float64], drawn: _Drawn) -> Panel:
    """Tails and fusion of each fold from the other folds' cross-fitted scores; then the null."""
    which, is_reference, calibration = drawn.which, drawn.is_reference, drawn.calibration
    folds = []
    for number, fold in enumerate(panel.folds):
        others = which != number
        # Trusted records show each detector's clean tail; without them it is read off the batch, robustly.
        source = is_reference if is_reference.any() else others
        kinds = [getattr(detector, "tail", "wide") for detector in panel.detectors]
        if is_reference.any():
            kinds = ["known" if kind == "known" else "clean" for kind in kinds]
        tails = {n: fitted_tail(crossed[source, i], kinds[i]) for i, n in enumerate(panel.names)}
        p = np.stack([tails[n].p_value(crossed[:, i]) for i, n in enumerate(panel.names)], axis=1)
        agreed = consensus(p[source])
        agreement = Tail.fit(agreed, CLEAN) if is_reference.any() else WideTail.fit(agreed)
        batch = with_consensus(p[others & ~is_reference], agreement)
        fusion = Excess.of(batch) if is_reference.any() else weigh(batch)
        folds.append(replace(fold, tails=tails, agreement=agreement, fusion=fusion))
    panel = replace(panel, folds=tuple(folds))
    if calibration is None:
        return replace(panel, folds=tuple(replace(f, null=EstimatedNull()) for f in folds))
    judged = [panel.judged(number, calibration) for number in range(len(folds))]
    nulls = [_null(scores.suspicion, calibration, drawn) for scores in judged]
    unvouched = _unvouched(panel, crossed, drawn, judged)
    folds = [replace(fold, null=null) for fold, null in zip(folds, nulls, strict=True)]
    return replace(panel, folds=tuple(folds), unvouched=unvouched)


def _unvouched(
    panel: Panel, crossed: NDArray[np.float64], drawn: _Drawn, judged: Sequence[Scores]
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
    if _silent(crossed, panel.names, sources) or (~panel.unknown(drawn.fitted)).sum() < _FEWEST_SCORES:
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


def _null(suspicion: NDArray[np.float64], calibration: Views, drawn: _Drawn) -> TrustedNull | PerClassNull:
    if drawn.fewest is None:
        return TrustedNull(np.sort(suspicion))
    return PerClassNull.of(suspicion, calibration.labels, len(calibration.classes), drawn.fewest)


def _able(
    detectors: Sequence[Detector[Any]], views: Views, classes: tuple[str, ...], later: set[str]
) -> tuple[tuple[Detector[Any], ...], dict[str, str]]:
    able, aside = [], {}
    for detector in detectors:
        missing = [view for view in detector.reads if view not in views and view not in later]
        if detector.needs_label and len(classes) <= 1:
            aside[detector.name] = "there is no label to judge"
        elif missing:
            aside[detector.name] = f"these records have no {missing[0]} view"
        else:
            able.append(detector)
    return tuple(able), aside


def _classes(sample: pl.DataFrame, trusted: pl.DataFrame | None, contract: Contract) -> tuple[str, ...]:
    """The labels that are known, in order; none if the label names no classes: a number, or nearly one a record.

    With a trusted set its labels alone decide. Without one a label counts that several records have, so that labels
    made up for a few records can neither become classes nor turn the others into none.
    """
    if contract.label is None or contract.all_columns[contract.label].type not in ("category", "boolean", "integer"):
        return ()
    source, fewest = (sample, _FEWEST_OF_A_CLASS) if trusted is None else (trusted, 1)
    labels = source[contract.label].cast(pl.String).drop_nulls()
    counts = labels.value_counts(name="count").filter(pl.col("count") >= fewest)
    known = counts.sort(["count", contract.label], descending=[True, False]).head(_MOST_CLASSES)
    few_of_many = known["count"].sum() * 2 < len(labels)
    if few_of_many or len(known) * _FEWEST_OF_A_CLASS > len(labels) or (trusted is None and len(known) < 2):  # noqa: PLR2004  one label is no class
        return ()
    return tuple(sorted(known[contract.label].to_list()))


def _recipe(rows: int, seed: int) -> Recipe:
    """Fewer passes over more records: the number of steps, not of passes, is what the probe needs."""
    return Recipe(seed=seed) if rows <= _MANY_ROWS else Recipe(epochs=8, batch=128, checkpoints=4, seed=seed)


def require_trusted(policy: Policy, *, given: bool) -> None:
    """Refuse to calibrate class by class without a trusted set.

    A tail estimated from the batch assumes that less than a tenth of what it is fitted on is poison. Of a whole batch
    that can be hoped for; of one class a backdoor with a hundredth of the batch is easily a tenth or more.

    Raises:
        UsageError: The policy wants it, and no trusted set is given.
    """
    if policy.calibration == "per_class" and not given:
        raise UsageError(
            "policy.calibration is per_class, and there is no trusted set to calibrate each class on",
            hint="name records known good with 'trusted' in the contract or --trusted, or calibrate together",
        )


def _fewest_calibrating(rate: float) -> int:
    """Calibrating records from which on a p-value can be as small as the rate."""
    return int(np.ceil(1 / rate)) - 1


def _require_enough(calibration: int, trusted: int, rate: float) -> None:
    least = _fewest_calibrating(rate) + 1
    # Which half calibrates follows from the records' content: this many leave enough 999 times in a thousand.
    needed = _REFERENCE_SHARE * (least - 1) + 5 * int(np.ceil(np.sqrt(least)))
    if trusted - calibration < _FEWEST_SCORES:
        what = f"the trusted set has {trusted} records, too few to say what is usual"
    elif calibration + 1 < least:
        what = f"the trusted set leaves {calibration} records to calibrate on, too few for the rate of {rate}"
    else:
        return
    enough = max(needed, 3 * _FEWEST_SCORES)
    raise UsageError(
        what, hint=f"give at least {enough} trusted records, raise the rate, or scan without a trusted set"
    )


class _Clock:
    """Seconds between laps, added up by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
