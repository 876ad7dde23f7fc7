"""``lazaretto scan``: judges files with no workspace and no store, into a folder of the user's."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazaretto.dashboards.report import render_report
from lazaretto.errors import UsageError
from lazaretto.pipelines.scan import Options, judge
from lazaretto.records import OnRows, OnStep, no_rows, no_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.contract import Contract

OUTPUTS = ("verdicts.parquet", "summary.json", "report.html", "evidence.parquet", "rejects.parquet")
"""What is left in the folder; everything else was needed only on the way."""


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

    Returns:
        The summary.

    Raises:
        UsageError: ``out`` is a file, or cannot be written to.
        InputRefused: The input is no data.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file", hint="name a folder; it is made if it is not there")
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        return _scan(paths, contract, out, options, on_step, on_rows)
    except BaseException:
        if made:
            # What was refused leaves nothing behind; a folder that was there before is the user's.
            shutil.rmtree(out, ignore_errors=True)
        raise


def _scan(
    paths: Sequence[str], contract: Contract, out: Path, options: Options, on_step: OnStep, on_rows: OnRows
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=".scan-", dir=out) as name:
        work = Path(name)
        judged = judge(paths, contract, work, options, on_step=on_step, on_rows=on_rows)
        on_step("report")
        render_report(work, contract)
        for output in OUTPUTS:
            shutil.move(work / output, out / output)
    return judged.summary
