"""Which types the values of a column fit: all of them, or all but a few that are dirt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.contract import Column, ColumnType
from lazaretto.pipelines.canonical import convert
from lazaretto.pipelines.images import most_pixels
from lazaretto.pipelines.timestamps import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TYPES: tuple[ColumnType, ...] = ("boolean", "integer", "number", "timestamp", "vector", "image", "text")
"""The narrowest first."""
TOLERANT: tuple[ColumnType, ...] = ("boolean", "integer", "number", "timestamp")
"""Types that a column of text may have although a few of its values are none; of the others every value must be one."""
DIRT = 0.05
"""Largest share of the values that may be dirt; more of them are no slips, and the column is text."""
FEWEST_FITTING = 20
"""Values that must fit before the others are called dirt: of fewer nobody can say what is usual."""
_PATIENCE = 100
"""Values looked at before a type that most of them do not fit is given up."""
_ANY_SIZE = 10**9
_CODE = r"^[+-]?0[0-9]"
"""007 is a code, not a number: it would lose its zeros."""
_DIGITS = r"^[+-]?[0-9]+$"
_LOOKS = {"boolean": "(?i)^(true|false)$", "timestamp": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}", "vector": r"^\s*\["}
"""What text of a type begins like. Cheap, and never false where a conversion would succeed."""


@dataclass
class Fit:
    """How well one type fits a column."""

    kind: ColumnType
    missing: int = 0
    """Missing values as this type has it: for a number NaN is one too."""
    against: int = 0
    """Values that speak against the type: they do not convert, or are written as no program of that type writes."""
    rejected: int = 0
    """Values that do not convert, so that a contract with this type rejects their records."""
    example: str = ""
    """The first of them."""
    low: float = np.inf
    high: float = -np.inf
    """Of the values that convert, where they are numbers."""
    pixels: int = 0
    """Of the largest image."""
    possible: bool = True

    @property
    def fits(self) -> bool:
        """Whether every value fits; one damaged image among others does not make the column something else."""
        return self.possible and not self.against and (self.kind != "image" or bool(self.pixels) or not self.rejected)

    def add(self, known: pl.Series, likely: int, dimensions: int) -> None:
        """Take in values without nulls, ``likely`` of which may be of the type by their looks."""
        values, faults = _converted(known, self.kind, dimensions)
        self.missing += len(known) - len(values) - len(faults)
        self.rejected += len(faults)
        if faults and not self.example:
            self.example = str(readable(known, min(faults)))
        self.against += max(len(known) - likely, 0 if self.kind == "image" else len(faults))
        if self.kind == "image":
            self.pixels = max(self.pixels, most_pixels(values.to_list()))
        elif self.kind in {"integer", "number"} and len(values):
            numbers = values.to_numpy()
            self.low, self.high = min(self.low, numbers.min().item()), max(self.high, numbers.max().item())
        if self.kind not in TOLERANT and not self.fits:
            self.possible = False


@dataclass
class Fits:
    """How well every type fits a column."""

    count: int = 0
    nulls: int = 0
    """Records without a value, whatever the type."""
    dimensions: int = 0
    by: dict[ColumnType, Fit] = field(default_factory=lambda: {kind: Fit(kind) for kind in TYPES})

    @property
    def best(self) -> Fit | None:
        """The narrowest type that fits every value; else, before text, the one that fits all but some dirt."""
        whole = next((fit for fit in self.by.values() if fit.fits), None)
        if whole is not None and whole.kind != "text":
            return whole
        return min(filter(self._but_for_dirt, self.by.values()), key=lambda fit: fit.against, default=whole)

    def absent(self, rows: int) -> None:
        """Take in records that do not have the column at all."""
        self.count += rows
        self.nulls += rows
        for fit in self.by.values():
            fit.missing += rows

    def add(self, raw: tuple[pl.Series, ...], *, written: bool) -> None:
        """Take in the values of some more records; see `lazaretto.pipelines.profile.Seen.add`."""
        parts = [series.drop_nulls() for series in raw]
        absent = len(raw[0]) - sum(map(len, parts))
        self.count += len(raw[0])
        self.nulls += absent
        for fit in self.by.values():
            fit.missing += absent
        for known in parts:
            if len(known):
                self._add(known, written=written)

    def _add(self, known: pl.Series, *, written: bool) -> None:
        if known.dtype == pl.String and known.str.contains(_CODE).any():
            self.by["integer"].possible = self.by["number"].possible = False
        likely = _likely(known, written=written)
        for fit in self.by.values():
            if not fit.possible:
                continue
            against = fit.against + len(known) - likely.get(fit.kind, 0)
            if against and fit.kind not in TOLERANT:
                fit.possible = False
            elif against > max(_PATIENCE, (self.count - self.nulls) / 2):
                # Before anything is converted: of a column of text that would be most of the work.
                fit.possible = False
            else:
                if fit.kind == "vector" and not self.dimensions:
                    self.dimensions = _dimensions(known)
                fit.add(known, likely.get(fit.kind, 0), self.dimensions)

    def _but_for_dirt(self, fit: Fit) -> bool:
        known = self.count - fit.missing
        fitting = known - fit.against
        return (
            fit.possible and fit.kind in TOLERANT and fitting >= FEWEST_FITTING and fit.against <= DIRT * max(known, 1)
        )


_HELD: tuple[tuple[Callable[[pl.DataType], bool], set[ColumnType]], ...] = (
    (lambda dtype: dtype == pl.Null, set(TYPES)),
    (lambda dtype: dtype == pl.String, {"text"}),
    (lambda dtype: dtype == pl.Binary, {"image", "text"}),
    (lambda dtype: dtype == pl.Boolean, {"boolean", "text"}),
    (lambda dtype: dtype == pl.Date or isinstance(dtype, pl.Datetime), {"timestamp"}),
    (lambda dtype: isinstance(dtype, pl.Struct), {"image"}),
    (lambda dtype: isinstance(dtype, (pl.List, pl.Array)), {"vector"}),
    (lambda dtype: dtype.is_integer(), {"integer", "number", "text"}),
    (lambda dtype: dtype.is_decimal(), {"number"}),
    (lambda dtype: dtype.is_float(), {"number", "text"}),
)
"""The types a column may have, by how the file holds it; whether the values fit is seen later."""


def _likely(known: pl.Series, *, written: bool) -> Mapping[ColumnType, int]:
    """How many values may be of each type, by how the file holds them or how they look."""
    nothing: set[ColumnType] = set()
    held = next((kinds for holds, kinds in _HELD if holds(known.dtype)), nothing)
    found: dict[ColumnType, int] = dict.fromkeys(held, len(known))
    if known.dtype != pl.String:
        return found
    text = pl.col("text")
    signs = {"timestamp": text.str.contains(_LOOKS["timestamp"]).sum()}
    if written:
        signs |= {kind: text.str.contains(_LOOKS[kind]).sum() for kind in ("boolean", "vector")}
        # A program that means whole numbers writes no point behind them.
        signs["integer"] = text.str.contains(_DIGITS).sum()
        signs["number"] = text.cast(pl.Float64, strict=False).is_not_null().sum()
    counts = known.to_frame("text").select(**signs).row(0, named=True)
    found.update((kind, counts[kind]) for kind in TYPES if kind in counts)
    return found


_PLAIN: dict[str, Column] = {kind: Column(type=kind) for kind in TYPES if kind not in {"vector", "image"}}
_PLAIN["image"] = Column(type="image", max_pixels=_ANY_SIZE, transparent=True)
_AS_IT_IS = {"text": pl.String, "boolean": pl.Boolean, "integer": pl.Int64}
"""What is canonical already: a file of thousands of columns is read in seconds because this is not converted."""


def _converted(known: pl.Series, kind: ColumnType, dimensions: int) -> tuple[pl.Series, Mapping[int, str]]:
    """The values that convert, without nulls, and why others do not."""
    nothing: dict[int, str] = {}
    held = known.dtype
    if held == _AS_IT_IS.get(kind) or (kind == "number" and held == pl.Int64):
        return known, nothing
    column = Column(type="vector", dimensions=dimensions or 1) if kind == "vector" else _PLAIN[kind]
    found = convert((known,), "", column)
    return found.values.drop_nulls(), found.faults


def _dimensions(known: pl.Series) -> int:
    """Length of the first vector."""
    first = known[0]
    return first.count(",") + 1 if isinstance(first, str) else len(first)
