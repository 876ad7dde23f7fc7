"""How much of each attack is caught, and how much clean data is held: the product and its peers, on the same batches.

    make bench-detection DATA=FOLDER
    python -m benchmarks.detection [--short] [--data DIR] [--seeds 5] [--first-seed 0] [--effects] [--record FILE]

Lazaretto runs as `lazaretto scan` does, from a file on disk to its verdicts, with a trusted set and without one; peers
(`make peers`) run as their documentation says. A seed draws the trusted set, the batch and the poison; all methods get
the same batches. Development used seeds 100 and up; what is reported uses 0, 1, 2, ...

With --effects, models are trained on every batch and on what each method admits of it (`benchmarks.trained`).

With --record, everything measured is appended to a file, and what is in it already is not measured again: an
interrupted measurement goes on, two processes share the work (--dataset), and effects can be added later. Remove the
file after a change to the code. What peers found stays true: measured into a file of their own (--methods peers), they
are read from it by --also.

Recall at 1 %: the share of poisons ranked above all but 1 % of the batch's clean records. Decided: the share of
poisons, and of clean records, that the method itself flagged (Lazaretto at `false_quarantine_rate: 0.01`, peers at
their defaults). Records that the attacker planted beside the poison with right labels count as neither. Memory is what
the process of the benchmark had at most above what it had before, without processes it starts: of Lazaretto that is
the parser, of cleanlab its workers.

Source named: where all poisons are of one source, whether the scan's summary names it, and how many innocent sources
beside it; clean batches should name none. Peers name no sources.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks import asked
from benchmarks.data import DATA_SETS, DataSet
from benchmarks.machine import machine
from benchmarks.memory import peak_above, reset_peak
from benchmarks.plans import PLANS, Case, Plan, Unplantable, case
from benchmarks.record import Record, Run
from benchmarks.trained import Lessons, references
from lazaretto.expectations import gx
from lazaretto.named_sources import named_sources
from lazaretto.pipelines.scan import Options, judge

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from benchmarks.peers import Peer, PeerInput

RATE = 0.01
OURS = {"Lazaretto": False, "Lazaretto, trusted": True}
"""Method -> whether it is given the trusted set."""


def recall_at_rate(scores: NDArray[np.float64], found: Case) -> float | None:
    """Share of the poisons above the limit that 1 % of the clean records pass; a score that is no number is above."""
    if not found.truth.any():
        return None
    known = np.where(np.isnan(scores), np.inf, scores)
    return float((known[found.truth] > np.quantile(known[found.clean], 1 - RATE)).mean())


def recall_of(scores: NDArray[np.float64], found: Case) -> float:
    """`recall_at_rate` of a batch in which something is planted.

    Raises:
        ValueError: Nothing is.
    """
    recall = recall_at_rate(scores, found)
    if recall is None:
        raise ValueError("nothing is planted")
    return recall


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
    _import_heavy()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        found.batch.write_parquet(here / "batch.parquet")
        found.trusted.write_parquet(here / "known.parquet")
        trusted = (str(here / "known.parquet"),) if OURS[about.method] else ()
        contract = data.contract.model_copy(update={"trusted": None})
        before = reset_peak()
        began = time.perf_counter()
        options = Options(seed=about.seed, trusted=trusted)
        summary = judge([here / "batch.parquet"], contract, here / "out", options).summary
        seconds = time.perf_counter() - began
        peak = peak_above(before)
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
    detectors = {name: recall for name, recall in alone.items() if recall is not None}
    about = replace(about, **sources_named(summary["per_source"], contract.source, found))
    return _filled(about, found, scores, flagged, seconds=seconds, peak_mib=peak, detectors=detectors)


def sources_named(per_source: Sequence[Mapping[str, Any]], source: str | None, found: Case) -> dict[str, Any]:
    """``source_named`` and ``innocents_named`` of a `Run`; nothing where the data name no source."""
    if source is None:
        return {}
    named = {row["name"] for _, row in named_sources(per_source)}
    guilty = set(found.batch[source].cast(pl.String).filter(pl.Series(found.truth)))
    return {
        "source_named": bool(guilty & named) if len(guilty) == 1 else None,
        "innocents_named": len(named - guilty),
    }


def _import_heavy() -> None:
    """Import what a scan imports on its way, so that the first is as long as the next."""
    gx.load()
    for name in ("pyod.models.iforest", "pyod.models.hbos", "sklearn.ensemble", "lazaretto.detectors.fitting"):
        importlib.import_module(name)


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
        flagged=np.flatnonzero(flagged).tolist(),
        **more,  # type: ignore[arg-type]  # fields of a run, each of its own type
    )


def methods_of(choice: str) -> list[str]:
    """The methods of ``ours``, ``peers`` or ``all``; peers that are not installed stand aside when asked."""
    from benchmarks.peers import every_peer

    peers = [peer.name for peer in every_peer()]
    return {"ours": list(OURS), "peers": peers, "all": [*OURS, *peers]}.get(choice, [choice])


def unmeasured(found: Record, data: str, entry: str, seed: int, methods: Sequence[str], *, effects: bool) -> list[str]:
    """The methods that must judge a batch: those without a run, and those of whose run the decisions are needed."""
    left = []
    for method in methods:
        key = data, entry, method, seed
        run = found.runs.get(key)
        undecided = run is not None and not run.aside and run.flagged is None
        if run is None or (effects and undecided and key not in found.trained):
            left.append(method)
    return left


def untrained(found: Record, data: DataSet, entry: str, seed: int, methods: Sequence[str]) -> Iterator[str]:
    """What models must still be trained on: the batch, the clean one, what each method admits."""
    wanted = references(data, entry)
    if wanted:
        wanted += [name for name in methods if found.runs[data.name, entry, name, seed].flagged is not None]
    yield from (on for on in wanted if (data.name, entry, on, seed) not in found.trained)


def measure_all(found: Record, data: DataSet, seed: int, entries: Sequence[str], given: argparse.Namespace) -> None:
    """Everything of one data set and seed that is not in the record yet."""
    methods = methods_of(given.methods)
    lessons = Lessons(data, seed, given.kept)
    for entry in entries:
        left = unmeasured(
            found, data.name, entry, seed, methods, effects=given.effects and references(data, entry) != []
        )
        try:
            for run in measured(data, entry, seed, left, given.kept):
                found.add(run)
        except Unplantable as error:
            print(f"{data.name}: {entry}, seed {seed} is left out: {error}")
            continue
        for on in untrained(found, data, entry, seed, methods) if given.effects else ():
            judged = found.runs.get((data.name, entry, on, seed))
            model = lessons.trained(entry, on, judged.flagged if judged else None)
            if model is not None:
                found.add(model)


def _arguments() -> argparse.Namespace:
    parser = asked.parser(__doc__, "one seed of a few attacks")
    asked.add_batches(parser)
    asked.add_plans(parser)
    parser.add_argument("--methods", default="all", help="all, ours, peers, or the name of one")
    parser.add_argument("--effects", action="store_true", help="also train models, before and after quarantine")
    parser.add_argument("--also", type=Path, action="append", default=[], help="an earlier record, read beside it")
    return parser.parse_args()


def main() -> None:
    """Run, print, and write `benchmark.md` with its plots."""
    given = _arguments()
    found = Record(given.record, given.also)
    with tempfile.TemporaryDirectory() as scratch:
        given.kept = given.kept or Path(scratch)
        for data in asked.opened([] if given.report else given.dataset or list(DATA_SETS), given.data):
            every = ("clean", *PLANS[data.name])
            entries = [entry for entry in given.attack or (every[:3] if given.short else every) if entry in every]
            for seed in asked.seeds(given):
                measure_all(found, data, seed, entries, given)
    if not found.runs:
        raise asked.nothing_measured()
    from benchmarks.detection_report import write_report
    from benchmarks.provenance import provenance
    from benchmarks.trained_report import trained_parts

    out, runs, trained = None if given.short else given.out, list(found.runs.values()), list(found.trained.values())
    more = [*trained_parts(trained, out), *provenance(runs, trained)]
    print(write_report(runs, out, machine(), more))


if __name__ == "__main__":
    main()
