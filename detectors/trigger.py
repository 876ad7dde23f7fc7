"""Trigger mining: a feature that implies a label which nothing else about its records supports.

A backdoor needs its trigger to predict the target label. So every record is cut into tokens (a local pattern of an
image at its place, a wave in its phase, a pair of values of a table, a word), and for every token and label the
detector counts how many of its records carry that label and how many *would* if the token meant nothing, by the votes
of each record's neighbours. Natural features imply labels too, but then the neighbours agree. Where the trigger moves
every label on to the next, no label is implied: so it is counted as well how many of a token's records have a label
against the votes.

Poisons may be each other's neighbours, for they share the trigger, and would vote for each other. So a pattern of an
image is judged by neighbours found in the half of the image that it is not in, and a short wave by those found by the
long ones: what the record would be labelled were the token not there. Trusted neighbours are fewer and cannot be
poisoned by the batch; the panel runs one miner with each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    from lazaretto.detector import Views

_UNIT = 256
"""Votes are counted in 1/256ths, as integers, so that merging is exact in any order."""

_CELLS = 1 << 22
"""Buckets times classes, at most."""
_AT_ONCE = 4_096
"""Records whose tokens are looked up at the same time: memory grows with them."""
_TURNS = (np.uint32(0x9E3779B1), np.uint32(0x85EBCA77))
"""Odd factors of the further hashes by which a token's records are counted once more."""
_OWN = 0.5
"""Share of a bucket's records that must be a token's own for the bucket to speak for it."""


@dataclass(frozen=True)
class TokenCounts:
    """For every (token, class): records with that label, votes for it, and the votes' binomial variance.

    Attributes:
        observed: (buckets, classes) int64, in 1/256 of a record.
        expected: (buckets, classes) int64, in 1/256 of a record.
        variance: (buckets, classes) int64, in 1/256 of a squared record.
        against: (buckets,) int64, votes against the labels of the token's records, in 1/256 of a record.
        usual: (judges, 2, classes) int64, votes against a label over all tokens of a judge, and tokens, both in 1/256.
        judged: (buckets, judges) int64, how many of the token's records each judge votes on: all one, but for
            collisions.
        again: (hashes, buckets) int64, how many records the token has by each further hash.
    """

    observed: NDArray[np.int64]
    expected: NDArray[np.int64]
    variance: NDArray[np.int64]
    against: NDArray[np.int64]
    usual: NDArray[np.int64]
    judged: NDArray[np.int64]
    again: NDArray[np.int64]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    judges: tuple[str, ...]

    def merge(self, other: TokenCounts) -> TokenCounts:
        """Sums; exact in any order."""
        return TokenCounts(
            self.observed + other.observed,
            self.expected + other.expected,
            self.variance + other.variance,
            self.against + other.against,
            self.usual + other.usual,
            self.judged + other.judged,
            self.again + other.again,
            self.classes,
            self.names,
            self.judges,
        )


