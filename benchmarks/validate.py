"""How long validation takes and how much memory: 1 M records x 20 columns, clean and with every cell failing.

    python -m benchmarks.validate [--short] [--rows N] [--case clean|bad]

Without ``--case`` every case runs in its own process, so that peak memory is its own. Data is made with a fixed seed in
a temporary folder that is removed afterwards.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from lazaretto.contract import Column, Contract
from lazaretto.expectations.check import check
from lazaretto.expectations.gx import load
from lazaretto.records import DIGEST, PARTITION_ROWS, RECORD_ID, ROW

SEED = 7
ROWS = 1_000_000
SHORT_ROWS = 100_000
CITIES = ("EWR", "JFK", "LGA")
MAX_CHARS = 200
MISSING = 0.01
"""Share of nulls in the column that allows them."""


def contract(*, bad: bool) -> Contract:
    """20 columns: 7 integers, 7 numbers, 4 categories, a text, an id. The bad one allows nothing that is there."""
    low = 2_000 if bad else -1_000
    columns = {
        **{f"integer_{i}": Column(type="integer", min=low, max=5_000) for i in range(7)},
        **{f"number_{i}": Column(type="number", min=low, max=5_000, nullable=i == 0) for i in range(7)},
        **{f"category_{i}": Column(type="category", values=("A", "B") if bad else CITIES) for i in range(4)},
        "text": Column(type="text", max_chars=2 if bad else MAX_CHARS),
        "id": Column(type="category"),
    }
    return Contract(dataset="benchmark", id="id", columns=columns)


def write(rows: int, folder: Path, *, bad: bool) -> list[Path]:
    """Canonical partitions of seeded data; in the bad case every id occurs twice."""
    random = np.random.default_rng(SEED)
    paths: list[Path] = []
    for start in range(0, rows, PARTITION_ROWS):
        row = np.arange(start, min(start + PARTITION_ROWS, rows))
        numbers = np.where(random.random(len(row)) < MISSING, np.nan, random.normal(size=len(row)))
        ids = row // 2 if bad else row
        frame = pl.DataFrame(
            {
                **{f"integer_{i}": random.integers(0, 1_000, len(row)) for i in range(7)},
                "number_0": pl.Series(numbers).fill_nan(None),
                **{f"number_{i}": random.normal(size=len(row)) for i in range(1, 7)},
                **{f"category_{i}": np.array(CITIES)[random.integers(0, 3, len(row))] for i in range(4)},
                "text": [f"record {value} says something of ordinary length" for value in row],
                "id": [f"id-{value:09d}" for value in ids],
                ROW: row.astype(np.uint64),
                RECORD_ID: [f"id-{value:09d}" for value in ids],
                DIGEST: [f"{value:032x}" for value in row],
            }
        )
        paths.append(folder / f"part-{len(paths):05d}.parquet")
        frame.write_parquet(paths[-1])
    return paths


def run(rows: int, *, bad: bool) -> dict[str, object]:
    """Measure one case in this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        partitions = write(rows, folder, bad=bad)
        before = _peak()
        started = time.perf_counter()
        load()

        imported, busy = time.perf_counter(), time.process_time()
        result = check(partitions, contract(bad=bad), folder / "out")
        ended = time.perf_counter()
        return {
            "case": "every cell fails" if bad else "clean",
            "records": rows,
            "expectations": len(result.suite.expectations),
            "failing pairs": result.failed,
            "held": len(result.holds),
            "seconds": round(ended - imported, 2),
            "processor seconds": round(time.process_time() - busy, 2),
            "seconds with import": round(ended - started, 2),
            "peak MiB": _peak(),
            "peak MiB before": before,
            "failures.parquet MiB": round(result.failures.stat().st_size / 2**20, 1),
        }


def _peak() -> int:
    """Peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    """Run the cases asked for and print one line of JSON each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT_ROWS:,} records instead of {ROWS:,}")
    parser.add_argument("--rows", type=int, help="number of records")
    parser.add_argument("--case", choices=("clean", "bad"), help="only this case, in this process")
    options = parser.parse_args()
    rows = options.rows or (SHORT_ROWS if options.short else ROWS)
    if options.case:
        print(json.dumps(run(rows, bad=options.case == "bad")))
        return
    for case in ("clean", "bad"):
        command = [sys.executable, "-m", "benchmarks.validate", "--rows", str(rows), "--case", case]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
