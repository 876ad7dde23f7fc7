"""What a frozen encoder changes and what it costs: the same batches judged with it and without.

    python -m benchmarks.encoders --dataset NAME --encoder NAME [--data DIR] [--seeds 1] [--first-seed 0]

Judged in memory without a trusted set, like `benchmarks.ablation`. The cost is the time that the fitted encoder takes
for 1,000 records of the batch, on one thread and without loading it; a scan encodes suspects more than once.
Development used seeds 200 and up.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.ablation import fitted
from benchmarks.data import DATA_SETS, DataSet
from benchmarks.detection import RATE, auroc, recall_at_rate
from benchmarks.machine import machine
from benchmarks.plans import PLANS, Case, Unplantable, case

if TYPE_CHECKING:
    from lazaretto.contract import Contract

_TIMED = 1_000


def judged(found: Case, contract: Contract, seed: int) -> tuple[float | None, float | None, float, float]:
    """Judge a batch: recall at 1 %, AUROC, the share of clean records held, and the frozen encoder's seconds a record.

    Args:
        found: The batch with its truth.
        contract: Its policy names the encoders.
        seed: Fixes folds, probe and forests.
    """
    panel, frame = fitted(found.batch, contract, seed)
    scores = panel.score(frame)
    some = frame.head(_TIMED)
    began = time.perf_counter()
    for name, encoder in panel.encoder.frozen.items():
        encoder.encode(some[name])
    seconds = (time.perf_counter() - began) / len(some)
    held = float((~(scores.p_value > RATE))[found.clean].mean())
    return recall_at_rate(scores.suspicion, found), auroc(scores.suspicion, found), held, seconds


def compare(data: DataSet, encoder: str, seed: int, entries: list[str], kept: Path) -> list[float]:
    """Print a line per batch and way of encoding; gives the encoder's seconds a record, of each batch."""
    kind = "image" if encoder == "efficientnet" else "text"
    seconds = []
    for entry in entries:
        try:
            found = case(data, entry, seed, kept)
        except Unplantable as error:
            print(f"{data.name} {entry}, seed {seed}: {error}", flush=True)
            continue
        for name in ("default", encoder):
            policy = data.contract.policy.model_copy(update={f"{kind}_encoder": name})
            contract = data.contract.model_copy(update={"policy": policy})
            recall, area, held, took = judged(found, contract, seed)
            caught = "" if recall is None or area is None else f"recall {recall:.2f}, AUROC {area:.3f}, "
            print(f"{data.name} {entry}, seed {seed}, {name}: {caught}clean held {held:.2%}", flush=True)
            seconds += [took] if name == encoder else []
    return seconds


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--dataset", choices=sorted(DATA_SETS), required=True)
    parser.add_argument("--encoder", choices=("efficientnet", "glove", "minilm"), required=True)
    parser.add_argument("--data", type=Path, help="folder with the larger data sets")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--attack", action="append", help="an entry of the data set's plan, or clean; may be repeated")
    parser.add_argument("--kept", type=Path, help="folder where poisoned batches are kept between runs")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            entries = given.attack or ["clean", *PLANS[given.dataset]]
            data = DATA_SETS[given.dataset](given.data)
            seconds += compare(data, given.encoder, seed, entries, given.kept or Path(scratch))
    print(f"{given.encoder}: {1_000 * np.median(seconds):.1f} s for 1,000 records of {given.dataset}; {machine()}")


if __name__ == "__main__":
    main()
