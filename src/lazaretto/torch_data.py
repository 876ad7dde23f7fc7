"""Admitted records as a torch data set; in a module of its own because its base class is torch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lazaretto.loader import Admitted


class AdmittedRecords(IterableDataset[Any]):
    """One dict a record, or what ``transform`` makes of it.

    Args:
        admitted: What to read.
        transform: Called with each record's dict of column to value.
    """

    def __init__(self, admitted: Admitted, transform: Callable[[dict[str, Any]], Any] | None = None) -> None:
        super().__init__()
        self.admitted = admitted
        self.transform = transform

    def __iter__(self) -> Iterator[Any]:
        shard, shards = _share()
        # Not through polars: its threads do not survive the fork that makes a DataLoader's workers.
        for batch in self.admitted.arrow(shard=shard, shards=shards):
            for record in batch.to_pylist():
                yield record if self.transform is None else self.transform(record)


def _share() -> tuple[int, int]:
    """Which share of the files this process reads, and of how many: by rank, then by worker."""
    worker = get_worker_info()
    number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() * workers + number, torch.distributed.get_world_size() * workers
    return number, workers
