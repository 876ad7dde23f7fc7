"""Alerts reach real receivers: once for each event, again until that has worked, and without a word of a record."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from lazaretto.cli import app
from lazaretto.config import load_workspace, lock_file
from lazaretto.errors import Blocked, InputRefused, LazarettoError, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.monitoring import Watch
from lazaretto.observed import DRIFT, note
from lazaretto.pipelines import alerting, alerts
from lazaretto.pipelines.addresses import addresses
from lazaretto.pipelines.alerting import deliver
from lazaretto.pipelines.alerts import due
from lazaretto.pipelines.heartbeat import note_night
from lazaretto.pipelines.ingest import ingest
from lazaretto.pipelines.nightly import nightly
from lazaretto.pipelines.review import release_batch, word
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, HELD, NOW, FakeJudge, no_fault, publish, write_batch
from tests.test_log import CANARY, refused
from tests.watching import Received, anchored_at, closed_port, http_receiver, silent_receiver, smtp_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lazaretto.config import Workspace

SECRET = "s3cr3tpassw0rd"  # noqa: S105  of the loopback device


@pytest.fixture
def web() -> Iterator[Received]:
    with http_receiver() as received:
        yield received


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAZARETTO_ALERT_URLS", raising=False)
    monkeypatch.setattr("lazaretto.operation._said", set())


def url(port: int, path: str = "") -> str:
    return f"json://user:{SECRET}@127.0.0.1:{port}/{path}"


def alerted(workspace: Workspace, *urls: str, more: str = "") -> Workspace:
    """The workspace, with addresses in a file of their own."""
    file = workspace.keys / "alerts"
    file.write_text("# where alerts go\n" + "\n".join(urls) + "\n")
    file.chmod(0o600)
    config = workspace.root / "lazaretto.toml"
    config.write_text(config.read_text().partition("\n[alerts]")[0] + f'\n[alerts]\nfile = "keys/alerts"\n{more}\n')
    return load_workspace(workspace.root)


def said(received: Received) -> list[str]:
    """Title and text of what arrived."""
    posts = [json.loads(body) for body in received.bodies]
    return [f"{post['title']}\n{post['message']}" for post in posts]


def test_a_held_batch_is_told_once_with_what_to_do_and_without_why(workspace: Workspace, web: Received) -> None:
    place = alerted(workspace, url(web.port))
    batch = publish(place, hold=True).batch
    publish(place, 100)
    verify(place)
    [text] = said(web)
    assert text == (
        f"Lazaretto: a batch is held (flights)\nbatch {batch} of flights is held since {NOW.isoformat()}: 9 records"
        f" wait\n  an analyst decides: lazaretto review list -b {batch}\nworkspace {place.id}"
    )
    assert HELD not in text


def test_mail_arrives(workspace: Workspace) -> None:
    with smtp_receiver() as post:
        where = (
            f"mailto://127.0.0.1:{post.port}?from=lazaretto@example.org&to=ann@example.org&mode=insecure&smtp=127.0.0.1"
        )
        publish(alerted(workspace, where), hold=True)
    people = [command.partition("<")[2].partition(">")[0] for command in post.paths]
    assert people == ["lazaretto@example.org", "ann@example.org"]
    mail = message_from_bytes(post.bodies[0])
    assert "a batch is held (flights)" in str(mail["Subject"])


def test_what_could_not_be_delivered_is_said_and_sent_by_the_next_run(
    workspace: Workspace, web: Received, capsys: pytest.CaptureFixture[str]
) -> None:
    web.status = 503
    place = alerted(workspace, url(web.port))
    assert publish(place, hold=True).held
    assert "1 alert(s) could not be delivered; the next run tries again" in capsys.readouterr().err
    web.status = 200
    web.bodies.clear()
    verify(place)
    verify(place)
    assert len(said(web)) == 1


def test_only_the_address_that_failed_is_tried_again(workspace: Workspace, web: Received) -> None:
    with http_receiver() as other:
        other.status = 500
        place = alerted(workspace, url(web.port), url(other.port))
        publish(place, hold=True)
        other.status = 200
        other.bodies.clear()
        found = deliver(place)
    assert (found.sent, found.undelivered, len(web.bodies), len(other.bodies)) == (1, 0, 1, 1)


def test_a_crash_after_the_sending_tells_it_once_more_rather_than_never(
    workspace: Workspace, web: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = alerted(workspace, url(web.port))
    with monkeypatch.context() as patch:
        patch.setattr(alerting, "write_durably", _killed)
        with pytest.raises(KeyboardInterrupt):
            publish(place, hold=True)
    deliver(place)
    deliver(place)
    assert len(web.bodies) == 2


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_within_the_cool_down_events_wait_and_are_then_told_together(workspace: Workspace, web: Received) -> None:
    place = alerted(workspace, url(web.port), more='cooldown = "2h"')
    start = datetime.now(UTC)
    batches = [publish(place, start, hold=True).batch for start in range(0, 300, 100)]
    assert deliver(place, now=start + timedelta(hours=1)).waiting == 2
    assert len(web.bodies) == 1
    assert deliver(place, now=start + timedelta(hours=3)).sent == 2
    assert [batch in said(web)[1] for batch in batches] == [False, True, True]
    assert deliver(place, now=start + timedelta(hours=9)).sent == 0


def test_what_ends_and_begins_again_is_told_again(workspace: Workspace, web: Received) -> None:
    place, now = alerted(workspace, url(web.port)), datetime.now(UTC)
    gone = replace(place, anchors=anchored_at(place.root.parent / "anchor"))
    assert deliver(gone, now=now).sent == 1
    assert deliver(gone, now=now + timedelta(days=1)).sent == 0
    assert deliver(place, now=now + timedelta(days=2)).alerts == ()
    assert deliver(gone, now=now + timedelta(days=3)).sent == 1


def kinds(workspace: Workspace, watch: Watch | None = None, now: datetime | None = None) -> list[tuple[str, str]]:
    return [(alert.kind, alert.dataset) for alert in due(workspace, watch, now)]


def test_each_kind_of_trouble_is_found_and_its_end_too(workspace: Workspace) -> None:
    batch = publish(workspace, hold=True).batch
    later = NOW + timedelta(days=4)
    watch = Watch(decided_within=timedelta(days=3), published_within=timedelta(days=2))
    assert kinds(workspace, watch, NOW) == [("held", DATASET)]
    assert kinds(workspace, watch, later) == [("held", DATASET), ("queue", DATASET)]
    release_batch(workspace, batch, word("fine", "ann", NOW), check=no_fault)
    assert kinds(workspace, watch, later) == [("queue", DATASET), ("stale_data", DATASET)]
    with pytest.raises(Blocked):
        gate(DATASET, max_age="1d", workspace=workspace)
    assert kinds(workspace) == [("stale_gate", DATASET)]
    publish(workspace, 100)  # at the same time, says its clock: the job that was refused wants newer data
    ingest(workspace, [write_batch(workspace.root.parent / "n.csv", 200)], DATASET, judge=FakeJudge())
    assert kinds(workspace) == []


def test_a_night_that_is_late_or_failed_a_data_set_is_found(workspace: Workspace) -> None:
    watch = Watch(nightly_within=timedelta(hours=26))
    assert kinds(workspace, watch) == []  # it is new, and its first night is to come
    assert kinds(workspace, watch, datetime.now(UTC) + timedelta(hours=27)) == [("night", "")]
    note_night(workspace, {"a": "refused", "b": "held", DATASET: "failed"}, NOW)
    assert kinds(workspace, watch, NOW) == [("broken", "a"), ("broken", DATASET)]
    assert ("night", "") in kinds(workspace, watch, NOW + timedelta(hours=27))
    (workspace.state / "nightly.json").write_text("{}")
    assert kinds(workspace, watch, NOW) == [("night", "")]


def test_a_failed_verification_and_drift_are_found(workspace: Workspace) -> None:
    report = workspace.batch(publish(workspace).batch) / "summary.json"
    content = report.read_bytes()
    report.write_bytes(b"{}")
    verify(workspace)
    assert kinds(workspace) == [("verification", "")]
    report.write_bytes(content)
    verify(workspace)
    note(workspace, DRIFT, DATASET, {"batch": "b-1", "columns": 2, "at": NOW.isoformat()})
    [alert] = due(workspace)
    assert (alert.kind, alert.says) == ("drift", f"batch b-1 of {DATASET} differs from all before it in 2 column(s)")


def test_a_night_keeps_in_how_many_columns_a_batch_drifted(workspace: Workspace) -> None:
    for start, factor in ((0, 1), (1000, 50)):
        rows = [f"r{start + i},{i % 90 * factor % 101},true" for i in range(300)]
        file = workspace.landing / DATASET / "a.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(["id,x,late", *rows]) + "\n")
        [outcome] = nightly(workspace, take=lambda name: ingest(workspace, [], name, judge=FakeJudge()))
    moved = sum(bool(row["drifted"]) for row in outcome.drift)
    assert [alert.kind for alert in due(workspace)] == ["drift"] * bool(moved)
    assert moved


def test_a_ledger_that_cannot_be_read_is_told_and_forgets_nothing(workspace: Workspace, web: Received) -> None:
    place = alerted(workspace, url(web.port))
    publish(place, hold=True)
    ledger = place.state / "ledger.db"
    ledger.rename(ledger.with_suffix(".away"))
    ledger.write_bytes(b"no database" * 100)
    for rest in ledger.parent.glob("ledger.db-*"):
        rest.unlink()
    assert [alert.kind for alert in deliver(place).alerts] == ["ledger"]
    ledger.with_suffix(".away").rename(ledger)
    assert deliver(place).sent == 0
    assert len(web.bodies) == 2


def test_an_ingest_that_fails_for_the_anchor_tells_it_all_the_same(workspace: Workspace, web: Received) -> None:
    place = replace(alerted(workspace, url(web.port)), anchors=anchored_at(workspace.root.parent / "anchor"))
    with pytest.raises(UsageError, match="anchor folder"):
        publish(place)
    assert "the anchor folder is out of reach" in said(web)[0]


def test_a_share_that_never_answers_is_out_of_reach(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "ANCHOR_SECONDS", 0.1)
    monkeypatch.setattr("os.access", lambda *_: time.sleep(0.5) or True)
    assert not alerts.reachable(replace(workspace, anchors=anchored_at(workspace.root)))


def test_an_error_that_quotes_a_value_reaches_nobody(workspace: Workspace, web: Received) -> None:
    place = alerted(workspace, url(web.port))
    publish(place, hold=True)
    web.bodies.clear()
    with pytest.raises(InputRefused, match=CANARY):
        ingest(place, [write_batch(place.root.parent / f"{CANARY}.csv", 100)], DATASET, judge=refused)
    write_batch(place.landing / DATASET / f"{CANARY}.csv", 300)
    nightly(place, take=lambda name: ingest(place, [], name, judge=refused))
    assert ["refused or failed a data set" in text for text in said(web)] == [True]
    assert CANARY not in str(web.bodies)


def test_the_night_before_that_did_not_happen_is_told_when_the_next_begins(workspace: Workspace, web: Received) -> None:
    place = alerted(workspace, url(web.port), more='nightly_within = "26h"')
    nightly(place)
    assert web.bodies == []
    note_night(place, {}, NOW)
    nightly(place)
    nightly(place)
    assert [NOW.isoformat() in text for text in said(web)] == [True]


def test_the_status_tells_of_a_missing_night(workspace: Workspace, web: Received) -> None:
    place = alerted(workspace, url(web.port))
    line = ["status", "-w", str(place.root), "--nightly-within", "26h"]
    for _ in range(2):
        assert isinstance(CliRunner().invoke(app, line).exception, Blocked)
    [text] = said(web)
    assert text.startswith("Lazaretto: a night did not happen\nno nightly run has ended yet")
    nightly(place)
    assert CliRunner().invoke(app, line).exit_code == 0
    assert len(web.bodies) == 1


@pytest.mark.parametrize("where", ["toml", "file"])
def test_addresses_that_others_can_read_are_refused_before_anything_is_begun(where: str, workspace: Workspace) -> None:
    place = alerted(workspace, url(1))
    path = place.keys / "alerts"
    if where == "toml":
        path = place.root / "lazaretto.toml"
        path.write_text(path.read_text().replace('file = "keys/alerts"', f'urls = ["{url(1)}"]'))
        place = load_workspace(place.root)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="holds addresses for alerts and can be read or written by others") as error:
        publish(place)
    assert SECRET not in f"{error.value.message} {error.value.hint}"
    assert not list((place.state / "attestations").glob("*"))
    with pytest.raises(Blocked):  # the gate sends nothing, and is not kept from saying what it has to say
        gate(DATASET, workspace=place)
    path.chmod(0o600)
    assert addresses(place) == (url(1),)


def test_the_environment_names_the_addresses_too(
    workspace: Workspace, web: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAZARETTO_ALERT_URLS", f"{url(web.port, 'a')}\n{url(web.port, 'b')}")
    publish(load_workspace(workspace.root), hold=True)
    assert sorted(web.paths) == ["/a", "/b"]


def test_a_test_says_which_address_works_and_shows_none(workspace: Workspace, web: Received) -> None:
    place = alerted(workspace, url(web.port), url(closed_port()), f"nosuch://{SECRET}")
    done = CliRunner().invoke(app, ["alerts", "test", "-w", str(place.root)])
    assert done.stdout.splitlines() == [
        "address 1 (JSON): delivered",
        "address 2 (JSON): not delivered",
        "address 3 (none that Apprise knows): not delivered",
    ]
    assert isinstance(done.exception, LazarettoError)
    assert done.exception.message == "addresses 2, 3 did not take the test"
    assert SECRET not in done.output
    assert "this is a test" in said(web)[0]


def test_without_an_address_a_test_says_where_to_name_one(workspace: Workspace) -> None:
    done = CliRunner().invoke(app, ["alerts", "test", "-w", str(workspace.root)])
    assert isinstance(done.exception, UsageError)
    assert "LAZARETTO_ALERT_URLS" in str(done.exception.hint)


def test_a_check_from_another_machine_remembers_what_it_sent_elsewhere(
    workspace: Workspace, web: Received, tmp_path: Path
) -> None:
    publish(workspace, hold=True)
    place = alerted(workspace, url(web.port))
    before = sorted(place.state.rglob("*"))
    line = ["alerts", "check", "-w", str(place.root), "--state", str(tmp_path / "mine"), "--json"]
    counts = [json.loads(CliRunner().invoke(app, line).stdout)["sent"] for _ in range(2)]
    assert counts == [1, 0]
    assert sorted(place.state.rglob("*")) == before
    assert (tmp_path / "mine" / "alerts.json").stat().st_mode & 0o777 == 0o600
    assert SECRET not in (tmp_path / "mine" / "alerts.json").read_text()


def test_a_dry_run_says_what_is_so_and_sends_nothing(workspace: Workspace, web: Received) -> None:
    publish(workspace, hold=True)
    place = alerted(workspace, url(web.port))
    done = CliRunner().invoke(app, ["alerts", "check", "--dry-run", "-w", str(place.root)])
    assert (done.exit_code, web.bodies) == (0, [])
    assert "is held since" in done.stdout


def test_a_check_that_cannot_deliver_ends_with_2(workspace: Workspace) -> None:
    publish(workspace, hold=True)
    done = CliRunner().invoke(app, ["alerts", "check", "-w", str(alerted(workspace, url(closed_port())).root)])
    assert isinstance(done.exception, UsageError)
    assert done.exception.message == "1 alert could not be delivered; the next run tries again"


def test_an_address_that_never_answers_costs_a_bounded_time(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerting, "PATIENCE_SECONDS", 0.3)
    publish(workspace, hold=True)
    with silent_receiver() as port:
        place = alerted(workspace, url(port) + "?rto=60")
        began = time.monotonic()
        assert deliver(place).undelivered == 1
        assert time.monotonic() - began < 20  # it would wait for a minute


def test_two_processes_do_not_send_at_once(workspace: Workspace, web: Received) -> None:
    publish(workspace, hold=True)
    place = alerted(workspace, url(web.port))
    with lock_file(place.state / "alerts.lock", wait=True):
        assert deliver(place).busy
    assert web.bodies == []


@pytest.mark.parametrize("content", ["", "[]", '{"salt": 1, "sent": [], "told": {}}', '{"told": {"a": "soon"}}'])
def test_a_memory_that_cannot_be_read_tells_everything_once_more(
    content: str, workspace: Workspace, web: Received
) -> None:
    place = alerted(workspace, url(web.port))
    publish(place, hold=True)
    (place.state / "alerts.json").write_text(content)
    deliver(place)
    deliver(place)
    assert len(web.bodies) == 2


def test_what_apprise_logs_of_an_address_stays_off_the_log_and_others_keep_theirs(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    publish(alerted(workspace, url(closed_port()), f"nosuch://{SECRET}"), hold=True)
    assert "apprise" not in {record.name for record in caplog.records}
    logging.getLogger("apprise").warning("of the process around us")
    assert caplog.messages[-1] == "of the process around us"
