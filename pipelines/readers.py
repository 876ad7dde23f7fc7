"""Which reader takes which file apart, and the bytes that came for any record of a batch."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.errors import InputRefused
from lazaretto.pipelines.formats import data_kind
from lazaretto.pipelines.read_csv import CsvReader
from lazaretto.pipelines.read_images import ImageFolderReader
from lazaretto.pipelines.read_jsonl import JsonlReader
from lazaretto.pipelines.read_parquet import ParquetReader
from lazaretto.records import ROW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lazaretto.contract import Contract
    from lazaretto.pipelines.chunks import Chunk, Reader
    from lazaretto.records import Batch

_ORIGINALS = {ROW: pl.UInt64(), "file": pl.String(), "original": pl.Binary()}
_READERS = {"csv": CsvReader, "jsonl": JsonlReader, "parquet": ParquetReader}


def readers_of(batch: Batch, contract: Contract | None) -> Iterator[Reader]:
    """One reader for each file, one for all images of a folder; in the order of the batch."""
    for root, files in groupby(batch.files, key=lambda file: file.root):
        if root:
            yield ImageFolderReader(list(files), contract)
            continue
        for file in files:
            kind = data_kind(file.name)
            if kind is None:
                raise InputRefused(f"{file.name} is no data file")
            yield _READERS[kind](file, contract)


class Originals:
    """The bytes that came for records of a batch, fetched in ascending order.

    The files are taken apart again, as far as needed, but nothing is parsed. Memory holds one chunk.

    Args:
        batch: The batch.
        contract: The contract it was parsed by.
    """

    def __init__(self, batch: Batch, contract: Contract) -> None:
        self._chunks = (chunk for reader in readers_of(batch, contract) for chunk in reader.chunks())
        self._chunk: Chunk | None = None
        self._first = 0

    def fetch(self, rows: NDArray[np.uint64]) -> pl.DataFrame:
        """``_row``, ``file`` (with the line) and ``original`` of some records, in the order of ``rows``.

        Args:
            rows: Positions in the batch, ascending, each after those of earlier calls (records,).
        """
        pieces = [pl.DataFrame(schema=_ORIGINALS)]
        done = 0
        while done < rows.size:
            chunk = self._chunk_with(int(rows[done]))
            end = int(np.searchsorted(rows, self._first + chunk.count))
            offsets = [int(row) - self._first for row in rows[done:end]]
            found = {
                ROW: rows[done:end],
                "file": [place_of(chunk, at) for at in offsets],
                "original": chunk.originals(offsets),
            }
            pieces.append(pl.DataFrame(found, schema=_ORIGINALS))
            done = end
        return pl.concat(pieces)

    def _chunk_with(self, row: int) -> Chunk:
        while self._chunk is None or row >= self._first + self._chunk.count:
            self._first += self._chunk.count if self._chunk else 0
            self._chunk = next(self._chunks, None)
            if self._chunk is None:
                raise IndexError(f"the batch has no row {row}")
        if row < self._first:
            raise IndexError(f"row {row} was passed already")
        return self._chunk


def place_of(chunk: Chunk, offset: int) -> str:
    """The file a record lies in and where: ``flights.csv, line 17``."""
    name = chunk.files[offset] if len(chunk.files) > 1 else chunk.files[0]
    place = chunk.places(offset)
    return f"{name}, {place}" if place else name
