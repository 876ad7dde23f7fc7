"""The panel: every detector fitted across folds on shared views, fused once and calibrated once.

Cross-fitting. Records fall into folds by a hash of their content. A record is judged by the state fitted on the
*other* folds: its probe, neighbours, covariances and tails have never seen it. The calibration records are judged by
every fold's state, none of which has seen them either, so within a fold the clean records and the calibration
records are exchangeable and the conformal p-value is exact.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.calibrate import CLEAN, CONTAMINATED, EstimatedNull, Null, Tail, TrustedNull, consensus, fuse, weigh
from lazaretto.detector import UNKNOWN_LABEL, Detector, Scorer, Views, fit
from lazaretto.detectors.spectral import FrameScorer
from lazaretto.detectors.views.encode import Encoder
from lazaretto.detectors.views.neighbours import Neighbours
from lazaretto.detectors.views.probe import Probe, Recipe, train
from lazaretto.detectors.views.sample import record_keys
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from lazaretto.contract import Contract

SAMPLE_ROWS = {"table": 20_000, "image": 10_000}
"""Most records of a batch the panel is fitted on; a larger batch is represented by its bottom-k sample."""
FEWEST_ROWS = 200
"""Fewer fitted records than this say nothing: the batch is held."""

_MANY_ROWS = 10_000
_NEIGHBOURS = 15
_INDEXED = 4_000
_MOST_CLASSES = 1_000
_REFERENCE_SHARE = 2
"""One trusted record in this many joins the fit; the others are held out for calibration."""


@dataclass(frozen=True)
class Scores:
    """What the panel says of some records, row by row.

    Attributes:
        raw: (rows, detectors) each detector's own scale.
        p_values: (rows, detectors) from each detector's robust tail.
        suspicion: (rows,) fused.
        p_value: (rows,) calibrated once from the fused score.
    """

    raw: NDArray[np.float64]
    p_values: NDArray[np.float64]
    suspicion: NDArray[np.float64]
    p_value: NDArray[np.float64]


@dataclass(frozen=True)
class Fold:
    """The fitted state that judges the records of one fold."""

    neighbours: Neighbours
    scorers: Mapping[str, Scorer]
    tails: Mapping[str, Tail] = field(default_factory=dict)
    agreement: Tail | None = None
    """Tail of the detectors' consensus."""
    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    null: Null | None = None


