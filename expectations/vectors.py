"""Vectors that are not what the contract says: Great Expectations does not look inside lists."""

from __future__ import annotations

import polars as pl


def misshapen(frame: pl.DataFrame, name: str, dimensions: int | None) -> tuple[pl.Series, pl.Expr]:
    """Vectors of the wrong length, or holding a number that is null, NaN or infinite.

    Args:
        frame: Holds the column as a list of floats.
        name: The column.
        dimensions: How many numbers every vector has.

    Returns:
        Booleans, one per row (False for a null vector), and the reason as an expression over the failing rows.
    """
    value = pl.col(name)
    length = value.list.len()
    wrong = length != dimensions
    hole = value.list.eval(pl.element().is_null() | ~pl.element().is_finite()).list.any()
    flags = frame.select((wrong | hole).fill_null(value=False).alias("fails")).to_series()
    counted = pl.concat_str([pl.lit(f"{name} has "), length.cast(pl.String), pl.lit(f" numbers, not {dimensions}")])
    return flags, pl.when(wrong).then(counted).otherwise(pl.lit(f"{name} holds a number that is missing or infinite"))
