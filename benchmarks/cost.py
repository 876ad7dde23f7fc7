"""What a scan of 10,000 images costs, stage by stage, beside training a model on them for five epochs.

    make bench-cost DATA=FOLDER
    python -m benchmarks.cost [--short] [--data DIR] [--rows 10000] [--out docs]

The scan is `lazaretto scan` without a trusted set, in a process that has scanned a few images before, as a night's
second batch finds it: everything is imported and compiled. Target on two cores: at most the cost of five training
epochs of the probe. What is compared is the small convolution of `benchmarks.effect`, trained on the same images in the
same process; the panel's own probe is far smaller, and its epochs are given too.

Shares: the stages of the fit are the panel's own clock; those of scoring are timed by wrapping what it calls, and
scaled to the time the stage took, for two workers score at once.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cost_report import MOST_EPOCHS, Cost, write_cost
from benchmarks.data import DATA_SETS
from benchmarks.effect import image_classifier
from benchmarks.machine import machine
from benchmarks.memory import peak_above, reset_peak
from lazaretto.attacks.ground import Ground
from lazaretto.detectors import explanation, fitting, panel
from lazaretto.detectors.views.neighbours import Neighbours
from lazaretto.detectors.views.probe import Probe
from lazaretto.pipelines.scan import Options
from lazaretto.pipelines.standalone import scan_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).resolve().parent
SEED = 0
_WARMING = 300
"""Images of the scan before the one that is measured."""
_NOISE = 3
"""Grey levels that a repeated image differs by at most: equal ones would be copies."""


@dataclass
class Watch:
    """Seconds by stage of the scan and part of it, only the outermost of nested parts."""

    stage: str = ""
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    fitted: Any = None
    """The panel, once it is."""
    probe_epochs: int = 0
    report_began: float = 0.0
    _inside: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, name: str) -> None:
        """Take note of the stage that begins."""
        self.stage = name
        if name == "report":
            self.report_began = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of a part of the stage."""
        if getattr(self._inside, "any", False):
            yield
            return
        self._inside.any = True
        began = time.perf_counter()
        try:
            yield
        finally:
            self._inside.any = False
            with self._lock:
                key = self.stage, name
                self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - began

    def of(self, stage: str) -> dict[str, float]:
        """The parts of one stage."""
        return {name: seconds for (at, name), seconds in self.seconds.items() if at == stage}


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Time what scoring calls, and keep what the fit makes."""

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:  # noqa: ANN401  passes on whatever it is
            with watch.part(name):
                return call(*given, **named)

        return run

    def raw_scores(scorers: Any, names: Any, views: Any) -> Any:  # noqa: ANN401  the same
        return scored({name: _Timed(name, scorer, watch) for name, scorer in scorers.items()}, names, views)

    def fit_panel(*given: Any, **named: Any) -> Any:  # noqa: ANN401  the same
        watch.fitted = fitted(*given, **named)
        return watch.fitted

    def train(*given: Any) -> Any:  # noqa: ANN401  the same
        watch.probe_epochs = next(value.epochs for value in given if hasattr(value, "epochs"))
        return trained(*given)

    scored: Any = panel.raw_scores
    fitted, trained = fitting.fit_panel, vars(fitting)["train"]
    changes: list[tuple[Any, str, Any]] = [
        (panel, "raw_scores", raw_scores),
        (fitting, "fit_panel", fit_panel),
        (fitting, "train", train),
        (panel.Panel, "views", timed("views", panel.Panel.views)),
        (Probe, "views", timed("probe views", Probe.views)),
        (Neighbours, "views", timed("neighbours", Neighbours.views)),
        (explanation, "explain", timed("explaining", explanation.explain)),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in changes]
    for place, name, value in changes:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


@dataclass(frozen=True)
class _Timed:
    """A scorer that says how long it took."""

    name: str
    scorer: Any
    watch: Watch

    def score(self, views: Any) -> Any:  # noqa: ANN401  as the scorer takes and gives
        """Score."""
        with self.watch.part(self.name):
            return self.scorer.score(views)


def images(rows: int, folder: Path | None) -> tuple[str, Ground]:
    """So many images with their labels and what they are: MNIST, or the sample repeated with a little noise."""
    if folder is not None and (folder / "mnist_10k.parquet").exists():
        data = DATA_SETS["mnist"](folder)
        if rows <= len(data.pool):
            return "MNIST", Ground.of(data.pool.sample(rows, seed=SEED), data.contract)
    data = DATA_SETS["fashion"](None)
    ground = Ground.of(data.pool.sample(min(rows, len(data.pool)), seed=SEED), data.contract)
    if rows <= len(data.pool):
        return "Fashion-MNIST, the sample", ground
    rng = np.random.default_rng(SEED)
    place = np.arange(rows) % len(data.pool)
    repeated = Ground.of(ground.frame[place.tolist()], data.contract)
    noise = rng.integers(-_NOISE, _NOISE + 1, (rows, *ground.images().shape[1:]))
    noisy = np.clip(ground.images()[place] + noise, 0, 255).astype(np.uint8)
    return "Fashion-MNIST, the sample repeated with a little noise", repeated.with_images(noisy)


def measure(rows: int, folder: Path | None, detectors: str | tuple[str, ...] = "default") -> Cost:
    """Scan the images and train on them.

    Args:
        rows: Images.
        folder: Where MNIST lies, if anywhere.
        detectors: As a contract's policy names them.
    """
    named, ground = images(rows, folder)
    data = DATA_SETS["mnist"](folder) if named == "MNIST" else DATA_SETS["fashion"](None)
    policy = data.contract.policy.model_copy(update={"detectors": detectors})
    contract = data.contract.model_copy(update={"trusted": None, "policy": policy})
    watch = Watch()
    with tempfile.TemporaryDirectory() as scratch, watching(watch):
        here = Path(scratch)
        ground.frame.write_parquet(here / "batch.parquet")
        ground.frame.head(_WARMING).write_parquet(here / "warming.parquet")
        scan_files([str(here / "warming.parquet")], contract, here / "warm", Options(seed=SEED))
        watch.seconds.clear()
        before = reset_peak()
        began, busy_before = time.perf_counter(), processor_seconds()
        summary = scan_files(
            [str(here / "batch.parquet")], contract, here / "out", Options(seed=SEED), on_step=watch.step
        )
        ended, worked = time.perf_counter(), processor_seconds() - busy_before
        peak = peak_above(before)
    stages = {str(stage["name"]): float(stage["seconds"]) for stage in summary["stages"]}
    fit = dict(watch.fitted.seconds)
    score = watch.of("score")
    busy = max(sum(score.values()) / stages["score"], 1.0)
    began_training, busy_before = time.perf_counter(), processor_seconds()
    train = ground.images(), ground.labels()
    image_classifier(train, classes=len(ground.classes), seed=SEED, epochs=MOST_EPOCHS)
    return Cost(
        data=named,
        rows=rows,
        seconds=ended - began,
        worked=worked,
        stages={**stages, "report": ended - watch.report_began},
        fit=fit,
        score={name: seconds / busy for name, seconds in score.items()},
        training=time.perf_counter() - began_training,
        training_worked=processor_seconds() - busy_before,
        probe_epoch=fit.get("probe", 0.0) / max(watch.probe_epochs, 1),
        peak_mib=peak,
        detectors=tuple(watch.fitted.names),
    )


def processor_seconds() -> float:
    """What this process and those it started and that have ended have used of all cores."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    """Measure, print, and write `cost.md` with its plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="600 images, and nothing is written")
    parser.add_argument("--data", type=Path, help="folder with mnist_10k.parquet; else the sample, repeated")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs")
    given = parser.parse_args()
    cost = measure(600 if given.short else given.rows, given.data)
    print(write_cost(cost, None if given.short else given.out, machine()))


if __name__ == "__main__":
    main()
