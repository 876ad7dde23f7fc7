"""The range a contract should allow, from the range that was seen: an honest next batch has values beyond it."""

from __future__ import annotations

import sys
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import NamedTuple

_INT64 = 2**63
_TENTH = Decimal("0.1")
_HALF = 0.5
_PLAIN = 1e15
"""From here on a number is easier to read with an exponent."""
_DIGITS = Context(prec=60, Emin=-9999, Emax=9999)
"""Exact for whole numbers of 64 bits, and no float overflows in it."""


class Range(NamedTuple):
    """Bounds, and what to say about them."""

    low: float
    high: float
    note: str


def widened(low: float, high: float, *, whole: bool) -> Range:
    """Bounds around the least and greatest value seen.

    A tenth of the span is added on each side, rounded outward to a number a person can read; where only one value was
    seen, a tenth of that. Zero is not crossed: values that were never negative stay so. What fills more than half of 0
    to 1 is a share or a flag and keeps these bounds.

    Args:
        low: Least value seen, finite.
        high: Greatest value seen, finite.
        whole: Whether the column is one of whole numbers.
    """
    seen = f"seen {_shown(low)} to {_shown(high)}" if low != high else f"only {_shown(low)} was seen"
    if _is_share(low, high):
        return Range(0, 1, seen) if whole else Range(0.0, 1.0, seen)
    least, most = Decimal(repr(low)), Decimal(repr(high))
    margin = _DIGITS.multiply(_TENTH, _DIGITS.subtract(most, least) or abs(most))
    unit = Decimal(1).scaleb(0 if whole and margin < 1 else margin.adjusted())
    lower = _outward(_DIGITS.subtract(least, margin), unit, ROUND_FLOOR)
    upper = _outward(_DIGITS.add(most, margin), unit, ROUND_CEILING)
    lower, upper = (max(lower, Decimal(0)) if low >= 0 else lower), (min(upper, Decimal(0)) if high <= 0 else upper)
    note = f"{seen}; widened by a tenth"
    if whole:
        return Range(max(int(lower), -_INT64), min(int(upper), _INT64 - 1), note)
    largest = sys.float_info.max
    # Rounding to a float must not cut off the very values that were seen.
    return Range(min(max(float(lower), -largest), low), max(min(float(upper), largest), high), note)


def _is_share(low: float, high: float) -> bool:
    """Whether 0 to 1 is the natural range of what was seen."""
    return low >= 0 and (_HALF <= high <= 1 or low == high == 0)


def _outward(value: Decimal, unit: Decimal, rounding: str) -> Decimal:
    """The next multiple of a unit, a power of ten."""
    steps = _DIGITS.divide(value, unit).to_integral_value(rounding, _DIGITS)
    return _DIGITS.multiply(steps, unit)


def _shown(value: float) -> str:
    whole = isinstance(value, int) or (value == int(value) and abs(value) < _PLAIN)
    return f"{int(value):,}" if whole else f"{value:.6g}"
