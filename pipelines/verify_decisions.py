"""What people decided: the ledger's decisions, and the records that must not come back, against the audit log."""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest
from typing import TYPE_CHECKING

from lazaretto.audit import digest_of
from lazaretto.tables import DECIDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lazaretto.audit import Entry
    from lazaretto.pipelines.verify_ledger import Books
    from lazaretto.tables import DecisionRow

_ACTIONS = {
    "case.released": "release",
    "batch.released": "release",
    "case.discarded": "discard",
    "batch.discarded": "discard",
    "case.assigned": "assign",
}
"""What an audit entry is of -> the action of its decisions."""


def decision_findings(books: Books, entries: Iterable[Entry]) -> Iterator[str]:
    """One sentence for each decision that the audit log tells otherwise, and each case that does not follow from them.

    Args:
        books: A data set's rows.
        entries: Its audit entries that can be believed.
    """
    told: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    made: dict[tuple[str, str], list[DecisionRow]] = defaultdict(list)
    for entry in entries:
        if entry.action in _ACTIONS:
            for what in entry.detail["cases"] or [entry.detail["batch"]]:
                told[_ACTIONS[entry.action], what].append(entry)
    for row in books.decisions:
        made[row.action, row.case_id or row.batch_id].append(row)
    for key in sorted(told.keys() | made.keys()):
        # Both are in the order in which they were made: the ledger has one writer at a time.
        if not all(_same(row, entry) for row, entry in zip_longest(made[key], told[key])):
            yield f"the decision to {key[0]} {key[1]} is not the one the audit log tells of"
    yield from _cases(books)


def _same(row: DecisionRow | None, entry: Entry | None) -> bool:
    if row is None or entry is None:
        return False
    detail = entry.detail
    return (
        (row.batch_id, row.at, row.actor) == (detail["batch"], entry.at, entry.actor)
        and row.unit == (entry.subject if row.action == "release" else "")
        and (row.case_id is None) == (not detail["cases"])
        # Entries of earlier versions do not tell of reason and assignee.
        and ("reason" not in detail or detail["reason"] == digest_of(row.reason))
        and row.assignee == (detail.get("assignee", row.assignee) if row.action == "assign" else None)
    )


def _cases(books: Books) -> Iterator[str]:
    decided = {row.case_id: DECIDED[row.action] for row in books.decisions if row.action in DECIDED}
    assigned = {row.case_id: row.assignee for row in books.decisions if row.case_id and row.action == "assign"}
    for case, state in sorted(books.states.items()):
        if state != decided.get(case, "open"):
            yield f"case {case} is said to be {state}, but its decisions say {decided.get(case, 'open')}"
        if books.assignees.get(case) != assigned.get(case):
            yield f"case {case} is not assigned to whom its decisions say"


def discard_findings(books: Books, entries: Iterable[Entry], dataset: str) -> Iterator[str]:
    """One sentence for each way in which the records that must not come back are not those the audit log tells of.

    Args:
        books: The data set's rows.
        entries: Its audit entries that can be believed.
        dataset: The data set's name.
    """
    count, told = 0, defaultdict(list)
    for entry in entries:
        if "remembered" in entry.detail:
            count += entry.detail["remembered"]
            told[entry.detail["batch"], entry.at].append(entry)
    kept = sum(group.count for group in books.discards.values())
    if kept != count:
        yield f"the ledger remembers {kept} discarded records of {dataset}, the audit log {count}"
    for batch, at in sorted(told.keys() | books.discards.keys()):
        group, mine = books.discards.get((batch, at)), told.get((batch, at), [])
        same = (group.count if group else 0) == sum(entry.detail["remembered"] for entry in mine)
        digests = [entry.detail["discards"] for entry in mine if "discards" in entry.detail]
        if digests:  # entries of earlier versions tell only how many
            same &= digests[-1] == (group.digest if group else digest_of([]))
        if not same:
            yield f"the records of batch {batch} discarded at {at} are not those the audit log tells of"
