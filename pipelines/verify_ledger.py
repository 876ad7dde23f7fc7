"""The ledger's books against what is signed: attestations on one side, the audit log on the other."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from lazaretto.pipelines.record import filed
from lazaretto.records import ROW
from lazaretto.tables import FINAL, BatchRow, CaseRow, DecisionRow, DiscardRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.orm import Session

    from lazaretto.attest import Chain
    from lazaretto.audit import Entry

_STATES = {"release": "released", "discard": "discarded"}


@dataclass(frozen=True)
class Books:
    """A data set's rows of the ledger."""

    batches: tuple[BatchRow, ...]
    states: dict[str, str]
    """Case -> state."""
    cases: dict[str, dict[str, str]]
    """Batch -> case -> digest of what it is about; empty where that cannot be read."""
    decisions: tuple[DecisionRow, ...]
    """Those that decide, in order."""
    runs: frozenset[tuple[str, int, str]]
    """Run, version, attestation digest."""
    discards: int


def read_books(session: Session, dataset: str) -> Books:
    """Everything the ledger says about a data set."""
    mine = select(BatchRow).where(BatchRow.dataset == dataset).order_by(BatchRow.ingested_at, BatchRow.id)
    states: dict[str, str] = {}
    cases: dict[str, dict[str, str]] = {}
    for case in session.scalars(select(CaseRow).where(CaseRow.dataset == dataset).execution_options(yield_per=5_000)):
        states[case.id] = case.state
        cases.setdefault(case.batch_id, {})[case.id] = _filed(case)
        session.expunge(case)  # a million cases are not kept, only their digests
    decided = select(DecisionRow).join(BatchRow).where(BatchRow.dataset == dataset, DecisionRow.action.in_(FINAL))
    runs = session.execute(select(RunRow.run, RunRow.version, RunRow.attestation).where(RunRow.dataset == dataset))
    discards = session.scalar(select(func.count()).select_from(DiscardRow).where(DiscardRow.dataset == dataset))
    return Books(
        batches=tuple(session.scalars(mine)),
        states=states,
        cases=cases,
        decisions=tuple(session.scalars(decided.order_by(DecisionRow.id))),
        runs=frozenset((run, version, digest) for run, version, digest in runs),
        discards=discards or 0,
    )


def _filed(case: CaseRow) -> str:
    names = ("record_id", "suspicion", "p_value", "q_value", "evidence")
    try:
        return filed(
            {**{name: getattr(case, name) for name in names}, ROW: case.row, "reasons": json.loads(case.reasons)}
        )
    except ValueError:
        return ""


def ledger_findings(books: Books, chain: Chain, entries: list[Entry]) -> Iterator[str]:
    """One sentence for each thing the ledger says that attestations or audit log say otherwise.

    Args:
        books: The data set's rows.
        chain: Its attestations.
        entries: Its audit entries.
    """
    yield from _batches(books, entries)
    yield from _publications(chain, entries)
    yield from _decisions(books, entries)
    said = frozenset(
        (entry.subject, entry.detail.get("version"), entry.detail.get("attestation"))
        for entry in entries
        if entry.action == "run.passed"
    )
    for run, version, _ in sorted(books.runs ^ said, key=str):
        yield f"training run {run} on version {version} of {chain.dataset} is not the one the audit log tells of"
    remembered = sum(entry.detail.get("remembered", 0) for entry in entries)
    if books.discards != remembered:
        yield f"the ledger remembers {books.discards} discarded records of {chain.dataset}, the audit log {remembered}"


def _batches(books: Books, entries: Iterable[Entry]) -> Iterator[str]:
    told = {entry.subject: entry for entry in entries if entry.action in {"batch.admitted", "batch.held"}}
    for row in books.batches:
        entry = told.pop(row.id, None)
        if entry is None:
            yield f"the audit log does not tell of batch {row.id}"
            continue
        counts = {name: getattr(row, name) for name in entry.detail["counts"]}
        same = (
            counts == entry.detail["counts"]
            and row.digests == json.dumps(entry.detail["digests"], sort_keys=True)
            and (row.version, row.epoch) == (entry.detail.get("version"), entry.detail.get("epoch"))
        )
        if not same:
            yield f"the ledger's account of batch {row.id} is not the one the audit log tells"
        if len(books.cases.get(row.id, ())) != row.suspects:
            yield f"batch {row.id} has {len(books.cases.get(row.id, ()))} cases where it had {row.suspects}"
    for batch in told:
        yield f"batch {batch} is in the audit log but gone from the ledger"


def _publications(chain: Chain, entries: Iterable[Entry]) -> Iterator[str]:
    told = {entry.subject: entry.detail["attestation"] for entry in entries if "epoch" in entry.detail}
    told = {unit: digest for unit, digest in told.items() if unit.startswith(("b-", "r-"))}
    signed = {attestation.unit: attestation.digest for attestation in chain.attestations}
    for unit in sorted(told.keys() | signed.keys()):
        if unit not in signed:
            yield f"the attestation of {unit} is gone: {chain.dataset} was put back to an older state"
        elif told.get(unit) != signed[unit]:
            yield f"the attestation of {unit} is not the one the audit log tells of"


def _decisions(books: Books, entries: Iterable[Entry]) -> Iterator[str]:
    told: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        subject, _, verb = entry.action.partition(".")
        for action, state in _STATES.items():
            if verb == state and subject in {"case", "batch"}:
                told.update((action, case) for case in entry.detail["cases"] or [entry.detail["batch"]])
    made = Counter((row.action, row.case_id or row.batch_id) for row in books.decisions)
    for action, what in sorted((made - told) + (told - made)):
        yield f"the decision to {action} {what} is not the one the audit log tells of"
    decided = {row.case_id: _STATES[row.action] for row in books.decisions if row.case_id}
    for case, state in sorted(books.states.items()):
        if state != decided.get(case, "open"):
            yield f"case {case} is said to be {state}, but its decisions say {decided.get(case, 'open')}"
