"""Two components in a class: the records that carry a trigger lie apart from those that are what their label says."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

_USUAL = 1.4826
"""Standard deviations of a normal variable in its median absolute deviation."""
_CUT = 3.0
"""Standard deviations between the means of a normal variable's two sides, about, when it is cut into two groups."""
_LEAST_SPREAD = 3.0
"""Clarity by which classes without any groups differ."""
_FARTHEST = 30.0
_SIDES = (0.05, 0.15)
"""Share of a class on the far side of a direction, from which a search begins."""
_ROUNDS = 20
_SMALL, _LARGEST = 0.1, 0.25
"""Share of a class up to which a group counts in full, and from which on not at all."""


@dataclass(frozen=True)
class Split:
    """One class as two normal groups of one covariance.

    Attributes:
        slope: (dimensions,) of the log odds that a record is in the smaller group.
        intercept: Of the same.
        clarity: ``(D - 3) sqrt(m)``, D the distance of the means in standard deviations within, m the records in the
            smaller group; less where that is more than a tenth of the class.
        size: Records in the smaller group.
    """

    slope: Floats
    intercept: float
    clarity: float
    size: int


@dataclass(frozen=True)
class TwoComponents:
    """Log odds that a record is in the smaller of two groups of a class that consists of two (SCAn, Tang et al. 2021).

    As in the paper a record is its class's mean plus variation that all classes share, each class is explained by two
    normal groups found by expectation maximisation, and how much better two explain it than one is compared with all
    classes by median and median absolute deviation.

    Departures. No clean set: the shared covariance is of the batch. The paper keeps it within the groups, too, by
    which every class that is longer than others is two; here it shows the ``rank`` directions in which the class
    varies more than is usual, and the covariance within the groups is estimated anew there. The paper's likelihood
    ratio is then largest where nature cuts a class into halves, so the groups are compared by the clarity of
    `lazaretto.detectors.components`, which a small tight group has and a half has not. The search begins from both ends
    of these directions and of the least normal ones, not from one at random. The paper condemns the smaller group;
    here each record's membership counts, and how clearly its class is two. With fewer than ``classes`` classes nobody
    can say what is usual, and nothing is suspicious.

    It depends on the target: in a class that is of many kinds by itself the poisons are one kind more. In development
    on fashion it found adaptive blend and feature collision where the target was T-shirts (recall at 1 % alone
    .91 to 1.0), and none of them where it was bags; TaCT either way.
    """

    name: str = "scan_two_component"
    view: str = "hidden"
    rank: int = 16
    per_direction: int = 12
    """Records of the class for each direction that is looked at."""
    sure: float = 5.0
    """Deviations above the usual class at which odds are even; untouched classes seldom had more in development."""
    steep: float = 2.0
    """Log odds by which each further deviation counts."""
    least_spread: float = 0.2
    """Share of the usual clarity that classes are taken to differ by at least."""
    classes: int = 5
    least: int = 60
    ridge: float = 0.05
    limit: int = 10_000
    family: ClassVar[str] = "representation"
    needs_label: ClassVar[bool] = True
    tail: ClassVar[str] = "odds"

    @property
    def reads(self) -> tuple[str, ...]:
        """The one view it looks at."""
        return (self.view,)

    def summarise(self, views: Views) -> Rows:
        """The records of every class."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> TwoComponentsScorer:
        """Split every class, and compare how much that explains."""
        groups = {
            label: softened(values)
            for label, values in summary.per_class(self.view, self.least)
            if label != UNKNOWN_LABEL
        }
        scorer = TwoComponentsScorer(self.view, {}, {}, self.sure, self.steep, summary.classes)
        if len(groups) < self.classes:
            return scorer
        centred = np.concatenate([values - values.mean(axis=0) for values in groups.values()])
        shared = centred.T @ centred / len(centred)
        shared += self.ridge * np.trace(shared) / len(shared) * np.eye(len(shared))
        whiten = np.linalg.inv(np.linalg.cholesky(shared)).T
        splits = {label: self._split(values, whiten) for label, values in groups.items()}
        clarity = np.array([split.clarity for split in splits.values()])
        usual = float(np.median(clarity))
        # Classes that happen to be alike are no reason to call the next one odd.
        spread = max(_USUAL * float(np.median(np.abs(clarity - usual))), self.least_spread * usual, _LEAST_SPREAD)
        clear = {label: (split.clarity - usual) / spread for label, split in splits.items()}
        return TwoComponentsScorer(self.view, splits, clear, self.sure, self.steep, summary.classes)

    def _split(self, values: Floats, whiten: Floats) -> Split:
        centre = values.mean(axis=0)
        white = (values - centre) @ whiten
        rank = max(1, min(self.rank, len(values) // self.per_direction))
        lengths, vectors = np.linalg.eigh(white.T @ white / len(white))
        # Along these directions the class varies more than is usual; there it is whitened by itself.
        axes = vectors[:, -rank:] / np.sqrt(np.maximum(lengths[-rank:], 1e-9))
        found = _two_groups(white @ axes)
        slope = whiten @ axes @ found.slope
        return replace(found, slope=slope, intercept=found.intercept - float(centre @ slope))


@dataclass(frozen=True)
class TwoComponentsScorer:
    """Knows the split of every class and how clear it is."""

    view: str
    splits: Mapping[int, Split]
    clear: Mapping[int, float]
    """Class -> how far its gain lies above the usual one, in usual deviations."""
    sure: float
    steep: float
    classes: tuple[str, ...]

    def score(self, views: Views) -> Floats:
        """(rows,) log odds of being in the smaller group of a class that is two; NaN for an unknown label."""
        scores = np.where(views.labels == UNKNOWN_LABEL, np.nan, -_FARTHEST)
        for label, split in self.splits.items():
            rows = np.flatnonzero(views.labels == label)
            within = softened(views[self.view][rows]) @ split.slope + split.intercept
            # Two things must be so, the odds of both: (1 + 1/a)(1 + 1/b) - 1 is one over them.
            one = np.clip(within, -_FARTHEST, _FARTHEST)
            two = np.clip(self.steep * (self.clear[label] - self.sure), -_FARTHEST, _FARTHEST)
            scores[rows] = -np.logaddexp(np.logaddexp(-one, -two), -one - two)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How many records lie apart, and how clearly."""
        said = []
        for label in views.labels.tolist():
            if (split := self.splits.get(label)) is None:
                said.append("its class is not compared with others, for there are too few of them or of its records")
                continue
            said.append(
                f"to a small model, about {split.size} of the records labelled {self.classes[label]!r} are a group"
                f" apart from the rest{', more clearly than is usual of a label' if self.clear[label] > 1 else ''}"
            )
        return said


