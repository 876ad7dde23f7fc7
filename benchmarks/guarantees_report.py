"""The runs of the guarantees as Markdown and a plot: `docs/guarantees.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.guarantees import FDR, RATE
from benchmarks.guarantees_settings import FEW, POISONED, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks.guarantees import Run

HOW = {"together": "together", "per_class": "per class"}


def write_report(runs: Sequence[Run], out: Path | None, machine: str) -> str:
    """The report of one run at least, as Markdown; with ``out`` also written there, with its plot."""
    seeds = sorted({run.seed for run in runs})
    said = (
        f"Made by `make bench-guarantees` (its module says how each figure is made). {machine}. Seeds {seeds[0]} to"
        f" {seeds[-1]}, images, texts and poisoned trusted sets one in {FEW}; development used seeds from 100 to 199."
        " All with a trusted set, half of which is in the fit and half calibrates. A figure is the mean over the runs"
        " ± its standard error. It *holds* if it is not above its limit by more than two standard errors. Seeds"
        " draw from one pool of records, so that the errors are those of drawing from that pool."
    )
    text = "\n\n".join(["# The guarantees", said, *_rates(runs), *_discoveries(runs), *_trust(runs)]) + "\n"
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _plot(runs, out / "guarantees.svg")
        (out / "guarantees.md").write_text(text)
    return text


def mean_error(values: Iterable[float]) -> tuple[float, float]:
    """Mean and its standard error, which is not known of a single value."""
    known = np.array(list(values))
    return float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else np.nan


def holds(mean: float, error: float, limit: float) -> str:
    """Whether a mean is not above its limit by more than two standard errors; nothing is said of a single run."""
    if np.isnan(error):
        return "-"
    return "holds" if mean - 2 * error <= limit else "**does not hold**"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _shown(values: Iterable[float], digits: int = 2) -> str:
    mean, error = mean_error(values)
    return f"{mean:.{digits}%}" if np.isnan(error) else f"{mean:.{digits}%} ± {error:.{digits}%}"


def _of(runs: Sequence[Run], attack: str | None = None, *, trust: bool = False) -> list[tuple[str, str, list[Run]]]:
    """(title, calibration, runs) by setting, in the order of the settings."""
    found = []
    for setting in SETTINGS:
        if (setting.trusted_poison != (0.0,)) != trust:
            continue
        for name in dict.fromkeys(run.attack for run in runs if run.setting == setting.name):
            if (name == "clean") != (attack == "clean"):
                continue
            for how in HOW:
                mine = [r for r in runs if (r.setting, r.attack, r.calibration) == (setting.name, name, how)]
                found += [(setting.title, how, mine)] if mine else []
    return found


def _sizes(runs: Sequence[Run]) -> str:
    there = {run.setting for run in runs}
    said = [f"{s.title}: {s.batch:,} records, {s.trusted:,} trusted" for s in SETTINGS if s.name in there]
    return "; ".join(dict.fromkeys(said)) + "."


def _rates(runs: Sequence[Run]) -> list[str]:
    rows: list[list[str]] = []
    for title, how, mine in _of(runs, "clean"):
        mean, error = mean_error(run.held for run in mine)
        classes = {name for run in mine for name in run.held_by_class}
        by_class = {c: [run.held_by_class[c] for run in mine if c in run.held_by_class] for c in sorted(classes)}
        worst = max(by_class, key=lambda c: float(np.mean(by_class[c])))
        alone = {name for run in mine for name in run.groups if " + " not in name}
        rows.append(
            [
                title,
                HOW[how],
                str(len(mine)),
                _shown(run.held for run in mine),
                holds(mean, error, RATE),
                f"{worst} {_shown(by_class[worst])}",
                holds(*mean_error(by_class[worst]), RATE),
                f"{len(alone)} of {len(classes)}" if how == "per_class" else "",
            ]
        )
    if not rows:
        return []
    return [
        f"## False quarantines on clean batches, limit {RATE:.0%}",
        _sizes(runs),
        _table(["data", "calibrated", "runs", "held", "", "worst class", "", "alone"], rows),
        "The worst class is the one with the highest mean. *Alone*: classes that are calibrated by themselves.",
        "![Share of clean records held, one dot per run](guarantees.svg)",
    ]


def _discoveries(runs: Sequence[Run]) -> list[str]:
    rows: list[list[str]] = []
    for title, how, mine in _of(runs):
        false = [run.false / max(run.discoveries, 1) for run in mine]
        rows.append(
            [
                title,
                mine[0].attack,
                HOW[how],
                str(len(mine)),
                _shown(false, 1),
                holds(*mean_error(false), FDR),
                f"{np.mean([run.discoveries for run in mine]):.1f}",
                f"{np.mean([run.poisons for run in mine]):.0f}",
                _shown((run.decided_recall for run in mine if run.decided_recall is not None), 0),
            ]
        )
    for title, how, mine in _of(runs, "clean"):
        false = [float(run.discoveries > 0) for run in mine]
        held = holds(*mean_error(false), FDR)
        rows.append([title, "none", HOW[how], str(len(mine)), _shown(false, 1), held, "", "0", ""])
    if not rows:
        return []
    return [
        f"## False discoveries, limit {FDR:.0%}",
        (
            f"{POISONED:.0%} of a batch is poisoned, or nothing. No p-value is below one over the calibrating records"
            " plus one, so that a few poisons in a large batch cannot be discoveries, however strange: at a limit of q,"
            " m records and n calibrating ones need m / (q (n + 1)) records stranger than all n."
        ),
        _table(["data", "attack", "calibrated", "runs", "false", "", "discoveries", "poisons", "of which wait"], rows),
    ]


def _trust(runs: Sequence[Run]) -> list[str]:
    rows: list[list[str]] = []
    for title, how, all_shares in _of(runs, trust=True):
        if how != "together":
            continue
        for share in sorted({run.trusted_poison for run in all_shares}):
            mine = [run for run in all_shares if run.trusted_poison == share]
            rows.append(
                [
                    title,
                    mine[0].attack,
                    f"{share:.0%}",
                    str(len(mine)),
                    _shown((run.recall for run in mine if run.recall is not None), 0),
                    _shown((run.decided_recall for run in mine if run.decided_recall is not None), 0),
                    _shown(run.held for run in mine),
                    _doubted(mine),
                ]
            )
    head = ["data", "attack", "of the trusted set", "runs", "recall at 1 %", "decided", "clean held", "noticed"]
    if not rows:
        return []
    parts = [
        "## A poisoned trusted set",
        (
            f"{POISONED:.0%} of the batch is poisoned, and a share of the trusted set by the same attack: half of that"
            " calibrates, half is in the fit. Recall at 1 % ranks the batch's records and needs no p-value; *decided*"
            " is the share of the poisons that wait. *Noticed*: the trusted records, judged as if nobody vouched for"
            " them, hold more suspects than an estimate gives once in a thousand sets; summary and report then say so."
        ),
        _table(head, rows),
    ]
    doubts = _false_doubts(runs)
    return [*parts, "Clean trusted sets that were doubted all the same:", doubts] if doubts else parts


def _doubted(runs: Sequence[Run]) -> str:
    """In how many runs the trusted set was doubted, and the median number of suspects in it."""
    asked = [run.doubts for run in runs if run.doubts]
    if not asked:
        return "-"
    return (
        f"{sum(d['raised'] for d in asked)} of {len(asked)} ({np.median([d['suspects'] for d in asked]):.0f} suspects)"
    )


def _false_doubts(runs: Sequence[Run]) -> str:
    """The same for trusted sets that are clean, by setting and attack in the batch."""
    rows = []
    for attack in ("clean", None):
        for title, how, mine in _of(runs, attack):
            if how == "together":
                rows.append([title, mine[0].attack, _doubted(mine)])
    return _table(["data", "batch", "doubted"], rows) if rows else ""


def _plot(runs: Sequence[Run], path: Path) -> None:
    """Share of the clean records held, one dot per run, with the mean and the limit."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "lazaretto"
    colours = {"together": "#2256c7", "per_class": "#b3261e"}
    lines = _of(runs, "clean")
    figure, axes = plt.subplots(figsize=(9, 0.38 * len(lines) + 1.5), layout="constrained")
    for row, (_, how, mine) in enumerate(lines):
        held = [run.held for run in mine]
        axes.plot(held, [row] * len(held), "o", color=colours[how], alpha=0.15, markersize=4)
        mean, error = mean_error(held)
        axes.errorbar([mean], [row], xerr=[2 * error], fmt="|", color="black", markersize=12)
    axes.axvline(RATE, color="#888888", linestyle="--")
    axes.set_yticks(range(len(lines)), [f"{title}, {HOW[how]}" for title, how, _ in lines])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("share of clean records held; dots: runs, bar: mean ± two standard errors, dashed: the limit")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
