"""Label flips in a table whose labels are words: `label_flip` on a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.label_flip import flip_random

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray


def flip_table(frame: pl.DataFrame, *, label: str, rate: float, seed: int) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Give a share of the rows another of the labels that occur.

    Args:
        frame: The table; the label column holds no null.
        label: Name of the label column, text.
        rate: Share of all rows.
        seed: Makes the choice.

    Returns:
        The table with the label column changed, and the truth, one per row.
    """
    classes = frame[label].unique().sort()
    numbers = classes.search_sorted(frame[label]).to_numpy().astype(np.int64)
    flipped, truth = flip_random(numbers, rate=rate, classes=len(classes), seed=seed)
    return frame.with_columns(classes.gather(flipped).alias(label)), truth
