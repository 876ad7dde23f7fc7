"""Which values of a record are missing: a pattern that hardly any other record has, or one that comes with one label.

What is missing is mostly filled in before anything looks at it, so that an attacker may leave two values out where
another would change them, and hardly a detector sees that the two are never missing together.
"""

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
    Flags = NDArray[np.bool_]

_SAID = 6
"""Columns that a sentence names, at most."""
_RARE = 1e-2
"""Share of the records below which it is said how rare a pattern is."""
_IMAGINABLE = 10_000
"""A tree of what hangs together says no more of rarer patterns than that they are."""


@dataclass(frozen=True)
class Tree:
    """How likely values are missing together: every column hangs on one other (Chow and Liu 1968).

    Attributes:
        parents: (columns,) the column that each hangs on, -1 for the root.
        surprise: (columns, 2, 2) minus the log probability by own and by parent's state; the root's parent is state 0.
    """

    parents: NDArray[np.int64]
    surprise: Floats

    @classmethod
    def fit(cls, absent: Flags, smoothing: float) -> Tree:
        """The tree of most mutual information; ``smoothing`` records are added to every count.

        Args:
            absent: (rows, columns) which values are missing.
            smoothing: Records.
        """
        columns = absent.shape[1]
        states = np.stack([~absent, absent]).astype(np.float64)
        counts = np.einsum("arc,brd->cdab", states, states) + smoothing
        shares = counts / counts.sum(axis=(2, 3), keepdims=True)
        alone = shares.sum(axis=3, keepdims=True) * shares.sum(axis=2, keepdims=True)
        information = (shares * np.log(shares / alone)).sum(axis=(2, 3))
        parents = np.full(columns, -1, dtype=np.int64)
        # Prim's algorithm; of equal edges the first is taken, so that the tree follows from the counts alone.
        best, hanging = information[0].copy(), np.zeros(columns, dtype=np.int64)
        outside = np.arange(columns) > 0
        for _ in range(columns - 1):
            column = int(np.where(outside, best, -np.inf).argmax())
            parents[column], outside[column] = hanging[column], False
            nearer = outside & (information[column] > best)
            best[nearer], hanging[nearer] = information[column][nearer], column
        joint = counts[np.arange(columns), parents]
        surprise = -np.log(joint / joint.sum(axis=1, keepdims=True))
        root = states[:, :, 0].sum(axis=1) + smoothing
        surprise[0] = -np.log(root / root.sum())[:, None]
        return cls(parents, surprise)

    def surprises(self, absent: Flags) -> Floats:
        """(rows, columns) minus the log probability of each column's state given its parent's."""
        own = absent.astype(np.int64)
        above = np.where(self.parents >= 0, own[:, np.maximum(self.parents, 0)], 0)
        return np.asarray(self.surprise[np.arange(len(self.parents)), own, above], dtype=np.float64)


@dataclass(frozen=True)
class Missingness:
    """Surprise at a record's missing values, and how much more often than usual they come with its label.

    Minus the log probability of the pattern under a `Tree` of all records or of those with its label, whichever is
    larger. To it is added, own method, how far a pattern of ``least`` records or more raises the log odds of the
    record's label: those of the lower Wilson bound, ``deviations`` standard deviations down, less those of the label
    among all records. A pattern that more than a share ``rare`` of the records have, is how the data are made (who
    was not examined is mostly well), and raises them by as much less.

    Of ``m`` patterns each as improbable as ``exp(-s)`` or less one is met with a probability of at most ``m exp(-s)``:
    the logarithm of twice the number of patterns seen (twice, for there are two trees) is subtracted, so that a
    surprise by itself is minus the logarithm of a p-value, and the rare patterns of a patchy table alarm nobody.
    """

    name: str = "missingness"
    smoothing: float = 0.5
    fewest: int = 200
    """Records that a class has a tree of its own from."""
    least: int = 10
    deviations: float = 3.0
    rare: float = 0.05
    limit: int = 20_000
    reads: tuple[str, ...] = ("missing",)
    family: ClassVar[str] = "trigger"
    needs_label: ClassVar[bool] = False
    tail: ClassVar[str] = "known"

    def summarise(self, views: Views) -> Rows:
        """Which values are missing."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> MissingnessScorer:
        """Learn what is missing together, and with which label."""
        absent, labels = summary.arrays["missing"], summary.labels
        trees = {UNKNOWN_LABEL: Tree.fit(absent, self.smoothing)}
        counts = np.bincount(labels[labels != UNKNOWN_LABEL], minlength=len(summary.classes))
        for label in np.flatnonzero(counts >= self.fewest).tolist():
            trees[label] = Tree.fit(absent[labels == label], self.smoothing)
        ties = self._ties(absent, labels, counts)
        many = float(np.log(2 * (len(np.unique(absent, axis=0)) + 1)))
        return MissingnessScorer(trees, ties, many, summary.names.get("missing", ()), summary.classes)

    def _ties(
        self, absent: Flags, labels: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> dict[tuple[bytes, int], Tie]:
        """Pattern and label -> how they hang together, where a pattern raises the odds of a label."""
        known = labels != UNKNOWN_LABEL
        shares = (counts + 1.0) / (counts.sum() + max(len(counts), 1))
        patterns, which, sizes = np.unique(absent[known], axis=0, return_inverse=True, return_counts=True)
        ties = {}
        for number in np.flatnonzero((sizes >= self.least) & patterns.any(axis=1)).tolist():
            size = int(sizes[number])
            together = np.bincount(labels[known][which.ravel() == number], minlength=len(counts))
            least = _wilson(together / size, size, self.deviations)
            rise = np.log(least / (1 - least)) - np.log(shares / (1 - shares))
            rise *= min(1.0, self.rare * int(known.sum()) / size)
            for label in np.flatnonzero((rise > 0) & (together > 0)).tolist():
                tie = Tie(float(rise[label]), int(together[label]), size, float(shares[label]))
                ties[patterns[number].tobytes(), label] = tie
        return ties


@dataclass(frozen=True)
class Tie:
    """A pattern of missing values that comes with one label more often than others do."""

    rise: float
    """Of the label's log odds."""
    together: int
    records: int
    usual: float
    """Share of the label among all records."""


