"""The metrics say what the ledger says, in a form that Prometheus reads, with labels that do not grow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from lazaretto.cli import app
from lazaretto.errors import Blocked, LazarettoError, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.monitoring import address
from lazaretto.observed import REASONS
from lazaretto.pipelines.metrics import NAMES, exposition, listen
from lazaretto.pipelines.nightly import nightly
from lazaretto.pipelines.status import status
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, NOW, publish
from tests.watching import anchored_at, closed_port

if TYPE_CHECKING:
    from lazaretto.config import Workspace

DOCS = Path(__file__).parent.parent / "docs"


def parsed(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Name and label values, without the data set's name, to value."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            labels = tuple(value for label, value in sorted(sample.labels.items()) if value != DATASET)
            assert (sample.name, labels) not in found
            found[sample.name, labels] = sample.value
    return found


def measured(workspace: Workspace) -> dict[tuple[str, tuple[str, ...]], float]:
    return parsed(exposition(workspace).decode())


def anchored(workspace: Workspace) -> Workspace:
    """The workspace, with an anchor folder."""
    (workspace.root.parent / "anchor").mkdir()
    return replace(workspace, anchors=anchored_at(workspace.root.parent / "anchor"))


def test_the_metrics_say_what_is_in_the_ledger(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100, hold=True)
    found = measured(workspace)
    at = NOW.timestamp()
    expected = {
        ("lazaretto_batches", ("admitted",)): 1,
        ("lazaretto_batches", ("held",)): 1,
        ("lazaretto_batches", ("released",)): 0,
        ("lazaretto_records_total", ("admitted",)): 8,
        ("lazaretto_records_total", ("quarantined",)): 10,
        ("lazaretto_records_total", ("rejected",)): 2,
        ("lazaretto_cases_waiting", ()): 2,
        ("lazaretto_oldest_case_timestamp_seconds", ()): at,
        ("lazaretto_oldest_held_batch_timestamp_seconds", ()): at,
        ("lazaretto_gate_open", ()): 1,
        ("lazaretto_store_version", ()): 2,
        ("lazaretto_store_epoch", ()): 1,
        ("lazaretto_store_records", ()): 8,
        ("lazaretto_store_published_timestamp_seconds", ()): at,
        ("lazaretto_ingest_timestamp_seconds", ()): at,
        ("lazaretto_audit_entries", ()): 2,
        ("lazaretto_ledger_readable", ()): 1,
    }
    assert {key: found.get(key) for key in expected} == expected
    stages = {labels for name, labels in found if name == "lazaretto_ingest_stage_duration_seconds"}
    assert stages >= {("snapshot",), ("decide",), ("ledger",), ("checkpoint",)}


def test_refusals_are_counted_by_reason_and_names_that_are_made_up_together(workspace: Workspace) -> None:
    publish(workspace)
    for asked in (
        {"max_age": "1s"},
        {"max_age": "1h"},
        {"version": 99},
        {"batch": "b-0"},
        *({"dataset": f"made-up-{i}"} for i in range(3)),
    ):
        with pytest.raises(Blocked):
            gate(**{"dataset": DATASET, "workspace": workspace, **asked})
    status(workspace)  # looks at the gate, and is none who was refused
    found = {labels: count for (name, labels), count in measured(workspace).items() if "refusals" in name}
    assert len(found) == 2 * len(REASONS)
    assert {labels: count for labels, count in found.items() if count} == {
        ("stale",): 2,
        ("unknown_version",): 1,
        ("batch_not_there",): 1,
        ("", "nothing_admitted"): 3,
    }


def test_an_altered_store_closes_the_gate_and_is_counted_as_such(workspace: Workspace) -> None:
    publish(workspace)
    next((workspace.store(DATASET) / "_delta_log").glob("*2.json")).write_text("{}")
    with pytest.raises(LazarettoError):
        gate(DATASET, workspace=workspace)
    found = measured(workspace)
    assert found["lazaretto_gate_open", ()] == 0
    assert found["lazaretto_gate_refusals_total", ("integrity",)] == 1
    assert ("lazaretto_store_version", ()) not in found


def test_a_verification_a_night_and_the_anchor_are_told(workspace: Workspace) -> None:
    place = anchored(workspace)
    publish(place)
    before = datetime.now().astimezone().timestamp() - 2
    verify(place)
    nightly(place)
    found = measured(place)
    assert found["lazaretto_verify_findings", ("",)] == 0
    for name, labels in (("verify", ("",)), ("nightly", ()), ("anchor", ())):
        assert found[f"lazaretto_{name}_timestamp_seconds", labels] >= before
    assert found["lazaretto_nightly_datasets", ("nothing",)] == 1
    assert found["lazaretto_anchor_reachable", ()] == 1
    assert found["lazaretto_anchor_entries", ()] == found["lazaretto_audit_entries", ()] == 1
    (workspace.root.parent / "anchor").rename(workspace.root.parent / "away")
    assert measured(place)["lazaretto_anchor_reachable", ()] == 0


def test_a_failed_verification_is_counted_until_a_good_one(workspace: Workspace) -> None:
    publish(workspace)
    report = workspace.batch(publish(workspace, 100).batch) / "summary.json"
    content = report.read_bytes()
    report.write_bytes(b"{}")
    assert verify(workspace, DATASET).findings
    assert measured(workspace)["lazaretto_verify_findings", ()] == 1
    report.write_bytes(content)
    verify(workspace)
    assert {key: value for key, value in measured(workspace).items() if key[0] == "lazaretto_verify_findings"} == {
        ("lazaretto_verify_findings", ("",)): 0
    }


def test_no_name_and_no_label_is_unknown_to_the_page(workspace: Workspace) -> None:
    place = anchored(workspace)
    publish(place)
    publish(place, 100, hold=True)
    verify(place)
    nightly(place)
    with pytest.raises(Blocked):
        gate(DATASET, workspace=place, max_age="1s")
    names = {name for name, _ in measured(place)}
    assert names == NAMES  # each is made here once, so none is a promise only
    page = (DOCS / "observability.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(lazaretto_\w+)`", page)) == NAMES


def test_the_example_rules_use_names_that_exist_and_say_what_to_do() -> None:
    rules = yaml.safe_load((DOCS / "alert-rules.yml").read_text(encoding="utf-8"))
    listed = [rule for group in rules["groups"] for rule in group["rules"]]
    assert len(listed) >= 10
    for rule in listed:
        used = set(re.findall(r"\blazaretto_\w+", rule["expr"]))
        assert used, rule["alert"]
        assert used <= NAMES, rule["alert"]
        assert {"summary", "description"} <= set(rule["annotations"])


def test_a_file_is_written_whole_for_others_to_read(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace)
    out = tmp_path / "lazaretto.prom"
    out.write_text("old")
    done = CliRunner().invoke(app, ["metrics", "-w", str(workspace.root), "--out", str(out)])
    assert (done.exit_code, done.output) == (0, "")
    assert parsed(out.read_text())["lazaretto_store_version", ()] == 2
    assert out.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.glob("*.prom*")] == ["lazaretto.prom"]


def test_a_ledger_that_cannot_be_read_is_one_sentence_and_leaves_the_file(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.state / "ledger.db").write_bytes(b"no database" * 100)
    out = tmp_path / "lazaretto.prom"
    out.write_text("old")
    done = CliRunner().invoke(app, ["metrics", "-w", str(workspace.root), "--out", str(out)])
    assert isinstance(done.exception, LazarettoError)
    assert out.read_text() == "old"


def test_the_numbers_are_a_document_too(workspace: Workspace) -> None:
    publish(workspace)
    done = CliRunner().invoke(app, ["metrics", "-w", str(workspace.root), "--json"])
    [version] = [one for one in json.loads(done.stdout) if one["name"] == "lazaretto_store_version"]
    assert version == {"name": "lazaretto_store_version", "value": 2, "labels": {"dataset": DATASET}}


def test_prometheus_is_answered_with_what_is_true_when_it_asks(workspace: Workspace) -> None:
    host, port = listen(workspace, ("127.0.0.1", 0))

    def scraped() -> dict[tuple[str, tuple[str, ...]], float]:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            return parsed(answer.read().decode())

    assert scraped()["lazaretto_audit_entries", ()] == 0
    publish(workspace)
    assert scraped()["lazaretto_audit_entries", ()] == 1
    (workspace.state / "ledger.db").write_bytes(b"no database" * 100)
    assert scraped() == {("lazaretto_ledger_readable", ()): 0}
    with pytest.raises(UsageError, match="cannot be served"):
        listen(workspace, (host, port))


def test_serving_is_said_and_ends_with_ctrl_c(workspace: Workspace) -> None:
    command = [sys.executable, "-m", "lazaretto", "metrics", "--serve", "--listen", "0", "-w", str(workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = child.stdout.readline()
        port = re.search(r"at http://127\.0\.0\.1:(\d+)/metrics", said)
        assert port, said
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=10) as answer:
            assert b"lazaretto_ledger_readable 1.0" in answer.read()
        child.terminate()
        assert child.wait(timeout=20) == 130


def test_serve_answers_where_the_configuration_says(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from lazaretto import cli_ingest
    from lazaretto.pipelines import flows, prefect_api

    port, answers = closed_port(), []

    def served(_root: Path, _cron: str) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            answers.append(answer.read())

    file = workspace.root / "lazaretto.toml"
    file.write_text(file.read_text() + f'\n[metrics]\nlisten = "{port}"\n')
    # Prefect's server takes half a minute to start, and does nothing here.
    monkeypatch.setattr(cli_ingest, "prefect_api", lambda: True)
    monkeypatch.setattr(prefect_api, "check_api", lambda: None)
    monkeypatch.setattr(flows, "serve_nightly", served)
    assert CliRunner().invoke(app, ["serve", "-w", str(workspace.root)]).exit_code == 0
    assert b"lazaretto_ledger_readable 1.0" in answers[0]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),  # noqa: S104  it is only read
        ("[::1]:9", ("::1", 9)),
        ("h:x", None),
        ("h:99999", None),
    ],
)
def test_an_address_without_a_host_is_of_this_machine_alone(text: str, where: tuple[str, int] | None) -> None:
    if where is None:
        with pytest.raises(UsageError, match="no address to listen at"):
            address(text)
    else:
        assert address(text) == where