def _two_groups(white: Floats) -> Split:
    """The clearest mixture of two normal groups of one covariance.

    In coordinates whose total covariance is the identity, that within the groups is ``I - p (1 - p) d d'``, with d
    between the means and p the share of one: its inverse and determinant need no matrix, and all starts go together.

    Args:
        white: (rows, rank), of mean 0 and covariance I.
    """
    rows = len(white)
    along = np.concatenate([white @ _unusual(white, 3), white @ _unusual(white, 4), white], axis=1)
    along = np.concatenate([along, -along], axis=1)
    member = np.concatenate([along > np.quantile(along, 1 - side, axis=0) for side in _SIDES], axis=1).astype(
        np.float64
    )
    for _ in range(_ROUNDS):
        share = np.clip(member.mean(axis=0), 2 / rows, 1 - 2 / rows)
        # The mean of all is 0, so the means of both groups lie on one line through it.
        near = white.T @ member / (rows * share)
        apart = near / (1 - share)
        within = np.maximum(1 - share * (1 - share) * (apart**2).sum(axis=0), 1e-6)
        slope = apart / within
        middle = near - apart / 2
        intercept = np.log(share / (1 - share)) - (middle * slope).sum(axis=0)
        odds = np.clip(white @ slope + intercept, -50, 50)
        member = 1 / (1 + np.exp(-odds))
    sizes = rows * np.minimum(share, 1 - share)
    clarity = np.maximum(np.sqrt((apart * slope).sum(axis=0)) - _CUT, 0.0) * np.sqrt(sizes)
    # Large parts are of nature, as digits that lean are: what is more than a tenth of a class counts less, and
    # nothing at a quarter.
    clarity *= np.clip((_LARGEST - sizes / rows) / (_LARGEST - _SMALL), 0.0, 1.0)
    best = int(clarity.argmax())
    sign = 1.0 if share[best] <= 0.5 else -1.0  # noqa: PLR2004  half
    return Split(sign * slope[:, best], float(sign * intercept[best]), float(clarity[best]), round(sizes[best]))


def _unusual(white: Floats, power: int) -> Floats:
    """(rank, rank) orthogonal directions far from normal: FastICA's fixed point for the third or the fourth moment."""
    turn = np.eye(white.shape[1])
    for _ in range(_ROUNDS):
        along = white @ turn
        moved = white.T @ along ** (power - 1) / len(white)
        if power == 4:  # noqa: PLR2004  a normal variable has a fourth moment to take away
            moved -= 3 * turn
        left, _, right = np.linalg.svd(moved)
        turn = left @ right
    return np.asarray(turn, dtype=np.float64)
