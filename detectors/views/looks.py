"""How many records look the same: exact copies in everything the detectors look at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Looks:
    """The looks of the fitted records, each once, and how many have it.

    Unlike a fold's state this counts the record's own fold: exact copies without an id of their own share a fold, and
    would be seen by no other. No label and no score goes in.
    """

    known: NDArray[np.uint64]
    """(looks,) ascending."""
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, looks: NDArray[np.uint64]) -> Looks:
        """Count (rows,) looks."""
        return cls(*np.unique(looks, return_counts=True))

    def rarity(self, copies: NDArray[np.int64]) -> NDArray[np.float64]:
        """(rows,) share of the fitted records that have as many copies, or more; 1 where nothing was counted."""
        if not len(self.known):
            return np.ones(len(copies))
        ordered = np.sort(self.counts)
        below = np.concatenate([[0], np.cumsum(ordered)])[np.searchsorted(ordered, copies, side="left")]
        total = int(ordered.sum())
        return np.asarray(np.maximum(total - below, 1) / total, dtype=np.float64)

    def copies(self, looks: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(rows,) how many fitted records look so; 1 for a look that none of them has."""
        if not len(self.known):
            return np.ones(len(looks), dtype=np.int64)
        place = np.minimum(np.searchsorted(self.known, looks), len(self.known) - 1)
        return np.where(self.known[place] == looks, self.counts[place], 1)


def looks_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(rows,) hashes of arrays that start with rows."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in pixels]
    return np.frombuffer(b"".join(digests), dtype=np.uint64) if digests else np.zeros(0, dtype=np.uint64)
