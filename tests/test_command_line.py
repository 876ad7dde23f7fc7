"""What is wrong with the command line itself is said like any other error; Ctrl-C leaves nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lazaretto import cli

if TYPE_CHECKING:
    from pathlib import Path

WRONG = [
    ("scan --nope", "no such option: --nope"),
    ("scan", "missing argument 'FILE...'"),
    ("scan d.csv", "missing option '--contract'"),
    ("frob", "no such command 'frob'"),
    ("scan d.csv -c c.yaml -o out --seed few", "invalid value for '--seed'"),
    ("review list --limit 0", "invalid value for '--limit'"),
    ("contract show", "missing argument 'DATASET'"),
]


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["lazaretto", *line.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(("line", "says"), WRONG)
def test_a_wrong_command_line_is_one_sentence(
    line: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line, monkeypatch) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"error: {says}")
    assert "--help says what it takes" in said.err


@pytest.mark.parametrize(("line", "says"), WRONG)
def test_a_wrong_command_line_is_a_json_document_where_one_was_asked_for(
    line: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"{line} --json", monkeypatch) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["exit_code"] == 2
    assert error["message"].startswith(says)
    assert error["hint"].startswith("lazaretto ")


def test_the_command_alone_shows_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("", monkeypatch) == 2
    assert "Keeps poisoned records out" in capsys.readouterr().out
    assert run("--help", monkeypatch) == 0


@pytest.mark.parametrize(
    ("step", "number"), [("parse", signal.SIGINT), ("validate", signal.SIGTERM), ("decide", signal.SIGINT)]
)
def test_ctrl_c_or_a_stopped_service_leaves_nothing_half_written(
    step: str, number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "d.csv").write_text("id,x\n" + "".join(f"r{i},{i}\n" for i in range(20)))
    (tmp_path / "c.yaml").write_text("dataset: d\nid: id\ncolumns: {id: {type: category}, x: {type: number}}\n")
    # The process tells when it is there, and goes on working: the signal comes from outside, as from a terminal.
    code = (
        "import sys\n"
        "from lazaretto import cli, cli_shown\n"
        "from contextlib import nullcontext\n"
        "def told(name):\n"
        f"    if name == {step!r}: print(name, flush=True); __import__('time').sleep(0.2)\n"
        "cli_shown.progress = lambda quiet: nullcontext((told, lambda count: None))\n"
        "cli.main()\n"
    )
    command = [sys.executable, "-c", code, "scan", "d.csv", "-c", "c.yaml", "-o", "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, text=True, **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"{step}\n"
        os.killpg(child.pid, number)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.splitlines()[0] == "error: interrupted"
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "d.csv"]
