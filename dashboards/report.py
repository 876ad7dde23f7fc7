"""One judged batch as one self-contained HTML file that a person likes to read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazaretto.dashboards import shown
from lazaretto.dashboards.cases import strongest_cases
from lazaretto.dashboards.charts import BINS, evidence_length, histogram, share_of
from lazaretto.dashboards.judged import JudgedFolder
from lazaretto.dashboards.page import write_page
from lazaretto.dashboards.tables import MOST_ROWS, Names, Table, breakdown, checked, clusters, provenance, ran
from lazaretto.fairness import Inequality
from lazaretto.named_sources import named_sources, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lazaretto.contract import Contract

MOST_CASES = 25

_MORE_THAN_CHANCE = 1.5
"""Below this multiple of the expected number, chance alone explains it often enough."""


def render_report(folder: Path, contract: Contract | None = None) -> Path:
    """Write `report.html` into a judged folder.

    Args:
        folder: Holds `summary.json`, `verdicts.parquet`, `evidence.parquet`, `rejects.parquet` and `canonical/`.
        contract: Says which columns hold personal data; without it no value of a record is shown.

    Returns:
        The file written: no script, nothing loaded from elsewhere.

    Raises:
        UsageError: The folder holds no judged batch.
    """
    page = _page(JudgedFolder.open(Path(folder), contract))
    return write_page("report.html", Path(folder) / "report.html", page)


def _page(folder: JudgedFolder) -> dict[str, Any]:
    """Everything the template names."""
    summary = folder.summary
    pseudonyms = shown.Pseudonyms()
    names = Names(folder.contract, pseudonyms)
    rate = float(summary["false_quarantine_rate"])
    judged = summary["arrived"] - summary["rejected"]
    suspects = int(summary.get("suspects", summary["quarantined"]))
    tables = _tables(folder, names)
    counts = folder.p_value_counts(BINS)
    reasons, kinds = folder.reject_reasons(MOST_ROWS)
    unmet, met = checked((summary.get("validation") or {}).get("results") or [])
    return {
        "summary": summary,
        "headline": headline(summary, suspects, rate * judged, folder.stranger(rate / max(judged, 1))),
        "whence": _whence(tables, suspects),
        "accused": _accused(folder, names),
        "unequal": _unequal(folder, names),
        "judged": judged,
        "suspects": suspects,
        "expected": rate * judged,
        "rate": rate,
        "parts": [(name, summary[name], share_of(summary[name], summary["arrived"])) for name in _PARTS],
        "histogram": histogram(counts),
        "without_p": judged - sum(counts),
        "limit": evidence_length(rate),
        "expected_flags": any("flagged" in row for row in summary.get("detectors") or []),
        "detectors": ran(summary, rate * judged),
        "tables": tables,
        "reasons": reasons.to_dicts(),
        "more_reasons": max(0, kinds - MOST_ROWS),
        "validation": summary.get("validation") or {},
        "unmet": unmet,
        "met": met,
        "clusters": clusters(summary) if folder.contract is not None else [],
        "cases": strongest_cases(folder, MOST_CASES, rate, pseudonyms),
        "provenance": provenance(summary),
    }


_PARTS = ("admitted", "quarantined", "rejected")


def headline(summary: Mapping[str, Any], suspects: int, expected: float, strange: int) -> str:
    """What happened, in one sentence.

    Args:
        summary: The batch's.
        suspects: Records whose p-value is at or under the rate.
        expected: How many of those clean data would give.
        strange: Records so strange that among as many clean ones there would hardly be a single one.
    """
    arrived, rejected, waiting = (summary[name] for name in ("arrived", "rejected", "quarantined"))
    of_all = f"of {shown.count(arrived)} records"
    if summary["hold"] and suspects > _MORE_THAN_CHANCE * expected:
        return f"The whole batch is held: {shown.count(suspects)} {of_all} are suspicious"
    if summary["hold"]:
        return f"The whole batch is held: none of its {shown.count(arrived)} records was admitted"
    if not waiting and not rejected:
        return f"All {shown.count(arrived)} records were admitted"
    if not waiting:
        return f"Nothing waits; {shown.count(rejected)} {of_all} broke the contract"
    beside = "about what clean data would give"
    if expected and waiting > _MORE_THAN_CHANCE * expected:
        beside = f"{waiting / expected:.1f} times what clean data would give"
    elif strange:
        so = "one of them is" if strange == 1 else f"{shown.count(strange)} of them are"
        beside = f"{so} stranger than any clean record is likely to be"
    return f"{shown.count(waiting)} {of_all} wait, {beside}"


def _tables(folder: JudgedFolder, names: Names) -> list[Table]:
    """Sources, classes and groups, as far as the batch has them."""
    summary, contract = folder.summary, folder.contract
    source = None if contract is None else contract.source
    label = None if contract is None else contract.label
    found = [
        breakdown("Sources", summary.get("per_source") or [], source, names),
        breakdown("Classes", summary.get("per_class") or [], label, names),
    ]
    groups = summary.get("groups")
    if isinstance(groups, dict):
        found += [breakdown("Groups", rows, column, names) for column, rows in groups.items()]
    return [table for table in found if table is not None]


def _accused(folder: JudgedFolder, names: Names) -> list[tuple[str, str]]:
    """The sources whose labels look wrong: which, as far as it may be said, and what is wrong."""
    source = None if folder.contract is None else folder.contract.source
    found = named_sources(folder.summary.get("per_source") or [])
    return [(f"{source or 'source'} = {names.show(source, row['name'])}", sentence(row)) for _, row in found]


def _unequal(folder: JudgedFolder, names: Names) -> list[str]:
    """The groups whose records wait more often than others', a sentence each."""
    rows = folder.summary.get("unequal") or []
    return [Inequality.of_row(row).sentence("wait", names.show(row["column"], row["value"])) for row in rows]


def _whence(tables: list[Table], suspects: int) -> str:
    """Where the suspects come from, if a third of them come from one place that stands out."""
    for table in tables:
        for line in table.lines:
            if line.outstanding and line.waiting * 3 >= suspects:
                of_all = f"{shown.count(line.waiting)} of the {shown.count(suspects)} suspects"
                return f"{of_all} have {table.column} = {line.name}, {shown.percent(line.share)} of all that do."
    return ""
