"""Distance to the nearest records of the fitted sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detectors.label_noise import Nothing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detector import Views


_FAR = 1e6
"""Distance of a record all of whose neighbours are copies: nothing is known of others."""


@dataclass(frozen=True)
class KnnDistance:
    """Mean distance to the k nearest neighbours (Ramaswamy et al. 2000; the average variant of Angiulli 2002)."""

    name: str = "knn_distance"
    reads: tuple[str, ...] = ("neighbour_distances",)
    family: ClassVar[str] = "outlier"
    needs_label: ClassVar[bool] = False

    def summarise(self, views: Views) -> Nothing:
        """The neighbour index is the fit."""
        return Nothing(views.classes)

    def finish(self, summary: Nothing) -> KnnDistanceScorer:  # noqa: ARG002  one protocol for all
        """Nothing to compute."""
        return KnnDistanceScorer()


@dataclass(frozen=True)
class KnnDistanceScorer:
    """Averages the (rows, k) neighbour distances."""

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) log of the mean distance, in units of the compact view."""
        scores: NDArray[np.float64] = np.log(views["neighbour_distances"].astype(np.float64).mean(axis=1) + 1e-9)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How far the neighbours are."""
        return [f"its nearest records are far away (mean distance {np.exp(d):.2f})" for d in self.score(views)]


@dataclass(frozen=True)
class Crowding:
    """How near the nearest other records are: the lower tail of the distance that `KnnDistance` looks at from above.

    Near copies, each changed a little so that no two are equal, lie closer together than records ever do. Records at
    no distance at all do not count: `lazaretto.detectors.hygiene.Copies` counts them, and knows how usual copies are.
    """

    name: str = "crowding"
    nearest: int = 8
    reads: tuple[str, ...] = ("neighbour_distances",)
    family: ClassVar[str] = "hygiene"
    needs_label: ClassVar[bool] = False

    def summarise(self, views: Views) -> Nothing:
        """The neighbour index is the fit."""
        return Nothing(views.classes)

    def finish(self, summary: Nothing) -> CrowdingScorer:  # noqa: ARG002  one protocol for all
        """Nothing to compute."""
        return CrowdingScorer(self.nearest)


@dataclass(frozen=True)
class CrowdingScorer:
    """Averages the nearest few of the (rows, k) neighbour distances that are not 0."""

    nearest: int

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) minus the log of the mean distance, in units of the compact view."""
        near, _ = self._near(views)
        scores: NDArray[np.float64] = -np.log(near + 1e-6)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How near they are."""
        return [
            f"{count} other records are nearly the same (mean distance {near:.3f})"
            for near, count in zip(*self._near(views), strict=True)
        ]

    def _near(self, views: Views) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(rows,) mean distance to the nearest that differ, far where none does, and how many of them there are."""
        distances = views["neighbour_distances"].astype(np.float64)
        differs = ~(distances <= 0)  # a missing distance stays missing
        counted = differs & (differs.cumsum(axis=1) <= self.nearest)
        count = counted.sum(axis=1)
        near = np.where(counted, distances, 0.0).sum(axis=1) / np.maximum(count, 1)
        return np.where(count > 0, near, _FAR), count
