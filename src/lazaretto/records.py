"""The shapes a batch takes on its way through: files, batch, canonical partitions, rejects."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ROW = "_row"
"""Canonical column: position of the record in the input, counted over all files from 0 (UInt64)."""
RECORD_ID = "_record_id"
"""Canonical column: the contract's id as text; the content digest where it has none or it is personal (String)."""
DIGEST = "_digest"
"""Canonical column: hex digest of the record's contract columns; equal content, equal digest (String)."""

REJECT_COLUMNS = (ROW, "record_id", "file", "stage", "column", "reason", "original")
"""Columns of ``rejects.parquet``; ``stage`` is parse, contract or discarded; ``original`` holds the bytes that came."""

PARTITION_ROWS = 65_536
"""Most records in one canonical partition; a partition is what fits in memory many times over."""

OnStep = Callable[[str], None]
"""Called with a step's name when that step is about to start: progress for people, a crash point for tests."""

OnRows = Callable[[int], None]
"""Called with the number of records just finished within a step."""


def no_step(_name: str) -> None:
    """Ignore a step."""


def no_rows(_count: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class SourceFile:
    """One file as it arrived: where it came from, its digest, and the private copy that was hashed while read."""

    name: str
    """Path as the user would recognise it; for image folders relative to the folder given (``class/file.png``)."""
    sha256: str
    size: int
    """Bytes."""
    copy: Path
    """The snapshot's copy: the only bytes any later step reads."""
    root: str = ""
    """The folder given on the command line, for images in class folders; empty for a single file."""


@dataclass(frozen=True)
class Batch:
    """The files that arrived together. Equal content gives an equal id, whatever the files were called."""

    dataset: str
    files: tuple[SourceFile, ...]
    after: str = ""
    """The recall that took all of the same content out, where it may return: it is another batch then."""

    @property
    def id(self) -> str:
        """``b-`` and 20 hex digits of the SHA-256 over the data set's name and the files' digests.

        The order files are named in does not matter. Inside an image folder the relative path counts, because the
        class is the folder's name.
        """
        lines = sorted(f"{file.sha256} {file.name if file.root else ''}" for file in self.files)
        content = "\n".join([self.dataset, *lines, *([f"after {self.after}"] if self.after else [])])
        return "b-" + hashlib.sha256(content.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Parsed:
    """A batch after strict parsing: canonical Parquet partitions plus the records that did not parse."""

    batch: Batch
    partitions: tuple[Path, ...]
    """Canonical Parquet files, at most ``PARTITION_ROWS`` records each, ``_row`` ascending across them."""
    rejects: Path
    """Parquet with ``REJECT_COLUMNS``, ``_row`` ascending; present even when empty."""
    arrived: int
    rejected: int
    ignored_columns: tuple[str, ...] = ()
    """Columns of the input the contract does not name: neither judged nor stored."""
    holds: tuple[str, ...] = ()
    """Batch-level faults seen while parsing (a column the contract names is missing); each holds the batch."""
