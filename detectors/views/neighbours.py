"""The nearest records of the fitted sample, found once and read by several detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_CHUNK = 2_048
_FEW = 5
_FAR = 1e6


@dataclass(frozen=True)
class Neighbours:
    """Exact nearest neighbours by Euclidean distance in the compact view, by brute force on the device.

    The index is kept in order of the labels, so that the nearest of every label are found in one pass over the
    distances and the nearest of all are picked from those few.
    """

    points: torch.Tensor
    """(dimensions, records)."""
    squares: torch.Tensor
    """(records,) squared lengths of the points."""
    keys: NDArray[np.uint64]
    labels: NDArray[np.int64]
    """(records,) ascending."""
    classes: int
    k: int

    @classmethod
    def of(
        cls,
        compact: NDArray[np.float32],
        keys: NDArray[np.uint64],
        labels: NDArray[np.int64],
        classes: int,
        k: int,
        limit: int,
        device: torch.device,
    ) -> Neighbours:
        """Index the ``limit`` records with the smallest keys; labels count ``classes``, or are unknown."""
        import torch

        order = np.argsort(keys, kind="stable")[:limit]
        order = order[np.argsort(labels[order], kind="stable")]
        points = torch.as_tensor(compact[order], device=device)
        return cls(points.T.contiguous(), points.square().sum(dim=1), keys[order], labels[order], classes, k)

    def views(self, compact: NDArray[np.float32], keys: NDArray[np.uint64]) -> dict[str, NDArray[Any]]:
        """Each record's k nearest; records of equal content (equal key) are not their own neighbours.

        Returns:
            neighbour_distances: (rows, k) ascending.
            neighbour_labels: (rows, k) class indices.
            class_distances: (rows, classes) mean distance to the nearest few indexed records of each class.
        """
        known = np.isin(keys, self.keys)
        parts = []
        for start in range(0, max(len(compact), 1), _CHUNK):
            rows = slice(start, start + _CHUNK)
            own = keys[rows], np.flatnonzero(known[rows])
            parts.append(self._chunk(compact[rows], own))
        names = ("neighbour_distances", "neighbour_labels", "class_distances")
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}

    def _chunk(
        self, compact: NDArray[np.float32], own: tuple[NDArray[np.uint64], NDArray[np.int64]]
    ) -> tuple[NDArray[Any], ...]:
        import torch

        x = torch.as_tensor(compact, device=self.points.device)
        # Squared distances less the row's own square, which changes no order and is added to the few that are kept.
        apart = torch.addmm(self.squares, x, self.points, alpha=-2.0)
        for row in own[1]:
            apart[int(row), torch.as_tensor(np.flatnonzero(self.keys == own[0][row]))] = torch.inf
        found, places = [], []
        by_class = np.full((len(compact), self.classes), _FAR, dtype=np.float32)
        square = x.square().sum(dim=1, keepdim=True)
        starts = np.searchsorted(self.labels, np.unique(self.labels))
        for low, high in zip(starts, [*starts[1:], len(self.labels)], strict=True):
            near = apart[:, low:high].topk(min(self.k, int(high - low)), dim=1, largest=False)
            found.append(near.values)
            places.append(near.indices + int(low))
            # A record may be its label's only other one: its distance to itself is infinite, and this far is enough.
            if self.labels[low] != UNKNOWN_LABEL:
                few = (near.values[:, :_FEW] + square).clamp(0, _FAR**2).sqrt()
                by_class[:, self.labels[low]] = few.mean(dim=1).cpu().numpy()
        candidates = torch.cat(found, dim=1)
        nearest = candidates.topk(min(self.k, len(self.keys) - 1), dim=1, largest=False)
        index = torch.cat(places, dim=1).gather(1, nearest.indices).cpu().numpy()
        distances = (nearest.values + square).clamp(0, _FAR**2).sqrt().cpu().numpy()
        return distances, self.labels[index], by_class
