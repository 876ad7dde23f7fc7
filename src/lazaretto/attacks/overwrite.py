"""Put changed records back in their places, so that every other record stays equal and the order stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray


def overwrite(frame: pl.DataFrame, places: NDArray[np.bool_], records: pl.DataFrame) -> pl.DataFrame:
    """The frame with its records at `places` replaced, in order.

    Args:
        frame: (rows) records.
        places: (rows,) true where a record is replaced.
        records: As many as `places` has true, with the columns and types of the frame in any order.

    Raises:
        ValueError: There are more or fewer records than places.
    """
    if len(records) != places.sum():
        raise ValueError(f"{len(records)} records for {places.sum()} places")
    order = np.arange(len(frame))
    order[places] = len(frame) + np.arange(len(records))
    return pl.concat([frame, records.select(frame.columns)])[order]
