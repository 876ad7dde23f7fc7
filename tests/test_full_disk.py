"""A full disk at any step is one sentence, and nothing is left that was not there before."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import polars as pl
import pytest

from lazaretto.contract import parse_contract
from lazaretto.durable import refusal, writable
from lazaretto.errors import UsageError
from lazaretto.pipelines import standalone
from lazaretto.pipelines.ingest import ingest
from lazaretto.pipelines.scan import Options
from lazaretto.pipelines.standalone import OUTPUTS, SUMMARY, scan_files
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, FakeJudge, stored, write_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lazaretto.config import Workspace

CONTRACT = "dataset: d\nid: id\ncolumns:\n  id: {type: category}\n  x: {type: number}\n"
ALMOST_NOTHING = 64
"""Bytes a file may have: less than the smallest one that is written on the way."""


@contextmanager
def full_from(step: str) -> Iterator[Callable[[str], None]]:
    """From ``step`` on no file may grow: the system refuses as it does on a full disk, children included."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_step(name: str) -> None:
        if name == step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (ALMOST_NOTHING, before[1]))

    try:
        yield on_step
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes; what locks and the ledger's log leave does not count."""
    ignored = (".lock", "-wal", "-shm")
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(ignored))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def written(folder: Path, rows: int) -> list[str]:
    pl.DataFrame({"id": [f"r{i}" for i in range(rows)], "x": [float(i) for i in range(rows)]}).write_csv(
        folder / "d.csv"
    )
    return [str(folder / "d.csv")]


@pytest.mark.parametrize("step", ["snapshot", "parse", "validate", "score", "decide", "report"])
def test_a_disk_that_fills_up_during_a_scan_leaves_the_last_one_as_it_was(step: str, tmp_path: Path) -> None:
    contract, out = parse_contract(CONTRACT, "c.yaml"), tmp_path / "out"
    scan_files(written(tmp_path, 20), contract, out, Options())
    before = tree(out)
    written(tmp_path, 30)
    with full_from(step) as on_step, pytest.raises(UsageError, match="no space left on the disk of"):
        scan_files([str(tmp_path / "d.csv")], contract, out, Options(), on_step=on_step)
    assert tree(out) == before
    assert set(before) == set(OUTPUTS)


@pytest.mark.parametrize("step", ["snapshot", "keep", "quarantine", "files", "prepare"])
def test_a_disk_that_fills_up_before_anything_is_published_changes_nothing(
    step: str, workspace: Workspace, tmp_path: Path
) -> None:
    file, before = write_batch(tmp_path / "b.csv", rows=20), tree(workspace.root)
    with full_from(step) as on_step, pytest.raises(UsageError, match="no space left on the disk of"):
        ingest(workspace, [file], DATASET, judge=FakeJudge(), on_step=on_step)
    after = tree(workspace.root)
    assert {name: after[name] for name in before} == before
    assert [name for name in after if name not in before and "/_delta_log/" not in name] == []


@pytest.mark.parametrize("step", ["commit", "attest", "ledger", "checkpoint"])
def test_a_disk_that_fills_up_while_publishing_is_finished_by_the_same_command(
    step: str, workspace: Workspace, tmp_path: Path
) -> None:
    file = write_batch(tmp_path / "b.csv", rows=20)
    with full_from(step) as on_step, pytest.raises(UsageError):
        ingest(workspace, [file], DATASET, judge=FakeJudge(), on_step=on_step)
    result = ingest(workspace, [file], DATASET, judge=FakeJudge())
    assert stored(workspace).height == result.counts["admitted"] == 16
    assert verify(workspace).findings == ()


def test_a_summary_is_there_only_beside_the_outputs_it_tells_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, out, order = parse_contract(CONTRACT, "c.yaml"), tmp_path / "out", []
    first = scan_files(written(tmp_path, 20), contract, out, Options())
    assert json.loads((out / SUMMARY).read_text())["batch"] == first["batch"]

    def killed(folder: Path) -> None:
        order.append((out / SUMMARY).exists())
        if len(order) == 2 and folder == out:
            raise KeyboardInterrupt

    monkeypatch.setattr(standalone, "sync_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        scan_files(written(tmp_path, 30), contract, out, Options())
    assert order == [False, False]
    assert sorted(path.name for path in out.iterdir()) == sorted(set(OUTPUTS) - {SUMMARY})
    assert pl.read_parquet(out / "verdicts.parquet").height == 30


def test_what_a_killed_scan_left_behind_is_swept_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    for name in (f".scan-{ended.pid}-x", f".scan-{os.getpid()}-x", ".scan-notes"):
        (out / name).mkdir(parents=True)
    scan_files(written(tmp_path, 20), parse_contract(CONTRACT, "c.yaml"), out, Options())
    assert {path.name for path in out.glob(".scan-*")} == {f".scan-{os.getpid()}-x", ".scan-notes"}


def test_what_other_libraries_make_of_a_full_disk_is_recognised(tmp_path: Path) -> None:
    hidden = pl.exceptions.ComputeError("No space left on device (os error 28)")
    for error in (hidden, OSError(27, "File too large"), ValueError("Generic error: [errno 122] Disk quota exceeded")):
        with pytest.raises(UsageError, match=f"no space left on the disk of {tmp_path}"), writable(tmp_path):
            raise error
    footer = pl.exceptions.ComputeError("parquet: File out of specification: Invalid thrift: transport error")
    with pytest.raises(UsageError, match="no space left"), writable(tmp_path):
        raise footer
    assert refusal(footer) is None, "while reading it means a file that was cut off"
    assert refusal(ValueError("something else")) is None
    denied = refusal(pl.exceptions.ComputeError("Read-only file system (os error 30)"), tmp_path)
    assert denied is not None
    assert denied.message == f"cannot write to {tmp_path}: Read-only file system"
