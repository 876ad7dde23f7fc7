"""Writes failing records to Parquet as they are found; memory stays bounded when every record fails."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lazaretto.records import ROW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BLOCK_ROWS = 16_384
"""Records whose failures are written at once: 20 failing columns make 330,000 rows of text."""

SCHEMA = pa.schema([(ROW, pa.uint64()), ("column", pa.string()), ("reason", pa.string())])
"""One row per failing record and expectation. ``column`` names several as ``a, b``."""


class FailureWriter:
    """Appends to one Parquet file; compressing happens beside the caller's work, one block at a time."""

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", use_dictionary=["column"])
        self._thread = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self._settle()
        finally:
            self._thread.shutdown()
            self._writer.close()

    def add(self, frame: pl.DataFrame, found: Sequence[tuple[pl.Series, str, pl.Expr]]) -> None:
        """Write failing records.

        Args:
            frame: The records looked at, with ``_row``.
            found: Per expectation: which of them fail (booleans), the column's name, the reason as an expression.
        """
        for start in range(0, frame.height, BLOCK_ROWS):
            part = frame.slice(start, BLOCK_ROWS)
            lazy = [
                part.lazy()
                .filter(flags.slice(start, BLOCK_ROWS))
                .select(pl.col(ROW), pl.lit(name).alias("column"), reason.alias("reason"))
                for flags, name, reason in found
            ]
            if not lazy:
                continue
            block = pl.concat(pl.collect_all(lazy))
            self.rows += block.height
            if block.height:
                self._settle()
                self._pending = self._thread.submit(self._write, block)

    def _write(self, block: pl.DataFrame) -> None:
        self._writer.write_table(block.to_arrow().cast(SCHEMA))

    def _settle(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None
