"""What the columns of some files hold: the types every value fits, ranges, distinct values; in one streaming pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.contract import Column, ColumnType
from lazaretto.pipelines.canonical import convert
from lazaretto.pipelines.fits import Fits
from lazaretto.pipelines.read_csv import CsvReader
from lazaretto.pipelines.readers import readers_of
from lazaretto.pipelines.repeats import Repeats
from lazaretto.pipelines.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lazaretto.pipelines.chunks import Chunk
    from lazaretto.records import Batch

MOST_VALUES = 1_000
"""Distinct values remembered of a column; with more it has many."""
_FEWEST_KNOWN = 20
_HARDLY_ANY = 0.95
"""Distinct values per value from which on hardly any repeats."""
_TEXT = Column(type="text")


@dataclass
class Seen:
    """What one column held."""

    name: str
    fits: Fits = field(default_factory=Fits)
    values: dict[str, int] | None = field(default_factory=dict)
    """How often each distinct value, as text, was there; None when they are many or no text stands for them."""
    spread: Spread = field(default_factory=Spread)
    longest: int = 0
    characters: int = 0
    """Of the longest value, and of all together."""
    repeats: Repeats | None = None
    """Follows whether values repeat, where the column may be an id."""

    @property
    def count(self) -> int:
        """Records."""
        return self.fits.count

    @property
    def type(self) -> ColumnType | None:
        """The narrowest type that fits every value, or all but some dirt; None where none can hold the column."""
        best = self.fits.best
        return best.kind if best else None

    @property
    def nulls(self) -> int:
        """Missing values, read as `type`."""
        best = self.fits.best
        return best.missing if best else self.count

    @property
    def hardly_repeats(self) -> bool:
        """Whether (almost) every record has a value of its own, as a name or an id would be."""
        return self.count - self.nulls >= _FEWEST_KNOWN and self.spread.distinct_share >= _HARDLY_ANY

    def add(self, raw: tuple[pl.Series, ...], *, written: bool) -> None:
        """Take in the values of some more records.

        Args:
            raw: The column as a reader gives it.
            written: Whether text may stand for numbers and truth values, as in CSV.
        """
        first = self.count
        self.fits.add(raw, written=written)
        if not self.fits.by["text"].possible:
            self.values = None
            return
        one_of_text = len(raw) == 1 and raw[0].dtype == pl.String
        texts = raw[0] if one_of_text else convert(raw, self.name, _TEXT).values
        known = texts.drop_nulls()
        if not len(known):
            return
        if self.repeats is not None:
            rows = np.arange(first, self.count, dtype=np.uint64)
            self.repeats.add(known, rows[texts.is_not_null().to_numpy()])
        self.spread.add(known)
        self._count_values(known)
        lengths = known.str.len_chars().to_numpy()
        self.longest = max(self.longest, int(lengths.max()))
        self.characters += int(lengths.sum())

    def _count_values(self, known: pl.Series) -> None:
        if self.values is None:
            return
        distinct, counts = known.rename("value").value_counts(name="times").get_columns()
        if len(distinct) <= MOST_VALUES:
            for value, times in zip(distinct.to_list(), counts.to_list(), strict=True):
                self.values[value] = self.values.get(value, 0) + times
        if max(len(distinct), len(self.values)) > MOST_VALUES:
            self.values = None


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
                columns[name].fits.absent(records)
            for name, seen in columns.items():
                if name in loaded.columns and name not in reader.unusable:
                    seen.add(loaded.columns[name], written=isinstance(reader, CsvReader))
                else:
                    seen.fits.absent(loaded.offsets.size)
            records += loaded.offsets.size
        unusable |= reader.unusable
    return Profile(columns, unusable, records, faulty)


def _new(chunk: Chunk, columns: dict[str, Seen]) -> list[str]:
    return [name for name in chunk.names if name not in columns]
