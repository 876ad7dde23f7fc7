"""Company: how odd the other detectors find the records of its label that a record is most like."""

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

_CHUNK = 2_048
_ODDEST = 0.95


@dataclass(frozen=True)
class Circle:
    """The fitted records of one class.

    Attributes:
        points: (records, dimensions) where the probe sees them.
        oddity: (records,) what the other detectors say of each.
    """

    points: Floats
    oddity: Floats


@dataclass(frozen=True)
class Company:
    """Mean oddity of the ``nearest`` records of its label.

    Own method. Natural oddities lie apart from each other; what one trigger or one warp did to many records lies
    together where a model that learnt it looks, so that suspicions too weak to be told from chance one by one add up.
    Oddity is the detectors' consensus (`lazaretto.calibrate.consensus`), of each record by the fold it is not in;
    nearness is that of the probe's activations, their square roots. The record itself is not in its company: an odd
    record among sound ones is left to the others.

    A class that is hard to learn has odd company everywhere: how odd is too odd is asked beside what is usual of the
    class (`lazaretto.detectors.class_scale`). With fewer than ``classes`` classes nobody can say what is usual, and
    nothing is suspicious: in development it held up to 1.2 % of clean mails there, and found no attack.
    """

    name: str = "company"
    nearest: int = 20
    classes: int = 5
    limit: int = 10_000
    reads: tuple[str, ...] = ("hidden", "oddity")
    family: ClassVar[str] = "representation"
    needs_label: ClassVar[bool] = True
    listens: ClassVar[bool] = True
    """It is fitted when all others are, to what they say."""
    scaled: ClassVar[bool] = True
    """By class."""
    tail: ClassVar[str] = "group"

    def summarise(self, views: Views) -> Rows:
        """The records and how odd they are."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> CompanyScorer:
        """The records of each class, by themselves."""
        circles: dict[int, Circle] = {}
        for label in np.unique(summary.labels[summary.labels != UNKNOWN_LABEL]).tolist():
            mine = np.flatnonzero(summary.labels == label)
            if len(mine) >= self.nearest:
                oddity = summary.arrays["oddity"][mine].astype(np.float64)
                circles[label] = Circle(softened(summary.arrays["hidden"][mine]), oddity)
        if len(circles) < self.classes:
            circles = {}
        oddest = float(np.quantile(summary.arrays["oddity"], _ODDEST)) if len(summary) else np.inf
        return CompanyScorer(circles, self.nearest, oddest, summary.classes)


@dataclass(frozen=True)
class CompanyScorer:
    """Looks a record's nearest up among the fitted records of its label."""

    circles: Mapping[int, Circle]
    nearest: int
    oddest: float
    """Oddity that one fitted record in twenty has."""
    classes: tuple[str, ...]

    def score(self, views: Views) -> Floats:
        """(rows,) mean oddity; 0 in a class of fewer records than are compared, NaN for an unknown label."""
        scores = np.where(views.labels == UNKNOWN_LABEL, np.nan, 0.0)
        for label, circle in self.circles.items():
            rows = np.flatnonzero(views.labels == label)
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                places = _nearest(circle, softened(views["hidden"][chunk]), self.nearest)
                # Sums of another order differ in the last digits.
                scores[chunk] = circle.oddity[places].mean(axis=1).round(6)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How many of the nearest are odd."""
        said = []
        for row, label in enumerate(views.labels.tolist()):
            circle = self.circles.get(label)
            if circle is None:
                said.append("there are too few labels, or records of its own, to compare it with")
                continue
            places = _nearest(circle, softened(views["hidden"][row : row + 1]), self.nearest)[0]
            odd = int((circle.oddity[places] >= self.oddest).sum())
            said.append(
                f"of the {self.nearest} records labelled {self.classes[label]!r} that a small model finds most like it,"
                f" {odd} are among the twentieth that all detectors together find oddest"
            )
        return said


def _nearest(circle: Circle, points: Floats, nearest: int) -> NDArray[np.int64]:
    """(rows, nearest) places in the circle."""
    apart = (circle.points**2).sum(axis=1) - 2 * points @ circle.points.T
    return np.argpartition(apart, nearest - 1, axis=1)[:, :nearest]
