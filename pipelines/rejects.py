"""The records that are not let through, each with its reason and the bytes that came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lazaretto.durable import writable
from lazaretto.records import REJECT_COLUMNS, ROW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

REJECT_SCHEMA: dict[str, pl.DataType] = {
    name: {ROW: pl.UInt64(), "original": pl.Binary()}.get(name, pl.String()) for name in REJECT_COLUMNS
}
_ARROW = pa.schema(
    [(name, {ROW: pa.uint64(), "original": pa.large_binary()}.get(name, pa.large_string())) for name in REJECT_COLUMNS]
)
_BATCH = 8_192


class RejectWriter:
    """Writes ``rejects.parquet`` batch by batch; the file is there, with its columns, even when nothing is rejected.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.count = 0
        with writable(path.parent):
            self._writer = pq.ParquetWriter(path, _ARROW, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with writable(self._path.parent):
            self._writer.close()

    def add(self, frame: pl.DataFrame) -> None:
        """Append records with ``REJECT_COLUMNS``; their rows must come after all rows added before."""
        if not frame.height:
            return
        self.count += frame.height
        table = frame.select(pl.col(name).cast(kind) for name, kind in REJECT_SCHEMA.items()).to_arrow().cast(_ARROW)
        with writable(self._path.parent):
            self._writer.write_table(table)


def read_rejects(path: Path) -> Iterator[pl.DataFrame]:
    """The rejects of a file, in bounded pieces, ``_row`` ascending."""
    with pq.ParquetFile(path, pre_buffer=False) as source:
        for batch in source.iter_batches(batch_size=_BATCH):
            yield pl.DataFrame(pl.from_arrow(batch))


def merge_rejects(into: Path, parts: Sequence[Iterator[pl.DataFrame]]) -> int:
    """Merge streams of rejects, each with ``_row`` ascending, into one file; gives the number of records.

    Memory holds one piece of each stream.
    """
    waiting: list[pl.DataFrame | None] = [None] * len(parts)
    with RejectWriter(into) as writer:
        while True:
            for place, part in enumerate(parts):
                held = waiting[place]
                if held is None or not held.height:
                    waiting[place] = next((piece for piece in part if piece.height), None)
            pieces = [(place, piece) for place, piece in enumerate(waiting) if piece is not None]
            if not pieces:
                return writer.count
            # Up to the smallest last row every stream has shown all it has.
            last = min(piece[ROW][-1] for _, piece in pieces)
            writer.add(pl.concat([piece.filter(pl.col(ROW) <= last) for _, piece in pieces]).sort(ROW))
            for place, piece in pieces:
                waiting[place] = piece.filter(pl.col(ROW) > last)
