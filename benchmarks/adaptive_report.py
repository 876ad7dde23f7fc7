"""What an attacker who knows the detectors gets through, as Markdown and a plot: `docs/adaptive.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.adaptive import BATTLEFIELDS, BEST
from benchmarks.adaptive_moves import moves_of
from benchmarks.detection_report import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.adaptive import Met

GAIN = 0.02
"""Attack success beyond a clean model's from which on an attack is said to work."""
_FEW = 3
"""Moves named for each data set."""


def write_report(found: Sequence[Met], out: Path | None, machine: str) -> str:
    """The report as Markdown; with ``out`` also written there, with its plot.

    Args:
        found: One at least.
        out: The folder.
        machine: What it was measured on.
    """
    seeds = sorted({one.seed for one in found})
    named = "seed" if len(seeds) == 1 else "seeds"
    parts = [
        "# An attacker who knows the detectors",
        (
            f"Made by `make bench-adaptive` (its module says what he knows, and how each figure is made). {machine}."
            f" Measured: {', '.join(dict.fromkeys(one.data for one in found))}; {named}"
            f" {', '.join(map(str, seeds))}: a picture, not a law. Development used seeds from 100. Batches of at most"
            " 2,000 records, `false_quarantine_rate: 0.01`."
        ),
        "## What gets through",
        _worst_lines(found),
        "## Every move",
        (
            "One thing changed of a known attack at a time; the best response is what he finds by judging and training"
            " on his own copy. *Quarantined*: share of the poisons not admitted, without / with a trusted set. Attack"
            " success: share of unseen records, with the trigger on, that a model calls what he wants, trained on the"
            " clean batch, on the batch as it arrived, and on what was admitted without / with a trusted set; of label"
            " moves it is the share of unseen records, as they are. Means over the seeds. Bold: attack success after"
            f" quarantine is more than {GAIN:.0%} beyond a clean model's."
        ),
        _table(found),
        _best_lines(found),
        _missing_lines(found),
    ]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _plot(found, out / "adaptive.svg")
        parts.insert(4, "![Attack success, clean, after quarantine and without it](adaptive.svg)")
    text = "\n\n".join(part for part in parts if part) + "\n"
    if out is not None:
        (out / "adaptive.md").write_text(text)
    return text


def _cases(found: Sequence[Met]) -> dict[tuple[str, str], list[Met]]:
    cases: dict[tuple[str, str], list[Met]] = {}
    for one in sorted(found, key=lambda one: one.data):
        cases.setdefault((one.data, one.move), []).append(one)
    return cases


def _mean(mine: Sequence[Met], figure: str) -> float:
    return float(np.mean([getattr(one, figure) for one in mine]))


def _gain(mine: Sequence[Met], figure: str) -> float:
    return _mean(mine, figure) - _mean(mine, "clean")


def _table(found: Sequence[Met]) -> str:
    rows = []
    for (data, move), mine in _cases(found).items():
        poisons = f"{_mean(mine, 'poisons'):.0f}"
        if mine[0].covers:
            poisons += f" + {_mean(mine, 'covers'):.0f} covers"
        after = [f"{_mean(mine, name):.2f}" for name in ("after", "after_trusted")]
        gains = [_gain(mine, name) for name in ("after", "after_trusted")]
        shown = " / ".join(f"**{text}**" if gain > GAIN else text for text, gain in zip(after, gains, strict=True))
        rows.append(
            [
                data,
                move,
                ", ".join(dict.fromkeys(one.target for one in mine)),
                poisons,
                f"{_mean(mine, 'caught'):.2f} / {_mean(mine, 'caught_trusted'):.2f}",
                f"{_mean(mine, 'clean'):.2f}",
                f"{_mean(mine, 'poisoned'):.2f}",
                shown,
            ]
        )
    head = ["data", "move", "target", "poisons", "quarantined", "success: clean", "unguarded", "after quarantine"]
    return table(head, rows)


def _worst_lines(found: Sequence[Met]) -> str:
    """For each data set, with and without a trusted set, the moves that gain most after quarantine."""
    lines = []
    for data in dict.fromkeys(one.data for one in sorted(found, key=lambda one: one.data)):
        mine = {move: some for (name, move), some in _cases(found).items() if name == data}
        for figure, caught, how in (
            ("after", "caught", "without a trusted set"),
            ("after_trusted", "caught_trusted", "with a trusted set"),
        ):
            order = sorted(mine, key=lambda move: -_gain(mine[move], figure))
            through = [move for move in order if _gain(mine[move], figure) > GAIN]
            said = "; ".join(
                f"*{move}*: {_mean(mine[move], caught):.0%} quarantined, success {_mean(mine[move], figure):.2f}"
                f" (clean {_mean(mine[move], 'clean'):.2f}, unguarded {_mean(mine[move], 'poisoned'):.2f})"
                for move in through[:_FEW]
            )
            count = f"{len(through)} of {len(mine)} moves still work after quarantine. The worst: {said}."
            lines.append(f"- `{data}`, {how}: {count if through else 'no move works after quarantine.'}")
    return "\n".join(lines)


def _best_lines(found: Sequence[Met]) -> str:
    """What each best response is made of."""
    lines = []
    for one in found:
        if one.move == BEST:
            what = one.variant
            parts = [f"trigger *{what['trigger']}*", f"{what['rate']:.1%} of the batch"]
            parts += ["spread values"] if what["spread"] else []
            parts += ["in pieces"] if what["pieces"] else []
            parts += ["covers"] if what["cover"] else []
            parts += [] if what["relabel"] else ["right labels alone"]
            parts += [] if what["who"] == "any" else [f"records chosen: {what['who']}"]
            parts += [f"target {one.target}"]
            lines.append(f"- `{one.data}`, seed {one.seed}: {', '.join(parts)}.")
    return "\n\n".join(["What the best responses are:", "\n".join(lines)]) if lines else ""


def _missing_lines(found: Sequence[Met]) -> str:
    """What no record holds yet, so that nobody takes its absence for a good sign."""
    lines = []
    for data in BATTLEFIELDS:
        every = [*moves_of("text" if data == "spamassassin" else "table"), BEST]
        measured = {one.move for one in found if one.data == data}
        missing = [move for move in every if move not in measured]
        if missing:
            lines.append(f"- `{data}`: {'; '.join(missing) if measured else 'nothing is measured'}.")
    return "\n\n".join(["Not measured yet:", "\n".join(lines)]) if lines else ""


def _plot(found: Sequence[Met], path: Path) -> None:
    """One row per move: attack success of a clean model, unguarded, and after quarantine."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "lazaretto"
    cases = _cases(found)
    figure, axes = plt.subplots(figsize=(9, 0.27 * len(cases) + 1.6), layout="constrained")
    places = range(len(cases), 0, -1)
    for name, label, marker, colour in (
        ("clean", "clean model", "|", "black"),
        ("poisoned", "no quarantine", "x", "#b2182b"),
        ("after", "after quarantine", "o", "#ef8a62"),
        ("after_trusted", "after, trusted set", "o", "#2166ac"),
    ):
        axes.scatter([_mean(mine, name) for mine in cases.values()], places, marker=marker, c=colour, label=label)
    axes.set_yticks(places, [f"{data}: {move}" for data, move in cases], fontsize=7)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("attack success")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
