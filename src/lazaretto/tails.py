"""p-values of one score: counted where the fitted scores can be believed, extrapolated above."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SMALLEST_P = 1e-12
"""p-value of a score beyond anything the tail can say, and of a score that is not finite."""

_GROUPS = 0.3
"""Groups as odd as the oddest that a clean batch is taken to have, in records."""
_EXPONENTS = (0.5, 2.5)
_FEWEST = 20
_BEYOND = 4
"""Clean scores left above the start of the extrapolation: the largest few say too little of what lies beyond them."""

CONTAMINATED = (0.75, 0.90)
"""Levels a tail is fitted through when a tenth of the scores may be poison."""
HEAVY = (0.90, 0.97)
"""Levels that show a tail which grows heavy late, as natural oddities do; a few percent of poison move them."""
CROWDED = (0.85, 0.94)
"""Levels that show something of such a tail where a twentieth of the scores may be one attack."""
CLEAN = (0.90, 0.98)
"""Levels a tail is fitted through when the scores are of trusted records."""


@dataclass(frozen=True)
class Tail:
    """p-values of one score: counted where the fitted scores can be believed, extrapolated above.

    The shape of the extrapolation comes from three quantiles, so that what lies beyond the last cannot move it:
    ``p ~ exp(-((score - median) / scale) ** exponent)``, a stretched exponential, exact for an exponential tail
    (exponent 1), near for a normal one (about 1.3), following heavier ones (below 1). Maximum likelihood would read
    the poison itself as the tail. It starts at the median when the scores may hold poison, and at the fifth largest
    when they are clean: a small group of odd but sound records is then as rare as it was counted to be, and no rarer.
    """

    body: Floats
    """(m,) ascending: the fitted scores up to where the extrapolation starts."""
    count: int
    """Scores fitted on, the ones above ``body`` included."""
    median: float
    scale: float
    exponent: float

    @classmethod
    def fit(
        cls, scores: Floats, levels: tuple[float, float] = CONTAMINATED, least_exponent: float = _EXPONENTS[0]
    ) -> Tail:
        """Fit on ``scores`` (rows,), of which only the finite ones count.

        Args:
            scores: (rows,).
            levels: Quantiles the shape comes from.
            least_exponent: 1 for scores that are by construction minus the logarithm of a tail.

        Raises:
            ValueError: If fewer than 20 scores are finite.
        """
        finite = np.sort(scores[np.isfinite(scores)])
        if len(finite) < _FEWEST:
            raise ValueError(f"a tail needs at least {_FEWEST} finite scores")
        median = float(np.median(finite))
        near, far = np.quantile(finite, levels) - median
        # Ties may leave no spread at all; then anything above the median is as far out as the numbers can tell.
        least = 1e-9 * max(1.0, abs(median))
        far = max(float(far), least)
        near = min(max(float(near), 1e-3 * far), (1 - 1e-3) * far)
        first, second = (-np.log(2 * (1 - level)) for level in levels)
        exponent = float(np.clip(np.log(second / first) / np.log(far / near), least_exponent, _EXPONENTS[1]))
        kept = len(finite) - _BEYOND if levels == CLEAN else (len(finite) + 1) // 2
        return cls(finite[:kept], len(finite), median, far / float(second) ** (1 / exponent), exponent)

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) probabilities of a score at least as high, in [`SMALLEST_P`, 1]; not finite gives the smallest."""
        start = self.body[-1]
        counted = (1.0 + self.count - np.searchsorted(self.body, scores, side="left")) / (self.count + 1.0)
        at_start = (1.0 + self.count - np.searchsorted(self.body, start, side="left")) / (self.count + 1.0)
        with np.errstate(invalid="ignore", over="ignore"):
            # Of scores below the start the difference is positive, and after ties so large that its exponential is not
            # a number; they are counted.
            beyond = np.exp(np.minimum(self._depth(start) - self._depth(scores), 0.0))
        p = np.where(scores > start, at_start * beyond, counted)
        clipped: Floats = np.where(np.isfinite(scores) & np.isfinite(p), np.clip(p, SMALLEST_P, 1.0), SMALLEST_P)
        return clipped

    def _depth(self, scores: Floats) -> Floats:
        return np.asarray(np.maximum((scores - self.median) / self.scale, 0.0) ** self.exponent, dtype=np.float64)


