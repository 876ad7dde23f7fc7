"""Which cases and batches still wait for a person: what a decision looks up before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.pipelines.record import case_id
from lazaretto.tables import DECIDED, FINAL, BatchRow, CaseRow, DecisionRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_CHUNK = 500
"""Ids in one query: SQLite limits the number of parameters."""


def cases_by_id(session: Session, ids: Sequence[str]) -> list[CaseRow]:
    """The cases with these ids, in that order.

    Raises:
        UsageError: One of them does not exist.
        IntegrityViolated: One of them stands for another record than its id says.
    """
    found: dict[str, CaseRow] = {}
    places: set[tuple[str, str]] = set()
    for start in range(0, len(ids), _CHUNK):
        chosen = CaseRow.id.in_(ids[start : start + _CHUNK])
        found.update((row.id, row) for row in session.scalars(select(CaseRow).where(chosen)))
        batches = select(BatchRow.dataset, BatchRow.id).join(CaseRow, CaseRow.batch_id == BatchRow.id).where(chosen)
        places.update((dataset, batch) for dataset, batch in session.execute(batches.distinct()))
    for case in ids:
        if case not in found:
            raise UsageError(f"there is no case {case}", hint="lazaretto review list shows them")
        row = found[case]
        if (row.dataset, row.batch_id) not in places or case != case_id(row.batch_id, row.row):
            # Or a release would admit another record than the one that was looked at.
            raise IntegrityViolated(f"case {case} was made to point at another record", hint="run lazaretto verify")
    return [found[case] for case in ids]


def open_cases(session: Session, ids: Sequence[str]) -> list[CaseRow]:
    """The cases with these ids, none of them decided yet.

    Raises:
        UsageError: One does not exist, or was decided before.
        IntegrityViolated: A case's state is not what the decisions make it.
    """
    rows = cases_by_id(session, ids)
    decided: dict[str | None, DecisionRow] = {}
    for start in range(0, len(ids), _CHUNK):
        mine = DecisionRow.case_id.in_(ids[start : start + _CHUNK])
        final = select(DecisionRow).where(mine, DecisionRow.action.in_(FINAL))
        decided.update((said.case_id, said) for said in session.scalars(final))
    for row in rows:
        said = decided.get(row.id)
        _check_state(f"case {row.id}", row.state, "open", said)
        if said is not None:
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


def held_batch(session: Session, batch: str) -> BatchRow:
    """The batch with this id, held and not decided yet.

    Raises:
        UsageError: It does not exist, was never held, or was decided before.
        IntegrityViolated: Its state is not what the decisions make it.
    """
    row = batch_by_id(session, batch)
    mine = (DecisionRow.batch_id == batch, DecisionRow.case_id.is_(None), DecisionRow.action.in_(FINAL))
    said = session.scalars(select(DecisionRow).where(*mine).limit(1)).first()
    if said is None and row.state == "admitted":
        raise UsageError(f"batch {batch} is not held: it is admitted")
    _check_state(f"batch {batch}", row.state, "held", said)
    if said is not None:
        raise UsageError(
            f"batch {batch} is not held: it is {row.state}, by {said.actor} at {said.at}: {said.reason}",
            hint="a decision is not changed",
        )
    return row


def _check_state(what: str, state: str, waits: str, said: DecisionRow | None) -> None:
    """Refuse a state that does not follow from the decision there is, or from there being none."""
    if state == (DECIDED[said.action] if said else waits):
        return
    story = f"it was {DECIDED[said.action]} by {said.actor} at {said.at}" if said else "nobody decided on it"
    raise IntegrityViolated(f"{what} is said to be {state}, but {story}", hint="run lazaretto verify")
