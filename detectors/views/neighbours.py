"""The nearest records of the fitted sample, found once and read by several detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_CHUNK = 2_048
_FEW = 5
_FAR = 1e6


@dataclass(frozen=True)
class Neighbours:
    """Exact nearest neighbours by Euclidean distance in the compact view, by brute force on the device."""

    points: torch.Tensor
    """(records, dimensions)."""
    keys: NDArray[np.uint64]
    labels: NDArray[np.int64]
    k: int

    @classmethod
    def of(
        cls,
        compact: NDArray[np.float32],
        keys: NDArray[np.uint64],
        labels: NDArray[np.int64],
        k: int,
        limit: int,
        device: torch.device,
    ) -> Neighbours:
        """Index the ``limit`` records with the smallest keys."""
        import torch

        order = np.argsort(keys, kind="stable")[:limit]
        return cls(torch.as_tensor(compact[order], device=device), keys[order], labels[order], k)

    def views(
        self, compact: NDArray[np.float32], keys: NDArray[np.uint64], labels: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Each record's k nearest; records of equal content (equal key) are not their own neighbours.

        Returns:
            neighbour_distances: (rows, k) ascending.
            neighbour_labels: (rows, k) class indices.
            own_distance: (rows,) mean distance to the nearest few indexed records of the same label.
            other_distance: (rows,) the same to the nearest of the other labels.
        """
        import torch

        k = min(self.k, len(self.points) - 1)
        known = np.isin(keys, self.keys)
        distances, indices, own, other = [], [], [], []
        for start in range(0, max(len(compact), 1), _CHUNK):
            rows = slice(start, start + _CHUNK)
            with torch.no_grad():
                apart = torch.cdist(torch.as_tensor(compact[rows], device=self.points.device), self.points)
                for row in np.flatnonzero(known[rows]):
                    apart[int(row), torch.as_tensor(np.flatnonzero(self.keys == keys[rows][row]))] = torch.inf
                nearest = apart.topk(k, dim=1, largest=False)
            distances.append(nearest.values.cpu().numpy())
            indices.append(nearest.indices.cpu().numpy())
            mine, theirs = _by_label(apart, self.labels, labels[rows])
            own.append(mine)
            other.append(theirs)
        index = np.concatenate(indices)
        return {
            "neighbour_distances": np.concatenate(distances),
            "neighbour_labels": self.labels[index],
            "own_distance": np.concatenate(own),
            "other_distance": np.concatenate(other),
        }


def _by_label(
    apart: torch.Tensor, indexed: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(rows,) mean distance to the few nearest of the own label, and of the nearest other label.

    Args:
        apart: (rows, indexed records) distances.
        indexed: (indexed records,) labels.
        labels: (rows,) labels.
    """
    own = np.full(len(labels), _FAR, dtype=np.float32)
    other = np.full(len(labels), _FAR, dtype=np.float32)
    for label in np.unique(indexed):
        block = apart[:, np.flatnonzero(indexed == label)]
        nearest = block.topk(min(_FEW, block.shape[1]), dim=1, largest=False).values
        # A record may be its label's only other one: its distance to itself is infinite, and this far is far enough.
        mean = nearest.clamp_max(_FAR).mean(dim=1).cpu().numpy()
        mine = labels == label
        own[mine] = mean[mine]
        other[~mine] = np.minimum(other[~mine], mean[~mine])
    return own, other