@dataclass(frozen=True)
class MissingnessScorer:
    """Looks every record's pattern up."""

    trees: Mapping[int, Tree]
    """Label -> tree; under `UNKNOWN_LABEL` that of all records."""
    ties: Mapping[tuple[bytes, int], Tie]
    many: float
    """Logarithm of the number of patterns that could have surprised as well."""
    names: tuple[str, ...]
    classes: tuple[str, ...]

    def score(self, views: Views) -> Floats:
        """(rows,) surprise at the pattern in nats, less that at the number of patterns, plus the rise of its label."""
        rises = np.array([0.0 if tie is None else tie.rise for tie in self._tied(views)], dtype=np.float64)
        return np.asarray(self._surprises(views).sum(axis=1) - self.many + rises, dtype=np.float64)

    def explain(self, views: Views) -> list[str]:
        """What is missing, how usual that is, and with which label it comes."""
        said = []
        surprises = self._surprises(views)
        for row, tie in enumerate(self._tied(views)):
            absent = np.flatnonzero(views["missing"][row])
            names = [self.names[at] if self.names else f"column {at + 1}" for at in absent.tolist()]
            more = f" and {len(names) - _SAID} more" if len(names) > _SAID else ""
            what = f"missing: {', '.join(names[:_SAID])}{more}" if names else "nothing is missing"
            share = np.exp(-surprises[row].sum())
            usual = "as is usual"
            if share < 1 / _IMAGINABLE:
                usual = f"not one record in {_IMAGINABLE:,} is so by what is usual"
            elif share < _RARE:
                usual = f"one record in {1 / share:,.0f} is so by what is usual"
            words = f"{what}, {usual}"
            if tie is not None:
                label = self.classes[views.labels[row]] if self.classes else str(views.labels[row])
                words += (
                    f"; {tie.together} of {tie.records} such records are labelled {label!r}, {tie.usual:.0%} of all"
                )
            said.append(words)
        return said

    def _surprises(self, views: Views) -> Floats:
        """(rows, columns) by the tree of all records or of the label's, whichever finds the pattern rarer."""
        absent = views["missing"]
        found = self.trees[UNKNOWN_LABEL].surprises(absent)
        for label, tree in self.trees.items():
            rows = np.flatnonzero((views.labels == label) & (label != UNKNOWN_LABEL))
            other = tree.surprises(absent[rows])
            rarer = other.sum(axis=1) > found[rows].sum(axis=1)
            found[rows[rarer]] = other[rarer]
        return found

    def _tied(self, views: Views) -> list[Tie | None]:
        """(rows,) how each record's pattern hangs together with its label; None where it does not."""
        absent = np.ascontiguousarray(views["missing"])
        pairs = zip(absent, views.labels.tolist(), strict=True)
        return [self.ties.get((pattern.tobytes(), label)) for pattern, label in pairs]


def _wilson(share: Floats, size: int, deviations: float) -> Floats:
    """Lower bound of a proportion (Wilson 1927), kept off 0 and 1."""
    square = deviations**2
    middle = share + square / (2 * size)
    spread = deviations * np.sqrt(share * (1 - share) / size + square / (4 * size**2))
    return np.clip((middle - spread) / (1 + square / size), 1e-6, 1 - 1e-6)
