"""Label noise: does the label fit what a probe and the neighbours say of the record?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL

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
    tail: ClassVar[str] = "narrow"

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

    Departure: the log ratio of the two mean distances in place of a vote, which has few values and many ties. The
    neighbours are found once, in the compact view, and shared with `KnnDistance` and the trigger miner.
    """

    name: str = "knn_label"
    reads: tuple[str, ...] = ("own_distance", "other_distance", "neighbour_labels")
    family: ClassVar[str] = "label"
    needs_label: ClassVar[bool] = True
    tail: ClassVar[str] = "narrow"

    def summarise(self, views: Views) -> Nothing:
        """The neighbour index is the fit."""
        return Nothing(views.classes)

    def finish(self, summary: Nothing) -> KnnLabelScorer:
        """Nothing to compute."""
        return KnnLabelScorer(summary.classes)


@dataclass(frozen=True)
class KnnLabelScorer:
    """Compares the (rows,) distances to records of the label and of the other labels."""

    classes: tuple[str, ...]

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) log of distance to the label's records over distance to others; NaN for an unknown label."""
        own, other = views["own_distance"].astype(np.float64), views["other_distance"].astype(np.float64)
        return np.where(views.labels == UNKNOWN_LABEL, np.nan, np.log((own + 1e-9) / (other + 1e-9)))

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
