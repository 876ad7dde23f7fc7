"""An analyst's decisions: release into the store, discard for good, or hand to someone.

Each needs a reason, is kept for good, and can be made once.
"""

from __future__ import annotations

import getpass
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
from sqlalchemy import insert, select, update

from lazaretto.audit import Entry
from lazaretto.config import dataset_lock
from lazaretto.durable import writable
from lazaretto.errors import UsageError
from lazaretto.ledger import append_audit, checkpoint, open_ledger, remember_discarded
from lazaretto.pipelines.cases import batch_by_id, cases_by_id, open_cases, open_quarantine
from lazaretto.pipelines.publish import recover
from lazaretto.pipelines.recheck import Recheck, recheck
from lazaretto.pipelines.release import Release, Released
from lazaretto.records import DIGEST, ROW, OnStep, no_step
from lazaretto.tables import BatchRow, CaseRow, DecisionRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace
    from lazaretto.ledger import Ledger

_CHUNK = 500
"""Ids in one statement: SQLite limits the number of parameters."""


@dataclass(frozen=True)
class Word:
    """Who decides, why and when."""

    reason: str
    actor: str
    at: str


def word(reason: str, actor: str | None = None, now: datetime | None = None) -> Word:
    """A person's word.

    Args:
        reason: Why; must say something.
        actor: Who; by default the user this process runs as.
        now: When; the clock's time by default.

    Raises:
        UsageError: The reason is empty.
    """
    if not reason.strip():
        raise UsageError("a decision needs a reason", hint="say why with --reason; it is kept for good")
    return Word(reason.strip(), actor or getpass.getuser(), (now or datetime.now(UTC)).isoformat(timespec="seconds"))


def release(
    workspace: Workspace,
    cases: Sequence[str],
    said: Word,
    *,
    on_step: OnStep = no_step,
    check: Recheck = recheck,
) -> list[Released]:
    """Let the records of open cases into the store, each exactly once; one publication for each batch concerned.

    A record that breaks today's contract stays where it is, and with it all of its batch that were to go together.

    Args:
        workspace: Where everything lies.
        cases: Ids of cases.
        said: Who decides and why.
        on_step: Called with each step's name before it starts.
        check: What holds the records against today's contract.

    Raises:
        UsageError: A case does not exist, was decided before, or its record breaks today's contract.
        IntegrityViolated: A record cannot be read back as it was sealed, or the store was tampered with.
    """
    return [
        Release(workspace, dataset, batch, ids, said, on_step, check).make()
        for (dataset, batch), ids in _by_batch(workspace, cases).items()
    ]


def release_batch(
    workspace: Workspace,
    batch: str,
    said: Word,
    *,
    on_step: OnStep = no_step,
    check: Recheck = recheck,
) -> Released:
    """Let in what waits only because its batch is held: every record that is not a case of its own.

    Arguments and errors as for `release`.
    """
    return Release(workspace, _dataset_of(workspace, batch), batch, (), said, on_step, check).make()


def discard(workspace: Workspace, cases: Sequence[str], said: Word) -> tuple[str, ...]:
    """Decide that records must never be trained on; the same content is refused when it arrives again.

    Gives the cases decided. The records stay in quarantine, encrypted, as evidence.

    Raises:
        UsageError: A case does not exist or was decided before.
        IntegrityViolated: A record cannot be read back as it was sealed.
    """
    decided: list[str] = []
    for (dataset, batch), ids in _by_batch(workspace, cases).items():
        with _at_work(workspace, dataset) as ledger:
            with ledger.reading() as session:
                rows = [row.row for row in open_cases(session, ids)]
            digests = open_quarantine(workspace, dataset, batch).select(rows)[DIGEST].to_list()
            with ledger.writing() as session:
                common = _common(batch, "discard", said)
                session.execute(insert(DecisionRow), [{**common, "case_id": case} for case in ids])
                _update_cases(session, ids, state="discarded")
                new = remember_discarded(session, workspace, batch_by_id(session, batch), digests, said.at)
                _audit(session, said, "case.discarded", dataset, (batch, ids), remembered=new)
            checkpoint(ledger)
        decided += ids
    return tuple(decided)


