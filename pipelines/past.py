"""The ledger's side of the window: what is remembered of batches, what was found, and who of the store carries it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sqlalchemy import select

from lazaretto.attest import unchanged
from lazaretto.audit import Entry, digest_of
from lazaretto.errors import Blocked, IntegrityViolated, UsageError
from lazaretto.keys import derived_key, master_key
from lazaretto.ledger import append_audit
from lazaretto.parquet import read_parquet
from lazaretto.pipelines.account import VERDICTS
from lazaretto.pipelines.look_back import FINDINGS, MEMORY, read_findings
from lazaretto.pipelines.marks import marker_of
from lazaretto.pipelines.memory import Memory
from lazaretto.pipelines.window import Carried, Past
from lazaretto.records import RECORD_ID
from lazaretto.store import BATCH_ID
from lazaretto.tables import BatchRow, FindingRow, MemoryRow, RecallRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.ledger import Ledger
    from lazaretto.pipelines.publish import Plan

CARRIERS = "carriers.parquet"
"""Admitted records that carry a finding: finding, batch, record id; beside what else is kept of a judging."""
_COLUMNS = {"finding": pl.String, "batch": pl.String, "record_id": pl.String}


def load_past(workspace: Workspace, ledger: Ledger, contract: Contract) -> Past:
    """What is remembered of a data set's last batches; a batch that was recalled is forgotten.

    Raises:
        IntegrityViolated: A memory is not the one that was written when its batch was judged.
    """
    key = window_key(workspace)
    before = contract.policy.window - 1
    if before < 1:
        return Past(key)
    with ledger.reading() as session:
        gone = _recalled(session, contract.dataset)
        rows = select(BatchRow, MemoryRow.content).join(MemoryRow, MemoryRow.batch_id == BatchRow.id)
        mine = rows.where(BatchRow.dataset == contract.dataset)
        mine = mine.order_by(BatchRow.ingested_at.desc(), BatchRow.id.desc())
        last = session.execute(mine.limit(before + len(gone))).all()
        kept = [(row, content) for row, content in last if row.id not in gone][:before]
        memories = tuple((row.id, read_memory(row, content)) for row, content in reversed(kept))
        return Past(key, memories, frozenset(row.id for row, _ in kept if row.state in {"admitted", "released"}))


def window_key(workspace: Workspace) -> bytes:
    """The workspace's secret for what is remembered."""
    return derived_key(master_key(workspace.keys), "memory of batches")


def read_memory(row: BatchRow, content: bytes) -> Memory:
    """What is remembered of a batch.

    Raises:
        IntegrityViolated: It is not what was written.
    """
    if not same_memory(row, content):
        raise IntegrityViolated(
            f"what the ledger remembers of batch {row.id} is not what was written when it was judged",
            hint="lazaretto verify says what else was altered; restore the ledger from a backup",
        )
    return Memory.from_bytes(content)


def same_memory(row: BatchRow, content: bytes) -> bool:
    """Whether a memory is the one that the batch's digests are of."""
    try:
        digest = json.loads(row.digests).get("memory")
    except (ValueError, AttributeError, RecursionError):
        return False
    return bool(hashlib.sha256(content).hexdigest() == digest)


def _recalled(session: Session, dataset: str) -> set[str]:
    """Batches that were recalled as such."""
    told = session.scalars(select(RecallRow.selection).where(RecallRow.dataset == dataset))
    found = [json.loads(selection) for selection in told]
    return {selection["value"] for selection in found if selection.get("by") == "batch"}


def record_window(session: Session, workspace: Workspace, plan: Plan) -> None:
    """Write what is to be remembered of a batch, and what was found, within the transaction that records the batch.

    Raises:
        IntegrityViolated: The files are not those the plan was made for.
    """
    if "memory" not in plan.digests:
        return
    folder = workspace.batch(plan.batch)
    content = _read(folder / MEMORY, plan.digests["memory"])
    session.add(MemoryRow(batch_id=plan.batch, dataset=plan.dataset, content=content))
    findings = read_findings(_read(folder / FINDINGS, plan.digests["window"]))
    carriers = pl.DataFrame(schema=_COLUMNS)
    if "carriers" in plan.digests:
        _read(folder / CARRIERS, plan.digests["carriers"])
        carriers = read_parquet(folder / CARRIERS)
    for finding in findings:
        row = FindingRow(
            id=finding.id(plan.batch),
            dataset=plan.dataset,
            batch_id=plan.batch,
            at=plan.at,
            kind=finding.kind,
            says=finding.says,
            detail=json.dumps(finding.told, sort_keys=True),
            admitted=carriers.filter(pl.col("finding") == finding.id(plan.batch)).height,
        )
        session.add(row)
        append_audit(session, Entry(0, plan.at, plan.actor, "window.found", plan.dataset, row.id, told_of(row)))


def told_of(row: FindingRow) -> dict[str, Any]:
    """What the audit log says of a finding: no content, but a digest of all that the ledger has."""
    said = [row.id, row.batch_id, row.at, row.kind, row.says, row.detail, row.admitted]
    return {"batch": row.batch_id, "kind": row.kind, "finding": digest_of(said)}


