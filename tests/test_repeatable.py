"""The same input, contract, seed and versions give the same verdicts, byte for byte, however many threads there are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl

SAMPLES = Path(__file__).parent.parent / "sample_data"
ROWS = 500
"""Enough for every detector, few enough for two scans in seconds."""


def started(folder: Path, threads: int) -> subprocess.Popen[bytes]:
    """The real command in a process of its own."""
    names = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    command = [sys.executable, "-m", "lazaretto", "scan", str(folder / "flights.parquet"), "--seed", "7"]
    command += ["--contract", str(SAMPLES / "contracts" / "flights.yaml"), "--device", "cpu"]
    command += ["--out", str(folder / f"out-{threads}"), "--json"]
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_second_scan_of_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    flights = pl.read_parquet(SAMPLES / "flights" / "incoming.parquet", n_rows=ROWS)
    flights.write_parquet(tmp_path / "flights.parquet")
    scans = [started(tmp_path, threads) for threads in (1, 2)]
    said = [json.loads(scan.communicate(timeout=300)[0]) for scan in scans]
    assert [scan.returncode for scan in scans] == [0, 0]
    for name in ("verdicts.parquet", "evidence.parquet", "rejects.parquet"):
        one, other = ((tmp_path / f"out-{threads}" / name).read_bytes() for threads in (1, 2))
        assert one == other, name
    alike = [
        {name: value for name, value in summary.items() if name not in ("stages", "detectors")} for summary in said
    ]
    assert alike[0] == alike[1]
    assert said[0]["null"]["kind"] == "trusted"
    assert said[0]["arrived"] == ROWS
