"""The tables and the plot of `benchmarks.slow_poison`."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.slow_poison import NIGHTS, Night, admitted, found_alone, found_together

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_LET = ("admitted before, alone", "admitted before, with the window", "what the window says")
_WAIT = ("clean records that wait for it", "clean records that wait for their scores")


def report(nights: Sequence[Night], where: str, out: Path | None = None) -> str:
    """The tables as Markdown; with ``out`` they and the plot are written into files."""
    ordered = sorted(nights, key=lambda n: (n.entry == "clean", n.data, n.entry, n.spread, n.panel, n.seed, n.number))
    months = [list(month) for _, month in groupby(ordered, key=lambda n: (n.data, n.entry, n.spread, n.panel, n.seed))]
    poisoned = [month for month in months if month[0].entry != "clean"]
    clean = [month for month in months if month[0].entry == "clean"]
    seeds = sorted({night.seed for night in nights})
    lines = [
        f"{where} Seeds {', '.join(map(str, seeds))}.",
        "",
        *_found(poisoned),
        "",
        *_accused(clean),
        "",
        *_cost(nights),
    ]
    text = "\n".join(lines) + "\n"
    if out is not None:
        before = out.read_text(encoding="utf-8") if out.exists() else ""
        head = before.partition("<!-- figures -->")[0]
        tail = before.partition("<!-- /figures -->")[2]
        out.write_text(f"{head}<!-- figures -->\n\n{text}\n<!-- /figures -->{tail}", encoding="utf-8")
        _plot(poisoned, out.with_suffix(".svg"))
    return text


def _found(months: Sequence[list[Night]]) -> list[str]:
    lines = [
        _row("data, attack", "poisons", "in nights", "seed", "found by a night alone", "found by the window", *_LET)
    ]
    lines.append("|" + "---|" * 9)
    for month in months:
        first = month[0]
        alone, together = found_alone(month), found_together(month)
        either = min((night for night in (alone, together) if night is not None), default=None)
        says = next((night.findings[0] for night in month if night.number == together), "")
        lines.append(
            f"| {first.data}, {first.entry} | {sum(n.poisons for n in month)} | {first.spread} | {first.seed} |"
            f" {_night(alone, month)} | {_night(together, month)} | {admitted(month, alone, window=False)} |"
            f" {admitted(month, either, window=True)} | {says.replace('|', '/')} |"
        )
    return lines


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _night(number: int | None, month: Sequence[Night]) -> str:
    """When it was found; of a month that was not judged to its end, in how many nights it was not."""
    if number is not None:
        return f"night {number}"
    ended = len(month) >= month[0].spread or found_together(month) is not None
    return "never" if ended else f"not in the {len(month)} nights judged"


def _accused(months: Sequence[list[Night]]) -> list[str]:
    lines = [
        _row("clean data", "seed", "panel", "nights", "records", "nights with a finding", *_WAIT),
        "|" + "---|" * 8,
    ]
    for month in months:
        first, records = month[0], sum(night.clean for night in month)
        held = sum(night.clean_alone for night in month)
        more = sum(night.clean_waiting - night.clean_alone for night in month)
        lines.append(
            f"| {first.data} | {first.seed} | {first.panel} | {len(month)} | {records} |"
            f" {sum(bool(night.findings) for night in month)} | {more} |"
            f" {held} ({held / records:.1%}) |"
        )
    accused = sum(any(night.findings for night in month) for month in months)
    nights = sum(len(month) for month in months)
    lines += ["", f"Clean months with any finding: {accused} of {len(months)}, of {nights} nights together."]
    lines += [
        f"- {month[0].data}, seed {month[0].seed}, night {n.number}: {one}"
        for month in months
        for n in month
        for one in n.findings
    ]
    return lines


def _cost(nights: Sequence[Night]) -> list[str]:
    late = [night for night in nights if night.number >= NIGHTS // 2] or list(nights)
    window, whole = (np.median([getattr(n, name) for n in late]) for name in ("window_seconds", "seconds"))
    largest = max(night.bytes for night in nights)
    before = min(night.number for night in late) - 1
    said = (
        f"Looking back took {window:.2f} s of {whole:.1f} s a night, medians of {len(late)} nights with {before} or"
        f" more before them; at most {largest / 1000:.0f} kB are remembered of a night."
    )
    return [said]


def _plot(months: Sequence[list[Night]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "slow"
    from matplotlib import pyplot as plt

    kinds = sorted({(month[0].data, month[0].entry) for month in months})
    figure, axes = plt.subplots(1, max(len(kinds), 1), figsize=(4 * max(len(kinds), 1), 3), squeeze=False)
    for axis, kind in zip(axes[0], kinds, strict=False):
        for month in months:
            if (month[0].data, month[0].entry) != kind or month[0].spread == 1:
                continue
            numbers = [night.number for night in month]
            for name, style in (("alone", "--"), ("waiting", "-")):
                let_in = np.cumsum([night.poisons - getattr(night, name) for night in month])
                label = f"{month[0].spread} nights, {'scores alone' if name == 'alone' else 'with the window'}"
                axis.plot(numbers, let_in, style, color="C0" if month[0].spread == NIGHTS else "C1", label=label)
        axis.set_title(f"{kind[0]}, {kind[1]}", fontsize=9)
        axis.set_xlabel("night")
        axis.set_ylabel("poisons admitted so far")
    handles, labels = axes[0][0].get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    axes[0][0].legend(known.values(), known.keys(), fontsize=6)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
