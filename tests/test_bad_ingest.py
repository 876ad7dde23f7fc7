"""What a user gets wrong with a workspace gets one sentence and the right exit code, and changes nothing in it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest

from lazaretto.cli import main
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, publish, write_batch
from tests.test_full_disk import tree

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace

GOOD = "id,x,late\n" + "".join(f"r{i},{i},{'true' if i % 2 else 'false'}\n" for i in range(40))
WAITS = (  # the first of two ingests: it stops in the middle, says so, and goes on when it is told to
    "import sys\n"
    "from pathlib import Path\n"
    "from lazaretto.config import load_workspace\n"
    "from lazaretto.pipelines.ingest import ingest\n"
    "from tests.harness import FakeJudge\n"
    "def told(name):\n"
    "    if name == 'keep': print(name, flush=True); sys.stdin.readline()\n"
    "ingest(load_workspace(Path(sys.argv[1])), [sys.argv[2]], 'flights', judge=FakeJudge(), on_step=told)\n"
)


def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    line = ["lazaretto", "ingest", *arguments, "--dataset", DATASET, "--workspace", str(workspace.root)]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    error = "\n".join(line for line in capsys.readouterr().err.splitlines() if "no Prefect API" not in line)
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert len(error.splitlines()) <= 2, "one sentence, and a hint"
    return error


@pytest.mark.parametrize(
    "case",
    [
        ("d.csv", None, 2, "does not exist"),
        ("d.csv", "", 4, "is empty"),
        ("d.csv", "id,x,late\n", 4, "holds no records"),
        ("d.csv", 'id,x,late\na,1,"true\n', 4, "is never closed"),
        ("d.csv", "id,x,x,late\na,1,2,true\n", 4, "the column 'x' twice"),
        ("d.csv", "id,x,late\na,1\nb\n", 4, "all 2 records are rejected"),
        ("d.csv", "colour,size\nred,1\n", 4, "column"),
        ("d.csv", "id,x,late\na,inf,true\nb,nan,true\nc,,true\n", 4, "all 3 records are rejected"),
        ("d.csv", "id,x,late\na,1,true\na,2,true\n", 4, "all 2 records are rejected"),
        ("d.csv", "id,x,late\na,one,true\n", 4, "x: 'one' is not a number"),
        ("d.parquet", "PAR1 and then nothing", 4, "no readable Parquet file"),
        ("d.xlsx", "PK", 4, "d.xlsx"),
    ],
)
def test_input_that_is_no_data_changes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    case: tuple[str, str | None, int, str],
) -> None:  # fmt: skip
    name, data, code, says = case
    if data is not None:
        (tmp_path / name).write_text(data)
    before = tree(workspace.root)
    assert run(workspace, monkeypatch, str(tmp_path / name)) == code
    assert says in said(capsys)
    assert tree(workspace.root) == before


@pytest.mark.parametrize(
    ("trusted", "says"),
    [
        (None, "is not there"),
        ("", "is empty"),
        ("id,x,late\n", "holds no records"),
        ("id,x,late\nt1,oops,true\n", "trusted records do not parse"),
        ("id,x,late\nt1,,true\n", "the trusted set breaks the contract"),
        (GOOD, "40 records of the batch are also in the trusted set"),
    ],
)
def test_a_trusted_set_that_cannot_be_used_changes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    trusted: str | None, says: str,
) -> None:  # fmt: skip
    contract = workspace.contract(DATASET)
    contract.write_text(contract.read_text() + f"trusted: {tmp_path / 't.csv'}\n")
    if trusted is not None:
        (tmp_path / "t.csv").write_text(trusted)
    (tmp_path / "d.csv").write_text(GOOD)
    before = tree(workspace.root)
    assert run(workspace, monkeypatch, str(tmp_path / "d.csv")) in (2, 4)
    assert says in said(capsys)
    assert tree(workspace.root) == before


@pytest.mark.parametrize("device", ["abacus", "cuda:", "cuda:999"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(
    device: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(workspace.root)
    assert run(workspace, monkeypatch, "none.csv", "--device", device) == 2
    assert f"device {device!r} is not" in said(capsys)
    assert tree(workspace.root) == before


def test_a_batch_too_small_to_judge_is_held_with_every_record_accounted_for(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.csv").write_text(GOOD + "odd,oops,true\n")
    assert run(workspace, monkeypatch, str(tmp_path / "d.csv")) == 3
    (folder,) = (workspace.state / "batches").iterdir()
    assert pl.read_parquet(folder / "verdicts.parquet")["decision"].to_list() == ["quarantine"] * 40 + ["reject"]
    assert verify(workspace).findings == ()


def test_of_two_ingests_at_once_the_second_is_told_to_wait_and_changes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", WAITS, str(workspace.root), str(write_batch(tmp_path / "first.csv"))]
    other = str(write_batch(tmp_path / "second.csv", 100))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "keep\n"
        before = tree(workspace.root)
        assert run(workspace, monkeypatch, other) == 2
        assert f"another lazaretto process ({first.pid})" in said(capsys)
        assert tree(workspace.root) == before
        first.communicate("go on\n", timeout=60)
    assert first.returncode == 0
    assert publish(workspace, 200).epoch == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_workspace_that_cannot_be_written_is_named(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.csv").write_text(GOOD)
    workspace.state.chmod(0o500)
    try:
        assert run(workspace, monkeypatch, str(tmp_path / "d.csv")) == 2
    finally:
        workspace.state.chmod(0o700)
    assert f"cannot write to {workspace.state}" in said(capsys)
