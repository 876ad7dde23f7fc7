"""The ledger's books against what is signed: attestations on one side, the audit log on the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from sqlalchemy import select

from lazaretto.audit import digest_of
from lazaretto.errors import IntegrityViolated
from lazaretto.ledger import hold_reasons
from lazaretto.pipelines.record import filed_row
from lazaretto.pipelines.verify_decisions import decision_findings, discard_findings
from lazaretto.pipelines.verify_window import Remembered, read_remembered, window_findings
from lazaretto.tables import DECIDED, BatchRow, CaseRow, DecisionRow, DiscardRow, RecallRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.orm import Session

    from lazaretto.attest import Chain
    from lazaretto.audit import Entry


@dataclass(frozen=True)
class Discards:
    """Records of one batch that were discarded at one time."""

    count: int
    digest: str
    """As `ledger.discards_digest`."""


@dataclass(frozen=True)
class Books:
    """A data set's rows of the ledger."""

    batches: tuple[BatchRow, ...]
    states: dict[str, str]
    """Case -> state."""
    assignees: dict[str, str]
    """Case -> whom it is assigned to; those that are."""
    cases: dict[str, dict[str, str]]
    """Batch -> case -> digest of what it is about; empty where that cannot be read."""
    decisions: tuple[DecisionRow, ...]
    """All, in order."""
    runs: frozenset[tuple[str, int, int, str, str]]
    """Run, version, epoch, attestation digest, time."""
    discards: dict[tuple[str, str], Discards]
    """By batch and time."""
    recalls: tuple[RecallRow, ...] = ()
    remembered: Remembered | None = None


def read_books(session: Session, dataset: str) -> Books:
    """Everything the ledger says about a data set."""
    mine = select(BatchRow).where(BatchRow.dataset == dataset).order_by(BatchRow.ingested_at, BatchRow.id)
    states: dict[str, str] = {}
    assignees: dict[str, str] = {}
    cases: dict[str, dict[str, str]] = {}
    for case in session.scalars(select(CaseRow).where(CaseRow.dataset == dataset).execution_options(yield_per=5_000)):
        states[case.id] = case.state
        if case.assignee is not None:
            assignees[case.id] = case.assignee
        cases.setdefault(case.batch_id, {})[case.id] = _filed(case)
        session.expunge(case)  # a million cases are not kept, only their digests
    decided = select(DecisionRow).join(BatchRow).where(BatchRow.dataset == dataset).order_by(DecisionRow.id)
    runs = select(RunRow.run, RunRow.version, RunRow.epoch, RunRow.attestation, RunRow.at)
    return Books(
        batches=tuple(session.scalars(mine)),
        states=states,
        assignees=assignees,
        cases=cases,
        decisions=tuple(session.scalars(decided)),
        runs=frozenset(tuple(run) for run in session.execute(runs.where(RunRow.dataset == dataset))),
        discards=_discards(session, dataset),
        recalls=tuple(session.scalars(select(RecallRow).where(RecallRow.dataset == dataset).order_by(RecallRow.id))),
        remembered=read_remembered(session, dataset),
    )


def _filed(case: CaseRow) -> str:
    try:
        return filed_row(case)
    except (ValueError, TypeError, RecursionError):
        return ""


def _discards(session: Session, dataset: str) -> dict[tuple[str, str], Discards]:
    stored = select(DiscardRow.batch_id, DiscardRow.at, DiscardRow.mac).where(DiscardRow.dataset == dataset)
    stored = stored.order_by(DiscardRow.batch_id, DiscardRow.at).execution_options(yield_per=5_000)
    found = {}
    for key, group in groupby(session.execute(stored), key=lambda row: (row.batch_id, row.at)):
        macs = sorted(str(row.mac) for row in group)  # text, if it was not altered
        found[key] = Discards(len(macs), digest_of(macs))
    return found


