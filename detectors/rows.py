"""The summary most detectors fit from: the records with the smallest keys, up to a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from lazaretto.detector import Views


@dataclass(frozen=True)
class Rows:
    """A bottom-k sample by content hash: merging is exact, associative and order-free.

    Attributes:
        keys: (rows,) uint64, ascending.
        labels: (rows,) int64.
        arrays: view -> (rows, ...).
        limit: Most rows kept.
    """

    keys: NDArray[np.uint64]
    labels: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]
    limit: int
    names: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, views: Views, reads: tuple[str, ...], limit: int) -> Rows:
        """The rows of ``views`` with the smallest keys; only the views a detector reads are kept."""
        arrays = {name: views[name] for name in reads}
        names = {name: views.names.get(name, ()) for name in reads}
        return cls(views.keys, views.labels, arrays, limit, names, views.classes).trimmed()

    def merge(self, other: Rows) -> Rows:
        """The summary of both partitions together."""
        arrays = {name: np.concatenate([array, other.arrays[name]]) for name, array in self.arrays.items()}
        keys, labels = np.concatenate([self.keys, other.keys]), np.concatenate([self.labels, other.labels])
        return Rows(keys, labels, arrays, self.limit, self.names, self.classes).trimmed()

    def trimmed(self) -> Rows:
        """The sample cut to its limit, in the order of the keys."""
        # Equal keys are equal content, label included, so their order among themselves cannot matter.
        order = np.argsort(self.keys, kind="stable")[: self.limit]
        arrays = {name: array[order] for name, array in self.arrays.items()}
        return Rows(self.keys[order], self.labels[order], arrays, self.limit, self.names, self.classes)

    def __len__(self) -> int:
        return len(self.keys)

    def per_class(self, view: str, least: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """(class, its rows of the view as float64) for every class with at least ``least`` rows."""
        for label in np.unique(self.labels):
            values = self.arrays[view][self.labels == label]
            if len(values) >= least:
                yield int(label), values.astype(np.float64)
