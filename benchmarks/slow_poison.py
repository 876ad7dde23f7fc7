"""The same poison in one, seven or thirty nights: when is it found, and how often is a clean month accused?

    make bench-slow
    python -m benchmarks.slow_poison [--short] [--data DIR] [--seeds 1] [--first-seed 0] [--clean-seeds 1]
                                     [--record FILE] [--report] [--out FILE]

Every night a batch is judged as `lazaretto ingest` judges it, with a trusted set, by the default panel, and its memory
is kept for the nights after it. The poison is planted at the attack's own rate of the whole month, and all of it sent
in the first one, seven or thirty nights in equal parts; the other records of these nights are clean. A seed draws
trusted set, month and poison. Development used seeds 100 and up. A poisoned month ends with the last poison, or when
the window has found it.

Found by a night alone: the first night on which half of the poisons sent so far, and five at least, wait for their own
scores. Found by the window: the first night with a finding that only poisons, or three quarters poisons, carry. What
is never found is printed as never. Admitted before: poisons that had entered the store by then (by the last night,
where it is never found), without the window and with it.

False alarms: findings of the window in thirty clean nights, and clean records that wait for one. Clean months are
judged by a panel of one detector, and parsed once (`benchmarks.slow_clean`).

With --record, every night judged is appended to a file, and a month that is in it is not judged again.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks.data import DATA_SETS, DataSet
from benchmarks.machine import machine
from benchmarks.plans import Plan
from lazaretto.attacks.ground import Ground
from lazaretto.pipelines.memory import Memory
from lazaretto.pipelines.scan import Options, judge
from lazaretto.pipelines.window import Past

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from lazaretto.contract import Contract

SPREADS = (1, 7, 30)
RATE, NIGHTS = 0.01, 30
KEY = b"a benchmark keeps no secrets: 32"
_FOUND, _FEW, _MOSTLY = 0.5, 5, 0.75


@dataclass(frozen=True)
class Month:
    """What arrives: the records of a night, the trusted ones, and the attack."""

    data: str
    entry: str
    size: int
    trusted: int


MONTHS = (
    Month("spamassassin", "rare_token", 80, 300),
    Month("flights", "trigger_inside", 250, 300),
    Month("fashion", "badnets", 100, 400),
)
SHORT = (Month("flights", "trigger_outside", 220, 260),)


@dataclass(frozen=True)
class Night:
    """One judged night."""

    data: str
    entry: str
    spread: int
    seed: int
    panel: str
    number: int
    poisons: int
    alone: int
    """Poisons that wait for their own scores."""
    waiting: int
    """Poisons that wait at all."""
    clean: int
    clean_alone: int
    clean_waiting: int
    findings: tuple[str, ...]
    guilty: float
    """Share of poisons among the carriers of what the window found."""
    seconds: float
    """Of the judging."""
    window_seconds: float
    bytes: int
    """Of what is remembered."""


@dataclass(frozen=True)
class Stream:
    """A month's records night by night."""

    contract: Contract
    trusted: pl.DataFrame
    batches: tuple[pl.DataFrame, ...]
    truths: tuple[NDArray[np.bool_], ...] = field(default=())


