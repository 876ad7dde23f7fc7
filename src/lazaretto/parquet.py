"""Parquet files by their literal names: left to itself Polars takes brackets and stars in a path for a pattern."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Sequence


def scan_parquet(source: Path | Sequence[Path]) -> pl.LazyFrame:
    """What is in a file, or in several of one schema; read when it is collected."""
    return pl.scan_parquet([source] if isinstance(source, Path) else list(source), glob=False)


def read_parquet(path: Path, columns: list[str] | None = None, n_rows: int | None = None) -> pl.DataFrame:
    """What is in a file, or in some of its columns, or its first rows."""
    return pl.read_parquet(path, columns=columns, n_rows=n_rows, glob=False)


def parquet_schema(path: Path) -> dict[str, pl.DataType]:
    """Column -> type of a file."""
    return dict(pl.scan_parquet(path, glob=False).collect_schema())
