"""How long the gate takes on a large store, beside `verify`, which re-hashes everything.

    make bench-gate
    python -m benchmarks.gate [--short]

50 batches of 20,000 records with 20 columns are published for real: parsed, written to the store, attested, audited.
Only the detectors are left out (a judge that admits every record stands in), since the gate reads what was published
and not how it was judged. Each command is timed as a process of its own. Target: the gate in under 2 seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from benchmarks.machine import machine
from benchmarks.throughput import contract as contract_text
from benchmarks.throughput import frame
from lazaretto.config import Workspace, init_workspace
from lazaretto.pipelines.ingest import Hooks, ingest
from lazaretto.pipelines.read import parse
from lazaretto.pipelines.scan import Judged
from lazaretto.pipelines.snapshot import snapshot
from lazaretto.records import RECORD_ID, ROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.contract import Contract

DATASET = "many"
RUNS = 5


def admit_all(files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> Judged:
    """A judge with no detectors."""
    batch = hooks.on_batch(snapshot(files, contract.dataset, into / "snapshot"))
    parsed = parse(batch, contract, into)
    rows = pl.concat([pl.read_parquet(part, columns=[ROW, RECORD_ID]) for part in parsed.partitions])
    one = pl.lit(1.0)  # the engine refuses to admit what has no p-value
    rows.select(
        pl.col(RECORD_ID).alias("record_id"),
        pl.lit("admit").alias("decision"),
        suspicion=pl.lit(0.0),
        p_value=one,
        q_value=one,
        reasons=pl.lit([], pl.List(pl.String)),
    ).write_parquet(into / "verdicts.parquet")
    empty = rows.clear().select(
        ROW, pl.col(RECORD_ID).alias("record_id"), suspect=pl.lit(value=False), evidence=pl.lit("")
    )
    empty.write_parquet(into / "evidence.parquet")
    counts = {"arrived": len(rows), "admitted": len(rows), "quarantined": 0, "rejected": 0}
    summary = {"dataset": contract.dataset, "batch": batch.id, **counts, "hold": False, "hold_reasons": []}
    (into / "summary.json").write_text(json.dumps(summary))
    return Judged(into, parsed, contract, summary)


def publish(folder: Path, batches: int, rows: int) -> Workspace:
    """A workspace whose store holds that many batches."""
    workspace, _ = init_workspace(folder / "workspace")
    workspace.contract(DATASET).write_text(contract_text(frame(1, 0).columns))
    for number in range(batches):
        frame(rows, number).write_parquet(folder / "batch.parquet")
        ingest(workspace, [folder / "batch.parquet"], DATASET, judge=admit_all)
        print(f"\r{number + 1} of {batches} batches published", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return workspace


def seconds(workspace: Workspace, *arguments: str) -> list[float]:
    """Wall seconds of a command, each run a process of its own; one run beforehand does not count."""
    command = [sys.executable, "-m", "lazaretto", *arguments, "--workspace", str(workspace.root)]
    taken = []
    for _ in range(RUNS + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - began)
    return sorted(taken[1:])


def main() -> None:
    """Publish, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="5 batches of 2,000 records")
    batches, rows = (5, 2_000) if parser.parse_args().short else (50, 20_000)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        workspace = publish(Path(folder), batches, rows)
        published = round(time.perf_counter() - began, 1)
        for name, arguments in (("gate", ("gate", DATASET)), ("verify", ("verify",))):
            taken = seconds(workspace, *arguments)
            figures = {"median_s": round(taken[len(taken) // 2], 2), "worst_s": round(taken[-1], 2)}
            print(json.dumps({"what": name, "batches": batches, "records": batches * rows, **figures}), flush=True)
        taken = sorted(_help() for _ in range(RUNS))
        print(json.dumps({"what": "--help", "median_s": round(taken[RUNS // 2], 2), "worst_s": round(taken[-1], 2)}))
        print(json.dumps({"what": "publishing all batches", "seconds": published}))


def _help() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lazaretto", "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
