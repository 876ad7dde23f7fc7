"""The models trained before and after quarantine as Markdown: what attacks achieve, and what quarantine costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.detection_report import OURS, TRUSTED, table
from benchmarks.trained import CLEAN, POISONED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.record import Trained

    Case = tuple[str, str]

MOST_SUCCESS, MOST_COST = 2.0, 0.3
"""Points by which, after quarantine, attacks may succeed more and models be right less than on the clean batch."""
_PLOT = "benchmark_effects.svg"
_SURE = 2
"""Standard errors that a mean must be away from a target for the verdict to be no matter of chance."""

SAID = f"""\
A model is trained on the batch as it arrived, on the batch before it was poisoned (*clean batch*), and on what each
method admits by its own decision, Lazaretto at a false-quarantine rate of 0.01 and whether or not it would hold the
whole batch. Images: a small convolution (10 epochs); tables: scikit-learn's histogram gradient boosting; mails:
pooled hashed n-grams; pairs: a stand-in that tells from the prompt whether the attacker's answer follows, so that its
accuracy says little. All are tested on records that are in no batch. *Success*: the share of those with the attack's
own trigger on, of the labels it is meant for, that the model calls what the attacker wants; of feature collision the
share of its three victims, which no model is trained on. Flips, floods, foreign images and a flipping source want
nothing of single records: only accuracy is measured. Of pairs without an answer nothing is.

Targets: success at most {MOST_SUCCESS:g} points above that of the clean batch's model, accuracy at most {MOST_COST:g}
points below its. *As before* where the attack did not do more than that without quarantine either. ± one standard
error over seeds; a verdict within two of them, or from one seed alone, is marked ~."""


def trained_parts(trained: Sequence[Trained], out: Path | None = None) -> list[str]:
    """The sections of the report, with ``out`` with a plot written there; none where no model was trained."""
    if not trained:
        return []
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _plot(trained, out / _PLOT)
    return [
        "## Before and after quarantine",
        SAID,
        *([] if out is None else [f"![Attack success of models trained before and after quarantine]({_PLOT})"]),
        "### Attack success, in percent",
        _success_table(trained),
        "### Accuracy on clean records, in points against the clean batch's model",
        _accuracy_table(trained),
        "### Both, over all attacks",
        _overall_table(trained),
        "### Accuracy over all batches of a data set, clean ones too",
        _data_table(trained),
    ]


def _methods(trained: Sequence[Trained]) -> list[str]:
    return [name for name in dict.fromkeys(model.on for model in trained) if name not in (CLEAN, POISONED)]


def _cases(trained: Sequence[Trained]) -> dict[Case, list[Trained]]:
    found: dict[Case, list[Trained]] = {}
    for model in trained:
        found.setdefault((model.data, model.attack), []).append(model)
    return found


def _values(mine: Sequence[Trained], on: str, what: str) -> dict[int, float]:
    """Seed -> success or accuracy in percent."""
    return {m.seed: 100 * value for m in mine if m.on == on and (value := getattr(m, what)) is not None}


def _above_clean(mine: Sequence[Trained], on: str, what: str) -> list[float]:
    """Points above the clean batch's model, seed by seed."""
    values, clean = _values(mine, on, what), _values(mine, CLEAN, what)
    return [value - clean[seed] for seed, value in values.items() if seed in clean]


def _verdict(excess: Sequence[float], most: float) -> str:
    mean, error = float(np.mean(excess)), _error(excess)
    unsure = error is None or abs(mean - most) < _SURE * error
    return ("met" if mean <= most else "missed") + (" ~" if unsure else "")


