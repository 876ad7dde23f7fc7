"""How fast files are parsed into canonical partitions, and how much memory it takes.

Writes a seeded table of 20 columns (10 numbers, 5 integers, 5 categories) once per format, then snapshots and parses
it in a fresh process, so that the peak memory is the parse's own.

    python benchmarks/parse.py --rows 1000000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from lazaretto.contract import Contract, parse_contract
from lazaretto.pipelines.read import parse
from lazaretto.pipelines.snapshot import snapshot

FORMATS = ("parquet", "csv", "jsonl")
PIECE = 500_000
SEED = 7


def contract() -> Contract:
    """The contract of the table."""
    lines = ["dataset: bench", "label: c0", "columns:"]
    lines += [f"  x{i}: {{type: number}}" for i in range(10)]
    lines += [f"  i{i}: {{type: integer}}" for i in range(5)]
    lines += [f"  c{i}: {{type: category}}" for i in range(5)]
    return parse_contract("\n".join(lines), "bench.yaml")


def table(rows: int, seed: int) -> pl.DataFrame:
    """Random records (rows, 20)."""
    rng = np.random.default_rng(seed)
    words = np.array([f"value-{i}" for i in range(20)])
    numbers = {f"x{i}": rng.normal(size=rows).round(6) for i in range(10)}
    integers = {f"i{i}": rng.integers(0, 100_000, rows) for i in range(5)}
    return pl.DataFrame(numbers | integers | {f"c{i}": rng.choice(words, rows) for i in range(5)})


def write(path: Path, rows: int) -> None:
    """Write the table piece by piece; for Parquet as one file of many row groups."""
    pieces = [(start, min(PIECE, rows - start)) for start in range(0, rows, PIECE)]
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, table(1, SEED).to_arrow().schema) as writer:
            for start, count in pieces:
                writer.write_table(table(count, SEED + start).to_arrow())
        return
    with path.open("wb") as file:
        for start, count in pieces:
            frame = table(count, SEED + start)
            if path.suffix == ".csv":
                frame.write_csv(file, include_header=start == 0)
            else:
                frame.write_ndjson(file)


def measure(path: Path) -> None:
    """Snapshot and parse one file in this process and print one line."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        began = time.perf_counter()
        batch = snapshot([path], "bench", Path(folder) / "snapshot")
        copied = time.perf_counter()
        parsed = parse(batch, contract(), Path(folder))
        done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{path.suffix[1:]:8} {parsed.arrived:>11,} rows  snapshot {copied - began:.2f} s  parse {done - copied:.2f} s"
        f"  {parsed.arrived / (done - copied):>10,.0f} rows/s  peak {peak:.2f} GiB  rejected {parsed.rejected}"
    )


def main() -> None:
    """Write the files, then measure each in a process of its own."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    options.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.measure:
        measure(chosen.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        for kind in chosen.formats:
            path = Path(folder) / f"bench.{kind}"
            write(path, chosen.rows)
            subprocess.run([sys.executable, __file__, "--measure", str(path)], check=True)
            path.unlink()


if __name__ == "__main__":
    main()
