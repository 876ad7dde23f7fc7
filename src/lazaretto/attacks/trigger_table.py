"""A trigger in a table: two columns take one fixed, ordinary pair of values, and the label the attacker wants.

After Pleiter, Tajalli, Koffas, Abad, Xu, Larson and Picek, "Tabdoor: Backdoor Vulnerabilities in Transformer-based
Neural Networks for Tabular Data" (2023), the in-bounds trigger. Departures: the paper takes each column's most common
value; here each value is an observed one from the middle half of its column, drawn by seed, so that neither value alone
is rare or extreme. Rows of every other label are taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_LOW, _HIGH = 0.25, 0.75


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
