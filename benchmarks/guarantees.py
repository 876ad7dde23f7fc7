"""Whether the rates that a contract promises hold: false quarantines and false discoveries, over many seeded runs.

    make bench-guarantees DATA=FOLDER
    python -m benchmarks.guarantees [--short] [--runs 200] [--setting NAME] [--attack NAME] [--data DIR]
                                    [--record FILE] [--out docs]

A seed draws a trusted set, a batch and, where poison is planted, the poison. The panel is fitted and asked in memory,
on draws small enough for hundreds of runs: the same code as `lazaretto scan`, without its reading and writing. One fit
gives both calibrations, together and per class: they differ only in what a fused score is compared with.

- False quarantines: share of the clean records of a batch without poison whose p-value is at most `RATE`.
- False discoveries: share of clean records among those whose q-value is at most `FDR`, 0 where there are none.
- A poisoned trusted set: a share of it carries the same poison as the batch; recall, and what is said of it.

Development used seeds 100 to 199; what is reported uses `FIRST_SEED` and up. With --record every run is appended to a
file, and what is in it already is not run again. Remove the file after a change to the code.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks import asked
from benchmarks.detection import recall_at_rate
from benchmarks.guarantees_settings import FEW, SETTINGS, Setting, drawn
from benchmarks.machine import machine
from lazaretto.calibrate import PerClassNull, PValueCounts
from lazaretto.pipelines.digests import digests
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.data import DataSet
    from benchmarks.plans import Case
    from lazaretto.contract import Contract
    from lazaretto.detectors.panel import Panel

RATE = 0.01
FDR = 0.1
FIRST_SEED = 1000


@dataclass(frozen=True)
class Run:
    """One calibration of one fit."""

    setting: str
    attack: str
    """What was planted in the batch, or ``clean``."""
    trusted_poison: float
    """Share of the trusted set that carries the same poison."""
    seed: int
    calibration: str
    """together or per_class."""
    seconds: float
    doubts: dict[str, Any] = field(default_factory=dict)
    """What the panel says of the trusted set."""
    groups: dict[str, int] = field(default_factory=dict)
    """Classes that are calibrated as one -> their calibrating records; empty where all are together."""
    held: float = 0.0
    """Share of the clean records with a p-value of at most `RATE`."""
    held_by_class: dict[str, float] = field(default_factory=dict)
    discoveries: int = 0
    false: int = 0
    poisons: int = 0
    recall: float | None = None
    """At a rate of 1 % clean records above the limit, whatever the p-values say."""
    decided_recall: float | None = None
    """Share of the poisons with a p-value of at most `RATE`."""

    @property
    def key(self) -> tuple[str, str, float, int, str]:
        """What makes a run another run."""
        return self.setting, self.attack, self.trusted_poison, self.seed, self.calibration


@dataclass(frozen=True)
class Task:
    """One fit to make."""

    setting: Setting
    attack: str
    trusted_poison: float
    seed: int

    @property
    def keys(self) -> list[tuple[str, str, float, int, str]]:
        """Of the runs it gives."""
        return [
            (self.setting.name, self.attack, self.trusted_poison, self.seed, how) for how in ("together", "per_class")
        ]


def tasks(count: int, first: int) -> Iterator[Task]:
    """Every fit, seed by seed, so that an interrupted measurement has as many runs of each setting."""
    for place in range(count):
        for setting in SETTINGS:
            if setting.few and place % FEW:
                continue
            for attack in setting.attacks:
                yield from (Task(setting, attack, share, first + place) for share in setting.trusted_poison)


def runs_of(task: Task, data: DataSet) -> list[Run]:
    """Draw, plant, fit once, and look at the result calibrated together and per class."""
    found = drawn(task.setting, data, task.attack, task.trusted_poison, task.seed)
    began = time.perf_counter()
    panel, batch = fitted(task.setting, found, data.contract, task.seed)
    apart, groups = panel.score(batch), panel.calibration_groups
    pooled = together(panel)
    seconds = time.perf_counter() - began
    scores = pooled.score(batch)
    labels = batch[data.contract.label or ""].cast(pl.String).to_numpy()
    runs = []
    for how, p, named in (("together", scores.p_value, ()), ("per_class", apart.p_value, groups)):
        run = Run(task.setting.name, task.attack, task.trusted_poison, task.seed, how, round(seconds, 2), doubts(panel))
        sizes = {" + ".join(names): size for names, size in named}
        runs.append(counted(replace(run, groups=sizes), p, scores.suspicion, labels, found))
    return runs


def fitted(
    setting: Setting, found: Case, contract: Contract, seed: int, how: str = "per_class"
) -> tuple[Panel, pl.DataFrame]:
    """The panel that `scan` would fit, and the batch ready to be scored."""
    import torch

    from lazaretto.detectors.fitting import fit_panel

    policy = contract.policy.model_copy(update={"calibration": how, "false_quarantine_rate": RATE})
    contract = contract.model_copy(update={"policy": policy})
    batch, trusted = (
        frame.with_columns(digests(frame, contract.all_columns).alias(DIGEST)) for frame in (found.batch, found.trusted)
    )
    return fit_panel(batch, trusted, contract, setting.detectors(), seed, torch.device("cpu")), batch


def together(panel: Panel) -> Panel:
    """The same panel calibrated on all classes together, as if it had been fitted so."""
    nulls = [fold.null.everyone if isinstance(fold.null, PerClassNull) else fold.null for fold in panel.folds]
    return replace(panel, folds=tuple(replace(f, null=n) for f, n in zip(panel.folds, nulls, strict=True)))


def doubts(panel: Panel) -> dict[str, Any]:
    """What the panel says of the trusted set."""
    from lazaretto.detectors.doubt import Doubt

    if panel.unvouched is None:
        return {}
    doubt = Doubt.of(panel.unvouched, RATE)
    return {"suspects": len(doubt.suspects), "records": doubt.records, "raised": doubt.raised}


def counted(
    run: Run, p: NDArray[np.float64], suspicion: NDArray[np.float64], labels: NDArray[np.str_], found: Case
) -> Run:
    """The run with the figures of its p-values."""
    clean, truth, held = found.clean, found.truth, p <= RATE
    counts = PValueCounts()
    counts.add(p)
    discovered = counts.q_values(p) <= FDR
    return replace(
        run,
        held=float(held[clean].mean()),
        held_by_class={str(c): float(held[clean & (labels == c)].mean()) for c in np.unique(labels[clean])},
        discoveries=int(discovered.sum()),
        false=int((discovered & clean).sum()),
        poisons=int(truth.sum()),
        recall=recall_at_rate(suspicion, found),
        decided_recall=float(held[truth].mean()) if truth.any() else None,
    )


def recorded(path: Path | None) -> dict[tuple[str, str, float, int, str], Run]:
    """The runs of an earlier, perhaps interrupted, measurement."""
    if path is None or not path.exists():
        return {}
    runs = [Run(**json.loads(line)) for line in path.read_text().splitlines()]
    return {run.key: run for run in runs}


def record(runs: list[Run], path: Path | None) -> None:
    """Print the runs of one fit, and append them to the record."""
    for run in runs:
        poison = f"{run.attack}, {run.trusted_poison:.0%} of the trusted set" if run.trusted_poison else run.attack
        print(
            f"{run.setting}: {poison}, seed {run.seed}, {run.calibration}: clean held {run.held:.4f},"
            f" {run.false} of {run.discoveries} discoveries false, {run.seconds:.1f} s",
            flush=True,
        )
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write("".join(json.dumps(asdict(run)) + "\n" for run in runs))


def main() -> None:
    """Run, print, and write `guarantees.md` with its plot."""
    parser = asked.parser(__doc__, "one run of the flights")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="100 to 199 while developing")
    settings, attacks = [one.name for one in SETTINGS], {attack for one in SETTINGS for attack in one.attacks}
    parser.add_argument("--setting", action="append", choices=settings, help="only this one; may be repeated")
    parser.add_argument(
        "--attack", action="append", choices=sorted(attacks), help="only batches with this planted; may be repeated"
    )
    given = parser.parse_args()
    wanted = ["flights"] if given.short else given.setting
    done = recorded(given.record)
    runs = [] if wanted else list(done.values())
    if not given.report:
        runs = measured(list(tasks(1 if given.short else given.runs, given.first_seed)), wanted, given, done)
    if not runs:
        raise asked.nothing_measured()
    from benchmarks.guarantees_report import write_report

    print(write_report(runs, None if given.short else given.out, machine()))


def measured(todo: list[Task], wanted: list[str] | None, given: argparse.Namespace, done: dict[Any, Run]) -> list[Run]:
    """The runs of these tasks, from the record or made now."""
    import torch
    from threadpoolctl import threadpool_limits

    @cache
    def opened(name: str) -> DataSet | None:
        return next(asked.opened([name], given.data), None)

    torch.set_num_threads(1)
    runs = []
    with threadpool_limits(1):
        for task in todo:
            data = opened(task.setting.data) if wanted is None or task.setting.name in wanted else None
            if data is None or (given.attack is not None and task.attack not in given.attack):
                continue
            if all(key in done for key in task.keys):
                runs += [done[key] for key in task.keys]
                continue
            made = runs_of(task, data)
            record(made, given.record)
            runs += made
    return runs


if __name__ == "__main__":
    main()