def stream(data: DataSet, month: Month, spread: int, seed: int, nights: int) -> Stream:
    """Draw trusted set and month, plant at the attack's own rate, and send the poison in the first ``spread`` nights.

    Args:
        data: Where records are drawn from.
        month: How many of them, and the attack; ``clean`` for none.
        spread: Nights on which poison arrives.
        seed: Draws everything.
        nights: How many there are.
    """
    order = np.random.default_rng(seed).permutation(len(data.pool))
    total = nights * month.size
    if len(order) < month.trusted + total:
        raise ValueError(f"{data.name} has {len(order)} records, a month needs {month.trusted + total}")
    trusted, frame = data.pool[order[: month.trusted]], data.pool[order[month.trusted : month.trusted + total]]
    truth = np.zeros(total, dtype=np.bool_)
    ground = Ground.of(frame, data.contract)
    if month.entry == "clean":
        frame = ground.with_images(ground.images()).frame if ground.image else frame
    else:
        plan = Plan.named(month.entry, data)
        done = plan.attack.plant(ground, plan.rate, seed)
        frame, truth = done.frame, done.truth
    if ground.image:
        trusted = ground.alike(trusted)
    poison, clean = np.flatnonzero(truth), np.flatnonzero(~truth)
    parts = np.array_split(poison, spread)
    rng = np.random.default_rng((seed, 30))
    batches, truths = [], []
    for number in range(nights):
        mine = parts[number] if number < spread else poison[:0]
        left, clean = np.split(clean, [min(max(month.size - len(mine), 0), len(clean))])
        rows = rng.permutation(np.concatenate([mine, left]))
        batches.append(frame[rows])
        truths.append(truth[rows])
    policy = data.contract.policy.model_copy(update={"min_records": None, "max_records": None})
    contract = data.contract.model_copy(update={"trusted": None, "expectations": (), "policy": policy})
    return Stream(contract, trusted, tuple(batches), tuple(truths))


def judged(data: DataSet, month: Month, spread: int, seed: int, panel: str, nights: int) -> Iterator[Night]:
    """Judge night after night, until the window has found the poison or the month is over."""
    sent = stream(data, month, spread, seed, nights)
    contract = sent.contract
    if panel != "default":
        policy = contract.policy.model_copy(update={"detectors": (panel,)})
        contract = contract.model_copy(update={"policy": policy})
    memories: list[tuple[str, Memory]] = []
    for number, (batch, truth) in enumerate(zip(sent.batches, sent.truths, strict=True)):
        past = Past(KEY, tuple(memories[-contract.policy.window + 1 :]))
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            batch.write_parquet(here / "batch.parquet")
            sent.trusted.write_parquet(here / "known.parquet")
            options = Options(seed=0, trusted=(str(here / "known.parquet"),), past=partial(_given, past))
            began = time.perf_counter()
            summary = judge([here / "batch.parquet"], contract, here / "out", options).summary
            seconds = time.perf_counter() - began
            kept = (here / "out" / "memory.npz").read_bytes()
            verdicts = pl.read_parquet(here / "out" / "verdicts.parquet")
            evidence = pl.read_parquet(here / "out" / "evidence.parquet")
        memories.append((str(number), Memory.from_bytes(kept)))
        alone = (verdicts["p_value"] <= RATE).fill_null(value=True).to_numpy()
        waits = (verdicts["decision"] != "admit").to_numpy()
        carriers = truth[evidence.filter(pl.col("evidence").str.contains('"window"'))["_row"].to_numpy()]
        yield Night(
            data=data.name,
            entry=month.entry,
            spread=spread,
            seed=seed,
            panel=panel,
            number=number + 1,
            poisons=int(truth.sum()),
            alone=int((alone & truth).sum()),
            waiting=int((waits & truth).sum()),
            clean=int((~truth).sum()),
            clean_alone=int((alone & ~truth).sum()),
            clean_waiting=int((waits & ~truth).sum()),
            findings=tuple(f"{one['kind']}: {one['says']}" for one in summary["window"]["findings"]),
            guilty=float(carriers.mean()) if len(carriers) else 0.0,
            seconds=round(seconds, 2),
            window_seconds=next(s["seconds"] for s in summary["stages"] if s["name"] == "window"),
            bytes=len(kept),
        )


def _given(past: Past) -> Past:
    return past


def found_alone(nights: Sequence[Night]) -> int | None:
    """The first night on which half of the poisons sent so far wait for their own scores; None for never."""
    sent = waiting = 0
    for night in nights:
        sent, waiting = sent + night.poisons, waiting + night.alone
        if night.poisons and waiting >= max(_FEW, _FOUND * sent):
            return night.number
    return None


