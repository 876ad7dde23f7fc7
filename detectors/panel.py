"""The panel: every detector fitted across folds on shared views, fused once and calibrated once.

Cross-fitting. Records fall into folds by a hash of their content. A record is judged by the state fitted on the
*other* folds: its probe, neighbours, covariances and tails have never seen it. The calibration records are judged by
every fold's state, none of which has seen them either, so within a fold the clean records and the calibration
records are exchangeable and the conformal p-value is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.calibrate import Fusion, Null, PerClassNull, TrustedNull, consensus, fuse
from lazaretto.detector import UNKNOWN_LABEL, Detector, Scorer, Views
from lazaretto.detectors.views.probe import Reading
from lazaretto.detectors.views.sample import record_keys
from lazaretto.records import DIGEST
from lazaretto.tails import SMALLEST_P, HasTail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from lazaretto.detectors.class_scale import ClassScale
    from lazaretto.detectors.rare_classes import RareClasses
    from lazaretto.detectors.views.encode import Encoder
    from lazaretto.detectors.views.neighbours import Neighbours
    from lazaretto.detectors.views.probe import Probe

_LONGEST_COMPLAINT = 300
_WITHIN_CLASSES = ("representation", "gradient")
"""Families whose detectors compare a record with those of its label."""


@dataclass(frozen=True)
class Scores:
    """What the panel says of some records, row by row.

    Attributes:
        raw: (rows, detectors) each detector's own scale.
        p_values: (rows, detectors) from each detector's robust tail.
        suspicion: (rows,) fused.
        p_value: (rows,) calibrated once from the fused score.
        faults: Detector -> the error it raised on these records, where its scores are NaN, or on explaining them.
        reading: What the probe says of them; None where there is no label to read.
    """

    raw: NDArray[np.float64]
    p_values: NDArray[np.float64]
    suspicion: NDArray[np.float64]
    p_value: NDArray[np.float64]
    faults: dict[str, str] = field(default_factory=dict)
    reading: Reading | None = None


class DetectorsFailed(Exception):  # noqa: N818  reads as what happened
    """Detectors raised while the panel was being calibrated, which must then be done without them."""

    def __init__(self, faults: Mapping[str, str]) -> None:
        super().__init__(", ".join(faults))
        self.faults = faults


@dataclass(frozen=True)
class Near:
    """The records that others are compared with."""

    batch: Neighbours
    """By the compact view."""
    parts: Mapping[str, Neighbours]
    """By a part of an image alone, where there are images: part -> neighbours."""
    voters: Neighbours | None
    """Trusted records whose labels say what a record's would be; None where there are too few."""
    direction: NDArray[np.float64] | None = None
    """(classes, projections) unit means of the trusted records' gradients; None where no detector asks."""

    def aligned(self, views: Views) -> Views:
        """The views with ``alignment``: (rows,) cosine of a record's gradient with those of trusted records like it.

        They are like it that have the label which the probe expects. NaN for an unknown label, and where no trusted
        record has the one expected.
        """
        if self.direction is None:
            return views
        gradients = views["gradients"].astype(np.float64)
        length = np.linalg.norm(gradients, axis=1)
        along = np.einsum("ij,ij->i", gradients, self.direction[views["logits"][:, -1].argmax(axis=1)])
        cosine = np.where(views.labels == UNKNOWN_LABEL, np.nan, along / np.maximum(length, 1e-9))
        return views.with_arrays({"alignment": cosine})

    def views(self, views: Views) -> dict[str, NDArray[Any]]:
        """What is near each record (`Neighbours.views`), and the labels ``votes`` and, by part, ``left_votes``, ..."""
        found = self.batch.views(views["compact"], views.keys)
        for part, index in self.parts.items():
            found[f"{part}_votes"] = index.views(views[part], views.keys)["neighbour_labels"]
        if self.voters is not None:
            found["votes"] = self.voters.views(views["compact"], views.keys)["neighbour_labels"]
        return found


