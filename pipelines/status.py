"""What waits, what is held, since when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazaretto.config import Workspace
    from lazaretto.tables import BatchRow


@dataclass(frozen=True)
class DatasetStatus:
    """One data set at a glance."""

    dataset: str
    gate: str
    """``yes``, or why the gate says no."""
    version: int | None
    attested_at: str | None
    admitted_records: int
    open_cases: int
    oldest_case: str | None
    """When the batch of the oldest open case was ingested."""
    held: tuple[dict[str, Any], ...]
    """Batches that wait: id, since, reasons, records."""
    landing: bool
    """Whether files wait in the landing folder."""


def status(workspace: Workspace) -> list[DatasetStatus]:
    """Every data set that has a contract, a batch or waiting files, by name."""
    from sqlalchemy import func, select

    from lazaretto.ledger import open_ledger
    from lazaretto.pipelines.landing import has_landed, waiting
    from lazaretto.tables import BatchRow, CaseRow

    names = {path.stem for path in (workspace.root / "contracts").glob("*.yaml")} | set(waiting(workspace))
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        names |= set(map(str, session.scalars(select(BatchRow.dataset).distinct())))
        found = []
        for name in sorted(names):
            opened = select(func.count(), func.min(BatchRow.ingested_at)).select_from(CaseRow).join(BatchRow)
            count, oldest = session.execute(opened.where(CaseRow.dataset == name, CaseRow.state == "open")).one()
            held = session.scalars(
                select(BatchRow)
                .where(BatchRow.dataset == name, BatchRow.state == "held")
                .order_by(BatchRow.ingested_at)
            )
            waits = tuple(
                {
                    "batch": row.id,
                    "since": row.ingested_at,
                    "records": row.quarantined,
                    "reasons": _reasons(row),
                }
                for row in held
            )
            answer, version, at, records = _gate(workspace, name)
            found.append(
                DatasetStatus(name, answer, version, at, records, count, oldest, waits, has_landed(workspace, name))
            )
    return found


def _reasons(row: BatchRow) -> list[str]:
    """Why a batch is held, or that the ledger no longer says: what else waits is shown all the same."""
    from lazaretto.errors import IntegrityViolated
    from lazaretto.ledger import hold_reasons

    try:
        return list(hold_reasons(row))
    except IntegrityViolated as fault:
        return [f"{fault.message}; run lazaretto verify"]


def _gate(workspace: Workspace, dataset: str) -> tuple[str, int | None, str | None, int]:
    from lazaretto.errors import LazarettoError
    from lazaretto.gatekeeper import answer

    try:
        attestation = answer(workspace, dataset)
    except LazarettoError as error:
        return error.message, None, None, 0
    return "yes", attestation.version, attestation.issued_at, attestation.active_rows
