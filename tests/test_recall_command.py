"""Recall from the command line: what is listed, what is said, and the page that is handed on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner

from lazaretto.cli import app
from lazaretto.errors import UsageError
from lazaretto.gatekeeper import gate
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.recall import list_recalls, recall
from lazaretto.pipelines.recalled import REPORT
from lazaretto.pipelines.review import word
from lazaretto.pipelines.selection import Selection, listed
from tests.harness import DATASET, NOW, publish

if TYPE_CHECKING:
    from lazaretto.config import Workspace


SAID = word("the supplier was broken into", "ann", NOW)


def some(*ids: str) -> Selection:
    return Selection("records", "0" * 64, frozenset(ids))


def ran(workspace: Workspace, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["recall", *arguments, "--workspace", str(workspace.root)])
    return done.exit_code, done.output if done.exception is None or done.exit_code == 0 else str(done.exception)


def test_ids_are_listed_in_three_kinds_of_files(tmp_path: Path) -> None:
    frame = pl.DataFrame({"record_id": ["7", "a b", None], "other": [1, 2, 3]})
    frame.write_parquet(tmp_path / "ids.parquet")
    frame.write_csv(tmp_path / "ids.csv")
    (tmp_path / "ids.txt").write_text("7\r\na b\n\n")
    found = [listed(tmp_path / f"ids.{end}") for end in ("parquet", "csv", "txt")]
    assert found[0] == found[1] == found[2]
    assert found[0].ids == {"7", "a b"}
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(UsageError, match="lists no record ids"):
        listed(tmp_path / "none.txt")
    frame.rename({"record_id": "name"}).write_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(UsageError, match="holds no list of record ids"):
        listed(tmp_path / "wrong.parquet")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        listed(tmp_path / "absent.txt")


@pytest.mark.parametrize("name", ["ids.TXT", "ids.CSV"])
def test_how_a_spreadsheet_saved_a_list_of_ids_makes_no_difference(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes("\ufeffrecord_id\r\n 7 \r\na b\t\r\n".encode())
    found = listed(tmp_path / name).ids
    assert found == {"7", "a b"} | ({"record_id"} if name == "ids.TXT" else set())


def test_a_list_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lazaretto.pipelines.selection._LARGEST", 1000)
    with pytest.raises(UsageError, match="/dev/zero is larger than"):
        listed(Path("/dev/zero"))


def test_listed_ids_that_are_not_there_are_said(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace)
    (tmp_path / "ids.txt").write_text("r1\nr5\nelsewhere\n")
    which = ("--records", str(tmp_path / "ids.txt"))
    said = "2 of the 3 listed are not in the store: 'elsewhere', 'r5'"
    assert said in ran(workspace, *which, "--dry-run")[1]
    assert json.loads(ran(workspace, *which, "--dry-run", "--json")[1])["absent"] == ["elsewhere", "r5"]
    assert said in ran(workspace, *which, "--reason", "bad")[1]


def test_a_page_that_is_there_already_is_said_before_anything_is_recalled(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace)
    (tmp_path / "page.html").write_text("mine")
    code, said = ran(workspace, "--after-version", "0", "--reason", "bad", "--out", str(tmp_path / "page.html"))
    assert code != 0
    assert "exists already" in said
    assert list_recalls(workspace) == []


def test_the_page_of_a_recall_is_made_anew_on_demand(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace)
    made = recall(workspace, DATASET, some("r1"), SAID)
    page = workspace.recall(DATASET, made.unit) / REPORT
    before = page.read_text()
    page.write_text("altered")
    code, _ = ran(workspace, "--show", made.unit, "--out", str(tmp_path / "again.html"))
    assert (code, page.read_text(), (tmp_path / "again.html").read_text()) == (0, before, before)
    assert "there is no recall k-1" in ran(workspace, "--show", "k-1")[1]


def test_the_command_recalls_and_writes_a_report_to_hand_on(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace)
    gate(DATASET, run="run <7>", workspace=workspace)
    (tmp_path / "ids.txt").write_text("r1\nr2\n")
    which = ("--records", str(tmp_path / "ids.txt"))
    code, said = ran(workspace, *which, "--dry-run")
    assert code == 0
    assert "2 records of flights among the 2 listed would be recalled; nothing was changed" in said
    code, said = ran(workspace, *which, "--reason", "bad <b>", "--out", str(tmp_path / "handed.html"))
    assert code == 0
    assert "2 records of flights recalled" in said
    assert "run <7>, version 2" in said
    page = (tmp_path / "handed.html").read_text()
    assert "run &lt;7&gt;" in page
    assert "bad &lt;b&gt;" in page
    made = list_recalls(workspace)[0]
    assert (workspace.recall(DATASET, made.unit) / REPORT).read_text() == page
    code, said = ran(workspace, "--list")
    assert "because bad <b>" in said
    code, said = ran(workspace, "--list", "--json")
    assert json.loads(said)[0]["records"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name what is to be recalled"),
        (["--source", "a", "--batch", "b"], "name what is to be recalled"),
        (["--after-version", "1"], "a recall needs a reason"),
        (["--batch", "b-1", "--reason", "x"], "no batch b-1"),
        (["--records", "absent.txt", "--reason", "x"], "absent.txt cannot be read"),
        (["--source", "a", "--dataset", "boats", "--reason", "x"], "no data set 'boats'"),
        (["--list", "--source", "a"], "--list goes with nothing but --dataset"),
        (["--source", "a", "--reason", " "], "a decision needs a reason"),
    ],
)
def test_a_wrong_line_is_one_sentence(arguments: list[str], said: str, workspace: Workspace) -> None:
    publish(workspace)
    code, output = ran(workspace, *arguments)
    assert code != 0
    assert said in output
    assert len(read_chain(workspace, DATASET).attestations) == 1
