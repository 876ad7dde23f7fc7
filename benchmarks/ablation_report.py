"""What each family of detectors is worth and what a rare class costs, as Markdown and a plot: `docs/ablation.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.ablation import FAMILIES, RATIOS
from benchmarks.detection_report import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from benchmarks.ablation import Ablated, Skewed

LIMIT = 0.05
"""Recall that a rare class may cost at most, and from which on a change is spoken of."""
_ROUNDING = 1e-9
_DARK = 0.6
"""Change of recall from which on its colour is too dark for black letters."""


def write_report(ablated: Sequence[Ablated], skewed: Sequence[Skewed], out: Path | None, machine: str) -> str:
    """The report as Markdown; with ``out`` also written there, with its plot.

    Args:
        ablated: One at least.
        skewed: Of the same batches.
        out: The folder.
        machine: What it was measured on.
    """
    seeds = sorted({one.seed for one in ablated})
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    parts = [
        "# Each family out, and rare classes",
        (
            f"Made by `make bench-ablation` (its module says how each figure is made). {machine}. Measured:"
            f" {', '.join(dict.fromkeys(one.data for one in ablated))}; {named}. Development used seeds from 100. All"
            " in memory and without a trusted set: what a contract rejects by rule alone is not counted. Each figure is"
            " the recall at 1 % false quarantines, the mean over the seeds."
        ),
        "## Recall without each family",
        (
            "The panel fitted without a family's detectors, on the same batches. Bold: changed by 5 points or more."
            " *Best alone*: the best single detector of each attack, with hindsight. A dash: the family does not"
            " judge such records."
        ),
        _ablation_table(ablated),
        _family_lines(ablated),
        _fusion_line(ablated),
        *_by_name_line(ablated),
    ]
    if skewed:
        parts += ["## A rare class", _skew_text(skewed), _skew_totals(skewed), _skew_table(skewed)]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _plot(ablated, out / "ablation.svg")
        parts.insert(4, "![Change of recall, per attack and family left out](ablation.svg)")
    text = "\n\n".join(parts) + "\n"
    if out is not None:
        (out / "ablation.md").write_text(text)
    return text


def _cases(found: Iterable[Ablated]) -> dict[tuple[str, str], list[Ablated]]:
    cases: dict[tuple[str, str], list[Ablated]] = {}
    for one in found:
        cases.setdefault((one.data, one.title), []).append(one)
    return cases


def _all(mine: Sequence[Ablated]) -> float:
    return float(np.mean([one.recall for one in mine]))


def _less(mine: Sequence[Ablated], family: str) -> float | None:
    """Mean recall without a family; None where it does not judge such records."""
    values = [one.without[family] for one in mine if family in one.without]
    return float(np.mean(values)) if values else None


def _best(mine: Sequence[Ablated]) -> tuple[str, float]:
    """The single detector with the highest mean recall."""
    names = [name for name in mine[0].alone if all(name in one.alone for one in mine)]
    means = {name: float(np.mean([one.alone[name] for one in mine])) for name in names}
    best = max(means, key=lambda name: means[name])
    return best, means[best]


def _ablation_table(found: Sequence[Ablated]) -> str:
    rows = []
    for (data, title), mine in _cases(found).items():
        everyone, (best, alone) = _all(mine), _best(mine)
        cells = []
        for family in FAMILIES:
            less = _less(mine, family)
            shown = "-" if less is None else f"{less:.2f}"
            cells.append(f"**{shown}**" if less is not None and _far(less, everyone) else shown)
        rows.append([data, title, str(mine[0].poisons), f"{everyone:.2f}", *cells, f"{alone:.2f} ({best})"])
    head = ["data", "attack", "poisons", "all families", *(f"no {family}" for family in FAMILIES), "best alone"]
    return table(head, [*rows, *_summaries(found)])


def _summaries(found: Sequence[Ablated]) -> list[list[str]]:
    """Mean and worst over the attacks; a family counts as left out where it judges nothing."""
    cases = list(_cases(found).values())
    columns = [[_all(mine) for mine in cases]]
    for family in FAMILIES:
        less = [_less(mine, family) for mine in cases]
        columns.append([_all(mine) if one is None else one for one, mine in zip(less, cases, strict=True)])
    columns.append([_best(mine)[1] for mine in cases])
    return [
        ["**mean**", "", "", *(f"{np.mean(column):.3f}" for column in columns)],
        ["**worst**", "", "", *(f"{min(column):.2f}" for column in columns)],
    ]


def _far(one: float, other: float) -> bool:
    return abs(one - other) >= LIMIT - _ROUNDING


def _family_lines(found: Sequence[Ablated]) -> str:
    lines = []
    for family in FAMILIES:
        lost: list[tuple[float, str]] = []
        gained: list[tuple[float, str]] = []
        for (data, title), mine in _cases(found).items():
            less = _less(mine, family)
            if less is None or not _far(less, _all(mine)):
                continue
            change = less - _all(mine)
            (lost if change < 0 else gained).append((change, f"{data}: {title} ({change:+.2f})"))
        said = [
            f"{verb} {'; '.join(text for _, text in sorted(some, key=lambda one: -abs(one[0])))}"
            for verb, some in (("lost:", lost), ("gained:", gained))
            if some
        ]
        lines.append(f"- Without *{family}*, {'; '.join(said) if said else 'no attack changes by 5 points'}.")
    return "\n".join(lines)


def _by_name_line(found: Sequence[Ablated]) -> list[str]:
    """What the detectors that run only by name would change."""
    cases = {
        f"{data}: {title}": (_all(mine), float(np.mean([one.by_name for one in mine if one.by_name is not None])))
        for (data, title), mine in _cases(found).items()
        if any(one.by_name is not None for one in mine)
    }
    if not cases:
        return []
    default, every = (float(np.mean(column)) for column in zip(*cases.values(), strict=True))
    far = [f"{name} ({after - before:+.2f})" for name, (before, after) in cases.items() if _far(before, after)]
    return [
        (
            f"With the detectors too that run only by name, the mean recall of these {len(cases)} attacks is"
            f" {every:.3f} in place of {default:.3f};"
            f" {'changed: ' + '; '.join(far) if far else 'no attack changes by 5 points'}."
        )
    ]


def _fusion_line(found: Sequence[Ablated]) -> str:
    cases = _cases(found)
    behind = []
    for (data, title), mine in cases.items():
        best, alone = _best(mine)
        if alone - _all(mine) > LIMIT + _ROUNDING:
            behind.append(f"{data}: {title} ({_all(mine):.2f}, {best} alone {alone:.2f})")
    near = f"{len(cases) - len(behind)} of {len(cases)} attacks"
    text = f"All families together are within 5 points of the best single detector, or above, on {near}"
    return f"{text}; not on {'; '.join(behind)}." if behind else f"{text}."


def _skew_text(found: Sequence[Skewed]) -> str:
    return (
        "Clean records of one class are left out of the poisoned batch until the largest class has 10 or 100 times"
        " more; the poisons stay the same, as many and the same records. *Target*: the class that most poisons are"
        " labelled. *Source*: the one that most of them were. A class that was as rare already, and records without a"
        " label, are left out. *Left*: clean records of the class that are left, at least"
        f" {min(one.left for one in found)}. *Poison of the class*: its share of what then carries the label; where"
        " that is half or more, poison is what the label usually means. At most 5 points of recall shall be lost;"
        " where no more than that is found of an attack as it was drawn, there is nothing to lose."
        " *Clean held*: the share of the skewed batch's clean records that a rate of 1 % would let wait, in"
        " brackets the batches of which it was measured."
    )


def _skew_cases(found: Iterable[Skewed]) -> dict[tuple[str, str, str, int], list[Skewed]]:
    cases: dict[tuple[str, str, str, int], list[Skewed]] = {}
    for one in found:
        cases.setdefault((one.data, one.title, one.role, one.ratio), []).append(one)
    return cases


def _lost(mine: Sequence[Skewed]) -> float:
    return float(np.mean([one.balanced - one.recall for one in mine]))


def _before(mine: Sequence[Skewed]) -> float:
    return float(np.mean([one.balanced for one in mine]))


def _verdict(mine: Sequence[Skewed]) -> str:
    if _before(mine) <= LIMIT:
        return "nothing to lose"
    return "met" if _lost(mine) <= LIMIT + _ROUNDING else "missed"


def _skew_totals(found: Sequence[Skewed]) -> str:
    """Over the attacks of which there is something to lose."""
    rows = []
    for role in ("target", "source"):
        for ratio in RATIOS:
            cases = [mine for key, mine in _skew_cases(found).items() if key[2:] == (role, ratio)]
            cases = [mine for mine in cases if _before(mine) > LIMIT]
            if not cases:
                continue
            lost = [_lost(mine) for mine in cases]
            before = float(np.mean([_before(mine) for mine in cases]))
            cells = f"{before:.3f}", f"{before - np.mean(lost):.3f}", f"{np.mean(lost):+.3f}", f"{max(lost):+.2f}"
            met = sum(_verdict(mine) == "met" for mine in cases)
            held = [one.held for mine in cases for one in mine if one.held is not None]
            mean = "met" if np.mean(lost) <= LIMIT + _ROUNDING else "missed"
            rows.append([role, f"{ratio}:1", *cells, f"{met} of {len(cases)}", mean, _held(held)])
    head = ["rare class", "ratio", "as drawn, mean", "skewed, mean", "lost, mean", "lost, worst"]
    return table([*head, "attacks that met it", "mean", "clean held, mean / worst"], rows)


def _held(shares: Sequence[float]) -> str:
    return f"{np.mean(shares):.1%} / {max(shares):.1%} ({len(shares)})" if shares else "-"


def _skew_table(found: Sequence[Skewed]) -> str:
    rows = []
    for (data, title, role, ratio), mine in _skew_cases(found).items():
        one = mine[0]
        shares = np.mean([one.labelled / max(1, one.labelled + one.left) for one in mine])
        before = _before(mine)
        drawn = f"{one.drawn} of {one.largest}"
        figures = (
            str(one.poisons),
            f"{shares:.0%}",
            f"{before:.2f}",
            f"{before - _lost(mine):.2f}",
            f"{_lost(mine):+.2f}",
        )
        shares_held = [one.held for one in mine if one.held is not None]
        held = f"{np.mean(shares_held):.1%}" if shares_held else "-"
        rows.append([data, title, role, one.label, f"{ratio}:1", drawn, str(one.left), *figures, _verdict(mine), held])
    head = ["data", "attack", "rare class", "label", "ratio", "drawn, of the largest other", "left", "poisons"]
    return table([*head, "poison of the class", "as drawn", "skewed", "lost", "at most .05", "clean held"], rows)


def _plot(found: Sequence[Ablated], path: Path) -> None:
    """Change of recall, one row per attack and one column per family left out."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "lazaretto"
    cases = _cases(found)
    change = np.full((len(cases), len(FAMILIES)), np.nan)
    for row, mine in enumerate(cases.values()):
        for column, family in enumerate(FAMILIES):
            less = _less(mine, family)
            change[row, column] = np.nan if less is None else less - _all(mine)
    figure, axes = plt.subplots(figsize=(9, 0.3 * len(cases) + 1.8), layout="constrained")
    shown = axes.imshow(change, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(change):
        said = "" if np.isnan(value) or abs(value) < 0.005 else f"{value:+.2f}"  # noqa: PLR2004  rounds to nothing
        colour = "white" if abs(value) > _DARK else "black"
        axes.text(column, row, said, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(FAMILIES)), FAMILIES, rotation=25, ha="right")
    axes.set_xlabel("family left out; grey: it does not judge such records")
    axes.set_facecolor("#bbbbbb")
    axes.set_yticks(range(len(cases)), [f"{data}: {title} ({_all(mine):.2f})" for (data, title), mine in cases.items()])
    figure.colorbar(shown, ax=axes, label="change of recall at 1 %", shrink=0.6)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