@dataclass(frozen=True)
class Panel:
    """Everything fitted; a pure function from records to scores."""

    encoder: Encoder
    probe: Probe | None
    classes: tuple[str, ...]
    label: str | None
    seed: int
    detectors: tuple[Detector[Any], ...]
    folds: tuple[Fold, ...]
    stood_aside: Mapping[str, str]
    """Detector -> why it did not run."""
    failed: Mapping[str, str]
    """Detector -> the error it raised; a batch with any is held."""
    seconds: Mapping[str, float]
    """Detector or stage -> seconds spent fitting."""

    @property
    def names(self) -> tuple[str, ...]:
        """Detectors that score, in the order of the columns."""
        return tuple(d.name for d in self.detectors)

    @property
    def null_kind(self) -> str:
        """``trusted`` or ``estimated``."""
        return "none" if self.folds[0].null is None else self.folds[0].null.kind

    @property
    def calibration_records(self) -> int:
        """Held-out trusted records the p-values are counted on; 0 for an estimated null."""
        null = self.folds[0].null
        return len(null.calibration) if isinstance(null, TrustedNull) else 0

    def score(self, frame: pl.DataFrame) -> Scores:
        """Judge canonical records; row i depends on record i and the fitted state alone."""
        base = self.views(frame)
        rows, wide = len(base), len(self.detectors)
        out = Scores(np.full((rows, wide), np.nan), np.empty((rows, wide)), np.empty(rows), np.empty(rows))
        which = fold_of(base.keys, len(self.folds))
        for number in range(len(self.folds)):
            index = np.flatnonzero(which == number)
            if len(index):
                part = self.judged(number, base.take(index))
                for name in ("raw", "p_values", "suspicion", "p_value"):
                    getattr(out, name)[index] = getattr(part, name)
        return out

    def explain(self, frame: pl.DataFrame, scores: Scores, most: int = 3) -> list[list[tuple[str, float, float, str]]]:
        """For each record its strongest detectors: (name, score, p-value, sentence), the strongest first."""
        base = self.views(frame)
        which = fold_of(base.keys, len(self.folds))
        said: list[list[tuple[str, float, float, str]]] = [[] for _ in range(len(base))]
        # The sum over detectors is led by the largest weight / p; those are the ones that drove the record.
        for number, fold in enumerate(self.folds):
            index = np.flatnonzero(which == number)
            if not len(index):
                continue
            views = self.enriched(number, base.take(index))
            share = fold.weights[:-1] / scores.p_values[index]
            order = np.argsort(-share, axis=1, kind="stable")[:, :most]
            drivers = self._drivers(number, views)
            for column, name in enumerate(self.names):
                rows = np.flatnonzero((order == column).any(axis=1))
                if not len(rows):
                    continue
                for row, why in zip(rows.tolist(), fold.scorers[name].explain(views.take(rows)), strict=True):
                    raw, p = scores.raw[index[row], column], scores.p_values[index[row], column]
                    said[index[row]].append(
                        (name, float(raw), float(p), why + drivers[name][row] if name in drivers else why)
                    )
        for evidence, fold_number in zip(said, which, strict=True):
            weights = dict(zip(self.names, self.folds[fold_number].weights, strict=False))
            evidence.sort(key=lambda item: -weights[item[0]] / item[2])
        return said

    def _drivers(self, number: int, views: Views) -> dict[str, list[str]]:
        """What to add to the sentences of detectors that read a learnt view: the columns or pixels behind it."""
        words: dict[str, list[str]] = {}
        scorer = self.folds[number].scorers.get("mahalanobis")
        if isinstance(scorer, FrameScorer):
            said = [f"; in the record itself {text.rsplit('; ', 1)[-1]}" for text in scorer.explain(views)]
            words.update({d.name: said for d in self.detectors if {"hidden", "gradients"} & set(d.reads)})
        if self.probe is not None and self.encoder.columns:
            pulls = [_pulling(pull, views.names["features"]) for pull in self._saliency(number, views)]
            words.update({d.name: pulls for d in self.detectors if {"logits", "gradient_norms"} & set(d.reads)})
        return words

    def _saliency(self, number: int, views: Views) -> NDArray[np.float32]:
        if self.probe is None:
            raise ValueError("there is no probe")
        return self.probe.saliency(number, views["features"], views.labels)

    def views(self, frame: pl.DataFrame) -> Views:
        """The views that no fold changes."""
        arrays, names = self.encoder.encode(frame)
        keys = record_keys(frame, self.seed)
        return Views(keys, encode_labels(frame, self.label, self.classes), arrays, names, self.classes)

    def enriched(self, number: int, views: Views) -> Views:
        """The views with what fold ``number``'s probe and neighbours see."""
        return _enriched(self.probe, self.folds[number].neighbours, number, views)

    def judged(self, number: int, base: Views) -> Scores:
        """Judge records by the state of fold ``number``, whichever fold they are in."""
        fold = self.folds[number]
        raw = _raw_scores(fold.scorers, self.names, self.enriched(number, base))
        p = np.stack([fold.tails[n].p_value(raw[:, i]) for i, n in enumerate(self.names)], axis=1)
        suspicion = fuse(_with_consensus(p, fold.agreement), fold.weights)
        null = np.full(len(base), np.nan) if fold.null is None else fold.null.p_value(suspicion)
        return Scores(raw, p, suspicion, null)


def _pulling(pull: NDArray[np.float32], names: tuple[str, ...]) -> str:
    """Words for the columns that speak against the label, by input times gradient."""
    totals: dict[str, float] = {}
    for name, value in zip(names, pull.tolist(), strict=True):
        totals[name] = totals.get(name, 0.0) + value
    top = [name for name in sorted(totals, key=lambda n: -totals[n])[:3] if totals[name] > 0]
    return f"; against the label speak {', '.join(top) or 'no single column'}"


