"""How many records look the same: exact copies in everything the detectors look at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


_FALL, _BEFOREHAND, _LEAST_FALL = 3.0, 10, 1.5
"""By which power the share of looks with so many copies falls before any is seen, how many looks that weighs, and the
least power."""
_BELOW_TWO = 1.5
"""Counts from 2 up are taken for a continuous law from here up (Clauset et al. 2009, equation B.17)."""
_FLOODS = 10
"""So many looks may be a flood's: of them no more copies count, when it is asked what is usual, than the last has."""
_NEAR = 0.05
_LEAST_NEAR = 100
"""Looks of like information that say how usual repetition is: this share of all, and at least so many."""


@dataclass(frozen=True)
class Looks:
    """The looks of the fitted records, each once, and how many have it.

    Unlike a fold's state this counts the record's own fold: exact copies without an id of their own share a fold, and
    would be seen by no other. No label and no score goes in.
    """

    known: NDArray[np.uint64]
    """(looks,) ascending."""
    counts: NDArray[np.int64]
    information: NDArray[np.float64]
    """(looks,) ascending: how much each look says, in nats."""
    repeated: NDArray[np.int64]
    """(looks + 1,) how many of so many looks that say least are repeated."""
    records: NDArray[np.int64]
    """(looks + 1,) how many copies the repeated ones of them have, as far as they count."""
    repetition: NDArray[np.float64]
    """(looks + 1,) the sum over the repeated of them of the logarithm of those copies over `_BELOW_TWO`."""

    @classmethod
    def of(cls, looks: NDArray[np.uint64], information: NDArray[np.float64] | None = None) -> Looks:
        """Count (rows,) looks, each of which says so much; the same for all where nothing is given."""
        known, first, counts = np.unique(looks, return_index=True, return_counts=True)
        said = np.zeros(len(known)) if information is None else information[first]
        order = np.argsort(said, kind="stable")
        often = counts[order] > 1
        most = max(2, int(np.partition(counts, -_FLOODS)[-_FLOODS])) if len(counts) >= _FLOODS else 2
        counted = np.minimum(counts[order], most)
        repetition, records = np.where(often, np.log(counted / _BELOW_TWO), 0.0), np.where(often, counted, 0)
        repeated, records, repetition = (np.concatenate([[0], np.cumsum(s)]) for s in (often, records, repetition))
        return cls(known, counts, said[order], repeated, records, repetition)

    def rarity(self, copies: NDArray[np.int64], information: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows,) about how likely so many copies are of a look that says so much; 1 where there is no copy.

        Records that say little are alike by chance: an empty form, a mail of no known word. How often looks of like
        information are repeated at all says how usual that is, and how often those are repeated how much rarer more
        copies are: by a power of their number, from its maximum likelihood (Clauset et al. 2009) with some looks of
        the third power thrown in. Records are counted, and a look with more copies has more of them.
        """
        looks = len(self.known)
        if not looks:
            return np.ones(len(copies))
        low, high = (np.searchsorted(self.information, information, side=side) for side in ("left", "right"))
        half = max(_LEAST_NEAR, round(_NEAR * looks)) // 2
        low, high = np.maximum(np.minimum(low, (low + high) // 2 - half), 0), np.minimum(high + half, looks)
        repeated, repetition = (sums[high] - sums[low] for sums in (self.repeated, self.repetition))
        fall = np.maximum((repeated + _BEFOREHAND) / (repetition + _BEFOREHAND / _FALL), _LEAST_FALL)
        records = np.maximum(self.records[high] - self.records[low], 1)
        usual = records / (high - low - repeated + records)
        return np.where(copies > 1, np.minimum(usual * (2.0 / np.maximum(copies, 2)) ** (fall - 1.0), 1.0), 1.0)

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