def found_together(nights: Sequence[Night]) -> int | None:
    """The first night with a finding that mostly poisons carry; None for never."""
    return next((night.number for night in nights if night.findings and night.guilty >= _MOSTLY), None)


def admitted(nights: Sequence[Night], until: int | None, *, window: bool) -> int:
    """Poisons that entered the store up to a night, or in all of them where that is None."""
    counted = [night for night in nights if until is None or night.number <= until]
    return sum(night.poisons - (night.waiting if window else night.alone) for night in counted)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the benchmark can be asked."""
    parser.add_argument("--short", action="store_true", help="two nights of one data set, with a panel of one detector")
    parser.add_argument("--data", type=Path, help="folder with the larger files")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--clean-seeds", type=int, help="clean months, by default as many as seeds")
    parser.add_argument("--record", type=Path, help="append what is measured, and do not measure it again")
    parser.add_argument("--report", action="store_true", help="measure nothing: tell what the record has")
    parser.add_argument("--out", type=Path, help="also write the page here, with its plot beside it")
    parser.add_argument("--dataset", help="only this one")


def measure(found: argparse.Namespace) -> list[Night]:
    """Every month that was asked for; from the record where it has it."""
    nights = read_record(found.record)
    spreads, count = ((2,), 2) if found.short else (SPREADS, NIGHTS)
    from benchmarks.slow_clean import ONE, judged_fast

    seeds = range(found.first_seed, found.first_seed + found.seeds)
    clean_seeds = range(
        found.first_seed, found.first_seed + (found.seeds if found.clean_seeds is None else found.clean_seeds)
    )
    asked = []
    for month in SHORT if found.short else MONTHS:
        poisoned = [(month, spread, seed, ONE if found.short else "default") for seed in seeds for spread in spreads]
        asked += [one for one in poisoned if found.dataset in {None, month.data}]
    for seed in clean_seeds:
        clean = [replace(month, entry="clean") for month in (SHORT if found.short else MONTHS)]
        asked += [(month, 0, seed, ONE) for month in clean if found.dataset in {None, month.data}]
    for month, spread, seed, panel in asked:
        key = (month.data, month.entry, spread, seed, panel)
        done = [night for night in nights if (night.data, night.entry, night.spread, night.seed, night.panel) == key]
        if _over(done, spread, count):
            continue
        nights = [night for night in nights if night not in done]
        mine: list[Night] = []
        data = DATA_SETS[month.data](found.data)
        judging = judged(data, month, spread, seed, panel, count) if spread else judged_fast(data, month, seed, count)
        for night in judging:
            mine.append(replace(night, spread=spread))
            write_record(found.record, mine[-1])
            print(_line(mine[-1]), flush=True)
            if _over(mine, spread, count):
                break
        nights += mine
    return nights


def _over(nights: Sequence[Night], spread: int, count: int) -> bool:
    """Whether a month need not be judged further: all poison was sent, or the window has found it."""
    return len(nights) >= (spread or count) or bool(spread and found_together(nights))


def _line(night: Night) -> str:
    return (
        f"{night.data} {night.entry} {night.spread} seed {night.seed} night {night.number}:"
        f" {night.alone}/{night.waiting} of {night.poisons} poisons, {night.clean_alone}/{night.clean_waiting} of"
        f" {night.clean} clean, {night.seconds} s {night.findings}"
    )


def read_record(path: Path | None) -> list[Night]:
    """What was measured before."""
    if path is None or not path.exists():
        return []
    loaded = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [Night(**{**one, "findings": tuple(one["findings"])}) for one in loaded]


def write_record(path: Path | None, night: Night) -> None:
    """Append one night."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(night)) + "\n")


def main(line: Sequence[str] | None = None) -> None:
    """Measure and print."""
    import argparse

    from benchmarks.slow_poison_report import report

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    found = parser.parse_args(line)
    nights = read_record(found.record) if found.report else measure(found)
    print(report(nights, machine(), found.out))


if __name__ == "__main__":
    main()