def fit_panel(
    sample: pl.DataFrame,
    trusted: pl.DataFrame | None,
    contract: Contract,
    detectors: Sequence[Detector[Any]],
    seed: int,
    device: torch.device,
) -> Panel:
    """Fit every detector.

    Args:
        sample: Canonical records of the batch (its bottom-k sample).
        trusted: Canonical trusted records, or None.
        contract: Names the features and the label.
        detectors: The detectors the policy asks for.
        seed: Fixes folds, probe, projections and forests.
        device: Where torch computes.

    Raises:
        UsageError: If the trusted set is too small for the policy's false-quarantine rate.
    """
    clock = _Clock()
    everything = sample if trusted is None else pl.concat([sample, trusted])
    encoder = Encoder.fit(everything, contract, seed, device)
    label = contract.label if _is_class(everything, contract) else None
    classes = tuple(sorted(everything[label].cast(pl.String).drop_nulls().unique().to_list())) if label else ()
    arrays, names = encoder.encode(everything)
    keys = record_keys(everything, seed)
    base = Views(keys, encode_labels(everything, label, classes), arrays, names, classes)
    clock.lap("views")
    held_out = np.zeros(len(base), dtype=bool)
    if trusted is not None:
        held_out[len(sample) :] = keys[len(sample) :] % np.uint64(_REFERENCE_SHARE) != 0
        _require_enough(int(held_out.sum()), contract.policy.false_quarantine_rate)
    fitted = base.take(~held_out)
    is_reference = np.flatnonzero(~held_out) >= len(sample)
    count = 5 if len(fitted) <= _MANY_ROWS else 2
    which = fold_of(fitted.keys, count)
    probe = None
    if classes:
        probe = train(fitted["features"], fitted.labels, which, len(classes), _recipe(len(fitted), seed), device)
        clock.lap("probe")
    indexed = _INDEXED if len(fitted) <= _MANY_ROWS else _INDEXED // 2
    able, aside = _able(detectors, fitted, classes)
    folds, failed = [], {}
    inside_views = []
    for number in range(count):
        outside = fitted.take(which != number)
        index = Neighbours.of(outside["compact"], outside.keys, outside.labels, _NEIGHBOURS, indexed, device)
        clock.lap("neighbours")
        views = _enriched(probe, index, number, outside)
        clock.lap("probe views")
        scorers = {}
        for detector in able:
            try:
                scorers[detector.name] = fit(detector, [views])
            except Exception as error:  # noqa: BLE001  one broken detector holds the batch, it must not hide the others
                failed[detector.name] = f"{type(error).__name__}: {error}"
            clock.lap(detector.name)
        folds.append(Fold(index, scorers))
        inside_views.append(_enriched(probe, index, number, fitted.take(which == number)))
    kept = tuple(d for d in able if d.name not in failed)
    panel = Panel(encoder, probe, classes, label, seed, kept, tuple(folds), aside, failed, clock.seconds)
    crossed = np.full((len(fitted), len(kept)), np.nan)
    for number, views in enumerate(inside_views):
        crossed[which == number] = _raw_scores(folds[number].scorers, panel.names, views)
    done = _calibrated(panel, crossed, which, is_reference, base.take(held_out) if trusted is not None else None)
    clock.lap("calibration")
    return done


