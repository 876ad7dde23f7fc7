"""Time and memory of a whole scan of many records: the command itself, in its own process.

    make bench-throughput
    python -m benchmarks.throughput [--short] [--rows 1000000 10000000]

20 columns (ten numbers, five integers, four categories, a label), seeded; a trusted set of 1,000 of the same kind.
Targets on two cores: 10,000 records a second and 3 GiB resident, whatever the number of rows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.machine import machine

CHUNK = 250_000
CONTRACT = "dataset: many\nlabel: y\ncolumns:\n"


def frame(rows: int, seed: int) -> pl.DataFrame:
    """Seeded records whose label depends on three of the columns."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {f"n{i}": rng.normal(size=rows) * 10.0 ** (i % 4) for i in range(10)}
    columns |= {f"i{i}": rng.integers(0, 1000, rows) for i in range(5)}
    columns |= {f"c{i}": np.array([f"v{j:02}" for j in range(20)])[rng.integers(0, 20, rows)] for i in range(4)}
    signal = columns["n0"] + columns["n4"] + (columns["i0"] > 500) + rng.normal(size=rows)  # noqa: PLR2004  the middle
    columns["y"] = np.where(signal > 0.5, "a", "b")  # noqa: PLR2004  the middle
    return pl.DataFrame(columns)


def contract(names: list[str]) -> str:
    """The contract of those records."""
    types = {"n": "number", "i": "integer", "c": "category"}
    return CONTRACT + "".join(f"  {name}: {{type: {types[name[0]]}}}\n" for name in names if name != "y")


def write(path: Path, rows: int) -> None:
    """Write the records chunk by chunk."""
    writer = None
    for number, start in enumerate(range(0, rows, CHUNK)):
        table = frame(min(CHUNK, rows - start), number).to_arrow(compat_level=pl.CompatLevel.oldest())
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(rows: int) -> dict[str, object]:
    """Scan ``rows`` records in a process of their own."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        write(here / "many.parquet", rows)
        frame(1000, 10**6).write_parquet(here / "trusted.parquet")
        (here / "many.yaml").write_text(contract(frame(1, 0).columns))
        command = [sys.executable, "-m", "lazaretto", "scan", "many.parquet", "--contract", "many.yaml"]
        command += ["--trusted", "trusted.parquet", "--out", "out", "--json"]
        began = time.perf_counter()
        with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            output, errors = child.communicate()
            usage = os.times()
        seconds = time.perf_counter() - began
        if child.returncode:
            raise SystemExit(f"the scan failed with exit code {child.returncode}: {errors}")
        summary = json.loads(output)
    peak = _peak_of_children()
    stages = {stage["name"]: stage["seconds"] for stage in summary["stages"]}
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "records_per_second": round(rows / seconds),
        "peak_gib": round(peak, 2),
        "processor_seconds": round(usage.children_user + usage.children_system, 1),
        "quarantined": summary["quarantined"],
        "stages": stages,
    }


def _peak_of_children() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def main() -> None:
    """Measure and print one JSON line per size; sizes ascend, so that the peak is each size's own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="50,000 rows")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    given = parser.parse_args()
    print(machine(), flush=True)
    for rows in [50_000] if given.short else sorted(given.rows):
        print(json.dumps(measure(rows)), flush=True)


if __name__ == "__main__":
    main()
