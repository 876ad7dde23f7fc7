"""What is wrong with the command line itself is said like any other error; Ctrl-C leaves nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

from lazaretto import cli, cli_shown
from lazaretto.errors import UsageError
from lazaretto.timespan import timespan
from tests.harness import DATASET, publish, write_batch

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace

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


def test_a_panic_of_polars_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(**_arguments: object) -> None:
        pl.Series([2**62]).cast(pl.Datetime("ms")).cast(pl.Datetime("us"))

    monkeypatch.setattr(cli, "app", broken)
    assert run("status", monkeypatch) == 1
    assert "Polars broke off: invalid or out-of-range datetime" in capsys.readouterr().err


def test_a_contract_is_written_only_where_nothing_is_and_a_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.csv").write_text("x,late\n1,true\n2,false\n")
    for out, says in ((tmp_path / "none" / "c.yaml", "does not exist"), (tmp_path / "d.csv", "exists already")):
        assert run(f"infer {tmp_path / 'd.csv'} --out {out}", monkeypatch) == 2
        assert says in capsys.readouterr().err
    assert run(f"infer {tmp_path / 'd.csv'} --out {tmp_path / 'c.yaml'}", monkeypatch) == 0
    assert (tmp_path / "c.yaml").read_text().startswith("# A first contract")


@pytest.mark.parametrize("seed", ["-1", str(2**32)])
def test_a_seed_that_no_generator_takes_is_refused(
    seed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"scan d.csv -c c.yaml -o out --seed {seed}", monkeypatch) == 2
    assert "--seed" in capsys.readouterr().err


@pytest.mark.parametrize("age", ["9" * 30 + "d", "9" * 5000 + "s", "1w", "h", "-3h", ""])
def test_a_span_of_time_that_is_none_is_refused(age: str) -> None:
    with pytest.raises(UsageError, match="is no time span"):
        timespan(age)
    assert timespan("90m") == timedelta(minutes=90)


def test_nothing_to_ingest_is_no_error(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"ingest -w {workspace.root}", monkeypatch) == 0
    assert "nothing waits in" in capsys.readouterr().out
    for more in ("", f" --dataset {DATASET}"):
        assert run(f"ingest -w {workspace.root} --json{more}", monkeypatch) == 0
        assert json.loads(capsys.readouterr().out) == []
    assert run(f"ingest -w {workspace.root} --dataset aliens", monkeypatch) == 2
    assert "aliens.yaml does not exist" in capsys.readouterr().err


def test_a_data_set_that_is_refused_does_not_keep_the_others_waiting(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace.landing / "aliens").mkdir()
    (workspace.landing / "aliens" / "d.csv").write_text("x\n1\n")
    write_batch(workspace.landing / DATASET / "d.csv")
    assert run(f"ingest -w {workspace.root} --json", monkeypatch) == 3
    said = capsys.readouterr()
    refused, held = json.loads(said.out)
    assert refused["dataset"] == "aliens"
    assert refused["error"]["exit_code"] == 2
    assert "aliens.yaml does not exist" in said.err
    assert (held["dataset"], held["held"]) == (DATASET, True)


def test_a_report_says_where_it_lies_as_json_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = publish(workspace).batch
    path = workspace.batch(batch) / "report.html"
    path.write_text("<p>")
    assert run(f"report {batch} -w {workspace.root} --json", monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {"batch": batch, "report": str(path)}


def test_a_value_cannot_print_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    cli_shown.print_lines("  note: ok\n\ndecisions:\n  alice: release")
    cli_shown.show_table("cases", ("why",), [("x\nheld: nothing",)])
    out = capsys.readouterr().out
    assert "\ndecisions" not in out
    assert "\nheld" not in out


def test_setting_up_and_inferring_print_one_document_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"init {tmp_path / 'island'} --json", monkeypatch) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["workspace"] == str(tmp_path / "island")
    assert str(tmp_path / "island" / "keys") in made["made"]
    (tmp_path / "d.csv").write_text("x,late\n1,true\n2,false\n")
    assert run(f"infer {tmp_path / 'd.csv'} --json", monkeypatch) == 0
    assert "dataset: d" in json.loads(capsys.readouterr().out)["contract"]
