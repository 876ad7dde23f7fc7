"""Which records of a batch share an id or a content, found in bounded memory: buckets of hashes on disk."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.pipelines.snapshot import writing

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

_BUCKETS = 64
_PAIR = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<u8")])


class Repeats:
    """Collects (key, row) pairs batch-wide, then says of each row whether its key came before.

    128 bits of each key are kept: two different ids are never taken for one.

    Args:
        folder: Scratch folder; made, and left empty by ``close``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._files = [(folder / f"bucket-{bucket:02}").open("w+b") for bucket in range(_BUCKETS)]

    def add(self, keys: pl.Series, rows: NDArray[np.uint64]) -> None:
        """Note keys (records,) String without nulls, and their rows (records,)."""
        blake2b = hashlib.blake2b
        joined = b"".join([blake2b(key.encode(), digest_size=16).digest() for key in keys.to_list()])
        halves = np.frombuffer(joined, dtype="<u8").reshape(-1, 2)
        pairs = np.empty(rows.size, dtype=_PAIR)
        pairs["high"], pairs["low"], pairs["row"] = halves[:, 0], halves[:, 1], rows
        bucket = (halves[:, 0] % _BUCKETS).astype(np.uint8)
        order = np.argsort(bucket, kind="stable")
        edges = np.searchsorted(bucket[order], np.arange(_BUCKETS + 1))
        pairs = pairs[order]
        with writing(self._folder):
            for place, file in enumerate(self._files):
                if edges[place] < edges[place + 1]:
                    file.write(pairs[edges[place] : edges[place + 1]].tobytes())

    def resolve(self, rows: int) -> NDArray[np.uint32] | None:
        """For each row below ``rows``: 0 if its key is unique, else 1, 2, ... in order of row; None if all are unique.

        The array (rows,) is mapped from disk.
        """
        found: np.memmap[tuple[int], np.dtype[np.uint32]] | None = None
        for file in self._files:
            with writing(self._folder):
                file.flush()
            file.seek(0)
            pairs = np.frombuffer(file.read(), dtype=_PAIR)
            if pairs.size < 2:  # noqa: PLR2004  a single record repeats nothing
                continue
            pairs = pairs[np.lexsort((pairs["row"], pairs["low"], pairs["high"]))]
            same = (pairs["high"][1:] == pairs["high"][:-1]) & (pairs["low"][1:] == pairs["low"][:-1])
            if not same.any():
                continue
            if found is None:
                with writing(self._folder):
                    found = np.memmap(self._folder / "repeats", dtype=np.uint32, mode="w+", shape=(rows,))
            starts = np.flatnonzero(np.append(True, ~same))
            sizes = np.diff(np.append(starts, pairs.size))
            position = np.arange(pairs.size) - np.repeat(starts, sizes) + 1
            shared = np.repeat(sizes > 1, sizes)
            found[pairs["row"][shared]] = position[shared]
        return found

    def close(self) -> None:
        """Remove the scratch files."""
        for file in self._files:
            file.close()
        for path in self._folder.iterdir():
            path.unlink()
        self._folder.rmdir()
