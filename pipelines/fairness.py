"""Quarantine and release by group over all batches of a data set: from their summaries, and from what was decided."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from lazaretto.contract import load_contract
from lazaretto.errors import UsageError
from lazaretto.fairness import Inequality, unequal
from lazaretto.ledger import open_ledger
from lazaretto.pipelines.cases import open_quarantine
from lazaretto.pipelines.datasets import find_datasets
from lazaretto.pipelines.summary import UNPARSED, read_summary
from lazaretto.records import ROW, no_rows
from lazaretto.tables import BatchRow, CaseRow

if TYPE_CHECKING:
    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.records import OnRows

_WITHHELD = "(withheld {})"


@dataclass(frozen=True)
class GroupRow:
    """One group over all batches."""

    column: str
    value: str
    """A stand-in where the contract calls the column personal."""
    judged: int
    suspects: int
    decided: int
    """Cases that a person decided on."""
    released: int


@dataclass(frozen=True)
class Fairness:
    """What became of the groups of a data set."""

    dataset: str
    batches: int
    rows: tuple[GroupRow, ...]
    waiting: tuple[Inequality, ...]
    """Groups whose records are suspected more often than others'."""
    kept_out: tuple[Inequality, ...]
    """Groups whose suspects are released less often than others', that is discarded more often."""


def fairness(workspace: Workspace, dataset: str, on_rows: OnRows = no_rows) -> Fairness:
    """Count suspects and decisions by the contract's groups, over every batch whose summary has them, and test both.

    Raises:
        UsageError: There is no such data set, or its contract names no groups.
        IntegrityViolated: A quarantined record cannot be read back as it was sealed.
    """
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        find_datasets(workspace, session).require(dataset)
        contract = load_contract(workspace.contract(dataset))
        if not contract.groups:
            raise UsageError(
                f"the contract of {dataset} names no groups", hint="list the columns to compare under 'groups:'"
            )
        batches = list(session.scalars(select(BatchRow.id).where(BatchRow.dataset == dataset)))
        wanted = CaseRow.dataset == dataset, CaseRow.state != "open"
        decided: dict[str, dict[int, str]] = {}
        for batch, row, state in session.execute(select(CaseRow.batch_id, CaseRow.row, CaseRow.state).where(*wanted)):
            decided.setdefault(batch, {})[row] = state
    counts = {column: _Groups() for column in contract.groups}
    for batch in batches:
        _add_batch(workspace, batch, counts)
    for batch, states in decided.items():
        _add_decisions(workspace, contract, batch, states, counts)
        on_rows(len(states))
    return _told(contract, len(batches), counts)


class _Groups:
    """Counters of one column's groups."""

    def __init__(self) -> None:
        self.judged: Counter[str] = Counter()
        self.suspects: Counter[str] = Counter()
        self.decided: Counter[str] = Counter()
        self.released: Counter[str] = Counter()


def _add_batch(workspace: Workspace, batch: str, counts: dict[str, _Groups]) -> None:
    try:
        groups = read_summary(workspace.batch(batch)).get("groups") or {}
    except (OSError, ValueError):
        return  # verify says that it is not what was written
    for column, tally in counts.items():
        for row in groups.get(column, ()):
            if row["name"] != UNPARSED:
                tally.judged[row["name"]] += row["arrived"] - row["rejected"]
                tally.suspects[row["name"]] += row["suspects"]


def _add_decisions(
    workspace: Workspace, contract: Contract, batch: str, states: dict[int, str], counts: dict[str, _Groups]
) -> None:
    frame = open_quarantine(workspace, contract.dataset, batch).select(states)
    for column, tally in counts.items():
        if column not in frame.columns:
            continue  # sealed under a contract without it
        for row, value in zip(frame[ROW].to_list(), frame[column].to_list(), strict=True):
            name = UNPARSED if value is None else str(value)
            tally.decided[name] += 1
            tally.released[name] += states[row] == "released"


def _told(contract: Contract, batches: int, counts: dict[str, _Groups]) -> Fairness:
    names = {
        (column, value): _WITHHELD.format(place) if contract.all_columns[column].pii else value
        for column, tally in counts.items()
        for place, value in enumerate(sorted(tally.judged.keys() | tally.decided.keys()), start=1)
    }
    rows = tuple(
        GroupRow(
            column, said, counts[column].judged[value], counts[column].suspects[value],
            counts[column].decided[value], counts[column].released[value],
        )
        for (column, value), said in names.items()
    )  # fmt: skip
    waiting = {c: {r.value: (r.suspects, r.judged) for r in rows if r.column == c} for c in counts}
    kept = {c: {r.value: (r.decided - r.released, r.decided) for r in rows if r.column == c} for c in counts}
    return Fairness(contract.dataset, batches, rows, tuple(unequal(waiting)), tuple(unequal(kept)))
