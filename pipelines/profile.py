"""What the columns of some files hold: the types every value fits, ranges, distinct values; in one streaming pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.contract import Column, ColumnType
from lazaretto.pipelines.canonical import convert
from lazaretto.pipelines.images import most_pixels
from lazaretto.pipelines.read_csv import CsvReader
from lazaretto.pipelines.readers import readers_of
from lazaretto.pipelines.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lazaretto.pipelines.chunks import Chunk
    from lazaretto.records import Batch

MOST_VALUES = 1_000
"""Distinct values remembered of a column; with more it has many."""
_ANY_SIZE = 10**9
_TYPES: tuple[ColumnType, ...] = ("boolean", "integer", "number", "timestamp", "vector", "image", "text")
"""The narrowest first."""
_CODE = r"^[+-]?0[0-9]"
"""007 is a code, not a number: it would lose its zeros."""
_DIGITS = r"^[+-]?[0-9]+$"


@dataclass
class Seen:
    """What one column held."""

    name: str
    fits: list[ColumnType] = field(default_factory=lambda: list(_TYPES))
    """Types every value so far converts to; none where no type can hold the column."""
    count: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    """Missing values, by type: for a number NaN is one too."""
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    """Least and greatest value, by type."""
    values: set[str] | None = field(default_factory=set)
    """Distinct values as text, or None when they are many or no text stands for them."""
    longest: int = 0
    characters: int = 0
    """Of the longest value, and of all together."""
    dimensions: int = 0
    pixels: int = 0
    """Of the largest image."""
    repeats: Repeats | None = None
    """Follows whether values repeat, where the column may be an id."""

    @property
    def type(self) -> ColumnType | None:
        """The narrowest type that fits every value."""
        return self.fits[0] if self.fits else None

    @property
    def nulls(self) -> int:
        """Missing values, read as `type`."""
        return self.missing.get(self.fits[0], 0) if self.fits else self.count

    def absent(self, rows: int) -> None:
        """Take in records that do not have the column at all."""
        self.count += rows
        for kind in self.fits:
            self.missing[kind] = self.missing.get(kind, 0) + rows

    def add(self, raw: tuple[pl.Series, ...], *, written: bool) -> None:
        """Take in the values of some more records.

        Args:
            raw: The column as a reader gives it.
            written: Whether text may stand for numbers and truth values, as in CSV.
        """
        rows = np.arange(self.count, self.count + len(raw[0]), dtype=np.uint64)
        self.count += rows.size
        allowed = set(_TYPES).intersection(*(_allowed(series, written=written) for series in raw))
        self.fits = [kind for kind in self.fits if kind in allowed and self._fit(kind, raw)]
        if "text" not in allowed:
            self.values = None
            return
        texts = convert(raw, self.name, Column(type="text")).values
        known = texts.drop_nulls()
        if self.repeats is not None:
            self.repeats.add(known, rows[texts.is_not_null().to_numpy()])
        if self.values is not None:
            self.values.update(known.unique().to_list())
            self.values = self.values if len(self.values) <= MOST_VALUES else None
        lengths = known.str.len_chars()
        self.longest = max(self.longest, *lengths.to_list()) if len(lengths) else self.longest
        self.characters += int(lengths.sum())

    def _fit(self, kind: ColumnType, raw: tuple[pl.Series, ...]) -> bool:
        if kind == "vector" and not self.dimensions:
            self.dimensions = _dimensions(raw)
        found = convert(raw, self.name, self._column(kind))
        values = found.values.drop_nulls()
        self.missing[kind] = self.missing.get(kind, 0) + len(found.values) - len(values) - len(found.faults)
        if kind == "image":
            # One damaged image among others does not make the column something else.
            self.pixels = max(self.pixels, most_pixels(values.to_list()))
            return bool(self.pixels) or not found.faults
        if kind in {"integer", "number"} and len(values):
            numbers = values.to_numpy()
            self.low[kind] = min(self.low.get(kind, np.inf), numbers.min().item())
            self.high[kind] = max(self.high.get(kind, -np.inf), numbers.max().item())
        return not found.faults

    def _column(self, kind: ColumnType) -> Column:
        if kind == "vector":
            return Column(type=kind, dimensions=self.dimensions or 1)
        return Column(type=kind, max_pixels=_ANY_SIZE) if kind == "image" else Column(type=kind)


@dataclass(frozen=True)
class Profile:
    """All columns of a batch, and how much could not be read."""

    columns: dict[str, Seen]
    unusable: dict[str, str]
    """Column -> its type in the file, which no contract has a word for."""
    records: int
    faulty: int
    """Records that could not be taken apart."""


def profile(batch: Batch, scratch: Path, may_be_id: Callable[[str], bool]) -> Profile:
    """Look at every record of a batch, in bounded memory.

    Args:
        batch: The snapshot.
        scratch: Folder for scratch files.
        may_be_id: Whether a column of that name may be an id, so that its repeats are worth following.

    Raises:
        InputRefused: A file cannot be taken apart.
    """
    columns: dict[str, Seen] = {}
    unusable: dict[str, str] = {}
    records = faulty = 0
    for reader in readers_of(batch, None):
        for chunk in reader.chunks():
            loaded = chunk.load()
            faulty += len(loaded.faults)
            for name in _new(chunk, columns):
                repeats = Repeats(scratch / f"repeats-{len(columns)}") if may_be_id(name) else None
                columns[name] = Seen(name, repeats=repeats)
                columns[name].absent(records)
            for name, seen in columns.items():
                if name in loaded.columns and name not in reader.unusable:
                    seen.add(loaded.columns[name], written=isinstance(reader, CsvReader))
                else:
                    seen.absent(loaded.offsets.size)
            records += loaded.offsets.size
        unusable |= reader.unusable
    return Profile(columns, unusable, records, faulty)


def _new(chunk: Chunk, columns: dict[str, Seen]) -> list[str]:
    return [name for name in chunk.names if name not in columns]


_HELD: tuple[tuple[Callable[[pl.DataType], bool], set[ColumnType]], ...] = (
    (lambda dtype: dtype == pl.Null, set(_TYPES)),
    (lambda dtype: dtype == pl.String, {"timestamp", "text"}),
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


def _allowed(series: pl.Series, *, written: bool) -> set[ColumnType]:
    nothing: set[ColumnType] = set()
    found = next((kinds for holds, kinds in _HELD if holds(series.dtype)), nothing)
    return found | _read_as(series.drop_nulls()) if written and series.dtype == pl.String else found


def _read_as(known: pl.Series) -> set[ColumnType]:
    """What text in a CSV may stand for beside itself."""
    found: set[ColumnType] = {"boolean", "vector"}
    if not known.str.contains(_CODE).any():
        found.add("number")
        # A program that means whole numbers writes no point behind them.
        if known.str.contains(_DIGITS).all():
            found.add("integer")
    return found


def _dimensions(raw: tuple[pl.Series, ...]) -> int:
    """Length of the first vector there is, or 0."""
    for series in raw:
        known = series.drop_nulls()
        if len(known):
            first = known[0]
            return first.count(",") + 1 if isinstance(first, str) else len(first)
    return 0
