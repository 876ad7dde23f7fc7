"""Whether the values of a column repeat, in a few kilobytes however many there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

_MOST_HASHES = 512
_BITS = 64


@dataclass
class Spread:
    """A sample of the distinct values, each with how often it was seen (Gibbons, distinct sampling, VLDB 2001).

    A value is in the sample if its hash is small enough, so all its occurrences are counted or none: the share of
    repeats among the sampled values estimates that among all. Exact while there are few distinct values.
    """

    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    level: int = 0
    """Leading bits of a hash that must be zero."""

    def add(self, known: pl.Series) -> None:
        """Count values (records,) without nulls."""
        hashes = self._small(known.hash(seed=0).to_numpy())
        both = np.concatenate([self.hashes, hashes])
        weights = np.concatenate([self.counts, np.ones(hashes.size, dtype=np.int64)])
        self.hashes, place = np.unique(both, return_inverse=True)
        self.counts = np.bincount(place, weights=weights, minlength=self.hashes.size).astype(np.int64)
        while self.hashes.size > _MOST_HASHES:
            self.level += 1
            kept = self._small(self.hashes).size  # they are in ascending order
            self.hashes, self.counts = self.hashes[:kept], self.counts[:kept]

    @property
    def distinct_share(self) -> float:
        """Distinct values per value: 1 where none repeats."""
        return self.hashes.size / max(1, int(self.counts.sum()))

    def _small(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        return hashes[hashes >> np.uint64(_BITS - self.level) == 0] if self.level else hashes
