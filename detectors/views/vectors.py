"""A column of vectors as numbers: each dimension in robust units, and whether the vector is there at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_FARTHEST = 8.0
"""What a missing vector counts as at most: where the fit has none."""


@dataclass(frozen=True)
class Vectors:
    """Median and standard deviation of each dimension over the vectors that are there."""

    name: str
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    missing: float
    """What a missing vector counts as: about its deviations from what is usual, the rarer the more."""

    @classmethod
    def fit(cls, name: str, values: pl.Series) -> Vectors:
        """Fit on the sample's vectors; a column without any encodes as constant."""
        lengths = values.list.len().drop_nulls()
        width = int(lengths.max()) if len(lengths) else 1  # type: ignore[arg-type]  # list lengths are integers
        array = _array(values, width)
        known = array[np.isfinite(array).all(axis=1)]
        if not len(known):
            return cls(name, np.zeros(width), np.ones(width), 1.0)
        absent = 1 - len(known) / len(array)
        missing = min(_FARTHEST, absent**-0.5) if absent else _FARTHEST
        return cls(name, np.median(known, axis=0), known.std(axis=0) + 1e-6, missing)

    @property
    def names(self) -> tuple[str, ...]:
        """What each encoded dimension stands for."""
        return (*(f"{self.name}[{place}]" for place in range(len(self.centre))), f"{self.name} missing")

    def encode(self, values: pl.Series) -> Floats:
        """(rows, dimensions + 1), finite: the vector, its median where it is missing, and whether it is."""
        array = _array(values, len(self.centre))
        absent = np.asarray(~np.isfinite(array).all(axis=1))
        apart = np.where(absent[:, None], 0.0, (array - self.centre) / self.spread)
        flag = np.where(absent, self.missing, 0.0)
        return np.column_stack([apart, flag]).astype(np.float32)


def _array(values: pl.Series, width: int) -> NDArray[np.float64]:
    """(rows, width); NaN for a missing vector."""
    filled = [row if row is not None else [float("nan")] * width for row in values.to_list()]
    return np.asarray(filled, dtype=np.float64).reshape(len(values), width)
