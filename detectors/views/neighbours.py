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
            other_distance: (rows,) the same to records of any other label.
        """
        import torch

        k = min(self.k, len(self.points) - 1)
        known = np.isin(keys, self.keys)
        indexed = torch.as_tensor(self.labels, device=self.points.device)
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
            same = torch.as_tensor(labels[rows], device=apart.device)[:, None] == indexed
            own.append(_mean_nearest(apart.masked_fill(~same, torch.inf)))
            other.append(_mean_nearest(apart.masked_fill_(same, torch.inf)))
        index = np.concatenate(indices)
        return {
            "neighbour_distances": np.concatenate(distances),
            "neighbour_labels": self.labels[index],
            "own_distance": np.concatenate(own),
            "other_distance": np.concatenate(other),
        }


def _mean_nearest(apart: torch.Tensor) -> NDArray[np.float32]:
    """(rows,) mean of the few smallest distances; a label with fewer records has a large but finite one."""
    nearest = apart.topk(min(_FEW, apart.shape[1]), dim=1, largest=False).values
    mean: NDArray[np.float32] = nearest.clamp_max(_FAR).mean(dim=1).cpu().numpy()
    return mean
