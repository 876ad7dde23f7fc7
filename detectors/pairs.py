"""Pairs of values that meet far more often than either is common: a trigger in two columns, whatever its label.

A trigger must be put into every poison, so its values meet there. Two columns may well hang together by nature (a place
and its distance), and then many of their values meet more often than chance has it; in columns that hardly do, one
pair that always comes together stands out alone. And where nature brings two values together she brings others with
them (the weather of one hour); records that a trigger was put into have nothing else in common. No label is looked at:
it may be the commonest there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detectors.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detector import Views

    Codes = NDArray[np.uint64]


@dataclass(frozen=True)
class Meeting:
    """Two columns, and the pairs of their values that meet more often than is usual between them.

    Attributes:
        columns: The two columns.
        codes: (pairs,) ascending, both values in one number.
        lift: (pairs,) standardised surplus over chance, in units of what is usual between these columns.
        together: (pairs,) records with the pair.
        expected: (pairs,) records that would have it by chance.
    """

    columns: tuple[int, int]
    codes: Codes
    lift: NDArray[np.float64]
    together: NDArray[np.int64]
    expected: NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Lift of a pair of exact values over the product of their frequencies, against the columns' own usual lift.

    Own method; lift is that of association rules (Brin et al. 1997). ``z = (n - e) / sqrt(1 + e + (misfit e)^2)`` for a
    pair that ``n`` records have and ``e = n_a n_b / records`` would by chance. What ``quantile`` of the records reach
    between the same two columns, in standard normal deviations, is their unit, at least 1. The counterfactual: of the
    records with a pair, how often do two agree in a third column, on a value that is not common? The second highest of
    these shares over the columns lowers the lift, to nothing at ``explained``. A pair that more than a share ``rare``
    of the records have is rather how the columns are made (no wind has no direction), and counts by as much less. A
    record scores its strongest pair.
    """

    name: str = "pairs"
    least: int = 5
    """Fewer records with a value, or a pair, say nothing."""
    misfit: float = 0.1
    quantile: float = 0.95
    keep: float = 4.0
    """Lifts below this many units are not kept."""
    most: int = 50
    """Pairs kept of two columns."""
    explained: float = 0.6
    rare: float = 0.02
    common: float = 0.2
    """Records that agree on a value that so large a share has say nothing by it."""
    limit: int = 20_000
    reads: tuple[str, ...] = ("values",)
    family: ClassVar[str] = "trigger"
    needs_label: ClassVar[bool] = False
    tail: ClassVar[str] = "heavy"

    def summarise(self, views: Views) -> Rows:
        """The records' values."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> PairsScorer:
        """Count what meets."""
        # Copies of one record meet in everything, and say so elsewhere.
        values = np.unique(summary.arrays["values"], axis=0)
        counted = [self._repeated(column) for column in values.T]
        others = _uncommon(values, self.common)
        meetings = (
            self._meeting((i, j), counted[i], right, values, others)
            for j, right in enumerate(counted)
            for i in range(j)
            if len(counted[i][1]) and len(right[1])
        )
        return PairsScorer(tuple(m for m in meetings if len(m.codes)), summary.names.get("values", ()))

    def _repeated(self, column: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(records,) place of each value among the repeated ones, -1 for the others; (repeated,) their counts."""
        _, place, counts = np.unique(column, return_inverse=True, return_counts=True)
        often = counts >= self.least
        renumbered = np.where(often, np.cumsum(often) - 1, -1)
        return renumbered[place], counts[often]

    def _meeting(
        self,
        columns: tuple[int, int],
        left: tuple[NDArray[np.int64], NDArray[np.int64]],
        right: tuple[NDArray[np.int64], NDArray[np.int64]],
        values: NDArray[np.uint32],
        others: NDArray[np.int64],
    ) -> Meeting:
        from scipy.special import ndtri

        rows = np.flatnonzero((left[0] >= 0) & (right[0] >= 0))
        joint, first, place, together = np.unique(
            left[0][rows] * len(right[1]) + right[0][rows], return_index=True, return_inverse=True, return_counts=True
        )
        expected = left[1][joint // len(right[1])] * right[1][joint % len(right[1])] / len(values)
        # What is missing together says something of the two columns, and nothing of a trigger.
        able = (together >= self.least) & (values[rows[first]][:, columns] > 0).all(axis=1)
        # All that follows only takes away from a surplus: most columns are done with here.
        if not (self._surplus(together, expected)[able] >= self.keep).any():
            return Meeting(columns, np.empty(0, np.uint64), np.empty(0), together[:0], expected[:0])
        expected = np.maximum(expected, _equal(values[:, columns], others[:, columns], rows[first]))
        z = self._surplus(together, expected)
        # Records whose values are not repeated meet nothing.
        reached = np.concatenate([np.zeros(len(values) - len(rows)), np.maximum(z, 0.0)[place]])
        unit = max(float(np.quantile(reached, self.quantile)) / float(ndtri(self.quantile)), 1.0)
        # Where columns hang together a value meets several: what it does with its second best needs no trigger.
        z -= np.maximum(_second_best(joint // len(right[1]), z), _second_best(joint % len(right[1]), z))
        kept = np.flatnonzero((z / unit >= self.keep) & able)
        kept = kept[np.argsort(-z[kept], kind="stable")[: self.most]]
        lift = np.array(
            [z[k] / unit * max(0.0, 1.0 - _agreement(others[rows[place == k]], columns) / self.explained) for k in kept]
        )
        lift *= np.minimum(1.0, self.rare * len(values) / together[kept]) ** 2
        found = rows[first[kept]]
        codes = _joined(values[found, columns[0]], values[found, columns[1]])
        order = np.argsort(codes, kind="stable")
        kept = kept[order]
        return Meeting(columns, codes[order], lift[order], together[kept], expected[kept])

    def _surplus(self, together: NDArray[np.int64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
        """(pairs,) records beyond those expected, in deviations."""
        return (together - expected) / np.sqrt(1.0 + expected + (self.misfit * expected) ** 2)


def _uncommon(values: NDArray[np.uint32], common: float) -> NDArray[np.int64]:
    """(rows, columns) place of each value among its column's, -1 for those that are common."""
    places = np.empty(values.shape, dtype=np.int64)
    for at, column in enumerate(values.T):
        known, place, counts = np.unique(column, return_inverse=True, return_counts=True)
        places[:, at] = np.where((counts > common * len(values)) | (known == 0), -1, np.arange(len(known)))[place]
    return places


def _second_best(value: NDArray[np.int64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """(pairs,) the highest surplus, at least 0, among the other pairs with the same value."""
    order = np.lexsort((-z, value))
    first = np.flatnonzero(np.diff(value[order], prepend=-1))
    ends = np.append(first[1:], len(order))
    second = np.where(ends - first > 1, z[order[np.minimum(first + 1, len(order) - 1)]], 0.0)
    size = ends - first
    others = np.repeat(z[order[first]], size)
    others[first] = second
    found = np.empty(len(z))
    found[order] = np.maximum(others, 0.0)
    return found


def _equal(values: NDArray[np.uint32], others: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """(asked,) records with the pair of a record, were equal values of two columns as likely as other equal ones.

    Shares of one total, or counts of one thing, are often equal: not chance, but no trigger either.

    Args:
        values: (rows, 2) of the two columns.
        others: (rows, 2) -1 where a value is common.
        asked: Rows whose pair is asked for; 0 where its values are not equal.
    """
    like = values[asked, 0] == values[asked, 1]
    expected = np.zeros(len(asked))
    if not like.any():
        return expected
    told = (others >= 0).all(axis=1)
    equal = told & (values[:, 0] == values[:, 1])
    code = values[asked[like], 0]
    known, counts = np.unique(values[told, 0], return_counts=True)
    if not len(known):
        return expected
    place = np.minimum(np.searchsorted(known, code), len(known) - 1)
    with_left = np.where(known[place] == code, counts[place], 0)
    both = np.array([np.count_nonzero(equal & (values[:, 0] == one)) for one in code])
    expected[like] = with_left * ((equal.sum() - both) / np.maximum(told.sum() - with_left, 1))
    return expected


def _agreement(places: NDArray[np.int64], but: tuple[int, int]) -> float:
    """The second highest share, over the other columns, of pairs of records that agree."""
    counts = (np.bincount(column[column >= 0]) for at, column in enumerate(places.T) if at not in but)
    found = sorted(int((count * (count - 1)).sum()) for count in counts)
    return found[-2] / max(len(places) * (len(places) - 1), 1) if len(found) > 1 else 0.0


@dataclass(frozen=True)
class PairsScorer:
    """Looks every pair of a record's values up."""

    meetings: tuple[Meeting, ...]
    names: tuple[str, ...]

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) half the square of the strongest pair's lift; 0 where none stands out."""
        best, _, _ = self._strongest(views)
        return best**2 / 2

    def explain(self, views: Views) -> list[str]:
        """The two columns, how often their values meet, and how often they would by chance."""
        best, which, place = self._strongest(views)
        said = []
        for lift, number, at in zip(best, which, place, strict=True):
            if lift <= 0:
                said.append("no two of its values meet more often than is usual")
                continue
            found = self.meetings[number]
            i, j = found.columns
            names = (self.names[i], self.names[j]) if self.names else (f"column {i + 1}", f"column {j + 1}")
            said.append(
                f"{names[0]} with {names[1]} (exact value): {found.together[at]} of the records it is judged by"
                f" have both values, by chance {found.expected[at]:.1f} would"
            )
        return said

    def _strongest(self, views: Views) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """(rows,) each: the largest lift, its meeting, and its place there."""
        values = views["values"]
        best, which, place = np.zeros(len(views)), np.zeros(len(views), dtype=np.int64), np.zeros(len(views), np.int64)
        for number, found in enumerate(self.meetings):
            codes = _joined(values[:, found.columns[0]], values[:, found.columns[1]])
            at = np.minimum(np.searchsorted(found.codes, codes), len(found.codes) - 1)
            lift = np.where(found.codes[at] == codes, found.lift[at], 0.0)
            better = lift > best
            best[better], which[better], place[better] = lift[better], number, at[better]
        return best, which, place


def _joined(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> Codes:
    """(rows,) both codes in one number."""
    return (left.astype(np.uint64) << np.uint64(32)) | right.astype(np.uint64)
