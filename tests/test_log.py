"""The structured log says what was done, and never what a record holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lazaretto.allowed import ALLOWED, screened
from lazaretto.config import load_workspace
from lazaretto.errors import Blocked, InputRefused, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.log import LogLines, only_allowed
from lazaretto.operation import operation
from lazaretto.pipelines.alerts import due
from lazaretto.pipelines.cases import list_cases
from lazaretto.pipelines.ingest import ingest, scan_judge
from lazaretto.pipelines.metrics import exposition
from lazaretto.pipelines.nightly import nightly
from lazaretto.pipelines.recall import recall
from lazaretto.pipelines.review import assign, discard, release, word
from lazaretto.pipelines.selection import Selection
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, FakeJudge, publish, write_batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.config import Workspace

CANARY = "canary7f3a91"
CONTRACT = """\
dataset: flights
id: id
label: late
source: who
columns:
  id: {type: category}
  x: {type: number, max: 10000000}
  who: {type: category}
  late: {type: boolean}
features: [x]
policy: {detectors: [hbos], false_quarantine_rate: 0.2, hold_when_quarantined_over: 0.9}
"""


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def log(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = workspace.root.parent / "log.jsonl"
    monkeypatch.setenv("LAZARETTO_LOG", "json")
    monkeypatch.setenv("LAZARETTO_LOG_FILE", str(file))
    return file


def again(workspace: Workspace) -> Workspace:
    """The workspace, with its configuration read anew."""
    return load_workspace(workspace.root)


def write_canaries(folder: Path) -> Path:
    """Records of which every id, source and odd value is a canary, in a file of that name."""
    rows = [f"{CANARY}-{i},{i * 37 % 101},{CANARY}{i % 3},{str(i % 2 == 0).lower()}" for i in range(240)]
    rows += [f"{CANARY}-far,1000000,{CANARY}0,true", f"{CANARY}-bad,{CANARY},{CANARY}1,true"]
    file = folder / f"{CANARY}.csv"
    file.write_text("\n".join(["id,x,who,late", *rows]) + "\n")
    return file


def test_an_ingest_a_review_a_gate_and_a_recall_are_told_without_a_word_of_a_record(
    workspace: Workspace, log: Path
) -> None:
    place = again(workspace)
    place.contract(DATASET).write_text(CONTRACT)
    said = word(f"looked at {CANARY}", CANARY)
    result = ingest(place, [write_canaries(log.parent)], DATASET, judge=scan_judge(device="cpu"))
    cases = [case.id for case in list_cases(place)]
    assign(place, cases[:1], CANARY, said)
    release(place, cases[:1], said)
    discard(place, cases[1:2], said)
    gate(DATASET, workspace=place, run=CANARY)
    recall(place, DATASET, Selection("source", f"{CANARY}1"), said)
    verify(place)
    told = lines(log)
    done = {line["event"] for line in told if line["event"].endswith(".done")}
    assert done == {f"{kind}.done" for kind in ("ingest", "assign", "release", "discard", "gate", "recall", "verify")}
    stages = {line["stage"] for line in told if line["event"] == "ingest.stage"}
    assert stages >= {"snapshot", "parse", "validate", "fit", "score", "decide", "report", "commit", "checkpoint"}
    [end] = [line for line in told if line["event"] == "ingest.done"]
    assert (end["batch"], end["dataset"], end["arrived"], end["rejected"]) == (result.batch, DATASET, 242, 1)
    assert all({"run", "timestamp", "workspace"} <= set(line) <= set(ALLOWED) for line in told)
    everything = [file.read_text(encoding="utf-8") for file in (log, *(place.state / "observed").iterdir())]
    everything += [exposition(place).decode(), *(f"{alert.says} {alert.hint}" for alert in due(place))]
    assert not [text for text in everything if "canary" in text]


def refused(_files: Sequence[Path], _contract: object, _into: Path, _hooks: object) -> Any:  # noqa: ANN401  never returns
    raise InputRefused(f"all records are rejected: {CANARY} is no number", hint=CANARY)


def broken(_files: Sequence[Path], _contract: object, _into: Path, _hooks: object) -> Any:  # noqa: ANN401  as above
    raise ValueError(f"could not convert {CANARY}") from KeyError(CANARY)


@pytest.mark.parametrize(
    ("judge", "error", "code"), [(refused, InputRefused, 4), (broken, ValueError, 1)], ids=["refused", "broken"]
)
def test_an_error_that_quotes_a_value_is_told_by_its_class_alone(
    judge: Any,  # noqa: ANN401  a judge that judges nothing
    error: type[Exception],
    code: int,
    workspace: Workspace,
    log: Path,
) -> None:
    place = again(workspace)
    with pytest.raises(error, match=CANARY):
        ingest(place, [write_batch(log.parent / f"{CANARY}.csv")], DATASET, judge=judge)
    end = lines(log)[-1]
    assert (end["event"], end["error"], end["exit_code"], end["level"]) == (
        "ingest.failed",
        error.__name__,
        code,
        "error",
    )
    assert CANARY not in log.read_text()


def test_a_batch_held_for_reasons_that_quote_a_value_is_told_without_them(workspace: Workspace, log: Path) -> None:
    place = again(workspace)
    place.contract(DATASET).write_text(CONTRACT.replace("late: {type: boolean}", "late: {type: category}"))
    rows = [f"r{i},{i},w,{CANARY + ('', chr(0x200B))[i % 2]}" for i in range(240)]
    file = log.parent / "b.csv"
    file.write_text("\n".join(["id,x,who,late", *rows]) + "\n")
    result = ingest(place, [file], DATASET, judge=scan_judge(device="cpu"))
    assert CANARY in " ".join(result.hold_reasons)  # or there would be nothing to keep out
    assert lines(log)[-1]["held"] is True
    assert CANARY not in log.read_text()


def test_a_password_of_the_ledger_is_in_no_line_and_in_no_alert(
    workspace: Workspace, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAZARETTO_LEDGER_URL", "postgresql+psycopg://ann:s3cr3t@127.0.0.1:1/d")
    place = again(workspace)
    with pytest.raises(UsageError):
        publish(place)
    assert lines(log)[-1]["event"] == "ingest.failed"
    [alert] = due(place)
    assert alert.kind == "ledger"
    assert "s3cr3t" not in log.read_text() + alert.says + alert.hint


def test_the_page_names_every_field_of_the_log() -> None:
    page = (Path(__file__).parent.parent / "docs" / "observability.md").read_text(encoding="utf-8")
    assert set(ALLOWED) <= set(re.findall(r"`(\w+)`", page))


def test_what_is_not_on_the_list_or_not_of_its_shape_is_left_out_and_counted() -> None:
    said = {"event": "ingest.done", "rows": 3, "value": CANARY, "exc_info": (ValueError, ValueError(CANARY), None)}
    shapes = {
        "stage": f"parse {CANARY}!",
        "seconds": CANARY,
        "dataset": f"a {CANARY}",
        "run": CANARY,
        "error": "no. " + CANARY,
    }
    told = only_allowed(None, "info", {**said, **shapes})
    assert told == {"event": "ingest.done", "rows": 3, "withheld": 7}
    assert screened({"held": 1, "rows": True, "version": -1}) == {"withheld": 3}


def test_whoever_writes_to_the_log_goes_through_the_list(tmp_path: Path) -> None:
    out = LogLines("json", tmp_path / "log")
    out._logger.bind(record=CANARY).error(CANARY, exc_info=ValueError(CANARY), stack_info=True, rows=2)
    [line] = lines(tmp_path / "log")
    assert {name: line[name] for name in line if name != "timestamp"} == {"level": "error", "rows": 2, "withheld": 4}
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_the_gates_answers_are_told_with_the_reason_of_a_no(workspace: Workspace, log: Path) -> None:
    place = again(workspace)
    publish(place)
    gate(DATASET, workspace=place)
    with pytest.raises(Blocked):
        gate(DATASET, workspace=place, max_age="1s")
    answers = [line for line in lines(log) if line["event"] == "gate.done"]
    assert [(one["answer"], one.get("reason"), one["level"]) for one in answers] == [
        ("yes", None, "info"),
        ("no", "stale", "warning"),
    ]


def test_a_night_and_its_ingests_are_one_run_and_two_nights_are_not(workspace: Workspace, log: Path) -> None:
    place = again(workspace)
    for start in (0, 100):
        write_batch(place.landing / DATASET / "a.csv", start)
        nightly(place, take=lambda name: ingest(place, [], name, judge=FakeJudge()))
    told = lines(log)
    assert {line["event"].partition(".")[0] for line in told} >= {"nightly", "ingest"}
    assert len({line["run"] for line in told}) == 2


def test_for_people_a_line_is_no_json(workspace: Workspace, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZARETTO_LOG", "human")
    with operation(again(workspace), "verify", findings=0):
        pass
    last = log.read_text().splitlines()[-1]
    assert "event='verify.done'" in last
    assert "findings=0" in last


def test_a_log_that_cannot_be_written_is_said_once_and_holds_nothing_up(
    workspace: Workspace, log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAZARETTO_LOG_FILE", str(log.parent / "nowhere" / "log"))
    monkeypatch.setattr("lazaretto.operation._said", set())
    assert publish(again(workspace)).version == 2
    assert publish(again(workspace), 100).version == 3
    assert capsys.readouterr().err.count("cannot be told what happens (FileNotFoundError); going on") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[log]\nformat = "xml"\n', "'format' in .log. must be one of json, human, not 'xml'"),
        ('[log]\nfle = "x"\n', "did you mean 'file'"),
        ('[metrics]\nlisten = "here"\n', "'listen' in .metrics.: 'here' is no address"),
        ('[telemetry]\nendpoint = "ftp://h"\n', "is no address of a collector"),
        ('[telemetry]\nendpoint = "http://a:secret@h"\n', "holds a user or a password"),
        ('[alerts]\nurls = "json://secret"\n', "must be a list of texts"),
        ('[alerts]\ncooldown = "soon"\n', "'cooldown' in .alerts.: 'soon' is no time span"),
    ],
)
def test_a_wrong_configuration_is_one_sentence_without_a_secret(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "lazaretto.toml").write_text(f'id = "abc"\n{text}')
    with pytest.raises(UsageError, match=says) as error:
        load_workspace(tmp_path)
    assert "secret" not in f"{error.value.message} {error.value.hint}"


def test_unless_asked_for_nothing_is_told_and_nothing_of_it_is_imported(workspace: Workspace) -> None:
    file = write_batch(workspace.root.parent / "b.csv")
    script = (
        "import sys\nfrom pathlib import Path\nimport lazaretto.cli, lazaretto\n"
        "from lazaretto.config import load_workspace\nfrom lazaretto.pipelines.ingest import ingest\n"
        "from tests.harness import FakeJudge\n"
        "ingest(load_workspace(Path(sys.argv[1])), [sys.argv[2]], 'flights', judge=FakeJudge())\n"
        "lazaretto.gate('flights', workspace=sys.argv[1])\n"
        "print(sorted({'structlog', 'apprise', 'prometheus_client', 'opentelemetry'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(workspace.root), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
