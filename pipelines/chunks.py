"""What a reader hands on: some records in a row, taken apart but not yet converted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import polars as pl

from lazaretto.errors import InputRefused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""A longer record in a text file refuses the file; bounds memory."""
MOST_COLUMNS = 100_000
"""A file with more is refused: no data set has so many, and each costs memory for every piece that is read."""

Columns = Mapping[str, tuple[pl.Series, ...]]
"""Contract columns that are present: several series where one column mixes types (JSON lines)."""


@dataclass(frozen=True)
class Loaded:
    """The records of a chunk that could be taken apart, and why the others could not."""

    columns: Columns
    """Each series has one value for each of ``offsets``."""
    offsets: NDArray[np.int64]
    """Position in the chunk of each record in ``columns``, ascending (records,)."""
    faults: Mapping[int, str] = field(default_factory=dict)
    """Position in the chunk -> what is wrong; with ``offsets`` every record exactly once."""


@dataclass(frozen=True)
class Chunk:
    """Records in a row. Nothing is parsed until ``load`` is called, so that originals can be fetched cheaply."""

    count: int
    names: Collection[str]
    """All columns the file has here, the contract's or not."""
    load: Callable[[], Loaded]
    originals: Callable[[Sequence[int]], list[bytes]]
    """The bytes that came, for ascending positions in the chunk; to be called before the next chunk is taken."""
    places: Callable[[int], str]
    """Where in the file a record lies, for a person: ``line 17``; empty where there is nothing to say."""
    files: Sequence[str]
    """Name of the file, or one name for each record."""


def name_twice(names: Iterable[str]) -> str | None:
    """The first name that is there a second time; None where every name is its own."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def refuse_odd_columns(file: str, names: Sequence[str]) -> None:
    """Refuse a table by its columns.

    Args:
        file: The file as the user knows it.
        names: Its columns.

    Raises:
        InputRefused: There are more than ``MOST_COLUMNS``, or one is there twice.
    """
    if len(names) > MOST_COLUMNS:
        raise InputRefused(
            f"{file} has {len(names):,} columns, more than the {MOST_COLUMNS:,} that are read",
            hint="keep many numbers in one column of type vector",
        )
    twice = name_twice(names)
    if twice is not None:
        raise InputRefused(f"{file} has the column {twice[:100]!r} twice", hint="rename one of them")


class Reader(Protocol):
    """Takes one file (or the images of one folder) apart, chunk by chunk."""

    @property
    def name(self) -> str:
        """The file or folder as the user knows it."""
        ...

    @property
    def unusable(self) -> Mapping[str, str]:
        """Contract columns whose type in the file can never be converted -> that type in words."""
        ...

    def chunks(self) -> Iterator[Chunk]:
        """All records in order.

        Raises:
            InputRefused: The file cannot be taken apart.
        """
        ...
