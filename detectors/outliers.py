"""Classic outlier detectors from PyOD, those whose score of a record does not depend on its batch mates.

ECOD and COPOD are left out on purpose: they rank a record together with the records it is scored with, so that a
poisoned batch hides itself. Only raw scores are used, never PyOD's ``contamination`` threshold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lazaretto.detectors.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detector import Views


@dataclass(frozen=True)
class IsolationForest:
    """PyOD's IForest (Liu, Ting and Zhou 2008) on the shape view.

    Departure: trees of at most ``samples`` records are grown on the bottom-k sample, not on the whole batch.
    """

    name: str = "iforest"
    trees: int = 100
    samples: int = 256
    limit: int = 10_000
    seed: int = 0
    reads: tuple[str, ...] = ("shape",)
    family: ClassVar[str] = "outlier"
    needs_label: ClassVar[bool] = False

    def summarise(self, views: Views) -> Rows:
        """The records to grow trees on."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> PyodScorer:
        """Grow the forest."""
        from pyod.models.iforest import IForest

        model = IForest(
            n_estimators=self.trees,
            max_samples=min(self.samples, len(summary)),
            random_state=self.seed,
            n_jobs=1,
        )
        return PyodScorer.fitted(model, summary, self.reads[0], "stands apart from the other records")


@dataclass(frozen=True)
class Histogram:
    """PyOD's HBOS (Goldstein and Dengel 2012) on the shape view: independent histograms per dimension."""

    name: str = "hbos"
    bins: int = 20
    limit: int = 10_000
    reads: tuple[str, ...] = ("shape",)
    family: ClassVar[str] = "outlier"
    needs_label: ClassVar[bool] = False

    def summarise(self, views: Views) -> Rows:
        """The records to count."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> PyodScorer:
        """Count the histograms."""
        from pyod.models.hbos import HBOS

        return PyodScorer.fitted(HBOS(n_bins=self.bins), summary, self.reads[0], "has rare values")


@dataclass(frozen=True)
class PyodScorer:
    """A fitted PyOD model and what is usual for each dimension, for explanations."""

    model: Any
    view: str
    names: tuple[str, ...]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    says: str

    @classmethod
    def fitted(cls, model: Any, rows: Rows, view: str, says: str) -> PyodScorer:  # noqa: ANN401  PyOD is untyped
        """Fit ``model`` on a view of the sample."""
        values = rows.arrays[view].astype(np.float64)
        model.fit(values)
        centre = np.median(values, axis=0)
        scale = 1.4826 * np.median(np.abs(values - centre), axis=0)
        # Most of a one-hot column is its median: its own deviation says more, and a constant has none at all.
        deviation = values.std(axis=0)
        scale = np.where(scale > 0.1 * deviation, scale, np.where(deviation > 0, deviation, 1.0))
        return cls(model, view, rows.names[view], centre, scale, says)

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) PyOD decision scores; NaN where the view is not finite."""
        values = views[self.view].astype(np.float64)
        finite = np.isfinite(values).all(axis=1)
        scores = np.full(len(values), np.nan)
        if finite.any():
            scores[finite] = self.model.decision_function(values[finite])
        return scores

    def explain(self, views: Views) -> list[str]:
        """The dimension furthest from its median, in robust standard deviations."""
        deviation = self._deviation(views)
        # Principal components have no names a person could check; the panel adds the record's own columns.
        return [
            f"the record {self.says}" + (f"; {furthest(row, self.names)}" if self.names else "") for row in deviation
        ]

    def outward(self, views: Views) -> NDArray[np.float64]:
        """(rows, dimensions) the direction away from the medians, each dimension in its own deviations."""
        return self._deviation(views) / self.scale

    def _deviation(self, views: Views) -> NDArray[np.float64]:
        return np.asarray((views[self.view].astype(np.float64) - self.centre) / self.scale, dtype=np.float64)


def furthest(deviation: NDArray[np.float64], names: tuple[str, ...], most: int = 2) -> str:
    """Words for the dimensions that deviate most, at most ``most`` distinct names.

    Args:
        deviation: (dimensions,) signed deviations in robust standard deviations.
        names: What each dimension stands for.
        most: Names to give.
    """
    if names and names[0].startswith("pixel row"):
        return _region(deviation, names)
    parts: dict[str, float] = {}
    for dimension in np.argsort(-np.nan_to_num(np.abs(deviation), nan=np.inf)):
        parts.setdefault(names[dimension], float(deviation[dimension]))
        if len(parts) == most:
            break
    return "most unusual: " + ", ".join(f"{name} ({value:+.1f} standard deviations)" for name, value in parts.items())


_REGION_PIXELS = 12
_REGION_REACH = 5


def _region(deviation: NDArray[np.float64], names: tuple[str, ...]) -> str:
    """The rectangle that holds most of the most unusual pixels."""
    top = np.argsort(-np.nan_to_num(np.abs(deviation), nan=np.inf))[:_REGION_PIXELS]
    places = np.array([[int(word) for word in re.findall(r"\d+", names[index])[:2]] for index in top])
    centre = np.median(places, axis=0)
    near = places[np.abs(places - centre).max(axis=1) <= _REGION_REACH]
    near = near if len(near) else places[:1]
    (r0, c0), (r1, c1) = near.min(axis=0), near.max(axis=0)
    value = float(deviation[top[0]])
    side = int(re.findall(r"\d+", names[-1])[0]) + 1
    # Images of other sizes were brought to this one: places count in it, not in the image that came.
    where = f"pixels in rows {r0}-{r1}, columns {c0}-{c1} of {side} x {side}"
    return f"most unusual: {where} (up to {value:+.1f} standard deviations)"
