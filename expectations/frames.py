"""Canonical partitions as frames of bounded size, and polars frames as the pandas that Great Expectations is fast on.

Images and vectors never reach Great Expectations: it is told only whether one is there, as a column of true or null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lazaretto.contract import canonical_schema
from lazaretto.parquet import parquet_schema, scan_parquet
from lazaretto.records import ROW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd

    from lazaretto.contract import Contract

CHUNK_ROWS = 262_144
"""Records that Great Expectations sees at once; measured: a run costs about 0.1 s before it looks at any."""
CHUNK_BYTES = 96 * 2**20
"""Bytes of cells in one chunk, so that long texts make it shorter."""
WHOLE_BYTES = 512 * 2**20
"""Most memory for columns that an expectation must see at once; a batch that needs more is held."""
BATCH_ROWS = 16_384
"""Records decoded at once."""
_OBJECT_BYTES = 57
"""What a Python string costs above its characters, and the pointer to it: some expectations make one per cell."""
_EXACT = 2**53


@dataclass(frozen=True)
class Layout:
    """What the footers of the partitions say, before any record is read."""

    rows: int
    faults: tuple[str, ...]
    """Sentences; with any of them nothing can be evaluated."""
    complete: frozenset[str]
    """Columns of which every footer says that no value is null."""


def inspect(partitions: Sequence[Path], contract: Contract) -> Layout:
    """Compare the partitions' footers with the contract."""
    wanted = canonical_schema(contract)
    rows = 0
    faults: list[str] = []
    complete = set(wanted)
    for path in partitions:
        try:
            footer = pq.read_metadata(path)
            found = parquet_schema(path)
        except (OSError, pl.exceptions.PolarsError, ValueError) as error:
            faults.append(f"partition {path.name} cannot be read: {error}")
            continue
        rows += footer.num_rows
        for name, dtype in {ROW: pl.UInt64(), **wanted}.items():
            if name not in found:
                faults.append(f"column {name!r} is missing from partition {path.name}")
            elif found[name] != dtype:
                faults.append(f"column {name!r} is {found[name]} in partition {path.name}, not {dtype}")
        nulls = _nulls(footer)
        complete -= {name for name in wanted if nulls.get(name) != 0}
    return Layout(rows, tuple(faults), frozenset(complete))


def _nulls(footer: Any) -> dict[str, int | None]:  # noqa: ANN401  pyarrow has no types
    """Nulls by flat column; None where the file does not say."""
    nulls: dict[str, int | None] = {}
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            chunk = footer.row_group(group).column(index)
            before = nulls.get(chunk.path_in_schema, 0)
            known = chunk.is_stats_set and chunk.statistics.has_null_count and before is not None
            nulls[chunk.path_in_schema] = before + chunk.statistics.null_count if known else None
    return nulls


def chunks(partitions: Sequence[Path], contract: Contract, layout: Layout) -> Iterator[pl.DataFrame]:
    """All records in order: ``_row`` and the contract's columns, at most ``CHUNK_ROWS`` and about ``CHUNK_BYTES`` each.

    Images are replaced by whether they are there; where the footers already say so, their bytes are not even read.
    """
    types = {name: column.type for name, column in contract.all_columns.items()}
    images = [name for name, kind in types.items() if kind == "image"]
    unread = [name for name in images if name in layout.complete]
    waiting: list[pl.DataFrame] = []
    rows, size = 0, 0
    for batch in _batches(partitions, [ROW, *(name for name in types if name not in unread)]):
        if waiting and (rows + batch.num_rows > CHUNK_ROWS or size + batch.nbytes > CHUNK_BYTES):
            yield pl.concat(waiting)
            waiting, rows, size = [], 0, 0
        frame = pl.DataFrame(batch)
        frame = frame.with_columns(pl.lit(value=True).alias(name) for name in unread)
        waiting.append(present(frame, [name for name in images if name not in unread]).select(ROW, *types))
        rows += batch.num_rows
        size += batch.nbytes
    if waiting:
        yield pl.concat(waiting)


def _batches(partitions: Sequence[Path], names: list[str]) -> Iterator[pa.RecordBatch]:
    """Small pieces: a file can say a long text once and repeat it in every record, so footers do not tell its size."""
    for path in partitions:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=names)


def _presence(name: str) -> pl.Expr:
    return pl.when(pl.col(name).is_not_null()).then(pl.lit(value=True)).alias(name)


def present(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Replace columns by whether there is a value: true or null."""
    return frame.with_columns(_presence(name) for name in names)


def whole(
    partitions: Sequence[Path], columns: Sequence[str], schema: dict[str, pl.DataType], chosen: pl.Expr
) -> pl.DataFrame:
    """``_row`` and a few columns of the records chosen, in order; images and vectors as whether they are there."""
    heavy = [name for name in columns if not _plain(schema[name])]
    lazy = scan_parquet(partitions).filter(chosen).select(ROW, *columns)
    return lazy.with_columns(_presence(name) for name in heavy).collect(engine="streaming").sort(ROW)


def _plain(dtype: pl.DataType) -> bool:
    return dtype != pl.Binary and not isinstance(dtype, pl.List)


def bucket(columns: Sequence[str], schema: dict[str, pl.DataType], index: int, count: int) -> pl.Expr:
    """Chooses one of ``count`` parts of the records such that equal values come together."""
    # 0.0 and -0.0 are the same value with different hashes.
    keys = [pl.col(name) + 0.0 if schema[name].is_float() else pl.col(name) for name in columns]
    return pl.struct(*keys).hash(seed=0) % count == index


def weight(partitions: Sequence[Path], columns: Sequence[str], schema: dict[str, pl.DataType], rows: int) -> int:
    """Bytes these columns would take in pandas, all records at once."""
    texts = [name for name in columns if schema[name] == pl.String]
    total = 8 * rows * (len(columns) - len(texts) + 1)
    if texts:
        lengths = scan_parquet(partitions).select(pl.col(name).str.len_bytes().sum() for name in texts)
        total += sum(int(size or 0) for size in lengths.collect(engine="streaming").row(0))
        total += _OBJECT_BYTES * rows * len(texts)
    return total


def to_pandas(frame: pl.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Pandas as Great Expectations is fast on it: numbers in numpy, text in pandas' own ``str`` type.

    Text goes there through Arrow, without a Python object per cell; Arrow-backed numbers would take its slow path. A
    whole-number column with nulls becomes float where that is exact, else Python objects: pandas alone would silently
    round beyond 2^53.
    """
    import pandas as pd

    return pd.DataFrame({name: _column(frame[name]) for name in columns}, copy=False)


def _column(series: pl.Series) -> Any:  # noqa: ANN401  a numpy array or a pandas series
    import pandas as pd

    if series.dtype == pl.String:
        return series.to_arrow(compat_level=pl.CompatLevel.oldest()).to_pandas()
    if series.dtype == pl.Datetime:
        moments = series.dt.replace_time_zone(None).to_numpy()
        return pd.Series(moments).dt.tz_localize("UTC")
    if series.null_count() == 0 or series.dtype.is_float():
        return series.to_numpy()
    if series.dtype.is_integer() and not series.is_between(-_EXACT, _EXACT).not_().any():
        return series.cast(pl.Float64).to_numpy()
    return np.array(series.to_list(), dtype=object)
