"""What a recall leaves in the ledger, what the ledger says of recalls, and which training runs read the records."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import polars as pl
from sqlalchemy import select

from lazaretto.attest import unchanged
from lazaretto.audit import digest_of
from lazaretto.durable import sync_file, sync_folder, write_durably
from lazaretto.errors import IntegrityViolated
from lazaretto.ledger import append_audit, discards_digest, remember_keyed
from lazaretto.pipelines.record import audit_entry, published
from lazaretto.tables import BatchRow, RecallRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sqlalchemy.orm import Session

    from lazaretto.attest import Attestation, Chain
    from lazaretto.config import Workspace
    from lazaretto.ledger import Ledger
    from lazaretto.pipelines.publish import Plan

LIST = "recalled.parquet"
"""What was taken out: batch, record id, store file, and the keyed digest by which it is refused when it comes back."""
REPORT = "report.html"
"""A recall as a page to hand on."""
RETURN = "return"
"""Key of a selection: ``yes`` where the records may come back."""


@dataclass(frozen=True)
class Reader:
    """A training run that read recalled records."""

    run: str
    version: int
    at: str


@dataclass(frozen=True)
class Recall:
    """One recall that was made."""

    unit: str
    dataset: str
    selection: dict[str, str]
    reason: str
    actor: str
    at: str
    records: int
    version: int
    """Store version without the records."""
    epoch: int
    batches: dict[str, int]
    """Batch -> how many of its records were taken out."""
    evidence: str
    """SHA-256 (hex) of the list of what was taken out."""
    readers: tuple[Reader, ...]
    """Training runs that read at least one of the files the records were in, oldest first."""


def read_list(workspace: Workspace, dataset: str, unit: str, digest: str) -> pl.DataFrame:
    """What a recall took out.

    Raises:
        IntegrityViolated: The list is not the one that was written.
    """
    path = workspace.recall(dataset, unit) / LIST
    return pl.read_parquet(unchanged(path, digest, "what was written when the records were recalled"))


def record_recall(session: Session, workspace: Workspace, plan: Plan, attestation: Attestation | None) -> None:
    """Write a recall into the ledger, unless it is there already.

    Raises:
        IntegrityViolated: The list of records is not the one the plan was made for.
    """
    if attestation is None:
        raise IntegrityViolated(f"the recall {plan.unit} took nothing out of the store")
    if session.get(RecallRow, plan.unit) is not None:
        return
    taken = read_list(workspace, plan.dataset, plan.unit, plan.digests["recalled"])
    session.add(
        RecallRow(
            id=plan.unit,
            dataset=plan.dataset,
            selection=json.dumps(plan.selection, sort_keys=True),
            reason=plan.reason,
            actor=plan.actor,
            at=plan.at,
            records=plan.counts["recalled"],
            version=attestation.version,
            epoch=attestation.epoch,
            evidence=plan.digests["recalled"],
        )
    )
    detail = {
        "counts": plan.counts,
        "digests": plan.digests,
        "selection": digest_of(plan.selection),
        "reason": digest_of(plan.reason),
        **published(attestation),
    }
    append_audit(session, audit_entry(plan, "recall.made", plan.unit, detail))
    if plan.selection.get(RETURN) == "yes":
        return
    for (batch,), mine in taken.group_by(["batch"], maintain_order=True):
        row = session.get(BatchRow, batch)
        if row is None:
            raise IntegrityViolated(f"the ledger does not know batch {batch}, of which records are recalled")
        new = remember_keyed(session, row, mine["keyed"].to_list(), plan.at)
        session.flush()
        said = {"batch": row.id, "remembered": new, "discards": discards_digest(session, plan.dataset, row.id, plan.at)}
        append_audit(session, audit_entry(plan, "recall.remembered", plan.unit, said))


def readers(session: Session, chain: Chain, paths: Iterable[str]) -> tuple[Reader, ...]:
    """The training runs that were let through to a version which one of these files, or what it remains of, was in."""
    wanted = {name for path in paths for name in chain.lineage(path)}
    runs = session.scalars(select(RunRow).where(RunRow.dataset == chain.dataset).order_by(RunRow.at, RunRow.run))
    held: dict[int, bool] = {}
    found = []
    for run in runs:
        if run.epoch not in held:
            held[run.epoch] = not wanted.isdisjoint(chain.files(run.epoch))
        if held[run.epoch]:
            found.append(Reader(run.run, run.version, run.at))
    return tuple(found)


@dataclass(frozen=True)
class Gone:
    """The last recall that took records of a batch out."""

    unit: str
    whole: bool
    """Nothing of the batch is left in the store."""
    may_return: bool


def last_recall(session: Session, chain: Chain, batch: str) -> Gone | None:
    """The last recall that took records of a batch out, if any did."""
    brought = {file.path for entry in chain.attestations if entry.batch == batch for file in entry.added}
    for entry in reversed(chain.attestations):
        if any(chain.lineage(path)[-1] in brought for path in entry.removed):
            row = session.get(RecallRow, entry.unit)
            may_return = row is not None and json.loads(row.selection).get(RETURN) == "yes"
            active = chain.files(len(chain.attestations))
            return Gone(entry.unit, not any(chain.lineage(path)[-1] in brought for path in active), may_return)
    return None


def described(session: Session, workspace: Workspace, chain: Chain, row: RecallRow) -> Recall:
    """One recall with what it touched."""
    taken = read_list(workspace, row.dataset, row.id, row.evidence)
    return Recall(
        unit=row.id,
        dataset=row.dataset,
        selection=json.loads(row.selection),
        reason=row.reason,
        actor=row.actor,
        at=row.at,
        records=row.records,
        version=row.version,
        epoch=row.epoch,
        evidence=row.evidence,
        batches=dict(taken.group_by("batch", maintain_order=True).len().iter_rows()),
        readers=readers(session, chain, taken["file"].unique().to_list()),
    )


def recall_made(ledger: Ledger, chain: Chain, unit: str) -> Recall:
    """A recall of this id.

    Raises:
        IntegrityViolated: The ledger does not know it.
    """
    with ledger.reading() as session:
        row = session.get(RecallRow, unit)
        if row is None:
            raise IntegrityViolated(f"the ledger does not know the recall {unit} that was just made")
        return described(session, ledger.workspace, chain, row)


def report_recall(ledger: Ledger, chain: Chain, unit: str) -> None:
    """Write the page of a recall, to last: it is part of what is made, so that a kill does not leave it out."""
    from lazaretto.dashboards.recalled import render_recall

    page = render_recall(
        asdict(recall_made(ledger, chain, unit)), ledger.workspace.recall(chain.dataset, unit) / REPORT
    )
    sync_file(page)
    sync_folder(page.parent)


def write_list(path: Path, taken: pl.DataFrame) -> str:
    """Write the list of a recall, to last; gives its SHA-256 (hex)."""
    out = io.BytesIO()
    taken.write_parquet(out)
    write_durably(path, out.getvalue())
    return hashlib.sha256(out.getvalue()).hexdigest()
