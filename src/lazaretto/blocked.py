"""Why the gate says no, in words, looked up in the ledger once it is clear that it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lazaretto.errors import Blocked, LazarettoError

if TYPE_CHECKING:
    from lazaretto.attest import Attestation, Chain
    from lazaretto.config import Workspace
    from lazaretto.tables import BatchRow


def nothing_admitted(workspace: Workspace, dataset: str) -> Blocked:
    """Nothing of the data set was ever admitted; says what is held, if anything."""
    rows = _batches(workspace, dataset)
    held = [row for row in rows if row.state == "held"]
    said = f"nothing of {dataset} was ever admitted"
    if held:
        hint = f"an analyst decides: lazaretto review list --dataset {dataset}"
        return Blocked(f"{said}; {_held(held[-1])}{_more(len(held) - 1)}", hint=hint, reason="held")
    if rows:
        said = f"{said}; of its newest batch {rows[-1].id} no record was"
        return Blocked(said, hint="lazaretto status says more", reason="nothing_admitted")
    return Blocked(said, hint=f"lazaretto ingest --dataset {dataset} brings data in", reason="nothing_admitted")


def batch_not_there(workspace: Workspace, chain: Chain, batch: str, attestation: Attestation) -> Blocked:
    """A batch is not in the version asked for; says where it is instead."""
    dataset = chain.dataset
    row = next((row for row in _batches(workspace, dataset) if row.id == batch), None)
    if row is None:
        return Blocked(
            f"no batch {batch} of {dataset} was ever ingested",
            hint="lazaretto status lists the newest and those that are held",
            reason="batch_not_there",
        )
    if row.state == "held":
        return Blocked(_held(row), hint=f"an analyst decides: lazaretto review list --batch {batch}", reason="held")
    if row.state == "discarded":
        return Blocked(f"batch {batch} was discarded", reason="batch_not_there")
    came = {file.path for entry in chain.attestations if entry.batch == batch for file in entry.added}
    gone = (path for entry in chain.attestations[: attestation.epoch] for path in entry.removed)
    if any(chain.lineage(path)[-1] in came for path in gone):
        return Blocked(f"batch {batch} was recalled", hint="lazaretto recall --list says why", reason="recalled")
    if row.version is not None and row.version > attestation.version:
        said = f"batch {batch} came with version {row.version}, after version {attestation.version}"
        return Blocked(said, reason="batch_not_there")
    return Blocked(f"of batch {batch} no record was admitted", reason="batch_not_there")


def _held(row: BatchRow) -> str:
    from lazaretto.ledger import hold_reasons

    reasons = "; ".join(hold_reasons(row))
    return f"batch {row.id} is held since {row.ingested_at} because {reasons}"


def _more(count: int) -> str:
    return f" (and {count} more held)" if count else ""


def _batches(workspace: Workspace, dataset: str) -> list[BatchRow]:
    """The data set's batches, oldest first; none when the ledger cannot be read: the answer is no all the same."""
    from sqlalchemy import make_url, select

    from lazaretto.ledger import open_ledger
    from lazaretto.tables import BatchRow

    url = make_url(workspace.ledger_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return []  # looking must not make one
    try:
        with open_ledger(workspace) as ledger, ledger.reading() as session:
            wanted = select(BatchRow).where(BatchRow.dataset == dataset).order_by(BatchRow.ingested_at)
            rows = list(session.scalars(wanted))
            session.expunge_all()
            return rows
    except LazarettoError:
        return []
