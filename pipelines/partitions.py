"""Writes canonical partitions: full ones, whatever the pieces the records came in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lazaretto.durable import writable
from lazaretto.records import PARTITION_ROWS

if TYPE_CHECKING:
    from pathlib import Path

PARTITION_BYTES = 128 * 1024 * 1024
"""A partition is closed when it holds this much, so that images and long texts fit in memory like numbers do."""


class PartitionWriter:
    """Collects canonical records and writes ``part-00000.parquet``, ``part-00001.parquet``, ...

    Args:
        folder: Where; made if absent.
        rows: Most records in a partition.
        size: Bytes in memory at which a partition is closed early.
    """

    def __init__(self, folder: Path, *, rows: int = PARTITION_ROWS, size: int = PARTITION_BYTES) -> None:
        self._folder = folder
        self._rows = rows
        self._size = size
        self._waiting: list[pl.DataFrame] = []
        self._height = 0
        self._bytes = 0
        self.paths: list[Path] = []
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def add(self, frame: pl.DataFrame) -> None:
        """Append records; ``_row`` must ascend over all calls."""
        while frame.height:
            room = self._rows - self._height
            piece, frame = frame.head(room), frame.slice(room)
            self._waiting.append(piece)
            self._height += piece.height
            self._bytes += int(piece.estimated_size())
            if self._height == self._rows or self._bytes >= self._size:
                self._flush()

    def finish(self) -> None:
        """Write what is left."""
        if self._height:
            self._flush()

    def _flush(self) -> None:
        path = self._folder / f"part-{len(self.paths):05}.parquet"
        write_partition(pl.concat(self._waiting, rechunk=True), path)
        self.paths.append(path)
        self._waiting, self._height, self._bytes = [], 0, 0


def write_partition(frame: pl.DataFrame, path: Path) -> None:
    """Write one partition, replacing an older one in a single step.

    Raises:
        UsageError: The disk is full.
    """
    part = path.with_suffix(".part")
    with writable(path.parent):
        try:
            frame.write_parquet(part, compression="zstd", compression_level=1, row_group_size=PARTITION_ROWS)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