@dataclass(frozen=True)
class Fold:
    """The fitted state that judges the records of one fold."""

    near: Near
    scorers: Mapping[str, Scorer]
    tails: Mapping[str, HasTail] = field(default_factory=dict)
    scales: Mapping[str, ClassScale] = field(default_factory=dict)
    """Detector -> what is usual of each class, where that differs."""
    rare: RareClasses | None = None
    """What is usual in classes that the tails say nothing of."""
    agreement: HasTail | None = None
    """Tail of the detectors' consensus."""
    fusion: Fusion | None = None
    """How the p-values of the detectors and of their consensus become one suspicion."""
    null: Null | None = None

    def p_values(
        self, names: Sequence[str], raw: NDArray[np.float64], labels: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(rows, detectors) by each detector's tail, after its scale by class if it has one; in a rare class by both.

        Args:
            names: Of the detectors.
            raw: (rows, detectors) their scores.
            labels: (rows,) of the records.
        """
        scaled = (self.scaled(name, raw[:, i], labels) for i, name in enumerate(names))
        p = np.stack([self.tails[name].p_value(scores) for name, scores in zip(names, scaled, strict=True)], axis=1)
        return p if self.rare is None else np.maximum(p, self.rare.least(names, raw, labels))

    def scaled(self, name: str, scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """(rows,) a detector's scores, beside what is usual of the label where that is asked."""
        return self.scales[name](scores, labels) if name in self.scales else scores

    def shares(self, p: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """(rows, detectors + 1) what each detector, and last their consensus, adds to the suspicion.

        Args:
            p: (rows, detectors) the detectors' p-values.
            labels: (rows,) of the records.
        """
        if self.agreement is None or self.fusion is None:
            raise ValueError("the panel is not calibrated")
        return self.fusion.shares(with_consensus(p, self.agreement), labels)

    def p_value(self, suspicion: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """(rows,) calibrated p-values of records with these fused scores and labels; NaN before there is a null."""
        if isinstance(self.null, PerClassNull):
            return self.null.p_value(suspicion, labels)
        return np.full(len(suspicion), np.nan) if self.null is None else self.null.p_value(suspicion)


@dataclass(frozen=True)
class Crossed:
    """What the records of the fit were given by the folds they are not in, so that none of them is looked at twice."""

    places: Mapping[str, int]
    """Digest, of the whole record -> row of ``raw``."""
    raw: NDArray[np.float64]
    """(fitted, detectors)."""
    reading: Reading | None
    """What the probe says of them; None where there is no label to read."""

    @classmethod
    def of(cls, digests: pl.Series, raw: NDArray[np.float64], reading: Reading | None) -> Crossed:
        """From digests and scores (fitted, detectors), row by row."""
        return cls(dict(zip(digests.to_list(), range(len(digests)), strict=True)), raw, reading)

    def find(self, digests: pl.Series) -> NDArray[np.int64]:
        """(rows,) row of ``raw`` of each record, -1 where it was not in the fit."""
        found = [self.places.get(digest, -1) for digest in digests.to_list()]
        return np.array(found, dtype=np.int64)


@dataclass(frozen=True)
class Panel:
    """Everything fitted; a pure function from records to scores."""

    encoder: Encoder
    probe: Probe | None
    classes: tuple[str, ...]
    label: str | None
    keys: int
    """The `key_seed` of the batch."""
    detectors: tuple[Detector[Any], ...]
    folds: tuple[Fold, ...]
    stood_aside: Mapping[str, str]
    """Detector -> why it did not run."""
    failed: Mapping[str, str]
    """Detector -> the error it raised; a batch with any is held."""
    seconds: Mapping[str, float]
    """Detector or stage -> seconds spent fitting."""
    withheld: frozenset[str] = frozenset()
    """Columns of personal data, whose values no explanation may say."""
    crossed: Crossed | None = None
    unvouched: NDArray[np.float64] | None = None
    """(trusted,) estimated p-values of the trusted records as if nobody vouched for them; None without such a set."""
    vouched: NDArray[np.float64] | None = None
    """(trusted,) p-values of the calibrating records among themselves, NaN for those of the fit; None where classes are
    calibrated by themselves, or nothing is."""

    @property
    def names(self) -> tuple[str, ...]:
        """Detectors that score, in the order of the columns."""
        return tuple(d.name for d in self.detectors)

    @property
    def priors(self) -> tuple[float, ...]:
        """How much more common than others' each detector's quarry is taken to be; their consensus last, at 1."""
        return (*(float(getattr(detector, "prior", 1.0)) for detector in self.detectors), 1.0)

    @property
    def odds(self) -> tuple[bool, ...]:
        """Whose p-values stand for odds; their consensus last, whose does not."""
        return (*(getattr(detector, "tail", "wide") == "odds" for detector in self.detectors), False)

    @property
    def within_classes(self) -> NDArray[np.bool_]:
        """(detectors + 1,) which compare a record with its class; their consensus does not."""
        return np.array([*(detector.family in _WITHIN_CLASSES for detector in self.detectors), False])

    @property
    def null_kind(self) -> str:
        """``trusted`` or ``estimated``."""
        return "none" if self.folds[0].null is None else self.folds[0].null.kind

    @property
    def calibration_records(self) -> int:
        """Held-out trusted records the p-values are counted on; 0 for an estimated null."""
        null = self.folds[0].null
        everyone = null.everyone if isinstance(null, PerClassNull) else null
        return len(everyone.calibration) if isinstance(everyone, TrustedNull) else 0

    @property
    def calibration_groups(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """Per group of classes that is calibrated by itself: its classes, and how many records that are."""
        null = self.folds[0].null
        if not isinstance(null, PerClassNull):
            return ()
        named = [tuple(self.classes[number] for number in group) for group in null.members]
        return tuple((names, len(group.calibration)) for names, group in zip(named, null.groups, strict=True))

    def score(self, frame: pl.DataFrame) -> Scores:
        """Judge canonical records; row i depends on record i and the fitted state alone.

        A detector that raises has NaN for its scores, the most suspicious there is, and its error in ``faults``.
        """
        faults: dict[str, str] = {}
        places = np.full(len(frame), -1) if self.crossed is None else self.crossed.find(frame[DIGEST])
        new = np.flatnonzero(places < 0)
        parts = [(new, self._judge(frame[new], faults))] if len(new) else []
        if self.crossed is not None and len(new) < len(frame):
            known = np.flatnonzero(places >= 0)
            parts.append((known, self._recalled(frame[known], self.crossed, places[known])))
        return _laid_out(len(frame), len(self.detectors), parts, faults)

    def _judge(self, frame: pl.DataFrame, faults: dict[str, str]) -> Scores:
        """Scores of records that were not in the fit."""
        base = self.views(frame)
        return self._by_fold(base, lambda number, rows: self.judged(number, base.take(rows), faults))

    def _recalled(self, frame: pl.DataFrame, crossed: Crossed, places: NDArray[np.int64]) -> Scores:
        """Scores of records of the fit, at these (rows,) places of what is known of it."""
        labels = encode_labels(frame, self.label, self.classes)
        base = Views(record_keys(frame, self.keys), labels, {}, {}, self.classes)
        raw, reading = crossed.raw[places], None if crossed.reading is None else crossed.reading.take(places)
        scores = self._by_fold(base, lambda number, rows: self.fused(number, raw[rows], base.take(rows)))
        return replace(scores, reading=reading)

    def _by_fold(self, base: Views, judge: Callable[[int, NDArray[np.int64]], Scores]) -> Scores:
        """What ``judge`` says of the records of each fold, by the fold's number and their rows."""
        which = fold_of(base.keys, len(self.folds))
        places = [(number, np.flatnonzero(which == number)) for number in range(len(self.folds))]
        parts = [(rows, judge(number, rows)) for number, rows in places if len(rows)]
        return _laid_out(len(base), len(self.detectors), parts, {})

    def unknown(self, views: Views) -> NDArray[np.bool_]:
        """(rows,) whose label was not there when the state was fitted, whichever detectors look at labels."""
        return np.asarray((views.labels == UNKNOWN_LABEL) & (self.label is not None), dtype=np.bool_)

    def views(self, frame: pl.DataFrame) -> Views:
        """The views that no fold changes."""
        arrays, names = self.encoder.encode(frame)
        keys = record_keys(frame, self.keys)
        return Views(keys, encode_labels(frame, self.label, self.classes), arrays, names, self.classes)

    def enriched(self, number: int, views: Views) -> Views:
        """The views with what fold ``number``'s probe and neighbours see."""
        fold = self.folds[number]
        return enriched(self.probe, fold.near, number, views)

    def judged(self, number: int, base: Views, faults: dict[str, str] | None = None) -> Scores:
        """Judge records by the state of fold ``number``, whichever fold they are in.

        Args:
            number: The fold.
            base: The views that no fold changes.
            faults: Takes the errors of detectors that raise; without it they end the judging.

        Raises:
            DetectorsFailed: A detector raised, and ``faults`` was not given.
        """
        fold = self.folds[number]
        views = self.enriched(number, base)
        raw, found = raw_scores(fold.scorers, self.names, views)
        if found and faults is None:
            raise DetectorsFailed(found)
        if faults is not None:
            faults.update(found)
        reading = Reading.of(views["logits"], base.labels) if "logits" in views else None
        return replace(self.fused(number, raw, base), reading=reading)

    def fused(self, number: int, raw: NDArray[np.float64], base: Views) -> Scores:
        """What fold ``number`` makes of the detectors' scores (rows, detectors) of these records."""
        fold = self.folds[number]
        p = fold.p_values(self.names, raw, base.labels)
        unknown = self.unknown(base)
        p[unknown] = SMALLEST_P
        suspicion = fuse(fold.shares(p, base.labels))
        # Whatever the null: a batch full of unknown labels must not make them usual.
        calibrated = fold.p_value(np.where(unknown, np.inf, suspicion), base.labels)
        return Scores(raw, p, suspicion, calibrated)


def _laid_out(
    rows: int, detectors: int, parts: Sequence[tuple[NDArray[np.int64], Scores]], faults: dict[str, str]
) -> Scores:
    """The scores of some records together, each part at its rows."""
    raw = np.full((rows, detectors), np.nan)
    out = Scores(raw, np.empty((rows, detectors)), np.empty(rows), np.empty(rows), faults)
    for index, part in parts:
        for name in ("raw", "p_values", "suspicion", "p_value"):
            getattr(out, name)[index] = getattr(part, name)
    readings = [part.reading for _, part in parts if part.reading is not None]
    if len(readings) < len(parts):  # there is no probe
        return out
    return replace(out, reading=Reading.laid_out(rows, [index for index, _ in parts], readings))


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


def enriched(probe: Probe | None, near: Near, number: int, views: Views) -> Views:
    """The views with what one fold's probe, its neighbours and the trusted voters see."""
    # Without labels there is no probe; its hidden view is then the compact view, so that spectral detectors still run.
    seen = probe.views(number, views["features"], views.labels) if probe else {"hidden": views["compact"]}
    return near.aligned(views.with_arrays({**seen, **near.views(views)}))


def with_consensus(p: NDArray[np.float64], agreement: HasTail) -> NDArray[np.float64]:
    """(rows, detectors + 1): the detectors' p-values and that of their consensus."""
    return np.column_stack([p, agreement.p_value(consensus(p))])


def raw_scores(
    scorers: Mapping[str, Scorer], names: Sequence[str], views: Views
) -> tuple[NDArray[np.float64], dict[str, str]]:
    """(rows, detectors) each detector's own scores; NaN for a detector that raises, and its error by name."""
    raw = np.full((len(views), len(names)), np.nan)
    faults = {}
    for column, name in enumerate(names):
        try:
            raw[:, column] = _scores_of(scorers[name], views)
        except Exception as error:  # noqa: BLE001  one broken detector holds the batch, it must not hide the others
            faults[name] = complaint(error)
    return raw, faults


def complaint(error: Exception) -> str:
    """What a detector's error says, in a line that fits into a reason."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST_COMPLAINT]


def _scores_of(scorer: Scorer, views: Views) -> NDArray[np.float64]:
    found = scorer.score(views)
    if not isinstance(found, np.ndarray):
        raise TypeError(f"its scores are a {type(found).__name__}, no array")
    if found.shape != (len(views),):
        raise ValueError(f"its scores have the shape {found.shape} for {len(views)} records")
    return found.astype(np.float64)
