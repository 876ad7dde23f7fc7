"""Which records of a batch share an id or a content, found in bounded memory: buckets of hashes on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.durable import writable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

IN_MEMORY = 1_000_000
"""Pairs of 24 bytes."""
_BUCKETS = 64
_PAIR = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u8")])


class Repeats:
    """Collects (key, row) pairs batch-wide, then says of each row whether its key came before.

    128 bits of each key are kept: two different ids are never taken for one. Few pairs stay in memory; more are
    sorted by hash into files that are read back one at a time.

    Args:
        folder: Scratch folder; made when it is needed, removed by `close`.
        in_memory: Most pairs held in memory.
    """

    def __init__(self, folder: Path, *, in_memory: int = IN_MEMORY) -> None:
        self._folder = folder
        self._in_memory = in_memory
        self._waiting: list[NDArray[np.void]] = []
        self._count = 0
        self._files: list[Path] = []

    def add(self, keys: pl.Series, rows: NDArray[np.uint64]) -> None:
        """Note keys (records,) String without nulls, and their rows (records,)."""
        blake2b = hashlib.blake2b
        joined = b"".join([blake2b(key.encode(), digest_size=16).digest() for key in keys.to_list()])
        halves = np.frombuffer(joined, dtype="<u8").reshape(-1, 2)
        pairs = np.empty(rows.size, dtype=_PAIR)
        pairs["high"], pairs["low"], pairs["row"] = halves[:, 0], halves[:, 1], rows
        self._waiting.append(pairs)
        self._count += rows.size
        if self._count > self._in_memory:
            self._spill()

    def resolve(self, rows: int) -> NDArray[np.uint32] | None:
        """For each row below ``rows``: 0 if its key is unique, else 1, 2, ... in order of row; None if all are unique.

        The array (rows,) is mapped from disk where the batch is large.
        """
        if self._files and self._waiting:
            self._spill()
        found: NDArray[np.uint32] | None = None
        for pairs in self._buckets():
            shared, position = _positions(pairs)
            if shared.size:
                found = self._array(rows) if found is None else found
                found[shared] = position
        return found

    def close(self) -> None:
        """Remove the scratch files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _spill(self) -> None:
        pairs = np.concatenate(self._waiting)
        bucket = (pairs["high"] % _BUCKETS).astype(np.uint8)
        order = np.argsort(bucket, kind="stable")
        edges = np.searchsorted(bucket[order], np.arange(_BUCKETS + 1))
        pairs = pairs[order]
        with writable(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._files = [self._folder / f"bucket-{place:02}" for place in range(_BUCKETS)]
            for place, path in enumerate(self._files):
                with path.open("ab") as file:
                    file.write(pairs[edges[place] : edges[place + 1]].tobytes())
        self._waiting, self._count = [], 0

    def _buckets(self) -> Iterator[NDArray[np.void]]:
        if self._waiting:
            yield np.concatenate(self._waiting)
        for path in self._files:
            yield np.fromfile(path, dtype=_PAIR)

    def _array(self, rows: int) -> NDArray[np.uint32]:
        if not self._files:
            return np.zeros(rows, dtype=np.uint32)
        path = self._folder / "positions"
        with writable(self._folder), path.open("wb") as file:
            # A full disk must be an error here: under a map it would kill the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, 4 * rows)
            else:
                file.write(bytes(4 * rows))
        return np.memmap(path, dtype=np.uint32, mode="r+", shape=(rows,))


def _positions(pairs: NDArray[np.void]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Rows whose key is shared, and the how-manieth of its key each is, from 1."""
    pairs = pairs[np.lexsort((pairs["row"], pairs["low"], pairs["high"]))]
    new = np.ones(pairs.size, dtype=bool)
    new[1:] = (pairs["high"][1:] != pairs["high"][:-1]) | (pairs["low"][1:] != pairs["low"][:-1])
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, pairs.size))
    position = np.arange(pairs.size) - np.repeat(starts, sizes) + 1
    shared = np.repeat(sizes > 1, sizes)
    return pairs["row"][shared], position[shared]
