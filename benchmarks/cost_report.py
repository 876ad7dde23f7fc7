"""The cost of a scan as Markdown and a plot: `docs/cost.md`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.detection_report import table

if TYPE_CHECKING:
    from pathlib import Path

MOST_EPOCHS = 5
"""Epochs of training that a scan may cost."""
_PARTED = ("fit", "score")
"""Stages that have parts here."""
_SHOWN = 0.005
"""A part with a smaller share of the scan is one of the rest in the plot."""


@dataclass(frozen=True)
class Cost:
    """One scan, in seconds."""

    data: str
    rows: int
    seconds: float
    worked: float
    """Processor seconds of the scan, over all cores."""
    stages: dict[str, float]
    fit: dict[str, float]
    """Part of the fit -> seconds."""
    score: dict[str, float]
    """Part of the scoring -> seconds."""
    training: float
    """`MOST_EPOCHS` epochs of the convolution on the same images."""
    training_worked: float
    """Processor seconds of that."""
    probe_epoch: float
    """One epoch of the panel's own probe, all folds together."""
    peak_mib: float | None
    detectors: tuple[str, ...]

    def parts(self) -> dict[str, tuple[float, float]]:
        """Part -> seconds in the fit (or in all), and in scoring; what no clock saw is in *other*."""
        found = {name: (seconds, 0.0) for name, seconds in self.stages.items() if name not in _PARTED}
        for name in dict.fromkeys((*self.fit, *self.score)):
            found[name] = self.fit.get(name, 0.0), self.score.get(name, 0.0)
        fit = self.stages["fit"] - sum(self.fit.values())
        score = self.stages["score"] - sum(self.score.values())
        found["other"] = max(fit, 0.0), max(score, 0.0)
        return found


def write_cost(cost: Cost, out: Path | None, machine: str) -> str:
    """The report as Markdown; with ``out`` also written there, with its plot."""
    met = "met" if cost.seconds <= cost.training else "missed"
    epochs, work = (
        MOST_EPOCHS * scan / training
        for scan, training in ((cost.seconds, cost.training), (cost.worked, cost.training_worked))
    )
    parts = [
        "# The cost of a scan",
        f"Made by `make bench-cost` (its module says how). {machine}. {cost.rows:,} images: {cost.data}. Seed 0.",
        table(
            ["what", "seconds", "processor seconds"],
            [
                ["the whole scan, without a trusted set", f"{cost.seconds:.1f}", f"{cost.worked:.1f}"],
                [f"{MOST_EPOCHS} epochs of the convolution", f"{cost.training:.1f}", f"{cost.training_worked:.1f}"],
                [
                    f"{MOST_EPOCHS} epochs of the panel's own probe, all folds",
                    f"{MOST_EPOCHS * cost.probe_epoch:.1f}",
                    "",
                ],
            ],
        ),
        (
            f"Target, at most {MOST_EPOCHS} epochs of training: **{met}**. The scan takes as long as {epochs:.1f}"
            f" epochs of the convolution on the same images, and does the work of {work:.1f} (two layers of filters,"
            " 3x3, 16 and 32 wide, and 128 hidden units; Adam, batches of 64)."
            f" Most memory above what the process had: {_mib(cost.peak_mib)}."
        ),
        "## Where the time goes",
        _share_table(cost),
    ]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _plot(cost, out / "cost.svg")
        parts.insert(4, "![Seconds of each part of the scan](cost.svg)")
    text = "\n\n".join(parts) + "\n"
    if out is not None:
        (out / "cost.md").write_text(text)
    return text


def _mib(peak: float | None) -> str:
    return "not known" if peak is None else f"{peak:.0f} MiB"


def _share_table(cost: Cost) -> str:
    ordered = sorted(cost.parts().items(), key=lambda part: -sum(part[1]))
    rows = [
        [_named(name, cost), f"{first:.2f}", f"{second:.2f}", f"{(first + second) / cost.seconds:.1%}"]
        for name, (first, second) in ordered
    ]
    return table(["part", "fit, or the stage itself", "score", "share of the scan"], rows)


def _named(name: str, cost: Cost) -> str:
    return f"detector `{name}`" if name in cost.detectors else name


def _plot(cost: Cost, path: Path) -> None:
    """Seconds of each part, the largest first, and the target as a line over their sum."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "lazaretto"
    ordered = sorted(cost.parts().items(), key=lambda part: -sum(part[1]))
    shown = [(name, both) for name, both in ordered if sum(both) >= _SHOWN * cost.seconds]
    names = [name for name, _ in shown]
    fit, score = [both[0] for _, both in shown], [both[1] for _, both in shown]
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(names) + 1.5), layout="constrained")
    axes.barh(names, fit, color="#2256c7", label="fit, or the stage itself")
    axes.barh(names, score, left=fit, color="#b3261e", label="score")
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(
        f"a scan of {cost.rows:,} images: {cost.seconds:.0f} s; {MOST_EPOCHS} epochs: {cost.training:.0f} s",
        fontsize=10,
    )
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
