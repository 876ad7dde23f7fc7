"""Distance to the nearest records of the fitted sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detectors.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detector import Views


_FAR = 1e6
"""Distance of a record all of whose neighbours are copies: nothing is known of others."""


@dataclass(frozen=True)
class KnnDistance:
    """Mean distance to the k nearest neighbours (Ramaswamy et al. 2000; the average variant of Angiulli 2002)."""

    name: str = "knn_distance"
    limit: int = 10_000
    reads: tuple[str, ...] = ("neighbour_distances",)
    family: ClassVar[str] = "outlier"
    needs_label: ClassVar[bool] = False

    def summarise(self, views: Views) -> Rows:
        """The distances that are usual; the neighbour index is the rest of the fit."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> KnnDistanceScorer:
        """What is usual, to be said."""
        return KnnDistanceScorer(_median(summary.arrays["neighbour_distances"].astype(np.float64).mean(axis=1)))


@dataclass(frozen=True)
class KnnDistanceScorer:
    """Averages the (rows, k) neighbour distances."""

    usual: float
    """Median over the fitted records."""

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) log of the mean distance, in units of the compact view."""
        scores: NDArray[np.float64] = np.log(views["neighbour_distances"].astype(np.float64).mean(axis=1) + 1e-9)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How far the neighbours are."""
        far = np.exp(self.score(views))
        return [f"its nearest records are at a mean distance of {d:.3g}, where {self.usual:.3g} is usual" for d in far]


@dataclass(frozen=True)
class Crowding:
    """How near the nearest other records are: the lower tail of the distance that `KnnDistance` looks at from above.

    Near copies, each changed a little so that no two are equal, lie closer together than records ever do. Records at
    no distance at all do not count: `lazaretto.detectors.hygiene.Copies` counts them, and knows how usual copies are.
    """

    name: str = "crowding"
    nearest: int = 8
    limit: int = 10_000
    reads: tuple[str, ...] = ("neighbour_distances",)
    family: ClassVar[str] = "hygiene"
    needs_label: ClassVar[bool] = False

    def summarise(self, views: Views) -> Rows:
        """The distances that are usual; the neighbour index is the rest of the fit."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> CrowdingScorer:
        """What is usual, to be said."""
        near, _ = _nearest(summary.arrays["neighbour_distances"], self.nearest)
        return CrowdingScorer(self.nearest, _median(near))


@dataclass(frozen=True)
class CrowdingScorer:
    """Averages the nearest few of the (rows, k) neighbour distances that are not 0."""

    nearest: int
    usual: float
    """Median over the fitted records."""

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) minus the log of the mean distance, in units of the compact view."""
        near, _ = _nearest(views["neighbour_distances"], self.nearest)
        scores: NDArray[np.float64] = -np.log(near + 1e-6)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How near they are."""
        return [
            f"the {count} nearest records that differ from it are at a mean distance of {near:.3g}, where"
            f" {self.usual:.3g} is usual"
            for near, count in zip(*_nearest(views["neighbour_distances"], self.nearest), strict=True)
        ]


def _nearest(seen: NDArray[np.floating], most: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(rows,) mean distance to the nearest that differ, far where none does, and how many of them there are.

    Args:
        seen: (rows, k) distances, ascending.
        most: How many of those that differ count.
    """
    distances = seen.astype(np.float64)
    differs = ~(distances <= 0)  # a missing distance stays missing
    counted = differs & (differs.cumsum(axis=1) <= most)
    count = counted.sum(axis=1)
    near = np.where(counted, distances, 0.0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, near, _FAR), count


def _median(distances: NDArray[np.float64]) -> float:
    return float(np.median(distances)) if len(distances) else 0.0