def ledger_findings(books: Books, chain: Chain | None, entries: Sequence[Entry], dataset: str) -> Iterator[str]:
    """One sentence for each thing the ledger says that attestations or audit log say otherwise.

    Args:
        books: The data set's rows.
        chain: Its attestations; None when they do not hold, which is a finding of its own.
        entries: Its audit entries that can be believed.
        dataset: Its name.
    """
    yield from _batches(books, entries)
    if chain is not None:
        yield from _publications(chain, entries)
    yield from decision_findings(books, entries)
    said = frozenset(
        (entry.subject, entry.detail["version"], entry.detail["epoch"], entry.detail["attestation"], entry.at)
        for entry in entries
        if entry.action == "run.passed"
    )
    for run, version, *_ in sorted(books.runs ^ said, key=str):
        yield f"training run {run} on version {version} of {dataset} is not the one the audit log tells of"
    yield from discard_findings(books, entries, dataset)
    yield from recall_findings(books.recalls, entries)
    if books.remembered is not None:
        yield from window_findings(books.remembered, books.batches, entries)


def _batches(books: Books, entries: Iterable[Entry]) -> Iterator[str]:
    told = {entry.subject: entry for entry in entries if entry.action in {"batch.admitted", "batch.held"}}
    decided = {
        row.batch_id: DECIDED[row.action] for row in books.decisions if not row.case_id and row.action in DECIDED
    }
    for row in books.batches:
        entry = told.pop(row.id, None)
        if entry is None:
            yield f"the audit log does not tell of batch {row.id}"
            continue
        if not _same(row, entry):
            yield f"the ledger's account of batch {row.id} is not the one the audit log tells"
        yield from _hold_reasons(row, entry)
        state = decided.get(row.id, entry.action.partition(".")[2])
        if row.state != state:
            yield f"batch {row.id} is said to be {row.state}, but it is {state}"
        if len(books.cases.get(row.id, ())) != row.suspects:
            yield f"batch {row.id} has {len(books.cases.get(row.id, ()))} cases where it had {row.suspects}"
    for batch in told:
        yield f"batch {batch} is in the audit log but gone from the ledger"
    for batch in sorted(books.cases.keys() - {row.id for row in books.batches}):
        yield f"there are cases of batch {batch}, which is no batch of their data set"


def recall_findings(recalls: Iterable[RecallRow], entries: Iterable[Entry]) -> Iterator[str]:
    """One sentence for each recall of which the ledger does not say what the audit log says."""
    told = {entry.subject: entry for entry in entries if entry.action == "recall.made"}
    for row in recalls:
        entry = told.pop(row.id, None)
        if entry is None or not _same_recall(row, entry):
            yield f"the ledger's account of the recall {row.id} is not the one the audit log tells"
    for unit in sorted(told):
        yield f"recall {unit} is in the audit log but gone from the ledger"


def _same_recall(row: RecallRow, entry: Entry) -> bool:
    detail = entry.detail
    return (
        (row.actor, row.at, row.version, row.epoch) == (entry.actor, entry.at, detail.get("version"), detail["epoch"])
        and row.records == detail["counts"].get("recalled")
        and row.evidence == detail["digests"].get("recalled")
        and digest_of(json.loads(row.selection)) == detail["selection"]
        and digest_of(row.reason) == detail.get("reason")
    )


def _same(row: BatchRow, entry: Entry) -> bool:
    detail = entry.detail
    return (
        {name: getattr(row, name, None) for name in detail["counts"]} == detail["counts"]
        and row.digests == json.dumps(detail["digests"], sort_keys=True)
        and (row.version, row.epoch) == (detail.get("version"), detail.get("epoch"))
        and (row.actor, row.ingested_at) == (entry.actor, entry.at)
    )


def _hold_reasons(row: BatchRow, entry: Entry) -> Iterator[str]:
    try:
        reasons = hold_reasons(row)
    except IntegrityViolated as fault:
        yield fault.message
        return
    held = entry.action == "batch.held"
    # Entries of earlier versions do not tell of the reasons.
    if bool(reasons) != held or entry.detail.get("hold_reasons", digest_of(reasons)) != digest_of(reasons):
        yield f"the reasons for holding batch {row.id} are not those the audit log tells of"


def _publications(chain: Chain, entries: Iterable[Entry]) -> Iterator[str]:
    told = {entry.subject: entry.detail["attestation"] for entry in entries if "epoch" in entry.detail}
    told = {unit: digest for unit, digest in told.items() if unit.startswith(("b-", "r-", "k-"))}
    signed = {attestation.unit: attestation.digest for attestation in chain.attestations}
    for unit in sorted(told.keys() | signed.keys()):
        if unit not in signed:
            yield f"the attestation of {unit} is gone: {chain.dataset} was put back to an older state"
        elif told.get(unit) != signed[unit]:
            yield f"the attestation of {unit} is not the one the audit log tells of"
