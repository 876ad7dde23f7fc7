"""The benchmark's runs as Markdown and plots: `docs/benchmark.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.by_attack import attack_rows, over_attacks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from benchmarks.record import Run

OURS, TRUSTED = "Lazaretto", "Lazaretto, trusted"

TARGETS: dict[str, float] = {
    "badnets": 0.99,
    "badnets 0.003": 0.99,
    "badnets 0.001": 0.95,
    "blend": 0.99,
    "wanet": 0.94,
    "all_to_all": 0.95,
    "sig": 0.90,
    "narcissus": 0.70,
    "tact": 0.97,
    "adaptive_blend": 0.95,
    "flip_random": 0.95,
    "flip_pair": 0.60,
    "flip_boundary": 0.40,
    "feature_collision": 0.90,
    "foreign": 0.95,
    "trigger_inside": 0.95,
    "trigger_outside": 0.99,
    "rare_token": 0.99,
    "sentence": 0.98,
    "hidden_text": 1.0,
    "style": 0.60,
    "phrase": 0.98,
    "instruction": 0.98,
    "flood": 1.0,
}
"""Attack -> recall at 1 % that is aimed at without a trusted set."""
MEAN, WORST = 0.90, 0.40
"""Aimed at over all attacks, and for the worst of them."""


GIVEN = """\
The same batches and seeds as Lazaretto. The probe of ART and cleanlab is, for images, the convolution that attacks
are measured on (two convolutions, 10 epochs, Adam); for tables and texts a perceptron with one hidden layer, on
standardised numbers and one-hot words, or on TF-IDF of words and pairs of words reduced to 64 dimensions. ART trains
it on the batch, once for its three filters; cleanlab gets five-fold out-of-sample probabilities of the same probe.
Fewer folds or epochs would be cheaper, and the probe then worse. PyOD reads the pixels, the encoded table or the
reduced TF-IDF; its EmbeddingOD reads EfficientNet-lite0 (images, at 64 pixels) and GloVe (texts). ART's Spectral
Signatures alone are told the true share of poisons. Labels are what ART and cleanlab need: of pairs without labels
they say so. All decide at their documented defaults."""


def write_report(runs: Sequence[Run], out: Path | None, machine: str, more: Sequence[str] = ()) -> str:
    """The report as Markdown; with ``out`` also written there, with its plot.

    Args:
        runs: One at least.
        out: The folder.
        machine: What it was measured on.
        more: Further sections.
    """
    seeds = sorted({run.seed for run in runs})
    parts = [
        "# The benchmark",
        (
            f"Made by `make bench-detection` (its module says how each figure is made). {machine}. Seeds {seeds[0]} to"
            f" {seeds[-1]}; development used seeds from 100 on the same data sets and the same attacks at the same"
            " rates. Each figure: mean / worst over the seeds that were run, their number in brackets."
        ),
        "## Recall at 1 % false quarantines",
        "Targets are for Lazaretto without a trusted set. *Best alone*: the best single detector, with hindsight.",
        _recall_table(runs),
        *_attacks_part(runs),
        "## Over all data sets and attacks",
        _overall_table(runs),
        "## Clean batches: share that is held or flagged",
        clean_table(runs),
        *_sources_part(runs),
        *more,
        "## Seconds per batch",
        "Of peers, the training of their classifier is part of it.",
        _median_table(runs, lambda run: run.seconds, ".1f"),
        "## Most memory per batch, in MiB",
        "Above what was resident before, without processes it starts: Lazaretto's parser, cleanlab's workers.",
        _median_table(runs, lambda run: run.peak_mib, ".0f"),
        *(["## What the peers were given", GIVEN] if set(methods_of(runs)) - {OURS, TRUSTED} else []),
        *_asides(runs),
    ]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        plot(runs, out / "benchmark.svg")
        parts.insert(2, "![Recall per attack, one dot per seed](benchmark.svg)")
    text = "\n\n".join(parts) + "\n"
    if out is not None:
        (out / "benchmark.md").write_text(text)
    return text


def _attacks_part(runs: Sequence[Run]) -> list[str]:
    """Ours without a trusted set, one line an attack."""
    over = over_attacks(runs, OURS, TARGETS)
    if over is None:
        return []
    mean, least, worst = over
    verdicts = ["met" if value >= aim else "missed" for value, aim in ((mean, MEAN), (least, WORST))]
    said = (
        "Lazaretto without a trusted set: the mean of the seeds, and the worst seed where it is far below. Over all"
        f" attacks, each the mean of its data sets: {mean:.2f}, target {MEAN:.2f} {verdicts[0]}; the worst is"
        f" {least:.2f} ({worst}), target {WORST:.2f} {verdicts[1]}."
    )
    return [
        "## Attack by attack",
        said,
        table(("attack", "target", "recall at 1 %"), attack_rows(runs, OURS, TARGETS)),
    ]


def methods_of(runs: Iterable[Run]) -> list[str]:
    """Ours first, then the others as they were measured: a record of theirs may have been read before ours."""
    found = dict.fromkeys(run.method for run in runs)
    return [
        *(name for name in (OURS, TRUSTED) if name in found),
        *(name for name in found if name not in (OURS, TRUSTED)),
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def cell(values: Sequence[float]) -> str:
    """Mean / worst, and of how many."""
    return f"{np.mean(values):.2f} / {min(values):.2f} ({len(values)})" if values else "-"


def recalls(runs: Iterable[Run], method: str) -> list[float]:
    """What a method caught, batch by batch."""
    return [run.recall_at_rate for run in runs if run.method == method and run.recall_at_rate is not None]


def cases(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Runs on poisoned batches by data set and attack."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.family != "clean":
            found.setdefault((run.data, run.attack), []).append(run)
    return found


def _recall_table(runs: Sequence[Run]) -> str:
    methods = methods_of(runs)
    rows = []
    for (data, attack), mine in cases(runs).items():
        target = TARGETS.get(attack)
        alone = [max(run.detectors.values()) for run in mine if run.method == OURS and run.detectors]
        ours = recalls(mine, OURS)
        met = "" if target is None or not ours else ("met" if np.mean(ours) >= target else "missed")
        cells = [cell(recalls(mine, method)) for method in methods]
        wanted = "" if target is None else f"{target:.2f} {met}"
        rows.append([data, mine[0].title, str(mine[0].poisons), wanted, *cells, cell(alone)])
    return table(["data", "attack", "poisons", "target", *methods, "best alone"], rows)


def _overall_table(runs: Sequence[Run]) -> str:
    """Per method: mean over attacks of the mean recall, the worst attack, and AUROC.

    Not every method runs on all data, so that only the mean over the attacks on which most of them ran compares them.
    """
    rows = []
    shared = _shared(runs)
    for method in methods_of(runs):
        means = {key: float(np.mean(r)) for key, mine in cases(runs).items() if (r := recalls(mine, method))}
        curves = [run.auroc for run in runs if run.method == method and run.auroc is not None]
        if not means:
            continue
        worst = min(means, key=lambda key: means[key])
        rows.append(
            [
                method,
                str(len(means)),
                f"{np.mean(list(means.values())):.3f}",
                _mean_over(means, shared),
                f"{means[worst]:.3f} ({worst[0]}: {worst[1]})",
                f"{np.mean(curves):.3f} / {min(curves):.3f}",
            ]
        )
    return table(
        ["method", "attacks", "mean recall", f"on the same {len(shared)}", "worst attack", "AUROC, mean / worst"], rows
    )


def _shared(runs: Sequence[Run]) -> set[tuple[str, str]]:
    """The attacks on which all methods ran but those that stand aside on some kind of data."""
    aside = {run.method for run in runs if run.aside}
    methods = set(methods_of(runs)) - aside
    return {key for key, mine in cases(runs).items() if all(recalls(mine, method) for method in methods)}


def _mean_over(means: dict[tuple[str, str], float], keys: set[tuple[str, str]]) -> str:
    return f"{np.mean([means[key] for key in keys]):.3f}" if keys and keys <= set(means) else "-"


def clean_table(runs: Sequence[Run]) -> str:
    """What each method holds of clean batches of each data set."""
    clean = [run for run in runs if run.family == "clean" and run.held is not None]
    names = list(dict.fromkeys(run.data for run in clean))
    rows = []
    for method in methods_of(clean):
        cells = []
        for name in names:
            held = [run.held for run in clean if run.method == method and run.data == name and run.held is not None]
            cells.append(f"{np.mean(held):.2%} / {max(held):.2%} ({len(held)})" if held else "-")
        rows.append([method, *cells])
    return table(["method", *names], rows)


def _sources_part(runs: Sequence[Run]) -> list[str]:
    """Whether the poisoned source was named, and how many innocents; empty where none was looked for."""
    rows = []
    for (data, attack, method), mine in _by_source(runs).items():
        poisoned = [run for run in mine if run.source_named is not None]
        missed = ", ".join(str(run.seed) for run in poisoned if not run.source_named)
        goal = "named" if poisoned else "none named"
        blamed = [run for run in mine if run.innocents_named]
        met = all(run.source_named for run in poisoned) and not blamed
        hit = f"{sum(bool(run.source_named) for run in poisoned)} of {len(poisoned)}" if poisoned else "-"
        innocents = f"{sum(run.innocents_named or 0 for run in blamed)} in {len(blamed)} of {len(mine)} batches"
        rows.append([data, attack, method, f"{goal} {'met' if met else 'missed'}", hit, missed or "-", innocents])
    if not rows:
        return []
    head = ["data", "attack", "method", "goal", "source named", "not named, seeds", "innocent sources named"]
    words = (
        "The goal of `source` is not the single record but its source: it is named, and no other. Of all other batches"
        " of the data no source is named."
    )
    return ["## The poisoned source, named", words, table(head, rows)]


def _by_source(runs: Sequence[Run]) -> dict[tuple[str, str, str], list[Run]]:
    """Runs that looked for sources, by data, title and method."""
    found: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.innocents_named is not None:
            found.setdefault((run.data, run.title, run.method), []).append(run)
    return found


def _median_table(runs: Sequence[Run], of: Callable[[Run], float | None], style: str) -> str:
    names = list(dict.fromkeys(run.data for run in runs))
    rows = []
    for method in methods_of(runs):
        mine = [run for run in runs if run.method == method and not run.aside]
        cells = []
        for name in names:
            values = [value for run in mine if run.data == name and (value := of(run)) is not None]
            cells.append(f"{np.median(values):{style}}" if values else "-")
        rows.append([method, *cells])
    return table(["method (median)", *names], rows)


def _asides(runs: Sequence[Run]) -> list[str]:
    """Why a method did not run where it did not, each reason once."""
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        if run.aside:
            found.setdefault((run.method, run.aside), []).append(run.data)
    lines = [f"- {method}, {', '.join(dict.fromkeys(data))}: {why}." for (method, why), data in found.items()]
    return ["Where a peer did not run:", "\n".join(lines)] if lines else []


def plot(runs: Sequence[Run], path: Path) -> None:
    """Recall per attack, one dot per seed and method."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "lazaretto"
    every = cases(runs)
    colours = {OURS: "#b3261e", TRUSTED: "#2256c7"}
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(every) + 1.5), layout="constrained")
    for method in methods_of(runs):
        places = [row for row, mine in enumerate(every.values()) for _ in recalls(mine, method)]
        values = [value for mine in every.values() for value in recalls(mine, method)]
        ours = method in colours
        axes.plot(
            values,
            places,
            "o" if ours else ".",
            color=colours.get(method, "#888888"),
            alpha=0.7 if ours else 0.35,
            label=method if ours else None,
        )
    axes.plot([], [], ".", color="#888888", label="a peer")
    axes.set_yticks(range(len(every)), [f"{data}: {mine[0].title}" for (data, _), mine in every.items()])
    axes.set_xlim(-0.02, 1.02)
    axes.invert_yaxis()
    axes.set_xlabel("recall at 1 % false quarantines, one dot per seed")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
