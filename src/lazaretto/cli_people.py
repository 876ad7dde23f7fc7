"""People from the command line: logins, accounts, tokens of programs, and what takes two persons.

A password or code is asked for at a terminal and not shown; where there is none, it is a line of standard input.
"""

from __future__ import annotations

import getpass
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lazaretto import cli_shown
from lazaretto.cli_workspace import Json, Place
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from lazaretto.accounts import Account
    from lazaretto.config import Workspace
    from lazaretto.pipelines.two_persons import NeedsApproval
    from lazaretto.proposals import Proposal
    from lazaretto.sessions import Token

accounts = typer.Typer(help="Who may log in, and what they may do.", no_args_is_help=True)
tokens = typer.Typer(help="Logins, and tokens that programs come in with.", no_args_is_help=True)
proposals = typer.Typer(help="What one person proposed and another must approve.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]
Roles = Annotated[list[str], typer.Option("--role", help="viewer, analyst, approver, engineer, auditor, admin.")]
ProposalId = Annotated[str, typer.Argument(metavar="PROPOSAL")]


def login(
    name: Annotated[str | None, typer.Argument(metavar="NAME")] = None,
    oidc: Annotated[bool, typer.Option("--oidc", help="At the identity provider, in a browser.")] = False,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Log in for twelve hours; asks for the password and, where they are set up, a one-time code."""
    from lazaretto import sessions
    from lazaretto.config import find_workspace

    place = find_workspace(workspace)
    if not place.accounts_mark.exists():
        raise UsageError("this workspace has no accounts", hint="lazaretto accounts add makes the first, an admin's")
    if oidc == (name is not None):
        raise UsageError("a login is of a NAME, or --oidc", hint="lazaretto login NAME")
    if name is None:
        from lazaretto.oidc import log_in

        name, secret = log_in(place, _open_page)
    else:
        code = "one-time code (empty if none)"
        secret = sessions.log_in(place, name, _asked("password"), _asked(code, last=True))
    sessions.keep_secret(place, secret)
    _say({"name": name}, f"{name} is logged in", json_=json_)


def logout(workspace: Place = None, json_: Json = False) -> None:
    """End this login."""
    from lazaretto.config import find_workspace
    from lazaretto.sessions import close, forget_secret, identify

    place = find_workspace(workspace)
    who = identify(place) if place.accounts_mark.exists() else None
    token = forget_secret(place)
    if who is not None and token and "service" not in who.roles:
        close(place, who, token)
    _say({"closed": bool(token)}, "logged out" if token else "nobody was logged in", json_=json_)


def whoami(workspace: Place = None, json_: Json = False) -> None:
    """Who commands act for here, and what they may do."""
    from lazaretto.authorisation import TABLE, reach
    from lazaretto.config import find_workspace
    from lazaretto.entrance import acting

    place = find_workspace(workspace)
    who = acting(place)
    may = {action: list(found) for action in TABLE if (found := reach(who, action))}
    if json_:
        cli_shown.print_json({**asdict(who), "accounts": place.accounts_mark.exists(), "may": may})
        return
    known = "" if place.accounts_mark.exists() else "; there are no accounts here, so everybody may do everything"
    cli_shown.print_lines(f"{who.name}: {', '.join(who.roles)}{known}")
    for action, whose in may.items():
        cli_shown.print_lines(f"  {action}" + ("" if "any" in whose else f" ({' and '.join(whose)} only)"))


@accounts.command("add")
def add(name: Name, role: Roles, workspace: Place = None, json_: Json = False) -> None:
    """Make an account; asks for its first password. The first is an admin's: from then on nobody acts without one."""
    from lazaretto.accounts import add_account
    from lazaretto.authorisation import everybody
    from lazaretto.config import find_workspace
    from lazaretto.entrance import acting

    place = find_workspace(workspace)
    who = acting(place) if _any_account(place) else everybody()
    _show(add_account(place, who, name, role, _new_password()), json_=json_)


@accounts.command("list")
def list_accounts_(workspace: Place = None, json_: Json = False) -> None:
    """List accounts; without the right to see all, one's own."""
    from lazaretto.accounts import list_accounts
    from lazaretto.authorisation import reach
    from lazaretto.entrance import acting, enter

    place = enter(workspace, "account.see")
    who = acting(place)
    found = [one for one in list_accounts(place) if "any" in reach(who, "account.see") or one.name == who.name]
    if json_:
        cli_shown.print_json([asdict(one) for one in found])
        return
    rows = [
        (one.name, ", ".join(one.roles), "open" if one.active else "closed", "yes" if one.one_time_codes else "no")
        for one in found
    ]
    cli_shown.show_table("accounts", ("name", "roles", "state", "one-time codes"), rows)


@accounts.command("change")
def change(
    name: Name,
    role: Annotated[list[str] | None, typer.Option("--role", help="All its roles from now on; again for more.")] = None,
    active: Annotated[bool | None, typer.Option("--open/--close", help="Whether it may log in.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Give an account other roles, or close it."""
    from lazaretto.accounts import change_account
    from lazaretto.entrance import acting, enter

    place = enter(workspace, "account.change")
    if role is None and active is None:
        raise UsageError("nothing is to be changed", hint="--role, --close or --open")
    _show(change_account(place, acting(place), name, roles=role, active=active), json_=json_)


@accounts.command("password")
def password(name: Name, workspace: Place = None, json_: Json = False) -> None:
    """Set a password: one's own with the old one, or, as an admin, somebody else's; its logins end."""
    from lazaretto.accounts import set_password
    from lazaretto.entrance import acting, enter

    place = enter(workspace, "account.password")
    who = acting(place)
    old = _asked("old password") if name == who.name else None
    _show(set_password(place, who, name, _new_password(), old=old), json_=json_)


@accounts.command("codes")
def codes(workspace: Place = None, json_: Json = False) -> None:
    """Set up one's one-time codes: shows the secret for the app, and asks for a code of it."""
    import pyotp

    from lazaretto.accounts import set_codes
    from lazaretto.entrance import acting, enter
    from lazaretto.one_time_codes import new_secret

    place = enter(workspace, "account.totp")
    who = acting(place)
    secret = new_secret()
    uri = pyotp.TOTP(secret).provisioning_uri(name=who.name, issuer_name=f"Lazaretto {place.id}")
    # On standard error: with --json standard output is one document.
    sys.stderr.write(f"secret for the app: {secret}\n{uri}\n")
    _show(set_codes(place, who, secret, _asked("a code of it")), json_=json_)


@tokens.command("add")
def add_token(
    name: Name,
    scope: Annotated[list[str], typer.Option("--scope", help="An action it is for, such as gate.ask; again for more.")],
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How long it lasts.")] = 90,
    dataset: Annotated[list[str] | None, typer.Option("--dataset", "-d", help="Only for this; again for more.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Make a token for a program; it is shown once, and given in LAZARETTO_TOKEN."""
    from datetime import timedelta

    from lazaretto.entrance import acting, enter
    from lazaretto.sessions import make_token

    place = enter(workspace, "token.make")
    secret = make_token(place, acting(place), name, scope, timedelta(days=days), dataset or ())
    _say({"name": name, "token": secret}, secret, json_=json_)


@tokens.command("list")
def list_tokens_(workspace: Place = None, json_: Json = False) -> None:
    """List logins and tokens, never their secrets."""
    from lazaretto.entrance import enter
    from lazaretto.sessions import list_tokens

    found = list_tokens(enter(workspace, "token.see"))
    if json_:
        cli_shown.print_json([asdict(one) for one in found])
        return
    rows = [
        (
            one.id,
            one.kind,
            one.name,
            ", ".join(one.scopes),
            _until(one),
        )
        for one in found
    ]
    cli_shown.show_table("logins and tokens", ("id", "kind", "name", "for", "until"), rows)


@tokens.command("revoke")
def revoke(token: Annotated[str, typer.Argument(metavar="ID")], workspace: Place = None, json_: Json = False) -> None:
    """End a token or a login at once."""
    from lazaretto.entrance import acting, enter
    from lazaretto.sessions import close

    place = enter(workspace, "token.revoke")
    closed = close(place, acting(place), token)
    _say(asdict(closed), f"{closed.kind} {closed.id} of {closed.name} is closed", json_=json_)


@proposals.command("list")
def list_proposals_(
    state: Annotated[str, typer.Option(help="open, approved, done, refused, withdrawn or all.")] = "open",
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """List what was proposed."""
    from lazaretto.entrance import enter
    from lazaretto.proposals import list_proposals

    found = list_proposals(enter(workspace, "proposal.see"), None if state == "all" else state)
    if json_:
        cli_shown.print_json([asdict(one) for one in found])
        return
    if not found:
        cli_shown.print_lines("no proposal is there" if state == "all" else f"no proposal is {state}")
    for one in found:
        cli_shown.print_lines(*_lines(one))


@proposals.command("show")
def show(proposal: ProposalId, workspace: Place = None, json_: Json = False) -> None:
    """Show a proposal: what exactly is to be done, why, and why it takes two."""
    from lazaretto.entrance import enter
    from lazaretto.proposals import read_proposal

    found = read_proposal(enter(workspace, "proposal.see"), proposal)
    if json_:
        cli_shown.print_json(asdict(found))
        return
    cases = found.what.get("cases", {})
    cli_shown.print_lines(*_lines(found), *(f"  lazaretto review show {case}" for case in cases))


@proposals.command("approve")
def approve(proposal: ProposalId, workspace: Place = None, json_: Json = False) -> None:
    """Approve what another person proposed, and do it; asks for the password and a one-time code."""
    from lazaretto.entrance import acting, enter
    from lazaretto.pipelines.two_persons import carry_out_proposal
    from lazaretto.proposals import APPROVED, Credentials, read_proposal
    from lazaretto.proposals import approve as sign

    place = enter(workspace, "proposal.approve")
    if read_proposal(place, proposal).state != APPROVED:  # else the process died before it was carried out
        sign(place, acting(place), proposal, Credentials(_asked("password"), _asked("one-time code")))
    said = carry_out_proposal(place, proposal)
    _say({"proposal": proposal, "done": said}, f"{proposal} approved and done: {said}", json_=json_)


@proposals.command("refuse")
def refuse_(proposal: ProposalId, workspace: Place = None, json_: Json = False) -> None:
    """Refuse what another person proposed, or withdraw one's own."""
    from lazaretto.entrance import acting, enter
    from lazaretto.proposals import refuse

    place = enter(workspace, "proposal.see")
    ended = refuse(place, acting(place), proposal)
    _say(asdict(ended), f"{ended.id} is {ended.state}", json_=json_)


def proposed(place: Workspace, needed: NeedsApproval, *, json_: bool) -> NoReturn:
    """Propose what takes a second person, say so, and end with the exit code of what waits."""
    from lazaretto.entrance import acting
    from lazaretto.proposals import propose

    made = propose(place, acting(place), needed.wish)
    if json_:
        cli_shown.print_json({"proposal": asdict(made)})
    else:
        cli_shown.print_lines(
            "nothing was done yet, for it takes a second person:",
            *(f"  {why}" for why in needed.wish.why),
            f"proposed as {made.id} until {made.expires_at}; another approver: lazaretto proposals approve {made.id}",
        )
    raise typer.Exit(needed.exit_code)


def _lines(one: Proposal) -> list[str]:
    by = f", by {one.decided_by} {one.decided_at}" if one.decided_by else f", until {one.expires_at}"
    about = f"{len(one.what['cases']):,} cases" if "cases" in one.what else ", ".join(map(str, one.what.values()))[:80]
    return [
        f"{one.id} {one.state}{by}: {one.kind} of {one.dataset}, {about}",
        f"  {one.proposed_by} {one.at}: {one.reason}",
        *(f"  takes two because {why}" for why in one.why),
    ]


def _open_page(address: str) -> None:
    sys.stderr.write(f"open this in a browser of this machine: {address}\n")


def _until(one: Token) -> str:
    return f"closed {one.closed_at}" if one.closed_at else one.expires_at


def _any_account(place: Workspace) -> bool:
    from lazaretto.accounts import list_accounts

    return place.accounts_mark.exists() and bool(list_accounts(place))


def _show(account: Account, *, json_: bool) -> None:
    state = "open" if account.active else "closed"
    codes_ = (
        ""
        if account.one_time_codes or "approver" not in account.roles
        else ("; to approve, one-time codes are needed: lazaretto accounts codes")
    )
    _say(asdict(account), f"account {account.name}, {state}: {', '.join(account.roles)}{codes_}", json_=json_)


def _say(document: dict[str, Any], sentence: str, *, json_: bool) -> None:
    if json_:
        cli_shown.print_json(document)
    else:
        cli_shown.print_lines(sentence)


def _new_password() -> str:
    first = _asked("new password")
    if sys.stdin.isatty() and _asked("again") != first:
        raise UsageError("the two passwords are not the same", hint="try again")
    return first


def _asked(what: str, *, last: bool = False) -> str:
    """What a person types at a terminal, unseen, or the next line of standard input."""
    if sys.stdin.isatty():
        return getpass.getpass(f"{what}: ")
    line = sys.stdin.readline()
    if not line and not last:
        raise UsageError(f"the {what} was expected on standard input", hint="one line each, or use a terminal")
    return line.rstrip("\r\n")