class HasTail(Protocol):
    """Anything that turns scores into p-values."""

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) probabilities of a score at least as high."""
        ...


@dataclass(frozen=True)
class WideTail:
    """The larger of several tails' p-values: what only one way to extrapolate finds rare is not called rare."""

    tails: tuple[HasTail, ...]

    @classmethod
    def fit(cls, scores: Floats, least_exponent: float = _EXPONENTS[0], late: tuple[float, float] = HEAVY) -> WideTail:
        """Fit through `CONTAMINATED` and through ``late`` levels."""
        return cls(tuple(Tail.fit(scores, levels, least_exponent) for levels in (CONTAMINATED, late)))

    def bounded(self) -> WideTail:
        """The same for scores that grow like minus the logarithm of a tail: no score is rarer than it says itself.

        Where nine in ten scores are 0, nothing else says how fast the others fall.
        """
        return WideTail((*self.tails, KnownTail()))

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) probabilities of a score at least as high."""
        return np.asarray(np.max([tail.p_value(scores) for tail in self.tails], axis=0), dtype=np.float64)


@dataclass(frozen=True)
class KnownTail:
    """Of scores that are minus the natural logarithm of a probability by themselves: nothing is fitted."""

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) exp(-score); not finite gives the smallest."""
        p = np.exp(-np.clip(scores, 0.0, 100.0))
        return np.where(np.isfinite(scores), np.maximum(p, SMALLEST_P), SMALLEST_P)


ONE_IN = 1e-3
"""p-value that even odds of being poison count as: about how often a clean record has them."""


@dataclass(frozen=True)
class OddsTail:
    """Of scores that are the natural logarithm of the odds that a record is poison: nothing is fitted."""

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) a thousandth over the odds, at most 1; not finite gives the smallest."""
        p = ONE_IN * np.exp(-np.clip(scores, -100.0, 100.0))
        return np.where(np.isfinite(scores), np.clip(p, SMALLEST_P, 1.0), SMALLEST_P)


@dataclass(frozen=True)
class GroupTail:
    """Of what several records have in common: no rarer than a third of a record in all that were fitted on.

    Nature makes groups, too, as a dozen drawings of one series. One batch cannot say how rare they are, and a tail that
    is extrapolated calls them one in a million millions, by which they outdo every attack. A record that is odd alone
    is no such detector's business.
    """

    tail: HasTail
    least: float

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) probabilities of a score at least as high, not below ``least``; not finite gives the smallest."""
        return np.where(np.isfinite(scores), np.maximum(self.tail.p_value(scores), self.least), SMALLEST_P)


@dataclass(frozen=True)
class FlooredTail:
    """Of scores of which most are the least one, as of records that a detector does not look at: the rest's own tail.

    Quantiles that lie on the floor say nothing of how fast the others fall: every score above would be called one in a
    million millions. Where hardly any lie above, they are as rare as they were counted to be, or a group (`GroupTail`).
    """

    floor: float
    share: float
    """Of the fitted scores, above the floor."""
    tail: HasTail | None
    least: float

    @classmethod
    def fit(cls, scores: Floats) -> FlooredTail | None:
        """Fit on ``scores`` (rows,); None where what lies on the floor leaves the quantiles of `CONTAMINATED` free."""
        finite = scores[np.isfinite(scores)]
        if len(finite) < _FEWEST or np.quantile(finite, CONTAMINATED[0]) > finite.min():
            return None
        floor = float(finite.min())
        above = finite[finite > floor]
        tail = Tail.fit(above) if len(above) >= _FEWEST else None
        return cls(floor, max(len(above), 1) / len(finite), tail, _GROUPS / len(finite))

    def p_value(self, scores: Floats) -> Floats:
        """(rows,) probabilities of a score at least as high; 1 on the floor, not finite gives the smallest."""
        above = np.full(len(scores), self.least) if self.tail is None else self.share * self.tail.p_value(scores)
        p = np.where(scores > self.floor, np.maximum(above, SMALLEST_P), 1.0)
        return np.where(np.isfinite(scores), p, SMALLEST_P)


def fitted_tail(scores: Floats, kind: str) -> HasTail:
    """The tail of scores that may hold poison, or, of kind ``clean``, of trusted records' scores.

    Args:
        scores: (rows,).
        kind: A detector's ``tail``: ``narrow`` where many poisons at once must not be taken for the tail itself, as
            with a class shifted by one pattern; ``group`` where besides only several records together can have a high
            score (`GroupTail`); ``light`` where it is besides no heavier than an exponential, as of cosines in many
            dimensions; ``crowded`` where they may be a twentieth, as with a trigger; ``odds``
            where scores are the logarithm of odds; ``log`` where they grow like minus the logarithm of a tail;
            ``heavy`` where they never fall faster than that, and most are 0; ``known`` where they are just that;
            ``wide`` for all else.
    """
    if kind in ("known", "odds"):
        return KnownTail() if kind == "known" else OddsTail()
    if kind in ("clean", "narrow"):
        floored = FlooredTail.fit(scores) if kind == "narrow" else None
        return floored or Tail.fit(scores, CLEAN if kind == "clean" else CONTAMINATED)
    if kind in ("group", "light"):
        tail = Tail.fit(scores, CONTAMINATED, 1.0 if kind == "light" else _EXPONENTS[0])
        return GroupTail(tail, _GROUPS / tail.count)
    if kind == "crowded":
        return WideTail.fit(scores, late=CROWDED)
    if kind == "heavy":
        return WideTail.fit(scores).bounded()
    return WideTail.fit(scores, 1.0 if kind == "log" else _EXPONENTS[0])
