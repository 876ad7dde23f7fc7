"""Label noise: does the label fit what a probe and the neighbours say of the record?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL
from lazaretto.detectors.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detector import Views


@dataclass(frozen=True)
class Nothing:
    """The summary of a detector that needs no fit of its own: the shared views carry the fitted state."""

    classes: tuple[str, ...] = ()

    def merge(self, other: Nothing) -> Nothing:
        """Nothing and nothing."""
        return self if self.classes else other


@dataclass(frozen=True)
class Margin:
    """Minus the logit margin of the given label, averaged over the probe's checkpoints (AUM, Pleiss et al. 2020).

    Departure: the probe is cross-fitted, so that the margin is of a record it was not trained on. In sample, a
    memorised flip has a good margin late in training; out of sample and averaged it keeps a bad one, and batch and
    calibration records stay exchangeable.
    """

    name: str = "margin"
    reads: tuple[str, ...] = ("logits",)
    family: ClassVar[str] = "label"
    needs_label: ClassVar[bool] = True
    by_class: ClassVar[bool] = True

    def summarise(self, views: Views) -> Nothing:
        """The probe is the fit."""
        return Nothing(views.classes)

    def finish(self, summary: Nothing) -> MarginScorer:
        """Nothing to compute."""
        return MarginScorer(summary.classes)


@dataclass(frozen=True)
class MarginScorer:
    """Scores the (rows, checkpoints, classes) logits against the labels."""

    classes: tuple[str, ...]

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) best other logit minus the label's, averaged over checkpoints; NaN for an unknown label."""
        logits = views["logits"].astype(np.float64)
        known = views.labels != UNKNOWN_LABEL
        scores = np.full(len(views), np.nan)
        rows = np.flatnonzero(known)
        own = logits[rows, :, views.labels[rows]]
        others = logits[rows].copy()
        others[np.arange(len(rows)), :, views.labels[rows]] = -np.inf
        scores[rows] = (others.max(axis=2) - own).mean(axis=1)
        return scores

    def explain(self, views: Views) -> list[str]:
        """What the probe says instead."""
        best = views["logits"].mean(axis=1).argmax(axis=1)
        return [
            f"the probe reads it as {self.classes[b]!r}, not as its label {_label(self.classes, y)}"
            if b != y
            else f"the probe is unsure of its label {_label(self.classes, y)}"
            for b, y in zip(best, views.labels, strict=True)
        ]


@dataclass(frozen=True)
class KnnLabel:
    """Nearest records of the label against nearest records of any other (deep k-NN, Peri et al. 2020).

    Departure: the log ratio of the two mean distances in place of a vote, which has few values and many ties. Both get
    a share of the usual distance added: that a copy exists with another label says no more than that a very near
    record does. The neighbours are found once, in the compact view, and shared with `KnnDistance` and the trigger
    miner.
    """

    name: str = "knn_label"
    share: float = 0.25
    limit: int = 10_000
    reads: tuple[str, ...] = ("class_distances", "neighbour_labels")
    family: ClassVar[str] = "label"
    needs_label: ClassVar[bool] = True
    by_class: ClassVar[bool] = True

    def summarise(self, views: Views) -> Rows:
        """The distances that are usual; the neighbour index is the rest of the fit."""
        return Rows.of(views, ("class_distances",), self.limit)

    def finish(self, summary: Rows) -> KnnLabelScorer:
        """The share of the usual distance."""
        return KnnLabelScorer(summary.classes, blur_of(summary.arrays["class_distances"], self.share))


@dataclass(frozen=True)
class KnnLabelScorer:
    """Compares the (rows, classes) distances to records of the label and of the other labels."""

    classes: tuple[str, ...]
    blur: float
    """Added to every distance."""

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) log of distance to the label's records over distance to others; NaN for an unknown label."""
        scores = nearness(views["class_distances"], np.maximum(views.labels, 0), self.blur)
        return np.where(views.labels == UNKNOWN_LABEL, np.nan, scores)

    def explain(self, views: Views) -> list[str]:
        """How many of how many neighbours say what."""
        said = []
        for neighbours, label in zip(views["neighbour_labels"], views.labels, strict=True):
            values, counts = np.unique(neighbours, return_counts=True)
            top = int(counts.argmax())
            said.append(
                f"{counts[top]} of its {len(neighbours)} nearest records are labelled "
                f"{_label(self.classes, values[top])}, it is labelled {_label(self.classes, label)}"
            )
        return said


def _label(classes: tuple[str, ...], index: int) -> str:
    return "unknown" if index == UNKNOWN_LABEL else repr(classes[index])


def blur_of(distances: NDArray[np.float32], share: float) -> float:
    """What is added to all distances: a share of how far the nearest records usually are.

    Args:
        distances: (rows, classes) mean distances to the nearest few records of every class.
        share: Of the median over the rows of the smallest.
    """
    return (share * float(np.median(distances.min(axis=1))) if distances.size else 0.0) + 1e-9


def nearness(distances: NDArray[np.float32], labels: NDArray[np.int64], blur: float) -> NDArray[np.float64]:
    """(rows,) log of the distance to the label's records over the distance to those of the nearest other label."""
    blurred = distances.astype(np.float64) + blur
    rows = np.arange(len(labels))
    own = blurred[rows, labels]
    blurred[rows, labels] = np.inf
    return np.asarray(np.log(own / blurred.min(axis=1)), dtype=np.float64)
