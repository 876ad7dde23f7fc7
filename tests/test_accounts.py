"""Accounts, logins, one-time codes and tokens: who is who, and nobody else."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

import lazaretto
from lazaretto.accounts import change_account, list_accounts, set_password
from lazaretto.authorisation import Who
from lazaretto.cli import app
from lazaretto.errors import Forbidden, IntegrityViolated, UsageError
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines.verify import verify
from lazaretto.sessions import VARIABLE, close, identify, keep_secret, list_tokens, log_in, make_token, of_secret
from tests.harness import DATASET, NOW, publish
from tests.people import PASSWORD, ROOT, account, logged_in, with_codes

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace

OTHER = "some other words entirely"


@pytest.fixture
def peopled(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of this user"))
    account(workspace, "root-of-all", "admin")
    return workspace


def test_without_accounts_everybody_may_and_with_the_first_nobody_may_unknown(workspace: Workspace) -> None:
    publish(workspace)
    assert lazaretto.gate(DATASET, workspace=workspace)
    with pytest.raises(UsageError, match="the first account is an admin's"):
        account(workspace, "ann", "analyst")
    assert lazaretto.gate(DATASET, workspace=workspace)
    account(workspace, "root-of-all", "admin")
    with pytest.raises(Forbidden, match="nobody is logged in"):
        lazaretto.gate(DATASET, workspace=workspace)
    with pytest.raises(Forbidden, match="nobody is logged in"):
        lazaretto.open_admitted(DATASET, workspace=workspace)


@pytest.mark.parametrize("password", ["short", "aaaaaaaaaaaaaaaaaaaa", "xx ann xx ann xx bcdefg", "x" * 1001])
def test_weak_passwords_are_refused(password: str, peopled: Workspace) -> None:
    with pytest.raises(UsageError, match="the password is too"):
        account(peopled, "ann", "analyst", password=password)


@pytest.mark.parametrize(
    ("name", "roles", "said"),
    [("Ann", ("analyst",), "is no name"), ("ann", ("king",), "no role 'king'"), ("ann", (), "needs a role"),
     ("root-of-all", ("viewer",), "there is an account")],
)  # fmt: skip
def test_a_wrong_account_is_one_sentence(name: str, roles: tuple[str, ...], said: str, peopled: Workspace) -> None:
    with pytest.raises(UsageError, match=said):
        account(peopled, name, *roles)


def test_a_login_is_known_until_it_ends(peopled: Workspace) -> None:
    account(peopled, "ann", "analyst")
    secret = log_in(peopled, "ann", PASSWORD, now=NOW)
    assert of_secret(peopled, secret, NOW + timedelta(hours=11)) == Who("ann", ("analyst",))
    with pytest.raises(Forbidden, match="it ended"):
        of_secret(peopled, secret, NOW + timedelta(hours=12))
    with pytest.raises(Forbidden, match="not known here"):
        of_secret(peopled, secret[:-1], NOW)
    with open_ledger(peopled) as ledger, ledger.reading() as session:
        rows = [dict(row._mapping) for row in session.execute(text("SELECT * FROM sessions"))]
        told = json.dumps([entry.detail for entry, _ in read_audit(session)]) + json.dumps(rows)
    assert secret not in told
    assert PASSWORD not in told


def test_the_file_of_a_login_is_ones_own(peopled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    path = keep_secret(peopled, log_in(peopled, "root-of-all", PASSWORD))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert identify(peopled).name == "root-of-all"


@pytest.mark.parametrize(("name", "password"), [("ann", OTHER), ("nobody", PASSWORD), ("ann", "")])
def test_what_is_wrong_about_a_login_is_not_said(name: str, password: str, peopled: Workspace) -> None:
    account(peopled, "ann", "analyst")
    with pytest.raises(Forbidden, match="the name, the password or the one-time code is wrong"):
        log_in(peopled, name, password, now=NOW)
    with open_ledger(peopled) as ledger, ledger.reading() as session:
        last = [entry for entry, _ in read_audit(session)][-1]
    assert (last.action, last.actor) == ("login.refused", "ann" if name == "ann" else "(unknown)")


def test_too_many_wrong_tries_must_wait_longer_and_longer(peopled: Workspace) -> None:
    account(peopled, "ann", "analyst")
    for _ in range(5):
        with pytest.raises(Forbidden, match="is wrong"):
            log_in(peopled, "ann", OTHER, now=NOW)
    with pytest.raises(Forbidden, match=r"waits until 2026-.*after too many"):
        log_in(peopled, "ann", PASSWORD, now=NOW + timedelta(seconds=29))
    later = NOW + timedelta(seconds=30)
    with pytest.raises(Forbidden, match="is wrong"):
        log_in(peopled, "ann", OTHER, now=later)
    with pytest.raises(Forbidden, match="waits until"):
        log_in(peopled, "ann", PASSWORD, now=later + timedelta(seconds=59))
    assert log_in(peopled, "ann", PASSWORD, now=later + timedelta(seconds=60))


def test_a_one_time_code_is_asked_for_and_taken_once(peopled: Workspace) -> None:
    codes = with_codes(peopled, account(peopled, "ann", "analyst"))
    later = NOW + timedelta(minutes=5)
    for code in ("", "000000", codes.at(NOW)):
        with pytest.raises(Forbidden, match="one-time code is wrong"):
            log_in(peopled, "ann", PASSWORD, code, now=later)
    assert log_in(peopled, "ann", PASSWORD, codes.at(later), now=later)
    with pytest.raises(Forbidden, match="is wrong"):
        log_in(peopled, "ann", PASSWORD, codes.at(later), now=later)


def test_a_closed_account_and_a_new_password_end_the_logins_there_are(peopled: Workspace) -> None:
    account(peopled, "ann", "analyst")
    secret = log_in(peopled, "ann", PASSWORD, now=NOW)
    change_account(peopled, ROOT, "ann", active=False, now=NOW)
    with pytest.raises(Forbidden, match="the account ann is closed"):
        of_secret(peopled, secret, NOW)
    change_account(peopled, ROOT, "ann", active=True, roles=["viewer"], now=NOW)
    assert of_secret(peopled, secret, NOW).roles == ("viewer",)
    set_password(peopled, Who("ann", ("viewer",)), "ann", OTHER, old=PASSWORD, now=NOW)
    with pytest.raises(Forbidden, match="it ended"):
        of_secret(peopled, secret, NOW)
    assert log_in(peopled, "ann", OTHER, now=NOW)
    with pytest.raises(Forbidden, match="the old password is wrong"):
        set_password(peopled, Who("ann", ("viewer",)), "ann", PASSWORD, old=PASSWORD, now=NOW)


def test_nobody_changes_their_own_rights_and_an_admin_is_left(peopled: Workspace) -> None:
    with pytest.raises(Forbidden, match="what is their own"):
        change_account(peopled, ROOT, "root-of-all", roles=["admin", "approver"])
    second = account(peopled, "second", "admin")
    change_account(peopled, second, "root-of-all", active=False)
    with pytest.raises(UsageError, match="no admin would be left"):
        change_account(peopled, ROOT, "second", roles=["viewer"])
    assert [one.active for one in list_accounts(peopled)] == [False, True]


def test_a_token_ends_by_time_and_by_hand(peopled: Workspace) -> None:
    secret = make_token(peopled, ROOT, "trainer", ["gate.ask"], timedelta(days=1), ["flights"], NOW)
    assert of_secret(peopled, secret, NOW) == Who("trainer", ("service",), ("gate.ask",), ("flights",))
    with pytest.raises(Forbidden, match="it ended"):
        of_secret(peopled, secret, NOW + timedelta(days=1))
    token = list_tokens(peopled)[-1]
    with pytest.raises(Forbidden, match=r"token\.revoke"):
        close(peopled, Who("eve", ("engineer",)), token.id)
    close(peopled, ROOT, token.id, NOW)
    with pytest.raises(Forbidden, match="it ended"):
        of_secret(peopled, secret, NOW)
    for scopes, lasts in ((["audit.see"], 1), (["gate.ask"], 400), ([], 1)):
        with pytest.raises(UsageError, match="token"):
            make_token(peopled, ROOT, "trainer", scopes, timedelta(days=lasts))


def test_the_training_job_reads_with_its_token_and_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(workspace)
    account(workspace, "root-of-all", "admin")
    logged_in(workspace, "service", monkeypatch)
    assert len(lazaretto.open_admitted(DATASET, workspace=workspace.root, run="7")) == 8
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        assert [entry.actor for entry, _ in read_audit(session) if entry.action == "run.passed"] == ["job"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE accounts SET roles = '[\"admin\"]' WHERE name = 'ann'",
        "UPDATE accounts SET active = false WHERE name = 'root-of-all'",
        "UPDATE accounts SET password = (SELECT password FROM accounts WHERE name = 'ann') WHERE name = 'root-of-all'",
        "UPDATE accounts SET totp = '' WHERE name = 'ann'",
        "DELETE FROM accounts WHERE name = 'ann'",
        "UPDATE accounts SET name = 'eve' WHERE name = 'ann'",
    ],
)
def test_rights_that_were_given_past_the_log_are_found(change: str, peopled: Workspace) -> None:
    with_codes(peopled, account(peopled, "ann", "analyst"))
    assert verify(peopled).findings == ()
    with open_ledger(peopled) as ledger, ledger.writing() as session:
        session.execute(text(change))
    assert any("account" in finding for finding in verify(peopled).findings)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sessions SET name = 'root-of-all' WHERE name = 'ann'",
        "UPDATE sessions SET closed_at = '' WHERE name = 'ben'",
        "UPDATE sessions SET expires_at = '2099-01-01T00:00:00+00:00' WHERE name = 'ann'",
        "UPDATE sessions SET scopes = '[\"ingest.run\"]' WHERE name = 'job'",
        "UPDATE sessions SET id = 'forged' || substr(id, 7) WHERE name = 'ann'",
        "UPDATE sessions SET id = 'forged' || substr(id, 7) WHERE name = 'job'",
    ],
)
def test_a_login_or_token_that_was_made_past_the_log_is_found(change: str, peopled: Workspace) -> None:
    account(peopled, "ann", "analyst")
    ben = account(peopled, "ben", "analyst")
    log_in(peopled, "ann", PASSWORD)
    log_in(peopled, "ben", PASSWORD)
    set_password(peopled, ben, "ben", OTHER, old=PASSWORD)
    make_token(peopled, ROOT, "job", ["gate.ask"], timedelta(days=1))
    assert verify(peopled).findings == ()
    with open_ledger(peopled) as ledger, ledger.writing() as session:
        session.execute(text(change))
    assert any("is not one that the audit log tells of" in finding for finding in verify(peopled).findings)


def test_accounts_cannot_be_switched_off_by_taking_files_away(peopled: Workspace) -> None:
    secret = log_in(peopled, "root-of-all", PASSWORD)
    mark = peopled.accounts_mark.read_bytes()
    peopled.accounts_mark.unlink()
    assert any("is gone: without it" in finding for finding in verify(peopled).findings)
    peopled.accounts_mark.write_bytes(mark)
    with open_ledger(peopled) as ledger, ledger.writing() as session:
        session.execute(text("DELETE FROM accounts"))
    with pytest.raises(IntegrityViolated, match="the ledger has none"):
        of_secret(peopled, secret)


def test_people_come_in_from_the_command_line(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of this user"))
    monkeypatch.delenv(VARIABLE, raising=False)

    def ran(line: str, *lines: str) -> str:
        done = CliRunner().invoke(app, [*line.split(), "-w", str(workspace.root)], input="\n".join(lines) + "\n")
        return done.output if done.exit_code == 0 else str(done.exception)

    assert "has no accounts" in ran("login ann", PASSWORD)
    assert "account ann, open: admin" in ran("accounts add ann --role admin", PASSWORD)
    assert "nobody is logged in" in ran("status")
    assert "ann is logged in" in ran("login ann", PASSWORD)
    assert "no data set yet" not in ran("accounts list")
    assert "to approve, one-time codes are needed" in ran("accounts add ben --role approver", PASSWORD)
    token = ran("tokens add trainer --scope gate.ask").strip()
    assert token.startswith("lzt_")
    assert "trainer" in ran("tokens list")
    assert "logged out" in ran("logout")
    assert "nobody is logged in" in ran("whoami")
    monkeypatch.setenv(VARIABLE, token)
    assert "trainer: service" in ran("whoami")
