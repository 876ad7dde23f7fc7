"""What a publication leaves in the ledger: batch, cases, decisions, and the audit entry, all in one transaction."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import polars as pl
from sqlalchemy import insert, select, update

from lazaretto.attest import BATCH_RELEASE, RELEASE, unchanged
from lazaretto.audit import Entry, digest_of
from lazaretto.errors import IntegrityViolated
from lazaretto.ledger import append_audit
from lazaretto.parquet import scan_parquet
from lazaretto.pipelines.account import EVIDENCE, VERDICTS
from lazaretto.pipelines.past import record_window
from lazaretto.proposals import done
from lazaretto.records import ROW
from lazaretto.tables import BatchRow, CaseRow, DecisionRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy.orm import Session

    from lazaretto.attest import Attestation
    from lazaretto.config import Workspace
    from lazaretto.pipelines.publish import Plan

_CHUNK = 5_000
"""Cases inserted at a time."""


def record(session: Session, workspace: Workspace, plan: Plan, attestation: Attestation | None) -> None:
    """Write a plan's outcome into the ledger, unless it is there already.

    Raises:
        IntegrityViolated: The batch's verdicts or evidence are not what the plan was made for.
    """
    if plan.kind in {RELEASE, BATCH_RELEASE}:
        _record_release(session, plan, attestation)
    else:
        _record_batch(session, workspace, plan, attestation)


def case_id(batch: str, row: int) -> str:
    """A case's id: ten digits of its batch and the record's position in it."""
    return f"{batch.removeprefix('b-')[:10]}-{row}"


def audit_entry(plan: Plan, action: str, subject: str, detail: dict[str, Any]) -> Entry:
    """An audit entry of a plan's doer and time."""
    return Entry(0, plan.at, plan.actor, action, plan.dataset, subject, detail)


def published(attestation: Attestation | None) -> dict[str, Any]:
    """What an audit entry says of the attestation that came of it."""
    if attestation is None:
        return {}
    return {"version": attestation.version, "epoch": attestation.epoch, "attestation": attestation.digest}


def _record_batch(session: Session, workspace: Workspace, plan: Plan, attestation: Attestation | None) -> None:
    if session.get(BatchRow, plan.batch) is not None:
        return
    session.add(
        BatchRow(
            id=plan.batch,
            dataset=plan.dataset,
            state="held" if plan.kind == "hold" else "admitted",
            ingested_at=plan.at,
            actor=plan.actor,
            hold_reasons=json.dumps(plan.hold_reasons),
            version=attestation.version if attestation else None,
            epoch=attestation.epoch if attestation else None,
            digests=json.dumps(plan.digests, sort_keys=True),
            **plan.counts,
        )
    )
    session.flush()
    cases = read_cases(workspace.batch(plan.batch), plan.digests)
    if cases.height != plan.counts["suspects"]:
        raise IntegrityViolated(f"{workspace.batch(plan.batch)} does not hold the evidence of {plan.batch}")
    common = {"dataset": plan.dataset, "batch_id": plan.batch, "state": "open", "assignee": None}
    for chunk in cases.iter_slices(_CHUNK):
        rows = [
            {
                **common,
                "id": case_id(plan.batch, case[ROW]),
                "row": case[ROW],
                **{name: case[name] for name in ("record_id", "suspicion", "p_value", "q_value", "evidence")},
                "reasons": json.dumps(case["reasons"]),
            }
            for case in chunk.iter_rows(named=True)
        ]
        session.execute(insert(CaseRow), rows)
    action = "batch.held" if plan.kind == "hold" else "batch.admitted"
    detail = {
        "counts": plan.counts,
        "digests": plan.digests,
        "hold_reasons": digest_of(list(plan.hold_reasons)),
        **published(attestation),
    }
    append_audit(session, audit_entry(plan, action, plan.batch, detail))
    record_window(session, workspace, plan)


def filed(case: Mapping[str, Any]) -> str:
    """A digest of what a case is about: the record it stands for, and everything an analyst is shown of it."""
    names = (ROW, "record_id", "suspicion", "p_value", "q_value", "evidence", "reasons")
    return hashlib.sha256(json.dumps([case[name] for name in names]).encode()).hexdigest()


def filed_row(case: CaseRow) -> str:
    """The same of a case as the ledger has it.

    Raises:
        ValueError: Its reasons cannot be read.
        TypeError: The same.
        RecursionError: The same.
    """
    names = ("record_id", "suspicion", "p_value", "q_value", "evidence")
    return filed({**{name: getattr(case, name) for name in names}, ROW: case.row, "reasons": json.loads(case.reasons)})


def read_cases(folder: Path, digests: dict[str, str]) -> pl.DataFrame:
    """The suspects of a batch with verdict and evidence, most suspicious first.

    Raises:
        IntegrityViolated: The files are not those the digests are of.
    """
    for name, key in ((VERDICTS, "verdicts"), (EVIDENCE, "evidence")):
        unchanged(folder / name, digests[key], "what was judged")
    wanted = ("record_id", "suspicion", "p_value", "q_value", "reasons")
    verdicts = scan_parquet(folder / VERDICTS).select(*wanted).with_row_index(ROW).cast({ROW: pl.UInt64})
    suspects = scan_parquet(folder / EVIDENCE).filter("suspect").select(ROW, "evidence")
    numbers = [pl.col(name).fill_nan(None) for name in ("suspicion", "p_value", "q_value")]
    cases = verdicts.join(suspects, on=ROW).with_columns(numbers)
    return cases.sort("p_value", "suspicion", ROW, descending=[False, True, False], nulls_last=False).collect()


def _record_release(session: Session, plan: Plan, attestation: Attestation | None) -> None:
    if session.scalar(select(DecisionRow.id).where(DecisionRow.unit == plan.unit).limit(1)) is not None:
        return
    common = {"batch_id": plan.batch, "action": "release", "reason": plan.reason, "actor": plan.actor, "at": plan.at}
    decided: tuple[str | None, ...] = plan.cases or (None,)
    for start in range(0, len(decided), _CHUNK):
        chunk = decided[start : start + _CHUNK]
        rows = [{**common, "unit": plan.unit, "case_id": case, "assignee": None} for case in chunk]
        session.execute(insert(DecisionRow), rows)
    for start in range(0, len(plan.cases), 500):  # SQLite limits the number of parameters
        chosen = CaseRow.id.in_(plan.cases[start : start + 500])
        session.execute(update(CaseRow).where(chosen).values(state="released"))
    if plan.kind == BATCH_RELEASE:
        session.execute(update(BatchRow).where(BatchRow.id == plan.batch).values(state="released"))
    action = "batch.released" if plan.kind == BATCH_RELEASE else "case.released"
    detail = {
        "batch": plan.batch,
        "cases": list(plan.cases),
        "counts": plan.counts,
        "reason": digest_of(plan.reason),
        **({"proposal": plan.proposal} if plan.proposal else {}),
        **published(attestation),
    }
    append_audit(session, audit_entry(plan, action, plan.unit, detail))
    if plan.proposal:
        done(session, plan.actor, plan.proposal, plan.at)
