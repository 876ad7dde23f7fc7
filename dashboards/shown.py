"""Values as a person reads them: numbers in short, hostile text made harmless and visible, personal data withheld."""

from __future__ import annotations

import datetime as dt
import math
import unicodedata
from typing import Any

MOST_CHARS = 300
"""A longer text is cut; its length is said."""

_FEW = 10
"""Numbers under this are shown with decimals."""

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def text(value: str, most: int = MOST_CHARS) -> str:
    """Text with every control, invisible or direction-changing character written out as its code.

    Escaping for HTML is the template's work; this is about what HTML lets through: text that reads backwards, hides
    characters, or is a megabyte long.
    """
    cut = value[:most]
    seen = "".join(f"\\u{{{ord(c):x}}}" if unicodedata.category(c) in _INVISIBLE else c for c in cut)
    return seen if len(value) <= most else f"{seen}… ({len(value):,} characters)"


def cell(value: Any) -> str:  # noqa: ANN401  a cell holds what its column holds
    """A cell of a record in words."""
    match value:
        case None:
            words = "missing"
        case bool():
            words = "yes" if value else "no"
        case float():
            words = f"{value:.6g}"
        case bytes():
            words = f"{len(value):,} bytes"
        case list():
            words = f"{len(value)} numbers"
        case dt.datetime():
            words = value.isoformat(sep=" ")
        case _:
            words = text(str(value))
    return words


def count(value: float) -> str:
    """1234.0 -> 1,234; under ten one decimal where it says something, so that an expected 0.4 is not 0."""
    return f"{value:,.0f}" if value >= _FEW or value == round(value) else f"{value:.1f}"


def percent(share: float) -> str:
    """0.0123 -> 1.2 %: two digits, so that a small share is not nothing."""
    value = 100 * share
    return f"{value:.0f} %" if value >= _FEW else f"{value:.2g} %"


def probability(p: float | None) -> str:
    """0.000123 -> 0.00012 and 0.0000123 -> 1.2e-05; a dash where there is none."""
    return "-" if p is None or not math.isfinite(p) else f"{p:.2g}"


def seconds(value: float) -> str:
    """12.34 -> 12 s, 1.234 -> 1.23 s."""
    return f"{value:.0f} s" if value >= _FEW else f"{value:.2f} s"


class Pseudonyms:
    """Stand-ins for personal data within one report: equal values read the same, and nothing can be computed back."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], int] = {}
        self._counts: dict[str, int] = {}

    def of(self, column: str, value: Any) -> str:  # noqa: ANN401  a cell holds what its column holds
        """``withheld 3`` for the third distinct value of a column, by order of appearance."""
        if value is None:
            return "missing"
        key = (column, repr(value))
        if key not in self._known:
            self._counts[column] = self._counts.get(column, 0) + 1
            self._known[key] = self._counts[column]
        return f"withheld {self._known[key]}"
