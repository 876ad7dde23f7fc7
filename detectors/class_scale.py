"""Scores beside what is usual of their class, for detectors of which every class has its own usual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SHRINK = 0.5
_FEWEST = 20
"""With fewer records than this a class has the median and the spread of the others."""


@dataclass(frozen=True)
class ClassScale:
    """Median and spread of each class.

    The spread is half the distance of the class's lower quartile from its median, and half of what that is in the
    median class. Poisons are above a median and move neither as long as they are less than half of a class.
    """

    usual: Floats
    """(classes,)."""
    spread: Floats
    """(classes,)."""

    @classmethod
    def of(cls, scores: Floats, labels: NDArray[np.int64], classes: int) -> ClassScale:
        """From (rows,) scores and labels of so many classes; scores that are not finite do not count."""
        known = np.isfinite(scores) & (labels != UNKNOWN_LABEL)
        quartiles = np.full((2, classes), np.nan)
        for label, count in enumerate(np.bincount(labels[known], minlength=classes).tolist()):
            if count >= _FEWEST:
                quartiles[:, label] = np.quantile(scores[known & (labels == label)], [0.25, 0.5])
        if np.isnan(quartiles).all():
            return cls(np.zeros(classes), np.ones(classes))
        spread = quartiles[1] - quartiles[0]
        typical = float(np.nanmedian(spread))
        mixed = _SHRINK * typical + (1 - _SHRINK) * np.nan_to_num(spread, nan=typical)
        return cls(np.nan_to_num(quartiles[1], nan=float(np.nanmedian(quartiles[1]))), np.maximum(mixed, 1e-6))

    def __call__(self, scores: Floats, labels: NDArray[np.int64]) -> Floats:
        """(rows,) spreads above what is usual of the label."""
        place = np.maximum(labels, 0)
        return np.asarray((scores - self.usual[place]) / self.spread[place], dtype=np.float64)
