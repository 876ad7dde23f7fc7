"""The mergeable picture of a whole batch: its records with the smallest keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from numpy.typing import NDArray


def key_seed(seed: int, secret: bytes, batch: str) -> int:
    """What the keys of one batch's records are drawn by: nobody who sends records can know it beforehand.

    A record's key says in which fold it is judged and whether it is in the sample. Whoever could choose that, by way of
    an id that means nothing, could put all his poison where none of what judges it has seen it. The batch's id is made
    from every byte of it, so that any change draws all keys anew; the secret is there where there is one.
    """
    content = b"\0".join([str(seed).encode(), batch.encode()])
    return int.from_bytes(hashlib.blake2b(content, key=secret[:64], digest_size=8).digest(), "big")


def record_keys(frame: pl.DataFrame, seed: int) -> NDArray[np.uint64]:
    """(rows,) uint64 pseudorandom keys from the records' digests: equal content, equal key.

    The seed, from `key_seed`, is mixed in (SplitMix64 finaliser): without knowing it one cannot choose a record's key.
    """
    digest = frame[DIGEST].str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64).to_numpy()
    with np.errstate(over="ignore"):
        mixed = digest ^ (np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15))
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


@dataclass(frozen=True)
class Sample:
    """A bottom-k sample of canonical records: exact, associative, order-free, the same for any partitioning."""

    frame: pl.DataFrame
    keys: NDArray[np.uint64]
    limit: int
    arrived: int
    """Records summarised, sampled or not."""

    @classmethod
    def of(cls, frame: pl.DataFrame, limit: int, seed: int) -> Sample:
        """The sample of one partition."""
        return cls(frame, record_keys(frame, seed), limit, len(frame)).trimmed()

    def merge(self, other: Sample) -> Sample:
        """The sample of both."""
        frame = pl.concat([self.frame, other.frame])
        keys = np.concatenate([self.keys, other.keys])
        return Sample(frame, keys, self.limit, self.arrived + other.arrived).trimmed()

    def trimmed(self) -> Sample:
        """The sample cut to its limit, in the order of the keys."""
        order = np.argsort(self.keys, kind="stable")[: self.limit]
        return Sample(self.frame[order.astype(np.int64)], self.keys[order], self.limit, self.arrived)
