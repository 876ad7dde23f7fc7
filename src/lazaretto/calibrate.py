"""From scores to p-values: robust tails per detector (`lazaretto.tails`), one fusion, one calibration, BH q-values.

The order matters. Scores are standardised detector by detector, fused once by a rule that survives correlated
detectors, and only the fused score is calibrated: combining p-values that were calibrated one by one is invalid
under correlation, fuse-then-conformalise is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lazaretto.tails import ONE_IN, SMALLEST_P

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]


class Fusion(Protocol):
    """How much each detector's p-value adds to a record's suspicion."""

    def shares(self, p_values: Floats, labels: Labels | None = None) -> Floats:
        """(rows, detectors) non-negative contributions; the largest is what drove the record.

        Args:
            p_values: (rows, detectors).
            labels: (rows,) classes of the records, negative for none; none has one where nothing is given.
        """
        ...


def fuse(shares: Floats) -> Floats:
    """Fused suspicion of each record: log10 of the sum of the detectors' shares.

    A weighted harmonic mean of p-values (Wilson 2019) turned upside down: it is led by the smallest p-value, so no
    detector drowns another, and is robust to correlation between detectors. Its own level is not used as a p-value:
    the fused score is calibrated once.

    Args:
        shares: (rows, detectors) from a `Fusion`.

    Returns:
        (rows,) scores; higher is more suspicious.
    """
    return np.asarray(np.log10(shares.sum(axis=1)), dtype=np.float64)


@dataclass(frozen=True)
class Weights:
    """One weight per detector, for tails that are only estimated."""

    weights: Floats
    """(detectors,), non-negative, summing to 1."""
    by_class: Floats | None = None
    """(classes, detectors) the same in each class, where that differs."""

    def shares(self, p_values: Floats, labels: Labels | None = None) -> Floats:
        """(rows, detectors) weight over p-value."""
        if self.by_class is None or labels is None:
            return np.asarray(self.weights / p_values, dtype=np.float64)
        here = np.where((labels >= 0)[:, None], self.by_class[np.maximum(labels, 0)], self.weights)
        return np.asarray(here / p_values, dtype=np.float64)


_EVER = 3e-4
"""Share of a batch that a detector is always believed to be able to point at: a rare poison leaves no excess."""


@dataclass(frozen=True)
class Excess:
    """How much more often the batch has so small a p-value than trusted records do, detector by detector.

    The idea of AdaDetect (Marandon et al. 2024): the most powerful score is the density ratio of batch to reference.
    Here one ratio of tails per detector, in place of a classifier over all of them. The batch's records are those of
    *other* folds than the ones to be judged, so the ratio is part of the fitted state.
    """

    seen: tuple[Floats, ...]
    """Per detector the batch's p-values, ascending."""

    @classmethod
    def of(cls, batch: Floats) -> Excess:
        """From the batch's (rows, detectors) p-values."""
        return cls(tuple(np.sort(column) for column in batch.T))

    def shares(self, p_values: Floats, labels: Labels | None = None) -> Floats:  # noqa: ARG002  one protocol for all
        """(rows, detectors) share of the batch at or below the p-value, at least `_EVER`, over the p-value."""
        found = np.empty_like(p_values)
        for column, seen in enumerate(self.seen):
            found[:, column] = np.searchsorted(seen, p_values[:, column], side="right") / len(seen)
        return np.asarray(np.maximum(found, _EVER) / p_values / len(self.seen), dtype=np.float64)


_CONSENSUS_CAP = 4.0


def consensus(p_values: Floats) -> Floats:
    """How much the detectors agree: mean of minus log10 p, each kept at most 4 (Fisher's sum, bounded).

    A record that is somewhat odd to everyone is missed by the smallest p-value alone. The sum's own distribution
    depends on how the detectors correlate, so it gets a `Tail` like any score.

    Args:
        p_values: (rows, detectors).

    Returns:
        (rows,) scores; higher is more suspicious.
    """
    return np.asarray(np.minimum(-np.log10(p_values), _CONSENSUS_CAP).mean(axis=1), dtype=np.float64)


_MISFIT = 3.0
"""How far above its level an estimated tail may lie on clean records before the surplus counts as excess."""
_UNSURE = 0.002
"""Share of records by which far tails may differ for reasons of their own, rare but sound records among them."""