def discard_batch(workspace: Workspace, batch: str, said: Word) -> int:
    """Decide that nothing of what waits only because its batch is held will be trained on; gives how many records.

    Raises:
        UsageError: The batch does not exist or is not held.
        IntegrityViolated: A record cannot be read back as it was sealed.
    """
    dataset = _dataset_of(workspace, batch)
    with _at_work(workspace, dataset) as ledger:
        with ledger.reading() as session:
            own = set(session.scalars(select(CaseRow.row).where(CaseRow.batch_id == batch)))
        frames = open_quarantine(workspace, dataset, batch).records()
        digests = [text for frame in frames for text in frame.filter(~pl.col(ROW).is_in(own))[DIGEST]]
        with ledger.writing() as session:
            row = batch_by_id(session, batch)
            if row.state != "held":
                raise UsageError(f"batch {batch} is not held: it is {row.state}")
            session.add(DecisionRow(case_id=None, **_common(batch, "discard", said)))
            session.execute(update(BatchRow).where(BatchRow.id == batch).values(state="discarded"))
            new = remember_discarded(session, workspace, row, digests, said.at)
            _audit(session, said, "batch.discarded", dataset, (batch, ()), remembered=new)
        checkpoint(ledger)
    return len(digests)


def assign(workspace: Workspace, cases: Sequence[str], assignee: str, said: Word) -> tuple[str, ...]:
    """Hand open cases to a person; gives the cases.

    Raises:
        UsageError: The assignee is empty, a case does not exist or was decided before.
    """
    if not assignee.strip():
        raise UsageError("a case is assigned to somebody: the name is empty")
    done: list[str] = []
    for (dataset, batch), ids in _by_batch(workspace, cases).items():
        with _at_work(workspace, dataset) as ledger:
            with ledger.writing() as session:
                open_cases(session, ids)
                common = {**_common(batch, "assign", said), "assignee": assignee.strip()}
                session.execute(insert(DecisionRow), [{**common, "case_id": case} for case in ids])
                _update_cases(session, ids, assignee=assignee.strip())
                _audit(session, said, "case.assigned", dataset, (batch, ids))
            checkpoint(ledger)
        done += ids
    return tuple(done)


@contextmanager
def _at_work(workspace: Workspace, dataset: str) -> Iterator[Ledger]:
    """The ledger, with the data set locked and nothing interrupted left."""
    with writable(workspace.state), dataset_lock(workspace, dataset), open_ledger(workspace) as ledger:
        recover(workspace, ledger, dataset)
        yield ledger


def _by_batch(workspace: Workspace, cases: Sequence[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Case ids by data set and batch."""
    if not cases:
        raise UsageError("no case was named", hint="lazaretto review list shows them")
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        for row in cases_by_id(session, list(dict.fromkeys(cases))):
            key = (row.dataset, row.batch_id)
            found[key] = (*found.get(key, ()), row.id)
    return found


def _dataset_of(workspace: Workspace, batch: str) -> str:
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        return batch_by_id(session, batch).dataset


def _common(batch: str, action: str, said: Word) -> dict[str, str | None]:
    return {
        "batch_id": batch,
        "action": action,
        "reason": said.reason,
        "actor": said.actor,
        "at": said.at,
        "unit": "",
        "assignee": None,
    }


def _update_cases(session: Session, ids: Sequence[str], **values: str) -> None:
    for start in range(0, len(ids), _CHUNK):
        session.execute(update(CaseRow).where(CaseRow.id.in_(ids[start : start + _CHUNK])).values(**values))


def _audit(
    session: Session, said: Word, action: str, dataset: str, what: tuple[str, Sequence[str]], **counts: int
) -> None:
    batch, ids = what
    detail = {"batch": batch, "cases": list(ids), **counts}
    append_audit(session, Entry(0, said.at, said.actor, action, dataset, batch, detail))
