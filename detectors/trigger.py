"""Trigger mining: a feature that implies a label which nothing else about its records supports.

A backdoor needs its trigger to predict the target label. So every record is cut into tokens (a local pattern of an
image at its place, a pair of values of a table, later a word), and for every token and label the detector counts how
many of its records carry that label and how many *would* if the token meant nothing, by the votes of each record's
neighbours. Natural features imply labels too, but then the neighbours agree.

Neighbours in the batch know what is natural best, but a poison that makes up a third of a batch is its own
neighbourhood there; trusted neighbours are fewer and cannot be poisoned by the batch. So the panel runs one miner with
each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detector import Views

_UNIT = 256
"""Votes are counted in 1/256ths, as integers, so that merging is exact in any order."""


@dataclass(frozen=True)
class TokenCounts:
    """For every (token, class): records with that label, votes for it, and the votes' binomial variance.

    Attributes:
        observed: (buckets, classes) int64, in 1/256 of a record.
        expected: (buckets, classes) int64, in 1/256 of a record.
        variance: (buckets, classes) int64, in 1/256 of a squared record.
    """

    observed: NDArray[np.int64]
    expected: NDArray[np.int64]
    variance: NDArray[np.int64]
    classes: tuple[str, ...]
    names: tuple[str, ...]

    def merge(self, other: TokenCounts) -> TokenCounts:
        """Sums; exact in any order."""
        return TokenCounts(
            self.observed + other.observed,
            self.expected + other.expected,
            self.variance + other.variance,
            self.classes,
            self.names,
        )


@dataclass(frozen=True)
class TriggerMiner:
    """Residual lift of (token, label), standardised; a record scores its strongest token.

    Own method. ``z = (observed - expected) / sqrt(variance + shrink + (misfit expected)^2)`` where expected and
    variance come from the neighbours' smoothed votes. Votes are off by some share for natural features too, which over
    many records would look like certainty; ``misfit`` is the share that is not held against a token. A token in fewer
    than ``least`` records of the label counts for nothing. Tokens are hashed to ``buckets``; a collision dilutes a
    trigger's lift, it cannot invent one.
    """

    name: str = "trigger"
    buckets: int = 1 << 18
    shrink: float = 1.0
    misfit: float = 0.1
    least: int = 4
    smoothing: float = 1.0
    votes: str = "neighbour_labels"
    """The view with the voters' labels: neighbours in the batch, or ``votes`` for trusted records alone."""
    family: ClassVar[str] = "trigger"
    needs_label: ClassVar[bool] = True

    @property
    def reads(self) -> tuple[str, ...]:
        """The tokens and the votes."""
        return ("tokens", self.votes)

    def summarise(self, views: Views) -> TokenCounts:
        """Count every token of every record with a known label."""
        from scipy.sparse import csr_array

        classes = np.arange(len(views.classes))
        tokens = _slots(views["tokens"], self.buckets)
        rows, wide = tokens.shape
        # (buckets, rows): how often each record has each token.
        carried = csr_array(
            (np.ones(tokens.size, dtype=np.int64), tokens.ravel(), np.arange(rows + 1, dtype=np.int64) * wide),
            shape=(rows, self.buckets),
        ).T
        share = _votes(views, self.votes, self.smoothing)
        known = (views.labels != UNKNOWN_LABEL)[:, None]
        own = _UNIT * (views.labels[:, None] == classes)
        observed, expected, variance = (
            np.asarray(carried @ (np.rint(weight) * known).astype(np.int64))
            for weight in (own, _UNIT * share, _UNIT * share * (1 - share))
        )
        return TokenCounts(observed, expected, variance, views.classes, views.names.get("tokens", ()))

    def finish(self, summary: TokenCounts) -> TriggerScorer:
        """Standardise the residual lifts."""
        observed, expected = summary.observed / _UNIT, summary.expected / _UNIT
        z = (observed - expected) / np.sqrt(summary.variance / _UNIT + self.shrink + (self.misfit * expected) ** 2)
        z[observed < self.least] = 0.0
        z[0] = 0.0  # where a record has no further token
        counts = observed.astype(np.float32), expected.astype(np.float32)
        return TriggerScorer(z.astype(np.float32), *counts, summary.classes, summary.names, self.votes, self.smoothing)


@dataclass(frozen=True)
class TriggerScorer:
    """Looks every token of a record up under the record's label."""

    z: NDArray[np.float32]
    observed: NDArray[np.float32]
    expected: NDArray[np.float32]
    classes: tuple[str, ...]
    names: tuple[str, ...]
    votes: str
    smoothing: float

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) half the square of the largest standardised lift, times the share of votes against the label.

        Half the square is minus the logarithm of a normal tail, up to smaller terms: a tail that can be extrapolated.
        The votes are the counterfactual: what the record would be labelled but for the token. NaN for an unknown label.
        """
        best, _ = self._strongest(views)
        share = _votes(views, self.votes, self.smoothing)[np.arange(len(views)), np.maximum(views.labels, 0)]
        return np.where(views.labels == UNKNOWN_LABEL, np.nan, best**2 / 2 * (1.0 - share))

    def explain(self, views: Views) -> list[str]:
        """The token, how many records carry it with this label and would by chance, and the label but for it."""
        every = _slots(views["tokens"], len(self.z))
        lifts = self.z[every, np.maximum(views.labels, 0)[:, None]]
        # Of tokens that tell as much the last: an exact value comes after the range that it is in.
        position = lifts.shape[1] - 1 - lifts[:, ::-1].argmax(axis=1)
        slots, strongest = every[np.arange(len(views)), position], lifts.max(axis=1)
        said = []
        for row, (slot, place, label) in enumerate(zip(slots, position, views.labels, strict=True)):
            name = self.names[place] if self.names else "something in it"
            words = views.words[row].get(int(views["tokens"][row, place])) if views.words else None
            if label == UNKNOWN_LABEL:
                said.append("its label was never seen")
                continue
            if strongest[row] <= 0:
                said.append("nothing in it goes with its label more often than its neighbours explain")
                continue
            shared = "that share what it has there" if words is None else f"that also say {words!r}"
            said.append(
                f"{name}: of the records {shared}, {self.observed[slot, label]:.0f} are labelled "
                f"{self.classes[label]!r}; by their neighbours {self.expected[slot, label]:.0f} would be"
                + self._without(views[self.votes][row], int(label))
            )
        return said

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

    def _strongest(self, views: Views) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        slots = _slots(views["tokens"], len(self.z))
        lifts = self.z[slots, np.maximum(views.labels, 0)[:, None]]
        position = lifts.argmax(axis=1)
        return np.maximum(lifts[np.arange(len(views)), position], 0.0).astype(np.float64), position


def _slots(tokens: NDArray[np.uint32], buckets: int) -> NDArray[np.uint32]:
    """(rows, tokens) bucket of each token hash; ``buckets`` is a power of two."""
    return tokens & np.uint32(buckets - 1)


def _votes(views: Views, view: str, smoothing: float) -> NDArray[np.float64]:
    """(rows, classes) smoothed share of neighbours per class."""
    neighbours = views[view]
    classes = len(views.classes)
    votes = np.full((len(views), classes), smoothing / classes)
    for column in neighbours.T:
        known = np.flatnonzero(column != UNKNOWN_LABEL)
        votes[known, column[known]] += 1.0
    return np.asarray(votes / votes.sum(axis=1, keepdims=True), dtype=np.float64)