_PRIOR = 3e-4
"""Share of the records that a detector is taken to be right about before anything is seen: an attack that is not in the
other folds must not be ignored."""


def weigh(batch: Floats, priors: Sequence[float] | None = None, odds: Sequence[bool] | None = None) -> Weights:
    """Weights for `fuse` without a trusted set: a detector with more small p-values than chance has counts for more.

    Of p-values that stand for odds (`OddsTail`) the probabilities add up to how many records the detector itself takes
    for poison, most of which it may not be able to point at.

    The excess is measured on records of *other* folds than the ones to be judged, so the weights are part of the
    fitted state.

    Args:
        batch: (rows, detectors) p-values of records that may be poisoned.
        priors: (detectors,) how much more often each is taken to be right before anything is seen; 1 by default.
        odds: (detectors,) whose p-values stand for odds; none by default.
    """
    prior = _PRIOR * np.ones(batch.shape[1]) * (1.0 if priors is None else np.asarray(priors, dtype=np.float64))
    excess = _excess(batch)
    if odds is not None:
        said = np.where(batch < 1.0, ONE_IN / batch, 0.0)
        excess = np.maximum(excess, np.where(odds, (said / (1.0 + said)).mean(axis=0), 0.0))
    return Weights((prior + excess) / (prior + excess).sum())


_CLASSES, _OF_A_CLASS = 5, 60
"""Fewer classes than this, or fewer records of one, say nothing of what a class has to itself."""
_HERE = 3.0
"""How much more excess in its own class counts than excess anywhere."""


def weigh_by_class(overall: Weights, batch: Floats, labels: Labels, classes: int, asked: NDArray[np.bool_]) -> Weights:
    """The weights, and in each class more for a detector that has an excess there.

    An attack aims at one class of many: what is a tenth of the class is a hundredth of the batch, and lost among the
    records that are as odd by chance.

    Args:
        overall: From `weigh`.
        batch: (rows, detectors) the same p-values.
        labels: (rows,) of the same records, negative for none.
        classes: How many there are.
        asked: (detectors,) which may have more: those that compare a record with its class.
    """
    if classes < _CLASSES:
        return overall
    more = np.zeros((classes, batch.shape[1]))
    for label in range(classes):
        here = batch[labels == label]
        if len(here) >= _OF_A_CLASS:
            more[label] = np.where(asked, _HERE * _excess(here), 0.0)
    mixed = overall.weights + more
    return Weights(overall.weights, mixed / mixed.sum(axis=1, keepdims=True))


def _excess(batch: Floats) -> Floats:
    """(detectors,) share of (rows, detectors) p-values above what is to be expected of small ones, at least 0."""
    excess = np.zeros(batch.shape[1])
    for level in (1e-2, 1e-3, 1e-4):
        expected = _MISFIT * level
        noise = 3 * np.sqrt(expected / len(batch)) + _UNSURE
        excess = np.maximum(excess, (batch <= level).mean(axis=0) - expected - noise)
    return excess


