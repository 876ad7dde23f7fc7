"""Recall attack by attack, one line each over all data sets: the table of the README and of `docs/benchmark.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.record import Run

_FAR_BELOW = 0.1
"""A worst seed is named where it lies so far below the mean."""


def attack_rows(runs: Iterable[Run], method: str, targets: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Attack, target, and recall at 1 % on each data set: the mean of the seeds, and the worst where it is far below.

    The last row is of clean batches: the share that is held, by the method's own decision.

    Args:
        runs: Of any methods.
        method: The one that is told.
        targets: Attack -> recall that is aimed at.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    held: dict[str, list[float]] = {}
    for run in runs:
        if run.method != method:
            continue
        if run.family == "clean" and run.held is not None:
            held.setdefault(run.data, []).append(run.held)
        elif run.recall_at_rate is not None:
            by_data = found.setdefault((run.title, run.attack), {})
            by_data.setdefault(run.data, []).append(run.recall_at_rate)
    rows = []
    for (title, attack), by_data in found.items():
        target = f"{targets[attack]:.2f}" if attack in targets else ""
        rows.append((title, target, "; ".join(f"{data} {_recall(values)}" for data, values in by_data.items())))
    if held:
        shares = (f"{data} {np.mean(values):.2%} (worst {max(values):.2%})" for data, values in held.items())
        rows.append(("clean batches: share held", "0.01", "; ".join(shares)))
    return rows


def over_attacks(runs: Iterable[Run], method: str, targets: Mapping[str, float]) -> tuple[float, float, str] | None:
    """Mean over the attacks that have a target of the mean over data sets and seeds; the worst attack's; its title.

    None where the method judged no such attack.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        if run.method == method and run.recall_at_rate is not None and run.attack in targets:
            found.setdefault(run.title, {}).setdefault(run.data, []).append(run.recall_at_rate)
    if not found:
        return None
    means = {title: float(np.mean([np.mean(one) for one in by_data.values()])) for title, by_data in found.items()}
    worst = min(means, key=lambda title: means[title])
    return float(np.mean(list(means.values()))), means[worst], worst


def _recall(values: Sequence[float]) -> str:
    mean, worst = float(np.mean(values)), min(values)
    return f"{mean:.2f}" if worst >= mean - _FAR_BELOW else f"{mean:.2f} (worst {worst:.2f})"
