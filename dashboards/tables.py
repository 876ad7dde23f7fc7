"""The report's tables as rows of plain values: sources, classes, detectors, validation, provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazaretto.dashboards import shown

if TYPE_CHECKING:
    from lazaretto.contract import Contract

MOST_ROWS = 15
"""Rows of a table of sources, classes or reasons; how many more there are is said."""

_OUTSTANDING = 3.0
"""A source or class stands out when its share of suspects is this many times that of all the others together..."""
_DEVIATIONS = 4.0
"""...and its suspects lie this many standard deviations of chance above what the others would lead one to expect."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A source, class or group and what became of its records."""

    name: str
    arrived: int
    admitted: int
    waiting: int
    """Suspects: in a held batch everything waits, which would tell nothing apart."""
    rejected: int
    share: float
    """Suspects among its judged records, 0 to 1."""
    outstanding: bool


@dataclass(frozen=True)
class Table:
    """Lines by how many suspects they have, cut to `MOST_ROWS`."""

    title: str
    column: str
    """The column whose values the lines are; the title in small letters where it is not known."""
    lines: tuple[Line, ...]
    more: int
    longest: float
    """The greatest share of any line: where a bar is full."""


@dataclass(frozen=True)
class Ran:
    """A detector: how many records it flagged and how many it would on clean data."""

    name: str
    family: str
    flagged: int | None
    seconds: float | None
    times: float
    """Flagged as a multiple of expected."""
    note: str
    """Why it did not run; empty where it did."""
    failed: bool


@dataclass(frozen=True)
class Checked:
    """One expectation and how it went."""

    title: str
    columns: str
    origin: str
    unexpected: int | None
    evaluated: int | None
    success: bool
    severity: str


def breakdown(title: str, rows: Sequence[Row], column: str | None, names: Names) -> Table | None:
    """The table of a column's values; None where there are none.

    Args:
        title: Its heading.
        rows: name, arrived, admitted, quarantined, rejected and, where known, suspects.
        column: The column the names are values of.
        names: Shows or withholds them.
    """
    if not rows:
        return None
    all_judged, all_suspects = sum(map(_judged, rows)), sum(map(_suspects, rows))
    ordered = sorted(rows, key=lambda row: (-_suspects(row), -row["arrived"], str(row["name"])))
    lines = []
    for row in ordered[:MOST_ROWS]:
        judged, suspects = _judged(row), _suspects(row)
        rest = (all_suspects - suspects) / max(all_judged - judged, 1)
        by_chance = rest * judged
        lines.append(
            Line(
                name=names.show(column, row["name"]),
                arrived=row["arrived"],
                admitted=row["admitted"],
                waiting=suspects,
                rejected=row["rejected"],
                share=suspects / judged if judged else 0.0,
                outstanding=suspects > _OUTSTANDING * by_chance
                and suspects > by_chance + _DEVIATIONS * math.sqrt(by_chance + 1),
            )
        )
    longest = max(line.share for line in lines) or 1.0
    return Table(title, column or title.lower(), tuple(lines), len(rows) - len(lines), longest)


class Names:
    """Shows the values of label, source and group columns, or stand-ins where they are personal data."""

    def __init__(self, contract: Contract | None, pseudonyms: shown.Pseudonyms) -> None:
        self._contract = contract
        self._pseudonyms = pseudonyms

    def show(self, column: str | None, value: Any) -> str:  # noqa: ANN401  a label may be text, number or boolean
        """The value, or its stand-in where the contract is not known or calls the column personal data."""
        known = None if self._contract is None or column is None else self._contract.all_columns.get(column)
        if known is None or known.pii:
            return self._pseudonyms.of(column or "", value)
        return shown.cell(value)


def ran(summary: Row, expected: float) -> list[Ran]:
    """The detectors: those that failed first, then by how many records they flagged, those that stood aside last.

    Args:
        summary: The batch's: ``detectors``, ``failed_detectors`` and ``stood_aside``.
        expected: Records a detector would flag on clean data.
    """
    rows = [
        Ran(
            name=shown.text(str(row["name"]), 60),
            family=str(row.get("family") or ""),
            flagged=row.get("flagged"),
            seconds=row.get("seconds"),
            times=(row.get("flagged") or 0) / expected if expected else 0.0,
            note="",
            failed=False,
        )
        for row in summary.get("detectors") or []
    ]
    for key, failed in (("failed_detectors", True), ("stood_aside", False)):
        for name, why in (summary.get(key) or {}).items():
            rows.append(Ran(shown.text(name, 60), "", None, None, 0.0, shown.text(str(why), 200), failed))
    return sorted(rows, key=lambda row: (not row.failed, bool(row.note), -(row.flagged or 0), row.name))


@dataclass(frozen=True)
class ClusterLine:
    """One cluster of suspects."""

    id: int
    records: int
    driver: str
    """What drove its records."""
    rule: tuple[str, ...]
    """Facts that hold together; empty where none describes it."""
    matched: int
    others_matched: int
    others: int


def clusters(summary: Row) -> list[ClusterLine]:
    """The clusters, as the summary has them; none where an earlier version judged."""
    return [
        ClusterLine(
            id=row["id"],
            records=row["records"],
            driver=shown.text(row["led_by"] + (f": {row['token']}" if row["token"] else ""), 120),
            rule=tuple(shown.text(fact, 160) for fact in row["rule"]),
            matched=row["matched"],
            others_matched=row["others_matched"],
            others=row["others"],
        )
        for row in summary.get("clusters") or []
    ]


def checked(results: Sequence[Row]) -> tuple[list[Checked], list[Checked]]:
    """Expectations that are not met, and those that are."""
    rows = [
        Checked(
            title=str(row["type"]).removeprefix("expect_").replace("_", " "),
            columns=shown.text(", ".join(map(str, row.get("columns") or [])), 80),
            origin=str(row.get("origin") or ""),
            unexpected=row.get("unexpected"),
            evaluated=row.get("evaluated"),
            success=bool(row.get("success")),
            severity=str(row.get("severity") or ""),
        )
        for row in results
    ]
    return [row for row in rows if not row.success], [row for row in rows if row.success]


def provenance(summary: Row) -> list[tuple[str, list[tuple[str, str]]]]:
    """What this was made from and with, in groups of (name, value)."""
    digests = dict(summary.get("digests") or {})
    files = dict(digests.pop("files", None) or {})
    made = [("batch", summary.get("batch")), ("seed", summary.get("seed")), ("device", summary.get("device"))]
    made += [(f"{name} digest", value) for name, value in digests.items()]
    groups = [
        ("Made from", [(name, shown.text(str(value), 100)) for name, value in made if value is not None]),
        ("Versions", [(name, shown.text(str(value), 60)) for name, value in (summary.get("versions") or {}).items()]),
        ("Files", [(shown.text(str(name), 80), shown.text(str(digest), 100)) for name, digest in files.items()]),
    ]
    return [(title, rows) for title, rows in groups if rows]


def _judged(row: Row) -> int:
    return int(row["arrived"] - row["rejected"])


def _suspects(row: Row) -> int:
    return int(row.get("suspects", row["quarantined"]))
