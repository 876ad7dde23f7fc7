"""Looking at what waits: cases, the records behind them, and what was decided so far. Changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl
from sqlalchemy import func, select

from lazaretto.contract import load_contract
from lazaretto.errors import ContractError, IntegrityViolated, UsageError
from lazaretto.keys import master_key
from lazaretto.ledger import open_ledger
from lazaretto.parquet import scan_parquet
from lazaretto.pipelines.account import EVIDENCE
from lazaretto.pipelines.clusters import Cluster, cluster_of, read_clusters
from lazaretto.pipelines.undecided import cases_by_id
from lazaretto.quarantine import Identity, Quarantined
from lazaretto.records import DIGEST, RECORD_ID, ROW
from lazaretto.tables import BatchRow, CaseRow, DecisionRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

    from lazaretto.config import Workspace

STATES = ("open", "released", "discarded")
MASKED = "(personal data, not shown)"


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
    cluster: int | None = None
    """The cluster of its batch that the record belongs to; see `Cluster.id`."""


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
    file: str | None
    """Of an image that came as a file of its own."""
    decisions: tuple[Decision, ...]
    cluster: Cluster | None = None
    nearest: tuple[dict[str, Any], ...] = ()
    """The nearest trusted records, as in ``evidence.parquet``; of the batch itself where there was no trusted set."""


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
        IntegrityViolated: What the ledger says of a case is nothing it was ever given.
    """
    assigned = [] if assignee is None else [CaseRow.assignee == assignee]
    return listed(workspace, [*conditions(dataset, batch, state), *assigned], limit, offset)


def listed(workspace: Workspace, chosen: Sequence[ColumnElement[bool]], limit: int, offset: int = 0) -> list[Case]:
    """The cases that meet all conditions, the most suspicious first."""
    query = select(CaseRow, BatchRow.ingested_at).join(BatchRow, CaseRow.batch_id == BatchRow.id).where(*chosen)
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
        found = [_case(row, since) for row, since in session.execute(query.limit(limit).offset(offset))]
    places = {name: cluster_of(read_clusters(workspace.batch(name))) for name in {case.batch for case in found}}
    return [replace(case, cluster=places[case.batch].get(case.row)) for case in found]


def count_cases(workspace: Workspace, *, dataset: str | None = None, batch: str | None = None) -> dict[str, int]:
    """How many cases are in each state."""
    query = select(CaseRow.state, func.count()).where(*conditions(dataset, batch, None)).group_by(CaseRow.state)
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
        IntegrityViolated: The record cannot be read back as it was sealed, or the ledger's row is not one of ours.
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
    shown = {name: MASKED if name in hidden else value for name, value in record.items()}
    file, near = _kept(workspace, found)
    cluster = next((one for one in read_clusters(workspace.batch(found.batch)) if found.row in one.rows), None)
    found = replace(found, cluster=None if cluster is None else cluster.id)
    return CaseFile(found, shown, file, decisions, cluster, near)


def _kept(workspace: Workspace, case: Case) -> tuple[str | None, tuple[dict[str, Any], ...]]:
    """The file the record came in, where each has its own, and the nearest records; earlier versions kept neither."""
    path = workspace.batch(case.batch) / EVIDENCE
    try:
        evidence = scan_parquet(path)
        wanted = [name for name in ("file", "nearest") if name in evidence.collect_schema()]
        found = evidence.filter(pl.col(ROW) == case.row).select(wanted).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IntegrityViolated(f"{path} cannot be read", hint="run lazaretto verify") from error
    kept = found.row(0, named=True) if len(found) and wanted else {}
    near = _json_list(kept.get("nearest") or "[]")
    if near is None or not all(isinstance(one, dict) for one in near):
        raise IntegrityViolated(f"{path} cannot be read", hint="run lazaretto verify")
    return kept.get("file"), tuple(near)


def open_quarantine(workspace: Workspace, dataset: str, batch: str) -> Quarantined:
    """A batch's quarantine, opened with the workspace's master key."""
    identity = Identity(dataset, batch)
    return Quarantined(workspace.quarantine(dataset, batch), identity, master_key(workspace.keys))


def require_batch(workspace: Workspace, batch: str | None) -> None:
    """Refuse the name of a batch that the workspace has never seen.

    Raises:
        UsageError: It has not.
    """
    if batch is not None and (batch in {"", ".", ".."} or not workspace.batch(batch).is_dir()):
        raise UsageError(f"there is no batch {batch!r} in this workspace", hint="lazaretto status names them")


def conditions(dataset: str | None, batch: str | None, state: str | None) -> list[ColumnElement[bool]]:
    """What a case must be.

    Raises:
        UsageError: The state is none.
    """
    if state is not None and state not in STATES:
        raise UsageError(f"{state!r} is no state of a case", hint=f"one of: {', '.join(STATES)}")
    wanted = ((CaseRow.dataset, dataset), (CaseRow.batch_id, batch), (CaseRow.state, state))
    return [column == value for column, value in wanted if value is not None]


def _case(row: CaseRow, since: str) -> Case:
    """A row of the ledger as a case.

    Raises:
        IntegrityViolated: It holds what no case was ever given.
    """
    reasons, evidence = _json_list(row.reasons), _json_list(row.evidence)
    sound = (
        all(isinstance(reason, str) for reason in reasons or ())
        and all(isinstance(item, dict) for item in evidence or ())
        and all(isinstance(number, float | None) for number in (row.suspicion, row.p_value, row.q_value))
        and all(isinstance(text, str) for text in (row.record_id, row.state, row.assignee or "", since))
        and isinstance(row.row, int)
    )
    if reasons is None or evidence is None or not sound:
        raise IntegrityViolated(
            f"what the ledger says of case {row.id} cannot be read: it was altered",
            hint="lazaretto verify says what else was; restore the ledger from a backup",
        )
    return Case(
        id=row.id,
        dataset=row.dataset,
        batch=row.batch_id,
        row=row.row,
        record_id=row.record_id,
        suspicion=row.suspicion,
        p_value=row.p_value,
        q_value=row.q_value,
        reasons=tuple(reasons),
        evidence=tuple(evidence),
        state=row.state,
        assignee=row.assignee,
        waiting_since=since,
    )


def _json_list(text: str) -> list[Any] | None:
    """A JSON list; None where the text is none."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _personal(workspace: Workspace, dataset: str, names: set[str]) -> set[str]:
    """Columns that must not be shown; all of them when the contract that would say so cannot be read."""
    try:
        columns = load_contract(workspace.contract(dataset)).all_columns
    except ContractError:
        return names
    return {name for name in names if name not in columns or columns[name].pii}
