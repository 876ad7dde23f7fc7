"""The counts of a batch, and the summary of what was decided."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lazaretto.fairness import unequal
from lazaretto.pipelines.sources import judged_sources

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from lazaretto.contract import Contract
    from lazaretto.detectors.panel import Panel
    from lazaretto.pipelines.outcome import Outcome
    from lazaretto.pipelines.scan import Options

UNPARSED = "(did not parse)"
"""Source or class of a record whose columns could not be read."""
_DOUBTED_SHOWN = 20
"""Suspects of the trusted set that the summary names, at most."""


def titles_of(contract: Contract) -> dict[str, str]:
    """What is tallied -> column of the contract."""
    titles = {f"group {name}": name for name in contract.groups}
    if contract.source:
        titles["source"] = contract.source
    if contract.label:
        titles["class"] = contract.label
    return titles


def beside(column: str) -> str:
    """A contract's column beside those of a verdict: no column of a contract begins with an underscore."""
    return f"_of {column}"


@dataclass
class Tally:
    """Decisions counted overall and by source, class and group."""

    by: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)
    decisions: Counter[str] = field(default_factory=Counter)

    def add(self, verdicts: pl.DataFrame, columns: dict[str, str]) -> None:
        """Count verdicts that carry the tallied columns, title -> column of the contract (`beside`)."""
        self.decisions.update(verdicts["decision"].to_list())
        for title, column in columns.items():
            table = self.by.setdefault(title, {})
            grouped = verdicts.group_by(beside(column), "decision", "suspect").len()
            for name, decision, suspect, count in grouped.iter_rows():
                counter = table.setdefault(UNPARSED if name is None else str(name), Counter())
                counter.update({"arrived": count, decision: count, "suspects": count * bool(suspect)})

    def table(self, title: str, rate: float) -> list[dict[str, Any]]:
        """Rows by name; ``p_value``: chance of so many suspects if each clean record had the chosen rate."""
        from scipy.stats import binom

        rows = []
        for name, counter in sorted(self.by.get(title, {}).items()):
            judged = counter["arrived"] - counter["reject"]
            chance = float(binom.sf(counter["suspects"] - 1, judged, rate)) if judged else 1.0
            rows.append(
                {
                    "name": name,
                    "arrived": counter["arrived"],
                    "admitted": counter["admit"],
                    "quarantined": counter["quarantine"],
                    "rejected": counter["reject"],
                    "suspects": counter["suspects"],
                    "p_value": float(f"{chance:.3g}"),
                }
            )
        return rows


def summarise(outcome: Outcome, options: Options, tally: Tally, found: dict[str, Any]) -> dict[str, Any]:
    """What ``summary.json`` says.

    Args:
        outcome: What was judged.
        options: How.
        tally: The decisions.
        found: ``suspects``, how many, and ``holds``, why the batch waits.
    """
    parsed, contract, panel = outcome.parsed, outcome.contract, outcome.panel
    rate, decided = contract.policy.false_quarantine_rate, tally.decisions
    groups = {name: tally.table(f"group {name}", rate) for name in contract.groups}
    return {
        "dataset": contract.dataset,
        "batch": parsed.batch.id,
        "arrived": parsed.arrived,
        "admitted": decided["admit"],
        "quarantined": decided["quarantine"],
        "rejected": decided["reject"],
        "suspects": found["suspects"],
        "hold": bool(found["holds"]),
        "hold_reasons": list(found["holds"]),
        "null": _null(outcome),
        "false_quarantine_rate": rate,
        "fdr": contract.policy.fdr,
        "detectors": _detectors(panel, outcome.scored.flagged),
        "stood_aside": dict(panel.stood_aside) if panel else {},
        "failed_detectors": {**outcome.scored.faults, **panel.failed} if panel else {},
        "per_source": _sources(outcome, tally),
        "source_withheld": bool(contract.source) and contract.all_columns[str(contract.source)].pii,
        "per_class": tally.table("class", rate),
        "groups": groups,
        "groups_withheld": [name for name in contract.groups if contract.all_columns[name].pii],
        "unequal": _unequal(groups),
        "clusters": [cluster.brief() for cluster in outcome.clusters],
        "validation": {
            "evaluated": outcome.checked.evaluated,
            "expected": outcome.checked.expected,
            "results": list(outcome.checked.results),
        },
        "versions": {name: version(name) for name in ("lazaretto", "polars", "torch", "pyod", "great-expectations")},
        "seed": options.seed,
        "device": "none" if panel is None else str(panel.encoder.device),
        "digests": {
            "contract": contract.digest,
            "files": {file.name: file.sha256 for file in parsed.batch.files[:1000]},
        },
        "files": len(parsed.batch.files),
        "ignored_columns": list(parsed.ignored_columns),
        **({} if outcome.looked is None else {"window": outcome.looked.brief(parsed.batch.id)}),
    }


def _unequal(groups: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The groups that are suspected more often than others."""
    counts = {
        column: {row["name"]: (row["suspects"], row["arrived"] - row["rejected"]) for row in rows}
        for column, rows in groups.items()
    }
    return [asdict(found) for found in unequal(counts)]


def _null(outcome: Outcome) -> dict[str, Any]:
    panel = outcome.panel
    if panel is None or not panel.names:
        return {"kind": "none", "meaning": "the detectors did not run; nothing was scored and nothing is admitted"}
    null = panel.folds[0].null
    if null is not None and null.kind == "trusted":
        meaning = "p-values are exact for records exchangeable with the trusted set's held-out calibration records"
        groups = [{"classes": list(names), "calibration_records": size} for names, size in panel.calibration_groups]
        if groups:
            meaning += " of the same class, and together in the classes that have too few of them"
        return {
            "kind": "trusted",
            "calibration_records": panel.calibration_records,
            "calibrated_apart": groups,
            "meaning": meaning,
            **_doubt(outcome, panel.unvouched),
        }
    meaning = "p-values are an estimate from tails fitted to the batch itself: no trusted set was given"
    return {"kind": "estimated", "meaning": meaning}


def _doubt(outcome: Outcome, p_values: NDArray[np.float64] | None) -> dict[str, Any]:
    """What is said of the trusted set itself."""
    from lazaretto.detectors.doubt import Doubt

    if p_values is None or outcome.trusted is None:
        return {"trusted_suspects": 0, "doubt": "", "doubted": []}
    doubt = Doubt.of(p_values, outcome.contract.policy.false_quarantine_rate)
    named = outcome.trusted.gather(list(doubt.suspects[:_DOUBTED_SHOWN])).to_list() if doubt.raised else []
    return {"trusted_suspects": len(doubt.suspects), "doubt": doubt.sentence, "doubted": named}


def _sources(outcome: Outcome, tally: Tally) -> list[dict[str, Any]]:
    """The table of sources, each with what is known of its wrong labels: null where it could not be tested."""
    classes = len(outcome.panel.classes) if outcome.panel else 0
    judged = judged_sources(outcome.scored.sources, classes)
    rows = tally.table("source", outcome.contract.policy.false_quarantine_rate)
    return [{**row, "wrong_labels": judged.get(row["name"])} for row in rows]


def _detectors(panel: Panel | None, flagged: dict[str, int]) -> list[dict[str, Any]]:
    if panel is None:
        return []
    from lazaretto.detector import detector_id

    return [
        {
            "name": d.name,
            "family": d.family,
            "id": detector_id(d),
            "flagged": flagged[d.name],
            "seconds": round(panel.seconds.get(d.name, 0.0), 3),
        }
        for d in panel.detectors
    ]


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary a judging wrote."""
    loaded: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return loaded
