"""From scores to p-values: robust tails per detector, one fusion, one calibration, BH q-values.

The order matters. Scores are standardised detector by detector, fused once by a rule that survives correlated
detectors, and only the fused score is calibrated: combining p-values that were calibrated one by one is invalid
under correlation, fuse-then-conformalise is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SMALLEST_P = 1e-12
"""p-value of a score beyond anything the tail can say, and of a score that is not finite."""

_GRID = 257
_EXPONENTS = (0.5, 2.5)
_FEWEST = 20

CONTAMINATED = (0.75, 0.90)
"""Levels a tail is fitted through when a tenth of the scores may be poison."""
CLEAN = (0.90, 0.98)
"""Levels a tail is fitted through when the scores are of trusted records."""


@dataclass(frozen=True)
class Tail:
    """The upper tail of one score, from three quantiles, so that what lies beyond the last cannot move it.

    Up to the median the p-value is empirical. Above, ``-log(2 p) = ((score - median) / scale) ** exponent``: a
    stretched exponential through the two levels given, which is exact for an exponential tail (exponent 1), near for
    a normal one (about 1.3) and follows heavier ones (below 1). Maximum likelihood would read the poison itself as
    the tail.
    """

    grid: Floats
    """(257,) quantiles of the score at equally spaced levels in [0, 0.5]."""
    scale: float
    exponent: float

    @classmethod
    def fit(cls, scores: Floats, levels: tuple[float, float] = CONTAMINATED) -> Tail:
        """Fit on ``scores`` (rows,), of which only the finite ones count.

        Raises:
            ValueError: If fewer than 20 scores are finite.
        """
        finite = scores[np.isfinite(scores)]
        if len(finite) < _FEWEST:
            raise ValueError(f"a tail needs at least {_FEWEST} finite scores")
        grid = np.quantile(finite, np.linspace(0.0, 0.5, _GRID))
        near, far = np.quantile(finite, levels) - grid[-1]
        # Ties may leave no spread at all; then anything above the median is as far out as the numbers can tell.
        least = 1e-9 * max(1.0, abs(float(grid[-1])))
        far = max(float(far), least)
        near = min(max(float(near), 1e-3 * far), (1 - 1e-3) * far)
        first, second = (-np.log(2 * (1 - level)) for level in levels)
        exponent = float(np.clip(np.log(second / first) / np.log(far / near), *_EXPONENTS))
        return cls(grid, far / float(second) ** (1 / exponent), exponent)

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) probabilities of a score at least as high, in [`SMALLEST_P`, 1]; not finite gives the smallest."""
        median = self.grid[-1]
        with np.errstate(invalid="ignore"):
            excess = np.maximum(scores - median, 0.0) / self.scale
            tail = 0.5 * np.exp(-(excess**self.exponent))
            body = 1.0 - 0.5 * np.searchsorted(self.grid, scores, side="left") / _GRID
            p = np.where(scores > median, tail, np.maximum(body, 0.5))
        clipped: Floats = np.where(np.isfinite(scores), np.clip(p, SMALLEST_P, 1.0), SMALLEST_P)
        return clipped


def fuse(p_values: Floats, weights: Floats) -> Floats:
    """Fused suspicion of each record: minus log10 of the weighted harmonic mean of its p-values.

    The harmonic mean (Wilson 2019) is led by the smallest p-value, so no detector drowns another, and is robust to
    correlation between detectors. Its own level is not used as a p-value: the fused score is calibrated once.

    Args:
        p_values: (rows, detectors), finite, in (0, 1].
        weights: (detectors,), non-negative, summing to 1.

    Returns:
        (rows,) scores in [0, 12]; higher is more suspicious.
    """
    return np.asarray(np.log10((weights / p_values).sum(axis=1)), dtype=np.float64)


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


def weigh(batch: Floats, reference: Floats | None, floor: float = 0.5) -> Floats:
    """Weights for `fuse`: a detector whose small p-values are in excess in this batch counts for more.

    The excess is measured on records of *other* folds than the ones to be judged, so the weights are part of the
    fitted state (the idea of AdaDetect, Marandon et al. 2024, with a weight per detector in place of a classifier).

    Args:
        batch: (rows, detectors) p-values of records that may be poisoned.
        reference: (rows, detectors) p-values of trusted records, or None: then uniform p-values are expected.
        floor: Share of the weight spread equally, so that an attack not seen in the other folds is not ignored.

    Returns:
        (detectors,) weights summing to 1.
    """
    excess = np.zeros(batch.shape[1])
    for level in (1e-2, 1e-3, 1e-4):
        seen = (batch <= level).mean(axis=0)
        expected = (
            np.full_like(seen, _MISFIT * level)
            if reference is None
            else np.maximum((reference <= level).mean(axis=0), level)
        )
        noise = 3 * np.sqrt(expected / len(batch)) + _UNSURE
        if reference is not None:
            noise += 3 * np.sqrt(expected / len(reference)) + 2 / len(reference)
        excess = np.maximum(excess, seen - expected - noise)
    equal = np.full(batch.shape[1], 1 / batch.shape[1])
    total = excess.sum()
    return equal if total <= 0 else floor * equal + (1 - floor) * excess / total


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
class EstimatedNull:
    """p-values from the robust tail of the batch's own fused scores: an estimate, and reported as one.

    Assumes that fewer than a tenth of the records are poisoned and that clean scores have a Pareto-like tail.
    """

    tail: Tail

    kind = "estimated"

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) estimated p-values."""
        return self.tail.p_value(scores)


Null = TrustedNull | EstimatedNull


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
