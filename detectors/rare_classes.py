"""Classes so rare that what is usual of all records says nothing of theirs.

A probe learns little of a class that a hundredth of the records have, and its neighbours are of other classes: all of
its records get the scores that a wrong label gets elsewhere. Whether one of them is odd shows beside the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lazaretto.detector import Detector

    Floats = NDArray[np.float64]

RARE = 0.25
"""A class is rare that has a smaller share of the largest one's records."""


@dataclass(frozen=True)
class RareClasses:
    """The scores of the records of each rare class, by detectors that say ``by_class``."""

    usual: Mapping[int, Mapping[str, Floats]]
    """Class -> detector -> (records,) ascending."""

    @classmethod
    def of(
        cls, detectors: Sequence[Detector[Any]], raw: Floats, labels: NDArray[np.int64], classes: int
    ) -> RareClasses:
        """From (rows, detectors) scores of records with these (rows,) labels, of so many classes."""
        counts = np.bincount(labels[labels != UNKNOWN_LABEL], minlength=classes)
        rare = np.flatnonzero((counts > 0) & (counts < RARE * counts.max(initial=0)))
        asked = [(i, one.name) for i, one in enumerate(detectors) if getattr(one, "by_class", False)]
        return cls({int(label): {name: _finite(raw[labels == label, i]) for i, name in asked} for label in rare})

    def least(self, names: Sequence[str], raw: Floats, labels: NDArray[np.int64]) -> Floats:
        """(rows, detectors) below which no p-value may be: the square of the share of the class with such a score.

        The share itself would let no record of a class of thirty be suspicious, however odd. 0 where a class is not
        rare, or a score is not a number.
        """
        found = np.zeros_like(raw)
        for label, scores in self.usual.items():
            mine = np.flatnonzero(labels == label)
            for column, name in enumerate(names):
                if name in scores:
                    asked, usual = raw[mine, column], scores[name]
                    above = len(usual) - np.searchsorted(usual, asked, side="left")
                    share = (1.0 + above) / (len(usual) + 1.0)
                    found[mine, column] = np.where(np.isfinite(asked), share**2, 0.0)
        return found


def _finite(scores: Floats) -> Floats:
    return np.sort(scores[np.isfinite(scores)])
