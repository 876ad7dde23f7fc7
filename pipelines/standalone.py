"""``lazaretto scan``: judges files with no workspace and no store, into a folder of the user's."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazaretto.dashboards.report import render_report
from lazaretto.durable import sync_file, sync_folder, writable
from lazaretto.errors import UsageError
from lazaretto.pipelines.clusters import CLUSTERS
from lazaretto.pipelines.scan import Options, judge
from lazaretto.records import OnRows, OnStep, no_rows, no_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.contract import Contract

SUMMARY = "summary.json"
OUTPUTS = ("verdicts.parquet", "report.html", "evidence.parquet", "rejects.parquet", CLUSTERS, SUMMARY)
"""What is left in the folder, in the order it comes there; everything else was needed only on the way."""
_SCRATCH = ".scan-"
"""Begins the name of a scan's scratch folder; the number of its process comes next."""


def scan_files(
    paths: Sequence[str],
    contract: Contract,
    out: Path,
    options: Options,
    *,
    on_step: OnStep = no_step,
    on_rows: OnRows = no_rows,
) -> dict[str, Any]:
    """Judge files and write `OUTPUTS` into ``out``; an earlier scan's outputs there are replaced, nothing else is.

    ``summary.json`` is taken away before the first output is replaced and comes last: while it is there, all outputs
    are there, whole, and of the scan it tells of. A scan that was killed on the way leaves a folder without it.

    Returns:
        The summary.

    Raises:
        UsageError: ``out`` is a file or cannot be written to, or its disk is full.
        InputRefused: The input is no data.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file", hint="name a folder; it is made if it is not there")
    made = not out.exists()
    try:
        with writable(out):
            out.mkdir(parents=True, exist_ok=True)
            return _scan(paths, contract, out, options, on_step, on_rows)
    except BaseException:
        if made:
            # What was refused leaves nothing behind; a folder that was there before is the user's.
            shutil.rmtree(out, ignore_errors=True)
        raise


def _scan(
    paths: Sequence[str], contract: Contract, out: Path, options: Options, on_step: OnStep, on_rows: OnRows
) -> dict[str, Any]:
    _sweep(out)
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-", dir=out) as name:
        work = Path(name)
        judged = judge(paths, contract, work, options, on_step=on_step, on_rows=on_rows)
        on_step("report")
        render_report(work, contract)
        _put(work, out)
    return judged.summary


def _sweep(out: Path) -> None:
    """Remove what scans left behind that were killed: a copy of their input among other things."""
    for left in out.glob(f"{_SCRATCH}*-*"):
        process = left.name.removeprefix(_SCRATCH).partition("-")[0]
        if process.isdecimal() and not _alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _put(work: Path, out: Path) -> None:
    for output in OUTPUTS:
        sync_file(work / output)
    (out / SUMMARY).unlink(missing_ok=True)
    sync_folder(out)  # a crash of the machine must not bring the old summary back beside new verdicts
    for output in OUTPUTS:
        if output == SUMMARY:
            sync_folder(out)
        (work / output).replace(out / output)
    sync_folder(out)
