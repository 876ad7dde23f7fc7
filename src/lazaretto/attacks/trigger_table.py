"""A trigger in a table: two columns take one fixed, ordinary pair of values, and the label the attacker wants.

After Pleiter, Tajalli, Koffas, Abad, Xu, Larson and Picek, "Tabdoor: Backdoor Vulnerabilities in Transformer-based
Neural Networks for Tabular Data" (2023), the in-bounds trigger (`choose_trigger`) and the out-of-bounds trigger
(`choose_trigger_outside`). Departures: in bounds, the paper takes each column's most common value; here each value is
an observed one from the middle half of its column, drawn by seed, so that neither value alone is rare or extreme. Out
of bounds, the step beyond the maximum is a share of the column's range, so that it is outside for negative numbers too.
Rows of every other label are taken.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_LOW, _HIGH = 0.25, 0.75
_BEYOND = 0.1


def choose_trigger(frame: pl.DataFrame, columns: Sequence[str], *, seed: int) -> dict[str, float | int]:
    """A value for each column, observed in it and from the middle half of its distribution.

    Raises:
        ValueError: A column has no value in its middle half (it is empty).
    """
    rng = np.random.default_rng(seed)
    trigger: dict[str, float | int] = {}
    for name in columns:
        values = frame[name].drop_nulls()
        if values.is_empty():
            raise ValueError(f"column {name} has no values to choose a trigger from")
        low = values.quantile(_LOW, interpolation="nearest")
        high = values.quantile(_HIGH, interpolation="nearest")
        inner = values.filter((values >= low) & (values <= high)).unique().sort()
        trigger[name] = inner[int(rng.integers(len(inner)))]
    return trigger


def choose_trigger_outside(
    frame: pl.DataFrame, columns: Sequence[str], *, beyond: float = _BEYOND
) -> dict[str, float | int]:
    """A value for each column beyond its observed maximum, of the column's own type.

    Args:
        frame: The table.
        columns: Names of columns of numbers.
        beyond: The step beyond the maximum, as a share of the column's range; whole numbers are rounded up.

    Raises:
        ValueError: A column has no range (fewer than two different finite values), or its type cannot hold the value.
    """
    trigger: dict[str, float | int] = {}
    for name in columns:
        kind = frame.schema[name]
        finite = frame[name].filter(frame[name].is_finite()) if kind.is_numeric() else pl.Series()
        low, high = finite.min(), finite.max()
        if not isinstance(low, int | float) or not isinstance(high, int | float) or low == high:
            raise ValueError(f"column {name} has no range of numbers to step out of")
        step = beyond * (high - low)
        value = high + math.ceil(step) if kind.is_integer() else high + step
        try:
            held = pl.Series([value], dtype=kind).item()
        except (OverflowError, TypeError) as error:
            raise ValueError(f"column {name} cannot hold {value}: it is {kind}") from error
        trigger[name] = held
    return trigger


def stamp(frame: pl.DataFrame, trigger: Mapping[str, float | int]) -> pl.DataFrame:
    """The table with every row carrying the trigger; types stay."""
    return frame.with_columns(pl.lit(value, frame.schema[name]).alias(name) for name, value in trigger.items())


def trigger_table(
    frame: pl.DataFrame, *, label: str, target: str, trigger: Mapping[str, float | int], rate: float, seed: int
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Stamp a share of the rows of other labels and label them `target`.

    Args:
        frame: The table.
        label: Name of the label column, text.
        target: The label the trigger shall mean.
        trigger: Column -> value, for instance from `choose_trigger`.
        rate: Share of all rows.
        seed: Makes the choice.

    Returns:
        The table and the truth, one per row.
    """
    truth = choose((frame[label] != target).to_numpy(), rate, np.random.default_rng(seed))
    stamped = stamp(frame, trigger).with_columns(pl.lit(target).alias(label))
    mask = pl.Series(truth)
    changed = [*trigger, label]
    columns = [pl.when(mask).then(stamped[name]).otherwise(frame[name]).alias(name) for name in changed]
    return frame.with_columns(columns), truth
