"""Isolated gradients: records that pull the probe as hardly any other of their class does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL
from lazaretto.detectors.rows import Rows
from lazaretto.detectors.views.probe import softened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lazaretto.detector import Views

    Floats = NDArray[np.float64]

_ALL = -2
"""Index of the state fitted on all classes together, for classes too small to have their own."""


@dataclass(frozen=True)
class Medoids:
    """The records that stand for a class.

    Attributes:
        points: (medoids, dimensions) softened gradients.
        sizes: (medoids,) records that are nearest to it.
    """

    points: Floats
    sizes: NDArray[np.int64]

    def nearest(self, values: Floats) -> tuple[Floats, NDArray[np.int64]]:
        """(rows,) distance to the nearest medoid, and how many records that stands for."""
        apart = _distances(values, self.points)
        which = apart.argmin(axis=1)
        return apart[np.arange(len(values)), which], self.sizes[which]


@dataclass(frozen=True)
class IsolatedGradients:
    """Log distance to the nearest medoid of a class's gradients, less where that has many (EPIC, Yang et al. 2022).

    As in the paper medoids are chosen greedily by facility location, and what stands alone is suspicious. Departures:
    the gradients are the Kronecker projections of both layers' at the probe's last checkpoint, their square roots with
    sign so that no long one leads; the state is of other records, so that a record is judged by the medoid it would
    join, with its distance; nothing is dropped and trained again; medoids are of at most ``most`` records of a class.

    Not in the default set: what it finds others find better. Recall at 1 % alone and of the best other, seed 200:
    fashion BadNets .31 (1.0), adaptive blend .17 (.77), random flips .47 (.85), boundary flips .06 (.07), 0 on TaCT,
    WaNet, SIG, Narcissus and feature collision; spamassassin sentence .78 (1.0), random flips .61 (.93), boundary flips
    .20 (.42); spambase trigger .60 (1.0), boundary flips .15 (.28). Fused it changed
    recall on mails by no more than .01.
    """

    name: str = "isolated_gradients"
    medoids: int = 40
    per_medoid: int = 10
    """Records of the class for each medoid."""
    most: int = 1_000
    least: int = 30
    limit: int = 10_000
    reads: tuple[str, ...] = ("gradients",)
    family: ClassVar[str] = "gradient"
    needs_label: ClassVar[bool] = True

    def summarise(self, views: Views) -> Rows:
        """The records that medoids are chosen from."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> IsolatedScorer:
        """Choose the medoids of every class."""
        groups = {_ALL: self._chosen(summary.arrays["gradients"])}
        for label, values in summary.per_class("gradients", self.least):
            if label != UNKNOWN_LABEL:
                groups[label] = self._chosen(values)
        return IsolatedScorer(groups, summary.classes)

    def _chosen(self, gradients: NDArray[np.floating]) -> Medoids:
        values = softened(gradients[: self.most])
        apart = _distances(values, values)
        best = np.full(len(values), apart.max(initial=1.0))
        chosen: list[int] = []
        for _ in range(max(2, min(self.medoids, len(values) // self.per_medoid))):
            if not len(values):
                return Medoids(np.zeros((1, values.shape[1])), np.ones(1, dtype=np.int64))
            chosen.append(int(np.maximum(best[:, None] - apart, 0.0).sum(axis=0).argmax()))
            best = np.minimum(best, apart[:, chosen[-1]])
        nearest = apart[:, chosen].argmin(axis=1)
        return Medoids(values[chosen], np.maximum(np.bincount(nearest, minlength=len(chosen)), 1))


@dataclass(frozen=True)
class IsolatedScorer:
    """Looks for the medoid a record would join."""

    groups: Mapping[int, Medoids]
    classes: tuple[str, ...]

    def score(self, views: Views) -> Floats:
        """(rows,) log distance less half the log of the medoid's records; NaN for an unknown label."""
        scores = np.full(len(views), np.nan)
        for label in np.unique(views.labels[views.labels != UNKNOWN_LABEL]).tolist():
            rows = np.flatnonzero(views.labels == label)
            apart, sizes = self._group(label).nearest(softened(views["gradients"][rows]))
            scores[rows] = np.log(apart + 1e-3) - 0.5 * np.log(sizes)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How many pull like it."""
        said = []
        for row, label in enumerate(views.labels.tolist()):
            _, sizes = self._group(label).nearest(softened(views["gradients"][[row]]))
            of = f"labelled {self.classes[label]!r}" if label >= 0 else "looked at"
            said.append(
                f"what a small model would learn from it is most like what it would learn from {sizes[0]} of the"
                f" records {of}, and not very like it"
            )
        return said

    def _group(self, label: int) -> Medoids:
        return self.groups.get(label, self.groups[_ALL])


def _distances(values: Floats, others: Floats) -> Floats:
    """(rows, others) Euclidean distances."""
    squares = (values**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * values @ others.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)), dtype=np.float64)
