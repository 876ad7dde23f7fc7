"""The report on what nothing was developed on, beside the same kind of attack where development went: `held_out.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.data import HELD_OUT_SETS
from benchmarks.detection_report import OURS, cases, cell, clean_table, methods_of, plot, recalls, table
from benchmarks.provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.record import Run

LIKE = {
    "chequered": "badnets",
    "four_pixels": "badnets",
    "clouded": "blend",
    "warp_fine": "wanet",
    "sig_slow": "sig",
    "three_columns": "trigger_inside",
    "other_token": "rare_token",
    "other_sentence": "sentence",
    "few_look_alikes": "hidden_text",
    "other_phrase": "phrase",
    "other_claim": "instruction",
}
"""Variant -> the attack of development that it is like."""


def write_report(
    runs: Sequence[Run], known: Iterable[Run], out: Path | None, machine: str, first: Sequence[Run] = ()
) -> str:
    """The report as Markdown; with ``out`` also written there, with its plot.

    Args:
        runs: One at least.
        known: Runs of `benchmarks.detection`, to compare with.
        out: The folder.
        machine: What it was measured on.
        first: Of some of the batches the first runs, where ``runs`` are of code that was mended after them.
    """
    seeds = sorted({run.seed for run in runs})
    developed = _developed(known)
    parts = [
        "# What nothing was developed on",
        (
            f"Made by `make bench-held-out` (its module says how). {machine}. Seeds {seeds[0]} to {seeds[-1]}. The data"
            f" sets {', '.join(HELD_OUT_SETS)}, and on the others attacks, parameters and rates, that no detector was"
            " tried on before this page; all were listed before the first run, which is what is reported but for what"
            " *After a mending* tells. Recall at 1 % false quarantines, no"
            " trusted set unless the name of the method says so: mean / worst over the seeds that were run, their"
            " number in brackets. *Quarantined*: what Lazaretto itself decided to hold of the poison; where clean"
            " records are odder than it, more is held than the recall tells. *Best alone*: the best single detector,"
            " with hindsight. *Developed on*: Lazaretto's mean in [the benchmark](benchmark.md) for the attack that"
            " this one is or is like, on the same data set, or over those of development where the data set is new."
        ),
        *_summary(runs, developed),
        *_peers(runs),
        _recall_table(runs, developed),
        *(_clean_part(runs)),
        *_mended(runs, first),
        *provenance([*runs, *first]),
    ]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        plot(runs, out / "held_out.svg")
        parts.insert(2, "![Recall per attack, one dot per seed](held_out.svg)")
    text = "\n\n".join(parts) + "\n"
    if out is not None:
        (out / "held_out.md").write_text(text)
    return text


def _clean_part(runs: Sequence[Run]) -> list[str]:
    if not any(run.family == "clean" for run in runs):
        return []
    return ["## Clean batches: share that is held or flagged", clean_table(runs)]


def _developed(known: Iterable[Run]) -> dict[str, dict[str, list[float]]]:
    """Attack, without its rate -> data set -> recalls of ours without a trusted set at the attack's own rate."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in known:
        if run.method == OURS and run.recall_at_rate is not None and " " not in run.attack:
            found.setdefault(run.attack, {}).setdefault(run.data, []).append(run.recall_at_rate)
    return found


def _before(data: str, attack: str, developed: Mapping[str, Mapping[str, Sequence[float]]]) -> float | None:
    """Mean recall of the attack that this one is like, where development went."""
    name = attack.partition(" ")[0]
    by_data = developed.get(LIKE.get(name, name), {})
    there = [by_data[data]] if data in by_data else list(by_data.values()) if data in HELD_OUT_SETS else []
    return float(np.mean([np.mean(values) for values in there])) if there else None


def _summary(runs: Sequence[Run], developed: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Of ours: how many rows, their mean, and that of the same attacks where development went."""
    rows = []
    for name, new in (("other data", True), ("other attacks and rates", False)):
        pairs = [
            (float(np.mean(mine)), before)
            for (data, attack), about in cases(runs).items()
            if (data in HELD_OUT_SETS) == new
            and (mine := recalls(about, OURS))
            and (before := _before(data, attack, developed)) is not None
        ]
        if pairs:
            here, there = np.mean(pairs, axis=0)
            rows.append((name, str(len(pairs)), f"{here:.3f}", f"{there:.3f}"))
    head = ("what is new", "rows that compare", "mean recall of Lazaretto", "developed on")
    return [table(head, rows)] if rows else []


def _peers(runs: Sequence[Run]) -> list[str]:
    """Each other method's mean over the batches it judged, beside ours on the same batches."""
    caught = {(run.data, run.attack, run.seed, run.method): run.recall_at_rate for run in runs}
    rows = []
    for method in methods_of(runs):
        pairs = [
            (theirs, mine)
            for (data, attack, seed, name), theirs in caught.items()
            if name == method and theirs is not None
            if method != OURS and (mine := caught.get((data, attack, seed, OURS))) is not None
        ]
        if pairs:
            theirs, mine = np.mean(pairs, axis=0)
            rows.append((method, str(len(pairs)), f"{theirs:.3f}", f"{mine:.3f}"))
    return [table(("method", "batches", "mean recall", "Lazaretto on the same"), rows)] if rows else []


def _mended(runs: Sequence[Run], first: Sequence[Run]) -> list[str]:
    """What the first runs found, and what is found since a defect that they showed was mended."""
    if not first:
        return []
    rows = []
    for (data, attack), mine in _by_batch(first).items():
        again = [run for run in runs if (run.data, run.attack, run.method) == (data, attack, OURS)]
        rows.append((data, mine[0].title, *_then(mine), *_then(again)))
    head = ("data", "attack", "first: recall", "first: clean held", "now: recall", "now: clean held")
    said = (
        "A defect that the first runs showed was mended without a look at these batches, on other records: `doodles` by"
        " thirty other things of the same collection. The first figures are what a user of the code before would have"
        " met; no other data set's scores are changed by it."
    )
    return ["## After a mending", said, table(head, rows)]


def _then(runs: Sequence[Run]) -> tuple[str, str]:
    held = [run.held for run in runs if run.held is not None]
    return cell(recalls(runs, OURS)), f"{np.mean(held):.2%}" if held else "-"


def _by_batch(runs: Iterable[Run]) -> dict[tuple[str, str], list[Run]]:
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.method == OURS:
            found.setdefault((run.data, run.attack), []).append(run)
    return found


def _recall_table(runs: Sequence[Run], developed: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    methods = methods_of(runs)
    rows = []
    for (data, attack), mine in cases(runs).items():
        before = _before(data, attack, developed)
        said = "-" if before is None else f"{before:.2f}"
        cells = [cell(recalls(mine, method)) for method in methods]
        decided = [run.decided_recall for run in mine if run.method == OURS and run.decided_recall is not None]
        alone = [max(run.detectors.values()) for run in mine if run.method == OURS and run.detectors]
        rows.append([data, mine[0].title, str(mine[0].poisons), *cells, cell(decided), cell(alone), said])
    return table(["data", "attack", "poisons", *methods, "quarantined", "best alone", "developed on"], rows)
