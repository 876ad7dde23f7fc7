"""What the ledger remembers, found and added to trusted sets, against the batches' digests and the audit log."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from lazaretto.pipelines import past, vouching
from lazaretto.tables import FindingRow, MemoryRow, TrustedActRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from lazaretto.audit import Entry
    from lazaretto.tables import BatchRow


@dataclass(frozen=True)
class Remembered:
    """A data set's rows of the window's tables.

    Attributes:
        memories: Batch -> SHA-256 of what is remembered of it.
        findings: Id -> what the audit log should say of it.
        acts: The same of additions to the trusted set and their reversals.
    """

    memories: Mapping[str, str]
    findings: Mapping[str, dict[str, Any]]
    acts: Mapping[str, dict[str, Any]]


def read_remembered(session: Session, dataset: str) -> Remembered:
    """What the ledger has of a data set."""
    stored = session.execute(select(MemoryRow.batch_id, MemoryRow.content).where(MemoryRow.dataset == dataset))
    found = session.scalars(select(FindingRow).where(FindingRow.dataset == dataset))
    acts = session.scalars(select(TrustedActRow).where(TrustedActRow.dataset == dataset))
    return Remembered(
        {batch: hashlib.sha256(content).hexdigest() for batch, content in stored},
        {row.id: past.told_of(row) for row in found},
        {row.id: vouching.told_of(row) for row in acts},
    )


def window_findings(mine: Remembered, batches: Iterable[BatchRow], entries: Sequence[Entry]) -> Iterator[str]:
    """One sentence for each way in which these are not what was written."""
    digests = {row.id: json.loads(row.digests).get("memory") for row in batches}
    for batch in sorted(mine.memories.keys() | {batch for batch, digest in digests.items() if digest is not None}):
        if mine.memories.get(batch) != digests.get(batch):
            yield f"what the ledger remembers of batch {batch} is not what was written when it was judged"
    for rows, actions, what in (
        (mine.findings, {"window.found"}, "finding"),
        (mine.acts, {"trusted.added", "trusted.reverted"}, "the trusted set's act"),
    ):
        told = {entry.subject: entry.detail for entry in entries if entry.action in actions}
        for name in sorted(told.keys() | rows.keys()):
            if name not in rows:
                yield f"{what} {name} is in the audit log but gone from the ledger"
            elif rows[name] != told.get(name):
                yield f"{what} {name} is not the one the audit log tells of"
