"""How much of each attack is caught, and how much clean data is held: the product and its peers, on the same batches.

    make bench-detection DATA=FOLDER
    python -m benchmarks.detection [--short] [--data DIR] [--seeds 5] [--first-seed 0] [--out docs] [--record FILE]

Lazaretto runs as `lazaretto scan` does, from a file on disk to its verdicts, with a trusted set and without one; peers
(`make peers`) run as their documentation says. A seed draws the trusted set, the batch and the poison; all methods get
the same batches. Development used seeds 100 and up; what is reported uses 0, 1, 2, ...

With --record, every run is appended to a file, and what is in it already is not run again: an interrupted measurement
goes on, and two processes share the work (--dataset). Remove the file after a change to the code.

Recall at 1 %: the share of poisons ranked above all but 1 % of the batch's clean records. Decided: the share of
poisons, and of clean records, that the method itself flagged (Lazaretto at `false_quarantine_rate: 0.01`, peers at
their defaults). Records that the attacker planted beside the poison with right labels count as neither.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks.data import DATA_SETS, DataSet
from benchmarks.machine import machine
from benchmarks.plans import PLANS, Case, Plan, Unplantable, case
from lazaretto.pipelines.scan import Options, judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from benchmarks.peers import Peer, PeerInput

HERE = Path(__file__).resolve().parent
RATE = 0.01
OURS = {"Lazaretto": False, "Lazaretto, trusted": True}
"""Method -> whether it is given the trusted set."""


@dataclass(frozen=True)
class Run:
    """One method on one batch."""

    data: str
    attack: str
    """An entry of `PLANS`, or ``clean``."""
    title: str
    family: str
    method: str
    seed: int
    poisons: int
    recall_at_rate: float | None = None
    auroc: float | None = None
    decided_recall: float | None = None
    held: float | None = None
    """Share of the clean records that the method flagged."""
    seconds: float = 0.0
    peak_mib: float | None = None
    aside: str = ""
    """Why the method does not run on this data."""
    detectors: dict[str, float] = field(default_factory=dict)
    """Lazaretto's detectors, each alone -> its recall at 1 %."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What makes a run another run."""
        return self.data, self.attack, self.method, self.seed


def recall_at_rate(scores: NDArray[np.float64], found: Case) -> float | None:
    """Share of the poisons above the limit that 1 % of the clean records pass; a score that is no number is above."""
    if not found.truth.any():
        return None
    known = np.where(np.isnan(scores), np.inf, scores)
    return float((known[found.truth] > np.quantile(known[found.clean], 1 - RATE)).mean())


def auroc(scores: NDArray[np.float64], found: Case) -> float | None:
    """Area under the curve of poisons against clean records."""
    from sklearn.metrics import roc_auc_score

    if not found.truth.any():
        return None
    either = found.truth | found.clean
    known = np.nan_to_num(scores[either], nan=np.finfo(np.float64).max)
    return float(roc_auc_score(found.truth[either], known))


def measured(data: DataSet, entry: str, seed: int, methods: Sequence[str], kept: Path) -> Iterator[Run]:
    """Run some methods on one case; what the peers read of it is made once for all of them."""
    found = case(data, entry, seed, kept)
    plan = None if entry == "clean" else Plan.named(entry, data)
    title, family = (plan.title, plan.attack.family) if plan else ("clean", "clean")
    given: PeerInput | None = None
    for method in methods:
        about = Run(data.name, entry, title, family, method, seed, int(found.truth.sum()))
        if method in OURS:
            yield _scanned(data, found, about)
            continue
        from benchmarks.peers import every_peer
        from benchmarks.probes import peer_input

        given = given or peer_input(data, found, seed)
        yield _judged_by(next(peer for peer in every_peer() if peer.name == method), given, found, about)


def _scanned(data: DataSet, found: Case, about: Run) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        found.batch.write_parquet(here / "batch.parquet")
        found.trusted.write_parquet(here / "known.parquet")
        trusted = (str(here / "known.parquet"),) if OURS[about.method] else ()
        began = time.perf_counter()
        contract = data.contract.model_copy(update={"trusted": None})
        judge([here / "batch.parquet"], contract, here / "out", Options(seed=about.seed, trusted=trusted))
        seconds = time.perf_counter() - began
        verdicts = pl.read_parquet(here / "out" / "verdicts.parquet")
    # What breaks the contract is rejected without a score: nothing is more suspicious.
    rejected = (verdicts["decision"] == "reject").to_numpy()
    flagged = (verdicts["p_value"] <= RATE).fill_null(value=True).to_numpy() | rejected
    alone = {
        name.removeprefix("score."): recall_at_rate(verdicts[name].to_numpy(), found)
        for name in verdicts.columns
        if name.startswith("score.")
    }
    scores = np.where(rejected, np.inf, verdicts["suspicion"].fill_null(np.inf).to_numpy())
    return _filled(
        about, found, scores, flagged, seconds=seconds, detectors={n: r for n, r in alone.items() if r is not None}
    )