def list_carriers(
    workspace: Workspace, contract: Contract, batch: str, folder: Path, past: Callable[[], Past | None]
) -> None:
    """Write which admitted records of the window carry what was found, if anything was, beside it.

    Args:
        workspace: Whose store.
        contract: The data set's.
        batch: The batch that was judged.
        folder: What its judging wrote.
        past: Gives what it was looked back on; asked only if something was found.
    """
    if not (folder / FINDINGS).exists():
        return
    content = (folder / FINDINGS).read_bytes()
    findings = read_findings(content)
    if not findings:
        return
    known, sides = past(), json.loads(content)["sides"]
    if known is None:
        return
    parts = [pl.DataFrame(schema=_COLUMNS)]
    batches = [name for name, _ in known.batches]
    for frame in _admitted(workspace, contract, batches):
        marker = marker_of(known.key, contract, sides)
        low = _p_values(workspace, frame)
        seen = Carried(
            marker.valued("source", frame, contract.source),
            marker.valued("label", frame, contract.label),
            low,
            # Which labels the probe contradicted is not kept: of a source with wrong labels all records are listed.
            np.ones(len(frame), dtype=np.bool_),
            marker.tokens(frame),
            marker.looks(frame),
        )
        for finding in findings:
            mine = frame.filter(pl.Series(finding.carried_by(seen)))
            which = pl.lit(finding.id(batch)).alias("finding")
            parts.append(mine.select(which, batch=BATCH_ID, record_id=RECORD_ID))
    pl.concat(parts).write_parquet(folder / CARRIERS)


def _admitted(workspace: Workspace, contract: Contract, batches: Sequence[str]) -> list[pl.DataFrame]:
    """The admitted records of some batches, as canonical columns."""
    from lazaretto.loader import opened

    roles = [name for name in (contract.label, contract.source) if name is not None]
    columns = list(dict.fromkeys([*contract.feature_names, *roles, RECORD_ID, BATCH_ID]))
    try:
        admitted = opened(workspace, contract.dataset, columns=columns)
    except Blocked:
        return []
    wanted = pl.col(BATCH_ID).is_in(list(batches))
    frames = (frame.filter(wanted) for frame in admitted.frames())
    return [frame for frame in frames if len(frame)]


def _p_values(workspace: Workspace, frame: pl.DataFrame) -> Any:  # noqa: ANN401  an array
    """(rows,) p-values that admitted records were judged to have; NaN where that is not kept."""
    said = []
    for name in frame[BATCH_ID].unique().sort().to_list():
        path = workspace.batch(name) / VERDICTS
        if path.exists():
            told = read_parquet(path, columns=["record_id", "p_value"]).unique("record_id", keep="first")
            said.append(told.select(pl.lit(name).alias(BATCH_ID), pl.col("record_id").alias(RECORD_ID), "p_value"))
    if not said:
        return np.full(len(frame), np.nan)
    joined = frame.select(BATCH_ID, RECORD_ID).join(
        pl.concat(said), on=[BATCH_ID, RECORD_ID], how="left", maintain_order="left"
    )
    # A record whose p-value is not kept carries no mild suspicion.
    return joined["p_value"].fill_null(1.0).to_numpy()


def list_findings(ledger: Ledger, dataset: str | None = None) -> list[dict[str, Any]]:
    """What windows showed, newest first."""
    rows = select(FindingRow).order_by(FindingRow.at.desc(), FindingRow.id)
    with ledger.reading() as session:
        return [
            {
                "id": row.id,
                "dataset": row.dataset,
                "batch": row.batch_id,
                "at": row.at,
                "kind": row.kind,
                "says": row.says,
                "admitted": row.admitted,
                **{key: value for key, value in json.loads(row.detail).items() if key not in {"kind", "says"}},
            }
            for row in session.scalars(rows if dataset is None else rows.where(FindingRow.dataset == dataset))
        ]


def carriers_of(workspace: Workspace, session: Session, finding: str) -> tuple[str, pl.DataFrame]:
    """The data set of a finding, and ``batch`` and ``record_id`` of the admitted records that carried it.

    Raises:
        UsageError: There is no such finding, or nothing admitted carried it.
        IntegrityViolated: The list is not the one that was written.
    """
    row = session.get(FindingRow, finding)
    if row is None:
        raise UsageError(f"there is no finding {finding}", hint="lazaretto findings lists them")
    batch = session.get_one(BatchRow, row.batch_id)
    path = workspace.batch(row.batch_id) / CARRIERS
    digest = json.loads(batch.digests).get("carriers")
    if digest is not None:
        _read(path, digest)
    listed = read_parquet(path).filter(pl.col("finding") == finding) if digest is not None else pl.DataFrame()
    if not len(listed):
        raise UsageError(
            f"no record in the store carried {finding} when it was found", hint="what carries it since then waits"
        )
    return row.dataset, listed.select("batch", "record_id")


def _read(path: Path, digest: str) -> bytes:
    return unchanged(path, digest, "what was written when the batch was judged")
