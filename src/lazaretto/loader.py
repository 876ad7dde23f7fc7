"""Admitted data for training code: polars frames, Arrow batches or a torch data set, of bytes that were verified.

A file is read once, whole, into memory; those bytes are hashed, held against the attestation, and those same bytes are
parsed. Nothing can be exchanged between the check and the use.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazaretto.entrance import enter
from lazaretto.errors import Blocked, IntegrityViolated, UsageError
from lazaretto.gatekeeper import answer, passed, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import polars as pl
    import pyarrow as pa
    from torch.utils.data import IterableDataset

    from lazaretto.attest import Attestation, StoreFile
    from lazaretto.config import Workspace

RECORD_ID = "_record_id"
"""Store column with each record's id; given out when asked for by name."""
_INTERNAL = (RECORD_ID, "_batch_id", "_verdict")


def open_admitted(
    dataset: str,
    version: int | None = None,
    workspace: Workspace | str | Path | None = None,
    *,
    columns: Sequence[str] | None = None,
    run: str | None = None,
) -> Admitted:
    """Open what was admitted to a data set, through the gate.

    Args:
        dataset: The data set.
        version: A store version; the newest by default. Name it, and a training run can be repeated.
        workspace: The workspace or its folder; found from the current folder by default.
        columns: The columns wanted, in this order; by default all of the contract's.
        run: Id of the training run, recorded as a reader of that version: a recall names it.

    Raises:
        Blocked: The gate says no.
        IntegrityViolated: Store or attestations are not what was signed.
        UsageError: No workspace, or a column that is not there.
        Forbidden: The workspace has accounts, and whoever asks is not known there or may not read.
    """
    place = enter(workspace, "data.read", dataset)
    return _opened(place, passed(place, dataset, version=version, run=run), columns)


def opened(
    place: Workspace,
    dataset: str,
    version: int | None = None,
    *,
    columns: Sequence[str] | None = None,
) -> Admitted:
    """As `open_admitted`, for whoever came in already and does not train: the gate tells and counts nothing of it."""
    return _opened(place, answer(place, dataset, version=version), columns)


def _opened(place: Workspace, attestation: Attestation, columns: Sequence[str] | None) -> Admitted:
    dataset = attestation.dataset
    chain = require(place, dataset)
    files = tuple(chain.files(attestation.epoch).values())
    if not files:
        raise Blocked(f"version {attestation.version} of {dataset} holds no records")
    admitted = Admitted(attestation, place.store(dataset), files, ())
    known = admitted.stored_columns()
    chosen = tuple(columns) if columns is not None else tuple(name for name in known if name not in _INTERNAL)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise UsageError(f"{dataset} has no column {unknown[0]!r}", hint=f"its columns: {', '.join(known)}")
    return Admitted(attestation, place.store(dataset), files, chosen)


@dataclass(frozen=True)
class Admitted:
    """Admitted records of one store version; iterate as often as you like, every pass verifies anew."""

    attestation: Attestation
    folder: Path
    """The store's."""
    files: tuple[StoreFile, ...]
    """In the order they were published."""
    columns: tuple[str, ...]

    @property
    def version(self) -> int:
        """The store version."""
        return self.attestation.version

    def __len__(self) -> int:
        return sum(file.rows for file in self.files)

    def frames(self, *, shard: int = 0, shards: int = 1) -> Iterator[pl.DataFrame]:
        """The records as polars frames, one a store file.

        Args:
            shard: Which share of the files, counted from 0.
            shards: Into how many shares they are dealt.

        Raises:
            IntegrityViolated: A file is not the attested one; frames given out before it were.
        """
        import polars as pl

        for content in self._ahead(self.files[shard::shards]):
            yield pl.read_parquet(io.BytesIO(content), columns=list(self.columns)).select(self.columns)

    def arrow(self, *, shard: int = 0, shards: int = 1) -> Iterator[pa.RecordBatch]:
        """The records as Arrow record batches; arguments and errors as for `frames`."""
        import pyarrow.parquet as pq

        for file in self.files[shard::shards]:
            with pq.ParquetFile(io.BytesIO(self._verified(file))) as parquet:
                # One thread: a DataLoader's workers are forked, and threads do not live through that.
                for batch in parquet.iter_batches(columns=list(self.columns), use_threads=False):
                    yield batch.select(self.columns)

    def torch(self, transform: Callable[[dict[str, Any]], Any] | None = None) -> IterableDataset[Any]:
        """The records as a torch ``IterableDataset``, one dict a record.

        Args:
            transform: Called with each record's dict of column to value; what it gives is given out instead.

        Store files are dealt out to the workers of a ``DataLoader``, and to the ranks of ``torch.distributed`` where
        that is initialised; so more workers than files leave some idle.
        """
        from lazaretto.torch_data import AdmittedRecords

        return AdmittedRecords(self, transform)

    def stored_columns(self) -> tuple[str, ...]:
        """Every column of the store, with those that start with ``_``."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(io.BytesIO(self._verified(self.files[-1]))) as parquet:
            return tuple(parquet.schema_arrow.names)

    def _ahead(self, files: Sequence[StoreFile]) -> Iterator[bytes]:
        """The verified bytes of files, in order; the next is read and hashed while one is parsed."""
        with ThreadPoolExecutor(max_workers=1) as beside:
            coming: deque[Future[bytes]] = deque()
            for file in files:
                coming.append(beside.submit(self._verified, file))
                if len(coming) > 1:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def _verified(self, file: StoreFile) -> bytes:
        return verified_bytes(self.folder, file)


def verified_bytes(folder: Path, file: StoreFile) -> bytes:
    """All of a store file, once it is known to be the attested one.

    Raises:
        IntegrityViolated: It is not, or cannot be read.
    """
    path = folder / file.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityViolated(f"store file {path} cannot be read: {error.strerror}") from error
    if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
        raise IntegrityViolated(
            f"store file {path} is not the one that was attested", hint="stop training; lazaretto verify says more"
        )
    return content
