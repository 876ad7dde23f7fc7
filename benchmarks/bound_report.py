"""The report on what could be found of wrong labels: a table and a plot, beside what the product found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.detection_report import OURS, TARGETS, table
from benchmarks.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.bound import Bound


def write_report(found: Sequence[Bound], detection: Iterable[Path], out: Path | None, machine: str) -> str:
    """Markdown of everything measured, also written to ``bound.md`` with its plot in a folder, where one is given.

    Args:
        found: What could be found, attack by attack and seed by seed.
        detection: Records of `benchmarks.detection`, whose recall on the same batches stands beside it.
        out: The folder.
        machine: What it was measured on.
    """
    seeds = sorted({one.seed for one in found})
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    caught = {
        (data, attack, seed): run.recall_at_rate
        for (data, attack, method, seed), run in Record(None, detection).runs.items()
        if method == OURS and run.recall_at_rate is not None
    }
    parts = [
        "# What wrong labels could be found",
        (
            f"Made by `make bench-bound` (its module says how). {machine}. {named.capitalize()}. Recall at 1 % false"
            " quarantines, mean / worst over the seeds, of models that were taught the right label of every other"
            " record and know which attack it is. *Best*: the best of them on each batch, chosen with hindsight."
            " *Found*: Lazaretto without a trusted set, on the same batches. A target above the best is out of reach"
            " of these models, and of anyone who knows no better ones."
        ),
        _table(found, caught),
    ]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _plot(found, caught, out / "bound.svg")
        parts.insert(2, "![What could be found, what was, and the target](bound.svg)")
    text = "\n\n".join(parts) + "\n"
    if out is not None:
        (out / "bound.md").write_text(text)
    return text


def _cases(found: Iterable[Bound]) -> dict[tuple[str, str], list[Bound]]:
    cases: dict[tuple[str, str], list[Bound]] = {}
    for one in found:
        cases.setdefault((one.data, one.attack), []).append(one)
    return cases


def _best(mine: Iterable[Bound]) -> list[float]:
    return [max(one.recalls.values()) for one in mine]


def _found(mine: Iterable[Bound], caught: Mapping[tuple[str, str, int], float]) -> list[float]:
    return [caught[one.key] for one in mine if one.key in caught]


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} / {min(values):.2f} ({len(values)})" if values else "-"


def _table(found: Sequence[Bound], caught: Mapping[tuple[str, str, int], float]) -> str:
    models = list(found[0].recalls)
    rows = []
    for (data, attack), mine in _cases(found).items():
        target, best = TARGETS.get(attack), _best(mine)
        said = "-" if target is None else f"{target:.2f}" + (", out of reach" if np.mean(best) < target else "")
        each = [_cell([one.recalls[model] for one in mine]) for model in models]
        accuracy = f"{np.mean([one.accuracy for one in mine]):.1%}"
        shown = [_cell(best), _cell(_found(mine, caught))]
        rows.append([data, mine[0].title, str(mine[0].poisons), said, *shown, *each, accuracy])
    head = ["data", "attack", "poisons", "target", "best", "found", *models, "their accuracy"]
    return table(head, rows)


def _plot(found: Sequence[Bound], caught: Mapping[tuple[str, str, int], float], path: Path) -> None:
    """Per attack the best of the models, what was found, and the target."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "lazaretto"
    cases = _cases(found)
    names = [f"{data}: {mine[0].title}" for (data, _), mine in cases.items()]
    figure, axes = plt.subplots(figsize=(9, 0.34 * len(names) + 1.4), layout="constrained")
    for place, ((_, attack), mine) in enumerate(cases.items()):
        ours, target = _found(mine, caught), TARGETS.get(attack)
        first = place == 0
        axes.barh(place, float(np.mean(_best(mine))), color="#c9d5f2", label="could be found" if first else None)
        if ours:
            axes.plot(ours, [place] * len(ours), "o", color="#2256c7", ms=4, label="found" if first else None)
        if target is not None:
            axes.plot([target] * 2, [place - 0.4, place + 0.4], color="#b3261e", label="target" if first else None)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("recall at 1 % false quarantines")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