@dataclass(frozen=True)
class TrustedNull:
    """Split-conformal p-values from a held-out calibration set (Vovk et al. 2005; Bates et al. 2023).

    Exact when the batch's clean records and the calibration records are exchangeable.
    """

    calibration: Floats
    """(records,) fused scores of the calibration set, ascending."""

    kind = "trusted"

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) values (1 + #{calibration >= score}) / (records + 1)."""
        above = len(self.calibration) - np.searchsorted(self.calibration, scores, side="left")
        p = np.asarray((1.0 + above) / (len(self.calibration) + 1.0), dtype=np.float64)
        return np.where(np.isfinite(scores), p, 1.0 / (len(self.calibration) + 1.0))


@dataclass(frozen=True)
class PerClassNull:
    """Label-conditional conformal p-values: a record is compared with calibration records of its own label alone.

    The Mondrian predictor of Vovk, Gammerman and Shafer (2005, section 4.5), studied by Vovk (2013): the rate holds
    within every class, where over all classes together an odd class may pay for the others. Departure: classes with
    fewer than ``fewest`` calibration records, in which no p-value could be small enough for anything to wait, are one
    group, joined by the smallest of the others until it has as many. The rate holds in such a group as a whole.
    """

    groups: tuple[TrustedNull, ...]
    members: tuple[tuple[int, ...], ...]
    """Per group the classes in it."""
    everyone: TrustedNull
    """For records of no class, which are in no group."""

    kind = "trusted"

    @classmethod
    def of(cls, scores: Floats, labels: Labels, classes: int, fewest: int) -> PerClassNull:
        """From the calibration records' fused scores and classes, both (records,); a negative class is none."""
        counts = np.bincount(labels[labels >= 0], minlength=classes)
        order = np.argsort(counts, kind="stable").tolist()
        joined = [number for number in order if counts[number] < fewest]
        alone = order[len(joined) :]
        while joined and alone and counts[joined].sum() < fewest:
            joined.append(alone.pop(0))
        members = [(number,) for number in sorted(alone)] + ([tuple(sorted(joined))] if joined else [])
        nulls = tuple(TrustedNull(np.sort(scores[np.isin(labels, group)])) for group in members)
        return cls(nulls, tuple(members), TrustedNull(np.sort(scores)))

    def p_value(self, scores: Floats, labels: Labels) -> Floats:
        """(rows,) p-values of records with these scores and classes, each counted in its own group."""
        p = self.everyone.p_value(scores)
        for group, null in zip(self.members, self.groups, strict=True):
            mine = np.isin(labels, group)
            p[mine] = null.p_value(scores[mine])
        return p


_OFF = 3.0
"""How many times more clean records than the detectors' tails say were beyond them in development, at most."""


@dataclass(frozen=True)
class EstimatedNull:
    """p-values without a trusted set: the weighted harmonic mean of the detectors' own, made larger; reported as such.

    The harmonic mean of p-values (Wilson 2019) holds about its level however they depend on each other where they are
    small. What it is a mean of are extrapolated tails and estimated odds, hence the factor. No quantile of the fused
    scores is looked at: what most records have says nothing of the tail where one detector leads all others.
    """

    kind = "estimated"

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) estimated p-values of (rows,) fused scores; not finite gives the smallest."""
        p = _OFF * 10.0 ** -np.clip(scores, 0.0, -np.log10(SMALLEST_P))
        return np.where(np.isfinite(scores), np.minimum(p, 1.0), SMALLEST_P)


Null = TrustedNull | PerClassNull | EstimatedNull


@dataclass
class PValueCounts:
    """How many records have which p-value: all that Benjamini-Hochberg needs, in bounded memory.

    p-values are rounded up to four significant digits first, so that there are at most about 10^5 levels whatever the
    number of records; a q-value can only grow by that, by less than 0.1 %.
    """

    levels: Floats = field(default_factory=lambda: np.zeros(0))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def add(self, p_values: Floats) -> None:
        """Count the finite ones of ``p_values`` (rows,)."""
        levels = np.concatenate([self.levels, _rounded_up(p_values[np.isfinite(p_values)])])
        counts = np.concatenate([self.counts, np.ones(len(levels) - len(self.counts), dtype=np.int64)])
        self.levels, inverse = np.unique(levels, return_inverse=True)
        self.counts = np.bincount(inverse, weights=counts, minlength=len(self.levels)).astype(np.int64)

    def q_values(self, p_values: Floats) -> Floats:
        """(rows,) Benjamini-Hochberg q-values: the FDR at which each record would be among the discoveries.

        NaN p-values (rejected records) stay NaN and do not count.
        """
        if not len(self.levels):
            return np.full(len(p_values), np.nan)
        raw = self.levels * self.counts.sum() / np.cumsum(self.counts)
        by_level = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0)
        place = np.searchsorted(self.levels, _rounded_up(np.nan_to_num(p_values, nan=1.0)))
        q = by_level[np.minimum(place, len(by_level) - 1)]
        return np.where(np.isfinite(p_values), q, np.nan)


def _rounded_up(p_values: Floats) -> Floats:
    unit = 10.0 ** (np.floor(np.log10(np.maximum(p_values, SMALLEST_P))) - 3)
    return np.minimum(np.ceil(p_values / unit - 1e-9) * unit, 1.0)
