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

_READERS = {"csv": CsvReader, "jsonl": JsonlReader, "parquet": ParquetReader}


def readers_of(batch: Batch, contract: Contract) -> Iterator[Reader]:
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


def originals(batch: Batch, contract: Contract, rows: NDArray[np.uint64]) -> Iterator[pl.DataFrame]:
    """The bytes that came for some records, in bounded pieces: ``_row``, ``file`` (with the line), ``original``.

    The files are taken apart again, as far as needed, but nothing is parsed.

    Args:
        batch: The batch.
        contract: The contract it was parsed by.
        rows: Positions in the batch, ascending, each once (records,).
    """
    first = 0
    for reader in readers_of(batch, contract) if rows.size else ():
        for chunk in reader.chunks():
            low, high = np.searchsorted(rows, [first, first + chunk.count])
            if low < high:
                yield _frame(chunk, first, rows[low:high])
            first += chunk.count
            if high == rows.size:
                return


def _frame(chunk: Chunk, first: int, rows: NDArray[np.uint64]) -> pl.DataFrame:
    offsets = [int(row) - first for row in rows]
    return pl.DataFrame(
        {ROW: rows, "file": [place_of(chunk, at) for at in offsets], "original": chunk.originals(offsets)},
        schema={ROW: pl.UInt64(), "file": pl.String(), "original": pl.Binary()},
    )


def place_of(chunk: Chunk, offset: int) -> str:
    """The file a record lies in and where: ``flights.csv, line 17``."""
    name = chunk.files[offset] if len(chunk.files) > 1 else chunk.files[0]
    place = chunk.places(offset)
    return f"{name}, {place}" if place else name