def fold_of(keys: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """(rows,) fold of each record, by bits of its key that order no sample."""
    return ((keys >> np.uint64(8)) % np.uint64(count)).astype(np.int64)


def encode_labels(frame: pl.DataFrame, label: str | None, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """(rows,) index of each record's label in ``classes``, `UNKNOWN_LABEL` where it is not there."""
    if label is None:
        return np.full(len(frame), UNKNOWN_LABEL, dtype=np.int64)
    text = frame[label].cast(pl.String)
    index = text.replace_strict(list(classes), list(range(len(classes))), default=UNKNOWN_LABEL, return_dtype=pl.Int64)
    return np.asarray(index.fill_null(UNKNOWN_LABEL).to_numpy(), dtype=np.int64)


def _calibrated(
    panel: Panel,
    crossed: NDArray[np.float64],
    which: NDArray[np.int64],
    is_reference: NDArray[np.bool_],
    calibration: Views | None,
) -> Panel:
    """Tails and weights of each fold from the other folds' cross-fitted scores; then the null."""
    from dataclasses import replace

    folds = []
    suspicion = np.empty(len(crossed))
    for number, fold in enumerate(panel.folds):
        others = which != number
        # Trusted records show each detector's clean tail; without them it is read off the batch, robustly.
        source, levels = (is_reference, CLEAN) if is_reference.any() else (others, CONTAMINATED)
        tails = {n: Tail.fit(crossed[source, i], levels) for i, n in enumerate(panel.names)}
        p = np.stack([tails[n].p_value(crossed[:, i]) for i, n in enumerate(panel.names)], axis=1)
        agreement = Tail.fit(consensus(p[source]), levels)
        p = _with_consensus(p, agreement)
        weights = weigh(p[others & ~is_reference], p[is_reference] if is_reference.any() else None)
        suspicion[~others] = fuse(p[~others], weights)
        folds.append(replace(fold, tails=tails, agreement=agreement, weights=weights))
    panel = replace(panel, folds=tuple(folds))
    if calibration is None:
        estimated = EstimatedNull(Tail.fit(suspicion[~is_reference]))
        return replace(panel, folds=tuple(replace(f, null=estimated) for f in folds))
    nulls = [TrustedNull(np.sort(panel.judged(number, calibration).suspicion)) for number in range(len(folds))]
    return replace(panel, folds=tuple(replace(f, null=n) for f, n in zip(folds, nulls, strict=True)))


def _enriched(probe: Probe | None, neighbours: Neighbours, number: int, views: Views) -> Views:
    # Without labels there is no probe; its hidden view is then the compact view, so that spectral detectors still run.
    seen = probe.views(number, views["features"], views.labels) if probe else {"hidden": views["compact"]}
    return views.with_arrays({**seen, **neighbours.views(views["compact"], views.keys, views.labels)})


def _with_consensus(p: NDArray[np.float64], agreement: Tail | None) -> NDArray[np.float64]:
    """(rows, detectors + 1): the detectors' p-values and that of their consensus."""
    if agreement is None:
        raise ValueError("the panel is not calibrated")
    return np.column_stack([p, agreement.p_value(consensus(p))])


def _raw_scores(scorers: Mapping[str, Scorer], names: Sequence[str], views: Views) -> NDArray[np.float64]:
    return np.stack([scorers[name].score(views) for name in names], axis=1)


def _able(
    detectors: Sequence[Detector[Any]], views: Views, classes: tuple[str, ...]
) -> tuple[tuple[Detector[Any], ...], dict[str, str]]:
    later = {
        "hidden",
        "neighbour_labels",
        "neighbour_distances",
        "own_distance",
        "other_distance",
        "logits",
        "gradient_norms",
        "gradients",
    }
    able, aside = [], {}
    for detector in detectors:
        missing = [view for view in detector.reads if view not in views and view not in later]
        if detector.needs_label and not classes:
            aside[detector.name] = "there is no label to judge"
        elif missing:
            aside[detector.name] = f"these records have no {missing[0]} view"
        else:
            able.append(detector)
    return tuple(able), aside


def _is_class(frame: pl.DataFrame, contract: Contract) -> bool:
    """Whether the contract's label names classes: a number, or almost as many values as records, does not."""
    if contract.label is None or contract.all_columns[contract.label].type not in ("category", "boolean", "integer"):
        return False
    distinct = frame[contract.label].drop_nulls().n_unique()
    return 1 < distinct <= min(_MOST_CLASSES, len(frame) // 10)


def _recipe(rows: int, seed: int) -> Recipe:
    """Fewer passes over more records: the number of steps, not of passes, is what the probe needs."""
    return Recipe(seed=seed) if rows <= _MANY_ROWS else Recipe(epochs=8, batch=128, checkpoints=4, seed=seed)


def _require_enough(calibration: int, rate: float) -> None:
    least = int(np.ceil(1 / rate))
    if calibration + 1 < least:
        needed = int(np.ceil((least - 1) * _REFERENCE_SHARE / (_REFERENCE_SHARE - 1)))
        raise UsageError(
            f"the trusted set leaves {calibration} records to calibrate on, too few for the rate of {rate}",
            hint=f"give at least about {needed} trusted records, raise the rate, or scan without a trusted set",
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
