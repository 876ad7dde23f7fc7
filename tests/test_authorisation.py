"""Who may do what: the table, cell by cell as it is documented, and every command asking it first."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer.main
from typer.testing import CliRunner

from lazaretto.authorisation import ROLES, SCOPES, TABLE, Who, authorise, reach
from lazaretto.cli import app
from lazaretto.errors import Forbidden
from tests.people import PASSWORD, account, logged_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

    from lazaretto.config import Workspace

PAGE = Path(__file__).parent.parent / "docs" / "people.md"
ASKS_NOBODY = {"login", "logout", "whoami", "init", "infer", "scan"}
COMMANDS = {
    "ingest": "ingest.run",
    "nightly": "nightly.run",
    "serve": "nightly.run",
    "drill x": "drill.run",
    "recall --list": "recall.see",
    "recall --show k-1": "recall.see",
    "recall --batch x --dry-run": "recall.see",
    "recall --batch x --reason y": "recall.make",
    "fairness x": "fairness.see",
    "gate x": "gate.ask",
    "status": "status.see",
    "report x": "report.see",
    "verify": "verify.run",
    "metrics": "metrics.see",
    "alerts check": "alerts.send",
    "alerts test": "alerts.send",
    "audit": "audit.see",
    "contract show x": "contract.see",
    "review list": "case.list",
    "review clusters": "case.list",
    "review show x": "case.see",
    "review show x --personal": "case.see_personal",
    "review release x --reason y": "case.decide",
    "review release --batch x --reason y": "batch.decide",
    "review discard x --reason y": "case.decide",
    "review discard --batch x --reason y": "batch.decide",
    "review assign x --to y": "case.assign",
    "accounts add x --role viewer": "account.add",
    "accounts list": "account.see",
    "accounts change x --close": "account.change",
    "accounts password x": "account.password",
    "accounts codes": "account.totp",
    "contract sign x": "contract.sign",
    "findings": "report.see",
    "trusted add --batch x --reason y": "trusted.change",
    "trusted list": "trusted.see",
    "trusted revert --act x --reason y": "trusted.change",
    "keys list": "key.see",
    "keys rotate publisher": "key.change",
    "keys revoke publisher --since 1h --why stolen": "key.change",
    "keys reattest publisher": "key.change",
    "export x --format in-toto": "export.make",
    "tokens add x --scope gate.ask": "token.make",
    "tokens list": "token.see",
    "tokens revoke x": "token.revoke",
    "proposals list": "proposal.see",
    "proposals show p-1": "proposal.see",
    "proposals approve p-1": "proposal.approve",
    "proposals refuse p-1": "proposal.see",
}
"""Each command as somebody would give it -> the action it asks for."""


def documented() -> dict[str, dict[str, str]]:
    """The table of the page: action -> role -> whose."""
    rows = [line.strip("| \n").split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in rows[0][1:]]
    cells = {row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows[2:]}
    return {action: dict(zip(names, found, strict=True)) for action, found in cells.items()}


def test_every_cell_of_the_table_is_as_documented() -> None:
    page = documented()
    assert page.keys() == TABLE.keys()
    for action, row in page.items():
        assert tuple(row) == ROLES
        for role, said in row.items():
            who = Who("ann", (role,), scopes=SCOPES if role == "service" else ())
            for own in (True, False):
                allowed = said in {"any", "own" if own else "other"}
                if allowed:
                    authorise(who, action, own=own)
                else:
                    with pytest.raises(Forbidden, match=re.escape(f"({action})")):
                        authorise(who, action, own=own)


def test_roles_add_up_and_none_is_not_enough() -> None:
    both = Who("ann", ("analyst", "approver"))
    assert set(reach(both, "case.decide")) == {"own", "any"}
    authorise(both, "case.decide", own=False)
    for action in TABLE:
        with pytest.raises(Forbidden):
            authorise(Who("ann", ()), action)


@pytest.mark.parametrize("action", [action for action in TABLE if action not in SCOPES])
def test_no_token_is_for_what_only_people_may(action: str) -> None:
    with pytest.raises(Forbidden, match="the token"):
        authorise(Who("job", ("service",), scopes=tuple(TABLE)), action)


def test_a_token_is_for_its_scopes_and_its_data_sets_alone() -> None:
    job = Who("job", ("service",), scopes=("gate.ask",), datasets=("flights",))
    authorise(job, "gate.ask", dataset="flights")
    with pytest.raises(Forbidden, match="not for the data set boats"):
        authorise(job, "gate.ask", dataset="boats")
    with pytest.raises(Forbidden, match="is not for this"):
        authorise(job, "data.read", dataset="flights")


def _paths(command: click.Command, before: str = "") -> Iterator[str]:
    for name, below in getattr(command, "commands", {}).items():
        if hasattr(below, "commands"):
            yield from _paths(below, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def test_every_command_has_its_action() -> None:
    known = {path for path in _paths(typer.main.get_command(app)) if path not in ASKS_NOBODY}
    covered = {path for path in known for line in COMMANDS if f"{line} ".startswith(f"{path} ")}
    assert covered == known
    assert set(COMMANDS.values()) <= TABLE.keys()


@pytest.fixture
def peopled(workspace: Workspace) -> Workspace:
    account(workspace, "root-of-all", "admin")
    return workspace


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
def test_every_command_is_refused_to_whom_the_table_does_not_let(
    role: str, peopled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    if role != "nobody":
        logged_in(peopled, role, monkeypatch)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for line, action in COMMANDS.items():
        may = role in TABLE[action] if role != "nobody" else False
        arguments = [*line.split(), "--workspace", str(peopled.root)]
        done = CliRunner().invoke(app, arguments, input=f"{PASSWORD}\n{PASSWORD}\n")
        refused = isinstance(done.exception, Forbidden) and not _about_something(str(done.exception))
        assert refused is not may, f"{line} as {role}: {done.exception!r} {done.output}"


def _about_something(said: str) -> bool:
    """A refusal that came after the table had let somebody in, for what the arguments were about."""
    return "old password is wrong" in said or "belongs to another person" in said


def test_a_workspace_handed_on_keeps_who_came_in(peopled: Workspace) -> None:
    from lazaretto.entrance import acting, enter

    who = Who("ann", ("viewer",))
    assert acting(enter(replace(peopled, who=who), "status.see")) == who
    with pytest.raises(Forbidden, match="nobody is logged in"):
        enter(peopled, "status.see")
