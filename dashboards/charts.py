"""Geometry of the report's charts: numbers in, coordinates out; the templates draw them as plain SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

BINS = 40
"""Bins of the p-value histogram."""

_WIDTH, _HEIGHT = 640.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 4.0, 26.0, 24.0
_GAP = 2.0
_CROWDED = 1.25
_FEWEST_TICKS, _MOST_TICKS = 2, 5
_LEAST_SHARE = 0.01
"""Share of suspects that the chart of the nights reaches up to at least."""
_FEWEST_NIGHTS = 10
"""With fewer nights the bars get no wider."""
_DECADES = 12.0
"""A bar of evidence is full at p = 1e-12, the smallest there is."""


@dataclass(frozen=True)
class Bar:
    """One bar, in the chart's own units, and what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    says: str
    strong: bool = False


@dataclass(frozen=True)
class Tick:
    """A labelled line across the chart."""

    y: float
    text: str


@dataclass(frozen=True)
class Histogram:
    """p-values of a batch and the flat line that clean data would give."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    flat: float
    """Height of the flat line, as a y coordinate."""


def histogram(counts: Sequence[int]) -> Histogram | None:
    """Lay out a histogram of p-values over [0, 1].

    Args:
        counts: Records per bin, from p = 0 upwards.

    Returns:
        None where there is no record at all.
    """
    total = sum(counts)
    if not total:
        return None
    expected = total / len(counts)
    top = max(*counts, expected) * 1.05
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def y(count: float) -> float:
        return round(_TOP + inner_height * (1 - count / top), 1)

    step = inner_width / len(counts)
    # Only a run of full bins from p = 0 is a sign of poison; elsewhere bins differ as the calibration set is small.
    crowded = next((i for i, count in enumerate(counts) if count <= _CROWDED * expected), len(counts))
    bars = tuple(
        Bar(
            x=round(_LEFT + i * step + _GAP / 2, 1),
            y=y(count),
            width=round(step - _GAP, 1),
            height=round(_HEIGHT - _BOTTOM - y(count), 1),
            says=f"p {i / len(counts):.3g} to {(i + 1) / len(counts):.3g}: {count:,} records, {expected:,.0f} expected",
            strong=i < crowded,
        )
        for i, count in enumerate(counts)
    )
    ticks = tuple(Tick(y(value), f"{value:,}") for value in _round_values(top))
    return Histogram(_WIDTH, _HEIGHT, _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, bars, ticks, y(expected))


def nights_chart(nights: Sequence[Mapping[str, Any]], unusual: float) -> Histogram | None:
    """Lay out the share of suspects of each batch, oldest first; the flat line is their share over all of them.

    Args:
        nights: As `lazaretto.pipelines.trend` gives them.
        unusual: Chance of so many suspects at or under which a batch stands out.

    Returns:
        None where there is no batch.
    """
    if not nights:
        return None
    judged = sum(one["arrived"] - one["rejected"] for one in nights)
    usual = sum(one["suspects"] for one in nights) / judged if judged else 0.0
    top: float = max(*(one["share"] for one in nights), usual, _LEAST_SHARE) * 1.05
    height, inner = _HEIGHT - _TOP - _BOTTOM, _WIDTH - _LEFT - _RIGHT
    step = inner / max(len(nights), _FEWEST_NIGHTS)

    def y(share: float) -> float:
        return round(_TOP + height * (1 - share / top), 1)

    bars = tuple(
        Bar(
            x=round(_LEFT + i * step + _GAP / 2, 1),
            y=y(one["share"]),
            width=round(step - _GAP, 1),
            height=round(_HEIGHT - _BOTTOM - y(one["share"]), 1),
            says=f"{one['batch']}: {one['suspects']:,} suspects of {one['arrived'] - one['rejected']:,} judged",
            strong=one["unusual"] is not None and one["unusual"] < unusual,
        )
        for i, one in enumerate(nights)
    )
    ticks = tuple(Tick(y(value), f"{100 * value:.2g} %") for value in (top / 2.1, top / 1.05))
    return Histogram(_WIDTH, _HEIGHT, _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM, bars, ticks, y(usual))


def evidence_length(p_value: float) -> float:
    """How far a bar of evidence reaches, 0 to 100: the p-value's decades. Full at 1e-12, and where there is no p."""
    if not math.isfinite(p_value) or p_value <= 0:
        return 100.0
    return round(min(100.0, max(0.0, -math.log10(p_value)) / _DECADES * 100), 1)


def share_of(part: float, whole: float) -> float:
    """A part of a whole in per cent, 0 where the whole is nothing."""
    return round(100 * part / whole, 2) if whole else 0.0


def _round_values(top: float) -> list[int]:
    """Up to five round numbers up to `top`, for the axis."""
    decade = 10 ** math.floor(math.log10(max(top, 1)))
    step = next((decade // part for part in (1, 2, 5) if top * part >= _FEWEST_TICKS * decade), 1)
    step = max(1, step)
    values = list(range(step, int(top) + 1, step))
    return values if len(values) <= _MOST_TICKS else values[1::2]