def _judged_by(peer: Peer, given: PeerInput, found: Case, about: Run) -> Run:
    from benchmarks.peers import StandsAside

    result = peer.judge(given)
    if isinstance(result, StandsAside):
        return replace(about, aside=result.reason)
    return _filled(about, found, result.scores, result.flagged, seconds=result.seconds, peak_mib=result.peak_mib)


def _filled(about: Run, found: Case, scores: NDArray[np.float64], flagged: NDArray[np.bool_], **more: object) -> Run:
    return replace(
        about,
        recall_at_rate=recall_at_rate(scores, found),
        auroc=auroc(scores, found),
        decided_recall=float(flagged[found.truth].mean()) if found.truth.any() else None,
        held=float(flagged[found.clean].mean()),
        **more,  # type: ignore[arg-type]  # fields of a run, each of its own type
    )


def recorded(path: Path | None) -> dict[tuple[str, str, str, int], Run]:
    """The runs of an earlier, perhaps interrupted, measurement."""
    if path is None or not path.exists():
        return {}
    runs = [Run(**json.loads(line)) for line in path.read_text().splitlines()]
    return {run.key: run for run in runs}


def record(run: Run, path: Path | None) -> None:
    """Print a run, and append it to the record."""
    said = run.aside or f"recall {_shown(run.recall_at_rate)}, clean held {_shown(run.held)}, {run.seconds:.1f} s"
    print(f"{run.data}: {run.title}, seed {run.seed}, {run.method}: {said}", flush=True)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(asdict(run)) + "\n")


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def methods_of(choice: str) -> list[str]:
    """The methods of ``ours``, ``peers`` or ``all``; peers that are not installed stand aside when asked."""
    from benchmarks.peers import every_peer

    peers = [peer.name for peer in every_peer()]
    return {"ours": list(OURS), "peers": peers, "all": [*OURS, *peers]}.get(choice, [choice])


def main() -> None:
    """Run, print, and write `benchmark.md` with its plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one seed of a few attacks, and nothing is written")
    parser.add_argument("--data", type=Path, help="folder with the data sets; the small samples by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="100 or more while developing")
    parser.add_argument("--dataset", action="append", choices=list(DATA_SETS), help="only this one; may be repeated")
    parser.add_argument("--methods", default="all", help="all, ours, peers, or the name of one")
    parser.add_argument("--record", type=Path, help="append every run here, and do not repeat those in it")
    parser.add_argument("--kept", type=Path, help="folder for the poisoned batches, which are then planted once")
    parser.add_argument("--report", action="store_true", help="run nothing: write the report from the record")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs")
    given = parser.parse_args()
    done = recorded(given.record)
    runs: list[Run] = list(done.values()) if given.report else []
    with tempfile.TemporaryDirectory() as scratch:
        for name in [] if given.report else given.dataset or list(DATA_SETS):
            try:
                data = DATA_SETS[name](given.data)
            except FileNotFoundError as missing:
                print(f"{name} is left out: {missing}")
                continue
            entries = ("clean", *PLANS[name][:2]) if given.short else ("clean", *PLANS[name])
            for seed in range(given.first_seed, given.first_seed + (1 if given.short else given.seeds)):
                for entry in entries:
                    keys = {method: (name, entry, method, seed) for method in methods_of(given.methods)}
                    runs += [done[key] for key in keys.values() if key in done]
                    left = [method for method, key in keys.items() if key not in done]
                    try:
                        for run in measured(data, entry, seed, left, given.kept or Path(scratch)):
                            runs.append(run)
                            record(run, given.record)
                    except Unplantable as error:
                        print(f"{name}: {entry}, seed {seed} is left out: {error}")
    if not runs:
        raise SystemExit("nothing was measured, and nothing is written: name a folder with the data sets by --data")
    from benchmarks.detection_report import write_report

    print(write_report(runs, None if given.short else given.out, machine()))


if __name__ == "__main__":
    main()
