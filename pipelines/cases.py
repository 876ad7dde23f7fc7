"""Looking at what waits: cases, the records behind them, and what was decided so far. Changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from lazaretto.contract import load_contract
from lazaretto.errors import ContractError, IntegrityViolated, UsageError
from lazaretto.keys import master_key
from lazaretto.ledger import open_ledger
from lazaretto.pipelines.record import case_id
from lazaretto.quarantine import Identity, Quarantined
from lazaretto.records import DIGEST, RECORD_ID, ROW
from lazaretto.tables import FINAL, BatchRow, CaseRow, DecisionRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace

STATES = ("open", "released", "discarded")
MASKED = "(personal data, not shown)"
_CHUNK = 500
"""Ids in one query: SQLite limits the number of parameters."""


@dataclass(frozen=True)
class Case:
    """One quarantined record and why it waits."""

    id: str
    dataset: str
    batch: str
    row: int
    """Position of the record in its batch."""
    record_id: str
    suspicion: float | None
    p_value: float | None
    q_value: float | None
    reasons: tuple[str, ...]
    evidence: tuple[dict[str, Any], ...]
    state: str
    """``open``, ``released`` or ``discarded``."""
    assignee: str | None
    waiting_since: str


@dataclass(frozen=True)
class Decision:
    """What a person did."""

    action: str
    reason: str
    actor: str
    at: str
    assignee: str | None


@dataclass(frozen=True)
class CaseFile:
    """A case with everything there is about it."""

    case: Case
    record: dict[str, Any]
    """Column -> value, decrypted; columns the contract calls personal are masked unless asked for."""
    decisions: tuple[Decision, ...]


def list_cases(
    workspace: Workspace,
    *,
    dataset: str | None = None,
    batch: str | None = None,
    state: str | None = "open",
    assignee: str | None = None,
    limit: int = 50,
    offset: int = 0,
) -> list[Case]:
    """Cases, the most suspicious first.

    Args:
        workspace: Where the ledger is.
        dataset: Only of this data set.
        batch: Only of this batch.
        state: Only in this state; None for all.
        assignee: Only those assigned to this person.
        limit: Most to give.
        offset: How many to leave out first.

    Raises:
        UsageError: The state is none.
    """
    if state is not None and state not in STATES:
        raise UsageError(f"{state!r} is no state of a case", hint=f"one of: {', '.join(STATES)}")
    query = select(CaseRow, BatchRow.ingested_at).join(BatchRow, CaseRow.batch_id == BatchRow.id)
    query = query.where(*_conditions(dataset, batch, state))
    if assignee is not None:
        query = query.where(CaseRow.assignee == assignee)
    # Against few calibration records many share the smallest p-value; the fused score still tells them apart. What has
    # no number is the most suspicious (nulls are put first by hand: SQLite and PostgreSQL differ).
    strongest = (
        CaseRow.p_value.is_not(None),
        CaseRow.p_value,
        CaseRow.suspicion.is_not(None),
        CaseRow.suspicion.desc(),
    )
    query = query.order_by(*strongest, CaseRow.batch_id, CaseRow.row)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        return [_case(row, since) for row, since in session.execute(query.limit(limit).offset(offset))]


def count_cases(workspace: Workspace, *, dataset: str | None = None, batch: str | None = None) -> dict[str, int]:
    """How many cases are in each state."""
    query = select(CaseRow.state, func.count()).where(*_conditions(dataset, batch, None)).group_by(CaseRow.state)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        found = {state: count for state, count in session.execute(query)}  # noqa: C416  rows are not typed as pairs
    return {state: found.get(state, 0) for state in STATES}


def show_case(workspace: Workspace, case: str, *, personal: bool = False) -> CaseFile:
    """A case with its record, decrypted, and the decisions on it.

    Args:
        workspace: Where ledger and quarantine are.
        case: The case's id.
        personal: Also show columns that the contract marks ``pii``.

    Raises:
        UsageError: There is no such case.
        IntegrityViolated: The record cannot be read back as it was sealed.
    """
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        row = cases_by_id(session, [case])[0]
        since = session.scalars(select(BatchRow.ingested_at).where(BatchRow.id == row.batch_id)).one()
        said = session.scalars(select(DecisionRow).where(DecisionRow.case_id == case).order_by(DecisionRow.id))
        decisions = tuple(Decision(item.action, item.reason, item.actor, item.at, item.assignee) for item in said)
        found = _case(row, since)
    quarantined = open_quarantine(workspace, found.dataset, found.batch)
    record = quarantined.select([found.row]).drop(ROW, RECORD_ID, DIGEST).row(0, named=True)
    hidden = set() if personal else _personal(workspace, found.dataset, set(record))
    return CaseFile(found, {name: MASKED if name in hidden else value for name, value in record.items()}, decisions)


def open_quarantine(workspace: Workspace, dataset: str, batch: str) -> Quarantined:
    """A batch's quarantine, opened with the workspace's master key."""
    identity = Identity(dataset, batch)
    return Quarantined(workspace.quarantine(dataset, batch), identity, master_key(workspace.keys))


def cases_by_id(session: Session, ids: Sequence[str]) -> list[CaseRow]:
    """The cases with these ids, in that order.

    Raises:
        UsageError: One of them does not exist.
    """
    found: dict[str, CaseRow] = {}
    for start in range(0, len(ids), _CHUNK):
        chosen = select(CaseRow).where(CaseRow.id.in_(ids[start : start + _CHUNK]))
        found.update((row.id, row) for row in session.scalars(chosen))
    for case in ids:
        if case not in found:
            raise UsageError(f"there is no case {case}", hint="lazaretto review list shows them")
        if case != case_id(found[case].batch_id, found[case].row):
            # Or a release would admit another record than the one that was looked at.
            raise IntegrityViolated(f"case {case} was made to point at another record", hint="run lazaretto verify")
    return [found[case] for case in ids]


def open_cases(session: Session, ids: Sequence[str]) -> list[CaseRow]:
    """The cases with these ids, none of them decided yet.

    Raises:
        UsageError: One does not exist, or was decided before.
    """
    rows = cases_by_id(session, ids)
    for row in rows:
        if row.state != "open":
            final = select(DecisionRow).where(DecisionRow.case_id == row.id, DecisionRow.action.in_(FINAL))
            said = session.scalars(final).one()
            raise UsageError(
                f"case {row.id} was {row.state} by {said.actor} at {said.at}: {said.reason}",
                hint="a decision is not changed; lazaretto review show tells its story",
            )
    return rows


def batch_by_id(session: Session, batch: str) -> BatchRow:
    """The batch with this id.

    Raises:
        UsageError: It does not exist.
    """
    row = session.get(BatchRow, batch)
    if row is None:
        raise UsageError(f"there is no batch {batch}", hint="lazaretto status lists what is held")
    return row


def _conditions(dataset: str | None, batch: str | None, state: str | None) -> list[ColumnElement[bool]]:
    wanted = ((CaseRow.dataset, dataset), (CaseRow.batch_id, batch), (CaseRow.state, state))
    return [column == value for column, value in wanted if value is not None]


def _case(row: CaseRow, since: str) -> Case:
    return Case(
        id=row.id,
        dataset=row.dataset,
        batch=row.batch_id,
        row=row.row,
        record_id=row.record_id,
        suspicion=row.suspicion,
        p_value=row.p_value,
        q_value=row.q_value,
        reasons=tuple(json.loads(row.reasons)),
        evidence=tuple(json.loads(row.evidence)),
        state=row.state,
        assignee=row.assignee,
        waiting_since=since,
    )


def _personal(workspace: Workspace, dataset: str, names: set[str]) -> set[str]:
    """Columns that must not be shown; all of them when the contract that would say so cannot be read."""
    try:
        columns = load_contract(workspace.contract(dataset)).all_columns
    except ContractError:
        return names
    return {name for name in names if name not in columns or columns[name].pii}