def _error(values: Sequence[float]) -> float | None:
    """The standard error of the mean; None from one value alone."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _level(values: Sequence[float]) -> str:
    return f"{np.mean(values):.0f} / {max(values):.0f} ({len(values)})" if values else "-"


def _success_cell(mine: Sequence[Trained], method: str) -> str:
    after = list(_values(mine, method, "success").values())
    excess = _above_clean(mine, method, "success")
    if not excess:
        return "-"
    before = _above_clean(mine, POISONED, "success")
    said = _verdict(excess, MOST_SUCCESS)
    if said.startswith("met") and before and np.mean(before) <= MOST_SUCCESS:
        said = "as before"
    return f"{_level(after)} {said}"


def _success_table(trained: Sequence[Trained]) -> str:
    methods = _methods(trained)
    rows = []
    for (data, _), mine in _cases(trained).items():
        levels = [list(_values(mine, on, "success").values()) for on in (CLEAN, POISONED)]
        if any(levels):
            cells = [_success_cell(mine, method) for method in methods]
            rows.append([data, mine[0].title, *map(_level, levels), *cells])
    return table(["data", "attack (mean / worst, seeds)", "clean batch", "as it arrived", *methods], rows)


def _points(values: Sequence[float]) -> str:
    if not values:
        return "-"
    error = _error(values)
    return f"{np.mean(values):+.1f}" + ("" if error is None else f" ± {error:.1f}")


def _accuracy_cell(mine: Sequence[Trained], method: str) -> str:
    gains = _above_clean(mine, method, "accuracy")
    return f"{_points(gains)} {_verdict([-gain for gain in gains], MOST_COST)}" if gains else "-"


def _accuracy_table(trained: Sequence[Trained]) -> str:
    methods = _methods(trained)
    rows = []
    for (data, _), mine in _cases(trained).items():
        clean = list(_values(mine, CLEAN, "accuracy").values())
        level = f"{np.mean(clean):.1f} % ({len(clean)})" if clean else "-"
        arrived = _points(_above_clean(mine, POISONED, "accuracy"))
        rows.append([data, mine[0].title, level, arrived, *(_accuracy_cell(mine, method) for method in methods)])
    return table(["data", "attack", "clean batch", "as it arrived", *methods], rows)


def _overall_table(trained: Sequence[Trained]) -> str:
    """Per method the attacks whose targets are met, and the mean cost, first over a seed's attacks, then over seeds."""
    rows = []
    for method in _methods(trained):
        cases = [mine for (_, attack), mine in _cases(trained).items() if attack != CLEAN]
        excess = [values for mine in cases if (values := _above_clean(mine, method, "success"))]
        worked = [
            float(np.mean(values))
            for mine in cases
            if (values := _above_clean(mine, method, "success"))
            and np.mean(_above_clean(mine, POISONED, "success") or [0.0]) > MOST_SUCCESS
        ]
        costs = [[-gain for gain in _above_clean(mine, method, "accuracy")] for mine in cases]
        costs = [values for values in costs if values]
        met = sum(np.mean(values) <= MOST_COST for values in costs)
        stopped = sum(value <= MOST_SUCCESS for value in worked)
        harmless = sum(np.mean(values) <= MOST_SUCCESS for values in excess)
        rows.append(
            [
                method,
                f"{stopped} of {len(worked)}",
                f"{harmless} of {len(excess)}",
                f"{met} of {len(costs)}",
                _cost_of_seeds(trained, method),
                _cost_of_seeds([model for model in trained if model.attack == CLEAN], method),
            ]
        )
    head = ["method", "attacks that worked, stopped", "success target met", "accuracy target met"]
    return table([*head, "accuracy, all batches", "accuracy, clean batches"], rows)


def _data_table(trained: Sequence[Trained]) -> str:
    names = list(dict.fromkeys(model.data for model in trained))
    rows = [
        [method, *(_cost_of_seeds([model for model in trained if model.data == name], method) for name in names)]
        for method in _methods(trained)
    ]
    return table(["method", *names], rows)


def _cost_of_seeds(trained: Sequence[Trained], method: str) -> str:
    """Mean gain over a seed's batches, with its error over seeds: the batches of one seed share a clean one."""
    by_seed: dict[int, list[float]] = {}
    for mine in _cases(trained).values():
        values, clean = _values(mine, method, "accuracy"), _values(mine, CLEAN, "accuracy")
        for seed in values.keys() & clean.keys():
            by_seed.setdefault(seed, []).append(values[seed] - clean[seed])
    gains = [float(np.mean(values)) for _, values in sorted(by_seed.items())]
    return f"{_points(gains)} {_verdict([-gain for gain in gains], MOST_COST)}" if gains else "-"


def _plot(trained: Sequence[Trained], path: Path) -> None:
    """Mean attack success of the models trained on the clean batch, on what arrived, and on what Lazaretto admits."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "lazaretto"
    cases = [mine for mine in _cases(trained).values() if any(model.success is not None for model in mine)]
    looks = {
        POISONED: ("x", "#444444", "as it arrived"),
        CLEAN: ("|", "#444444", "clean batch"),
        OURS: ("o", "#b3261e", f"after {OURS}"),
        TRUSTED: ("o", "#2256c7", f"after {TRUSTED}"),
    }
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(cases) + 1.5), layout="constrained")
    for on, (mark, colour, label) in looks.items():
        means = [
            (float(np.mean(values)), row)
            for row, mine in enumerate(cases)
            if (values := list(_values(mine, on, "success").values()))
        ]
        if not means:
            continue
        places, rows = [mean for mean, _ in means], [row for _, row in means]
        axes.plot(places, rows, mark, color=colour, alpha=0.8, label=label, markersize=8 if mark == "|" else 6)
    axes.set_yticks(range(len(cases)), [f"{mine[0].data}: {mine[0].title}" for mine in cases])
    axes.set_xlim(-2, 102)
    axes.invert_yaxis()
    axes.set_xlabel("attack success in percent, mean over seeds")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
