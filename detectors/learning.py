"""Learning: when the probe learns what a record's label says, and how little of it that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL
from lazaretto.detectors.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lazaretto.detector import Views

    Floats = NDArray[np.float64]

_USUAL = 1.4826
"""Standard deviations of a normal variable in its median absolute deviation."""
_ALL = -2
"""Index of what is usual of all classes together, for classes too small to have their own."""


@dataclass(frozen=True)
class EarlyLoss:
    """How far a record's loss is below that of its class after one epoch (Anti-Backdoor Learning, Li et al. 2021).

    Departures. The paper isolates the lowest losses of the training set; here the probe is cross-fitted, so early means
    that the *other* records of its kind have taught the label at once: a record alone cannot be learnt. Losses are
    compared within the class, by median and median absolute deviation, for classes are not equally easy. The paper
    first raises small losses again (local gradient ascent), which the probe's training does not.

    Not in the default set. Of the attacks tried none had its poisons among the lowest losses of a class, for a small
    network learns many clean records as early: recall at 1 % was 0 on fashion (BadNets, WaNet, TaCT, adaptive blend,
    SIG, Narcissus, feature collision, label flips), spambase and spamassassin. For models of your own it may differ.
    """

    name: str = "early_loss"
    least: int = 30
    limit: int = 10_000
    reads: tuple[str, ...] = ("logits",)
    family: ClassVar[str] = "label"
    needs_label: ClassVar[bool] = True
    crossed: ClassVar[bool] = True

    def summarise(self, views: Views) -> Rows:
        """What the probe says of records it has not seen."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> EarlyLossScorer:
        """What losses are usual of a class."""
        known = summary.labels != UNKNOWN_LABEL
        labels = summary.labels[known]
        early = _early(summary.arrays["logits"][known], labels)
        return EarlyLossScorer(_usual_by_class(early, labels, self.least), summary.classes)


@dataclass(frozen=True)
class DropoutConsistency:
    """How surely the probe says the label with half of its hidden units left out (PSBD, Li et al. 2025).

    A backdoor is a short way to its label that many units know, so that what carries it keeps its label when others'
    predictions shift. Departures. The paper asks a network that was trained on the very records, with dropout before
    its later layers at a rate chosen by what shifts clean ones; here the probe is cross-fitted and has one hidden
    layer, half of which is left out. What counts is the mean probability of the label, as log odds, above what is
    usual of the class: of a poison that the probe does not go along with it is low, and nothing is said.

    Only by name: a probe that does not learn a rare trigger cannot be consistent about it.
    """

    name: str = "dropout_consistency"
    least: int = 30
    limit: int = 10_000
    reads: tuple[str, ...] = ("dropped",)
    family: ClassVar[str] = "label"
    needs_label: ClassVar[bool] = True
    crossed: ClassVar[bool] = True

    def summarise(self, views: Views) -> Rows:
        """What the probe says of records it has not seen."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> DropoutConsistencyScorer:
        """What is usual of a class."""
        known = summary.labels != UNKNOWN_LABEL
        kept = _kept(summary.arrays["dropped"][known])
        return DropoutConsistencyScorer(_usual_by_class(kept, summary.labels[known], self.least), summary.classes)


@dataclass(frozen=True)
class DropoutConsistencyScorer:
    """Compares the log odds of the label with what is usual of it."""

    usual: Mapping[int, tuple[float, float]]
    """Class -> median and spread of the log odds."""
    classes: tuple[str, ...]

    def score(self, views: Views) -> Floats:
        """(rows,) usual deviations above the class; NaN without a label."""
        return np.where(
            views.labels == UNKNOWN_LABEL, np.nan, _above(_kept(views["dropped"]), views.labels, self.usual)
        )

    def explain(self, views: Views) -> list[str]:
        """How sure it stays."""
        return [
            f"a small model trained on other records gives its label {self.classes[max(label, 0)]!r} "
            f"{share:.0%} even with half of what it knows left out"
            for label, share in zip(views.labels.tolist(), views["dropped"].mean(axis=1).tolist(), strict=True)
        ]


@dataclass(frozen=True)
class EarlyLossScorer:
    """Compares the loss at the first checkpoint with what is usual of the label."""

    usual: Mapping[int, tuple[float, float]]
    """Class -> median and spread of minus the logarithm of the loss."""
    classes: tuple[str, ...]

    def score(self, views: Views) -> Floats:
        """(rows,) usual deviations by which minus the log of the early loss is above its class; NaN without a label."""
        scores = np.full(len(views), np.nan)
        rows = np.flatnonzero(views.labels != UNKNOWN_LABEL)
        labels = views.labels[rows]
        scores[rows] = _above(_early(views["logits"][rows], labels), labels, self.usual)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How soon, and how surely."""
        rows = np.arange(len(views))
        labels = np.maximum(views.labels, 0)
        logits = views["logits"][:, 0].astype(np.float64)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = (raised / raised.sum(axis=1, keepdims=True))[rows, labels]
        return [
            f"after one pass over the other records a small model already gives its label {self.classes[label]!r} "
            f"{share:.0%}"
            for label, share in zip(labels.tolist(), shares.tolist(), strict=True)
        ]


def _early(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Floats:
    """(rows,) minus the logarithm of the cross-entropy at the first of (rows, checkpoints, classes) logits."""
    first = logits[:, 0].astype(np.float64)
    first -= first.max(axis=1, keepdims=True)
    loss = np.log(np.exp(first).sum(axis=1)) - first[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.maximum(loss, 0.0) + 1e-6), dtype=np.float64)


def _kept(dropped: NDArray[np.float32]) -> Floats:
    """(rows,) log odds of the mean of (rows, times) probabilities."""
    mean = np.clip(dropped.astype(np.float64).mean(axis=1), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(mean / (1 - mean)), dtype=np.float64)


def _usual_by_class(values: Floats, labels: NDArray[np.int64], least: int) -> dict[int, tuple[float, float]]:
    """Median and spread of every class with ``least`` records, and of all together."""
    usual = {_ALL: _median_and_spread(values)}
    for label in np.unique(labels):
        if (mine := labels == label).sum() >= least:
            usual[int(label)] = _median_and_spread(values[mine])
    return usual


def _above(values: Floats, labels: NDArray[np.int64], usual: Mapping[int, tuple[float, float]]) -> Floats:
    """(rows,) usual deviations above what is usual of each label."""
    mine = np.array([usual.get(label, usual[_ALL]) for label in labels.tolist()]).reshape(-1, 2)
    return np.asarray((values - mine[:, 0]) / mine[:, 1], dtype=np.float64)


def _median_and_spread(values: Floats) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    median = float(np.median(values))
    return median, _USUAL * float(np.median(np.abs(values - median))) + 1e-6
