"""An analyst's decisions: release into the store, discard for good, or hand to someone.

Each needs a reason, is kept for good, and can be made once.
"""

from __future__ import annotations

import getpass
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
from sqlalchemy import select, update

from lazaretto.authorisation import authorise
from lazaretto.config import dataset_lock
from lazaretto.durable import writable
from lazaretto.entrance import acting
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.ledger import checkpoint, open_ledger
from lazaretto.operation import operation
from lazaretto.pipelines.cases import open_quarantine
from lazaretto.pipelines.decide import decide, remember, tell, update_cases
from lazaretto.pipelines.publish import recover
from lazaretto.pipelines.recheck import Recheck, recheck
from lazaretto.pipelines.release import Release, Released
from lazaretto.pipelines.two_persons import Wanted, require_two
from lazaretto.pipelines.undecided import batch_by_id, cases_by_id, held_batch, open_cases
from lazaretto.records import DIGEST, ROW, OnStep, no_step
from lazaretto.tables import BatchRow, CaseRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lazaretto.config import Workspace
    from lazaretto.ledger import Ledger
    from lazaretto.operation import Operation

_NAME_LENGTH = 200
"""Longest name of a person: what the ledger's columns hold."""
_SURROGATE = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes in a command line that are not UTF-8."""


@dataclass(frozen=True)
class Word:
    """Who decides, why and when."""

    reason: str
    actor: str
    at: str
    proposal: str = ""
    """The approved proposal that is carried out, where it takes two persons."""


def word(reason: str, actor: str | None = None, now: datetime | None = None, *, proposal: str = "") -> Word:
    """A person's word.

    Args:
        reason: Why; must say something.
        actor: Who; by default the user this process runs as.
        now: When; the clock's time by default.
        proposal: Of what two persons want, the approved proposal.

    Raises:
        UsageError: The reason is empty, or it or the actor's name is not text that the ledger can hold.
    """
    if not reason.strip():
        raise UsageError("a decision needs a reason", hint="say why with --reason; it is kept for good")
    if "\0" in reason or _SURROGATE.search(reason):
        raise UsageError("the reason is no text that can be kept", hint="it holds bytes that are not UTF-8, or a NUL")
    at = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    return Word(reason.strip(), _name(actor or getpass.getuser()), at, proposal)


def release(
    workspace: Workspace,
    cases: Sequence[str],
    said: Word,
    *,
    on_step: OnStep = no_step,
    check: Recheck = recheck,
) -> list[Released]:
    """Let the records of open cases into the store, each exactly once; one publication for each batch concerned.

    A record that breaks today's contract stays where it is, and with it all of its batch that were to go together; the
    batches before it are released by then, and the error says so.

    Args:
        workspace: Where everything lies.
        cases: Ids of cases.
        said: Who decides and why.
        on_step: Called with each step's name before it starts.
        check: What holds the records against today's contract.

    Raises:
        UsageError: A case does not exist, was decided before, or its record breaks today's contract.
        Forbidden: A case is another person's, and whoever decides is no approver.
        NeedsApproval: The contract's policy says that it takes two persons.
        IntegrityViolated: A record cannot be read back as it was sealed, or the store was tampered with.
    """
    wanted = [
        Release(workspace, dataset, batch, ids, said, on_step, check)
        for (dataset, batch), ids in _by_batch(workspace, cases, "case.decide").items()
    ]
    return _release(workspace, wanted, on_step)


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
    wanted = Release(workspace, _dataset_to_decide(workspace, batch), batch, (), said, on_step, check)
    return _release(workspace, [wanted], on_step)[0]


def _release(workspace: Workspace, wanted: Sequence[Release], on_step: OnStep) -> list[Released]:
    done: list[Released] = []
    places = {(one.dataset, one.batch): one.cases for one in wanted}
    with _at_work(workspace, "release", places, on_step) as (ledger, finished, told):
        wanted = [replace(one, on_step=told.steps(on_step)) for one in wanted]
        with ledger.reading() as session:
            todo = [one for one in wanted if one.unit not in finished]
            risky = [Wanted(one.dataset, one.batch, one.require_open(session)) for one in todo]
            if todo:
                require_two(session, workspace, todo[0].contract(), risky, todo[0].word)
        for one in wanted:
            try:
                done.append(one.made() if one.unit in finished else one.make(ledger))
            except (UsageError, IntegrityViolated) as error:
                if not done:
                    raise
                before = ", ".join(f"{item.records} of {item.batch}" for item in done)
                raise type(error)(f"{error.message}; released before that: {before}", hint=error.hint) from error
            told.note(released=sum(item.records for item in done), version=done[-1].version, epoch=done[-1].epoch)
    return done


def discard(workspace: Workspace, cases: Sequence[str], said: Word) -> tuple[str, ...]:
    """Decide that records must never be trained on; the same content is refused when it arrives again.

    Gives the cases decided: all of them; none when it raises. The records stay in quarantine, encrypted, as evidence.

    Raises:
        UsageError: A case does not exist or was decided before.
        IntegrityViolated: A record cannot be read back as it was sealed.
    """
    wanted = _by_batch(workspace, cases, "case.decide")
    with _at_work(workspace, "discard", wanted) as (ledger, _, told):
        digests = {}
        with ledger.reading() as session:
            rows = {key: [row.row for row in open_cases(session, ids)] for key, ids in wanted.items()}
        for (dataset, batch), chosen in rows.items():
            digests[batch] = open_quarantine(workspace, dataset, batch).select(chosen)[DIGEST].to_list()
        with ledger.writing() as session:
            for (_, batch), ids in wanted.items():
                decide(session, batch, ids, "discard", said)
                update_cases(session, ids, state="discarded")
                detail = remember(session, workspace, batch, digests[batch], said)
                tell(session, said, "case.discarded", (batch, ids), **detail)
        checkpoint(ledger)
        told.note(discarded=sum(map(len, wanted.values())))
    return tuple(case for ids in wanted.values() for case in ids)


def discard_batch(workspace: Workspace, batch: str, said: Word) -> int:
    """Decide that nothing of what waits only because its batch is held will be trained on; gives how many records.

    Raises:
        UsageError: The batch does not exist or is not held.
        IntegrityViolated: A record cannot be read back as it was sealed.
    """
    dataset = _dataset_to_decide(workspace, batch)
    with _at_work(workspace, "discard", {(dataset, batch): ()}) as (ledger, _, told):
        with ledger.reading() as session:
            held_batch(session, batch)
            own = set(session.scalars(select(CaseRow.row).where(CaseRow.batch_id == batch)))
        frames = open_quarantine(workspace, dataset, batch).records()
        digests = [text for frame in frames for text in frame.filter(~pl.col(ROW).is_in(own))[DIGEST]]
        with ledger.writing() as session:
            decide(session, batch, (None,), "discard", said)
            session.execute(update(BatchRow).where(BatchRow.id == batch).values(state="discarded"))
            detail = remember(session, workspace, batch, digests, said)
            tell(session, said, "batch.discarded", (batch, ()), **detail)
        checkpoint(ledger)
        told.note(discarded=len(digests))
    return len(digests)


def assign(workspace: Workspace, cases: Sequence[str], assignee: str, said: Word) -> tuple[str, ...]:
    """Hand open cases to a person; gives the cases: all of them, or none when it raises.

    Raises:
        UsageError: The assignee is empty, a case does not exist or was decided before.
    """
    if not assignee.strip():
        raise UsageError("a case is assigned to somebody: the name is empty")
    who = _name(assignee.strip())
    wanted = _by_batch(workspace, cases, "case.assign", to=who)
    with _at_work(workspace, "assign", wanted) as (ledger, _, told):
        with ledger.writing() as session:
            for (_, batch), ids in wanted.items():
                open_cases(session, ids)
                decide(session, batch, ids, "assign", said, who)
                update_cases(session, ids, assignee=who)
                tell(session, said, "case.assigned", (batch, ids), assignee=who)
        checkpoint(ledger)
        told.note(assigned=sum(map(len, wanted.values())))
    return tuple(case for ids in wanted.values() for case in ids)


@contextmanager
def _at_work(
    workspace: Workspace, kind: str, wanted: Mapping[tuple[str, str], Sequence[str]], on_step: OnStep = no_step
) -> Iterator[tuple[Ledger, frozenset[str], Operation]]:
    """The ledger, with the data sets locked and nothing interrupted left; the publications just finished; who is told.

    Args:
        workspace: Where.
        kind: What is decided: release, discard, assign.
        wanted: Cases by data set and batch.
        on_step: Called with each step's name before it starts.
    """
    finished, datasets = set(), {dataset for dataset, _ in wanted}
    with ExitStack() as stack:
        told = stack.enter_context(operation(workspace, kind, cases=sum(map(len, wanted.values()))))
        if len(wanted) == 1:
            told.note(**dict(zip(("dataset", "batch"), *wanted, strict=True)))
        on_step = told.steps(on_step)
        stack.enter_context(writable(workspace.state))
        for dataset in sorted(datasets):
            stack.enter_context(dataset_lock(workspace, dataset))
        ledger = stack.enter_context(open_ledger(workspace))
        for dataset in sorted(datasets):
            plan = recover(workspace, ledger, dataset, on_step)
            finished |= {plan.unit} if plan else set()
        yield ledger, frozenset(finished), told


def _by_batch(
    workspace: Workspace, cases: Sequence[str], action: str, to: str | None = None
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Case ids by data set and batch, once it is clear that whoever acts may do this to each of them."""
    who = acting(workspace)
    if not cases:
        raise UsageError("no case was named", hint="lazaretto review list shows them")
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        for row in cases_by_id(session, list(dict.fromkeys(cases))):
            # One's own is what is assigned to oneself or to nobody; and one hands it to oneself.
            authorise(who, action, own={row.assignee, to} <= {None, who.name}, dataset=row.dataset)
            key = (row.dataset, row.batch_id)
            found[key] = (*found.get(key, ()), row.id)
    return found


def _dataset_to_decide(workspace: Workspace, batch: str) -> str:
    authorise(acting(workspace), "batch.decide")
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        return batch_by_id(session, batch).dataset


def _name(text: str) -> str:
    """A person's name as the ledger can hold it.

    Raises:
        UsageError: It is too long, or cannot be printed.
    """
    if len(text) > _NAME_LENGTH or not text.isprintable():
        raise UsageError(f"{text[:40]!r} is no name: at most {_NAME_LENGTH} printable characters")
    return text
