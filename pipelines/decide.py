"""What a person's decision leaves in the ledger: the decision, new states, what must not come back, the audit entry.

Each writes within a transaction of the caller's. Releases are written where all publications are, in `record`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, update

from lazaretto.audit import Entry, digest_of
from lazaretto.ledger import append_audit, discards_digest, remember_discarded
from lazaretto.pipelines.undecided import batch_by_id
from lazaretto.tables import CaseRow, DecisionRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace
    from lazaretto.pipelines.review import Word

_CHUNK = 500
"""Ids in one statement: SQLite limits the number of parameters."""


def decide(
    session: Session, batch: str, cases: Sequence[str | None], action: str, said: Word, assignee: str | None = None
) -> None:
    """Write down what was decided on cases of a batch; on its rest where the only case is None."""
    common = {"batch_id": batch, "action": action, "unit": "", "assignee": assignee}
    common |= {"reason": said.reason, "actor": said.actor, "at": said.at}
    session.execute(insert(DecisionRow), [{**common, "case_id": case} for case in cases])


def update_cases(session: Session, ids: Sequence[str], **values: str) -> None:
    """Give cases a new state or assignee."""
    for start in range(0, len(ids), _CHUNK):
        session.execute(update(CaseRow).where(CaseRow.id.in_(ids[start : start + _CHUNK])).values(**values))


def remember(
    session: Session, workspace: Workspace, batch: str, digests: Sequence[str], said: Word
) -> dict[str, str | int]:
    """Keep records out for good, given their content digests; gives what the audit log is to say of it."""
    row = batch_by_id(session, batch)
    new = remember_discarded(session, workspace, row, digests, said.at)
    return {"remembered": new, "discards": discards_digest(session, row.dataset, batch, said.at)}


def tell(session: Session, said: Word, action: str, what: tuple[str, Sequence[str]], **more: str | int) -> None:
    """Add to the audit log what was decided on a batch and its cases, with a digest of the reason.

    Args:
        session: The transaction.
        said: Who decides and why.
        action: As in `Entry`.
        what: The batch, and the cases where it was about cases.
        more: What else the entry is to say.
    """
    batch, ids = what
    detail = {"batch": batch, "cases": list(ids), "reason": digest_of(said.reason), **more}
    dataset = batch_by_id(session, batch).dataset
    append_audit(session, Entry(0, said.at, said.actor, action, dataset, batch, detail))