@dataclass(frozen=True)
class TriggerMiner:
    """Residual lift of (token, label), standardised; a record scores its strongest token.

    Own method. ``z = (observed - expected) / sqrt(variance + shrink + (misfit expected)^2)`` where expected and
    variance come from the neighbours' smoothed votes. Votes are off by some share for natural features too, which over
    many records would look like certainty; ``misfit`` is the share that is not held against a token. A token in fewer
    than ``least`` records of the label counts for nothing. Tokens are hashed to ``buckets``. A token that shares its
    bucket with a trigger would have its lift: so records are counted by further hashes too, the least of these counts
    is near a token's own (Cormode and Muthukrishnan 2005), and one that has not half of its bucket's records counts for
    nothing. A token's lift whatever the label is that of the votes against the labels of
    its records over what is usual for these labels, standardised alike with ``misfit_against``: what is usual of all
    tokens is known better than what the votes on one say.
    """

    name: str = "trigger"
    buckets: int = 1 << 20
    """Of more than four classes fewer, so that the counts of all of them stay within 32 MiB each."""
    shrink: float = 1.0
    misfit: float = 0.3
    misfit_against: float = 0.1
    least: int = 4
    smoothing: float = 1.0
    tokens: str = "tokens"
    """The view with the tokens: ``tokens``, or ``waves``."""
    votes: str = "neighbour_labels"
    """The view with the voters' labels: neighbours in the batch, or ``votes`` for trusted records alone."""
    family: ClassVar[str] = "trigger"
    needs_label: ClassVar[bool] = True
    tail: ClassVar[str] = "crowded"

    @property
    def reads(self) -> tuple[str, ...]:
        """The tokens and the votes."""
        return (self.tokens, self.votes)

    def summarise(self, views: Views) -> TokenCounts:
        """Count every token of every record with a known label."""
        classes = len(views.classes)
        buckets = min(self.buckets, 1 << int(np.log2(max(_CELLS // max(classes, 1), 1))))
        judges = _judges(views, self.votes, self.tokens)
        observed, expected, variance = (np.zeros((buckets, classes), dtype=np.int64) for _ in range(3))
        kinds = sorted(set(judges))
        against, usual = np.zeros(buckets, dtype=np.int64), np.zeros((len(kinds), 2, classes), dtype=np.int64)
        judged = np.zeros((buckets, len(kinds)), dtype=np.int64)
        again = np.zeros((len(_TURNS), buckets), dtype=np.int64)
        known = views.labels != UNKNOWN_LABEL
        for place, turn in enumerate(_TURNS):
            again[place] = np.bincount(_turned(views[self.tokens][known], turn, buckets).ravel(), minlength=buckets)
        own = known[:, None] & (views.labels[:, None] == np.arange(classes))
        for place, judge in enumerate(kinds):
            mine = np.array([name == judge for name in judges], dtype=np.bool_)
            carried = _carried(_slots(views[self.tokens][:, mine], buckets), buckets)
            share = _votes(views, judge, self.smoothing) * known[:, None]
            other = np.rint(_UNIT * (own * (1 - share)).sum(axis=1)).astype(np.int64)
            observed += carried @ (_UNIT * own.astype(np.int64))
            expected += carried @ np.rint(_UNIT * share).astype(np.int64)
            variance += carried @ np.rint(_UNIT * share * (1 - share)).astype(np.int64)
            against += carried @ other
            usual[place] = int(mine.sum()) * np.stack([other @ own, _UNIT * own.sum(axis=0)])
            judged[:, place] = carried @ known.astype(np.int64)
        names = views.names.get(self.tokens, ())
        return TokenCounts(observed, expected, variance, against, usual, judged, again, views.classes, names, judges)

    def finish(self, summary: TokenCounts) -> TriggerScorer:
        """Standardise the residual lifts."""
        observed, expected = summary.observed / _UNIT, summary.expected / _UNIT
        z = (observed - expected) / np.sqrt(summary.variance / _UNIT + self.shrink + (self.misfit * expected) ** 2)
        z[observed < self.least] = 0.0
        usual = summary.usual[:, 0] / np.maximum(summary.usual[:, 1], 1)
        share = summary.judged / np.maximum(summary.judged.sum(axis=1, keepdims=True), 1)
        against = summary.against / _UNIT
        would, varies = ((share * (observed @ per_label.T)).sum(axis=1) for per_label in (usual, usual * (1 - usual)))
        error = np.sqrt(varies + self.shrink + (self.misfit_against * would) ** 2)
        doubt = np.where(observed.sum(axis=1) < self.least, 0.0, (against - would) / error)
        z[0] = doubt[0] = 0.0  # where a record has no further token
        return TriggerScorer(
            z.astype(np.float32),
            doubt.astype(np.float32),
            observed.astype(np.float32),
            expected.astype(np.float32),
            against.astype(np.float32),
            would.astype(np.float32),
            summary.judged.sum(axis=1),
            summary.again,
            summary.classes,
            summary.names,
            summary.judges,
            self.votes,
            self.tokens,
            self.smoothing,
        )


@dataclass(frozen=True)
class TriggerScorer:
    """Looks every token of a record up under the record's label."""

    z: NDArray[np.float32]
    """(buckets, classes)."""
    doubt: NDArray[np.float32]
    """(buckets,) the lift of votes against whatever the labels are."""
    observed: NDArray[np.float32]
    expected: NDArray[np.float32]
    against: NDArray[np.float32]
    would: NDArray[np.float32]
    """(buckets,) what ``against`` is usual for such labels."""
    total: NDArray[np.int64]
    """(buckets,) records."""
    again: NDArray[np.int64]
    """(hashes, buckets) records by further hashes."""
    classes: tuple[str, ...]
    names: tuple[str, ...]
    judges: tuple[str, ...]
    votes: str
    tokens: str
    smoothing: float

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) the largest of half the square of a token's lift, times the share of its votes against the label.

        Half the square is minus the logarithm of a normal tail, up to smaller terms: a tail that can be extrapolated.
        The votes are the counterfactual: what the record would be labelled but for the token. NaN for an unknown label.
        """
        best = np.zeros(len(views))
        shares = self._against(views)
        for start in range(0, len(views), _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, len(views)))
            told = self._told(views, shares, rows, owned=False)
            # A token's bucket is looked into only where the token would be the strongest.
            while told.size:
                every = np.arange(len(rows))
                place = told.argmax(axis=1)
                tokens = views[self.tokens][rows, place]
                sure = (told[every, place] <= 0) | self._owned(tokens, _slots(tokens, len(self.z)))
                best[rows[sure]] = told[every, place][sure]
                told[every, place] = 0.0
                rows, told = rows[~sure], told[~sure]
        return np.where(views.labels == UNKNOWN_LABEL, np.nan, best)

    def explain(self, views: Views) -> list[str]:
        """The token, how many records carry it with this label and would by chance, and the label but for it."""
        told = self._told(views, self._against(views), np.arange(len(views)))
        # Of tokens that tell as much the last: an exact value comes after the range that it is in.
        position = told.shape[1] - 1 - told[:, ::-1].argmax(axis=1)
        slots = _slots(views[self.tokens], len(self.z))[np.arange(len(views)), position]
        said = []
        for row, (slot, place, label) in enumerate(zip(slots, position, views.labels, strict=True)):
            name = self.names[place] if self.names else "something in it"
            words = views.words[row].get(int(views[self.tokens][row, place])) if views.words else None
            if label == UNKNOWN_LABEL:
                said.append("its label is not known here")
                continue
            if told[row, place] <= 0:
                said.append("nothing in it goes with its label more often than its neighbours explain")
                continue
            shared = "that have the same there" if words is None else f"that also say {words!r}"
            if self.doubt[slot] > self.z[slot, label]:
                counted = (
                    f"about {self.against[slot]:.0f} have a label that their neighbours do not, "
                    f"and {self.would[slot]:.0f} usually would"
                )
            else:
                counted = (
                    f"about {self.observed[slot, label]:.0f} are labelled {self.classes[label]!r}; by their neighbours "
                    f"{self.expected[slot, label]:.0f} would be"
                )
            voters = views[_judges(views, self.votes, self.tokens)[place]][row]
            said.append(
                f"{name}: of the records it is judged by {shared}, {counted}" + self._without(voters, int(label))
            )
        return said

    def tells(self, views: Views) -> list[NDArray[np.int64]]:
        """For each record the columns of the tokens that tell at least half as much as the strongest."""
        told = self._told(views, self._against(views), np.arange(len(views)))
        return [np.flatnonzero((row > 0) & (row >= row.max(initial=0.0) / 2)) for row in told]

    def _without(self, voters: NDArray[np.int64], label: int) -> str:
        """What the record would be labelled but for the token, by the votes that its score counts."""
        known = voters[voters != UNKNOWN_LABEL]
        if not len(known):
            return ""
        kind = "nearest trusted records" if self.votes == "votes" else "nearest records"
        counts = np.bincount(known, minlength=len(self.classes))
        top, most = int(counts.argmax()), f"of its {len(known)} {kind}"
        if counts[label] == counts[top]:
            return f"; without it, it might be {self.classes[label]!r} all the same: {counts[label]} {most} are"
        return f"; without it, it would be {self.classes[top]!r}: {counts[top]} {most} are"

    def _against(self, views: Views) -> dict[str, NDArray[np.float64]]:
        """Judge -> (rows,) the share of its votes against the record's label."""
        labels, rows = np.maximum(views.labels, 0), np.arange(len(views))
        judges = sorted(set(_judges(views, self.votes, self.tokens)))
        return {judge: 1.0 - _votes(views, judge, self.smoothing)[rows, labels] for judge in judges}

    def _told(
        self,
        views: Views,
        shares: Mapping[str, NDArray[np.float64]],
        rows: NDArray[np.int64],
        *,
        owned: bool = True,
    ) -> NDArray[np.float64]:
        """(rows, tokens) half the square of each token's lift, times the share of its votes against the label.

        Args:
            views: Of the records.
            shares: What `_against` says of them.
            rows: Which of them.
            owned: Whether tokens whose bucket is mostly another's tell nothing.
        """
        tokens = views[self.tokens][rows]
        slots = _slots(tokens, len(self.z))
        labels = np.maximum(views.labels[rows], 0)
        lifts = np.maximum(self.z[slots, labels[:, None]], self.doubt[slots])
        told: NDArray[np.float64] = np.maximum(lifts, 0.0).astype(np.float64) ** 2 / 2
        judges = np.array(_judges(views, self.votes, self.tokens))
        for judge, share in shares.items():
            told[:, judges == judge] *= share[rows, None]
        if owned:
            found = np.nonzero(told)
            told[found] *= self._owned(tokens[found], slots[found])
        return told

    def _owned(self, tokens: NDArray[np.uint32], slots: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """(tokens,) whether most records of the bucket may be the token's own."""
        least = np.min(
            [counts[_turned(tokens, t, len(self.z))] for t, counts in zip(_TURNS, self.again, strict=True)], axis=0
        )
        return np.asarray(least >= _OWN * self.total[slots], dtype=np.bool_)


def _judges(views: Views, votes: str, tokens: str) -> tuple[str, ...]:
    """The view of votes for each token; trusted voters judge all alike, for the batch has no hold on them."""
    named: tuple[str, ...] = views.names.get("judges", ())
    if votes == "neighbour_labels" and named and set(named) <= set(views.arrays):
        return tuple(named)
    return (votes,) * int(views[tokens].shape[1])


def _carried(slots: NDArray[np.uint32], buckets: int) -> csr_array:
    """(buckets, rows): how often each record has each token."""
    from scipy.sparse import csr_array

    rows, wide = slots.shape
    ones, ends = np.ones(slots.size, dtype=np.int64), np.arange(rows + 1, dtype=np.int64) * wide
    return csr_array((ones, slots.ravel(), ends), shape=(rows, buckets)).T


def _slots(tokens: NDArray[np.uint32], buckets: int) -> NDArray[np.uint32]:
    """(rows, tokens) bucket of each token hash; ``buckets`` is a power of two."""
    return tokens & np.uint32(buckets - 1)


def _turned(tokens: NDArray[np.uint32], turn: np.uint32, buckets: int) -> NDArray[np.uint32]:
    """The same shape: bucket of each token by a further hash, the upper bits of a product."""
    with np.errstate(over="ignore"):
        return np.asarray((tokens * turn) >> np.uint32(32 - (buckets.bit_length() - 1)), dtype=np.uint32)


def _votes(views: Views, view: str, smoothing: float) -> NDArray[np.float64]:
    """(rows, classes) smoothed share of neighbours per class."""
    neighbours = views[view]
    classes = len(views.classes)
    votes = np.full((len(views), classes), smoothing / classes)
    for column in neighbours.T:
        known = np.flatnonzero(column != UNKNOWN_LABEL)
        votes[known, column[known]] += 1.0
    return np.asarray(votes / votes.sum(axis=1, keepdims=True), dtype=np.float64)
