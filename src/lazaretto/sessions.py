"""Logins of people and tokens of programs: kept in the ledger, known there by the digest of their secret alone.

A person's secret lies in a file of their own that nobody else can read; a program's is shown once, when it is made,
and is given in the environment variable ``LAZARETTO_TOKEN``. Both expire and can be closed. Wrong passwords are
counted: after five in a row an account waits, each time twice as long.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from lazaretto.accounts import password_fits
from lazaretto.audit import Entry, time_text
from lazaretto.authorisation import SCOPES, Who, authorise
from lazaretto.durable import make_folder, write_durably
from lazaretto.errors import Forbidden, IntegrityViolated, UsageError
from lazaretto.ledger import append_audit, changing, open_ledger
from lazaretto.one_time_codes import step_of, unsealed
from lazaretto.tables import AccountRow, SessionRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace

VARIABLE = "LAZARETTO_TOKEN"
LOGIN_LASTS = timedelta(hours=12)
TOKEN_LASTS_AT_MOST = timedelta(days=366)
_FREE_TRIES = 5
_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(minutes=15)
_SHORT = 12
"""Digits of a digest that name a login or token."""
_WRONG = "the name, the password or the one-time code is wrong"


@dataclass(frozen=True)
class Token:
    """A login or a program's token, without its secret."""

    id: str
    """First twelve digits of its digest; names it for revoking."""
    kind: str
    name: str
    scopes: tuple[str, ...]
    datasets: tuple[str, ...]
    made_by: str
    made_at: str
    expires_at: str
    closed_at: str


def log_in(workspace: Workspace, name: str, password: str, code: str = "", now: datetime | None = None) -> str:
    """Open a session; gives its secret.

    Raises:
        Forbidden: Name, password or code is wrong (which is not said), the account is not active, or it waits after
            too many tries.
    """
    moment = now or datetime.now(UTC)
    with changing(workspace) as session:
        refused = check_credentials(session, workspace, name, password, code, moment)
        secret = ""
        if refused is None:
            secret = open_session(session, name, moment)
        else:
            # What was given as a name may be a password: it is written down only where it is a name.
            known = name if session.get(AccountRow, name) is not None else "(unknown)"
            append_audit(session, Entry(0, time_text(moment), known, "login.refused", "", known, {}))
    if refused is not None:
        raise refused  # after the try was counted and written down
    return secret


def open_session(session: Session, name: str, now: datetime) -> str:
    """Open a session of an account, within a transaction; gives its secret."""
    secret = "lzs_" + secrets.token_urlsafe(32)
    _add(session, secret, Token("", "login", name, (), (), name, "", "", ""), now, now + LOGIN_LASTS)
    append_audit(session, Entry(0, time_text(now), name, "session.opened", "", _id(secret)[:_SHORT], {}))
    return secret


def check_credentials(
    session: Session, workspace: Workspace, name: str, password: str, code: str, now: datetime
) -> Forbidden | None:
    """Why a person is not who they say they are, or None; a wrong try is counted, and a code taken once.

    The caller commits what was counted, and raises after that.
    """
    row = session.get(AccountRow, name)
    if row is None:
        password_fits(AccountRow(password=""), password)  # takes as long as for a name that is there
        return Forbidden(_WRONG)
    if row.blocked_until and time_text(now) < row.blocked_until:
        return Forbidden(
            f"{name} waits until {row.blocked_until} after too many wrong tries", hint="an admin can set a new password"
        )
    fits = password_fits(row, password) and bool(row.active)
    if fits and row.totp:
        step = step_of(unsealed(workspace, name, row.totp), code, now)
        fits = step is not None and step > row.totp_step
        row.totp_step = step if fits and step is not None else row.totp_step
    if fits:
        row.failures, row.blocked_until = 0, ""
        return None
    row.failures += 1
    if row.failures >= _FREE_TRIES:
        wait = min(_FIRST_WAIT * 2 ** min(row.failures - _FREE_TRIES, 10), _LONGEST_WAIT)
        row.blocked_until = time_text(now + wait)
    return Forbidden(_WRONG, hint="lazaretto login asks for all three")


def identify(workspace: Workspace, now: datetime | None = None) -> Who:
    """Who a command acts for: the token of the environment, else the login of this user on this machine.

    Raises:
        Forbidden: Nobody is logged in, or the session or token ended.
        IntegrityViolated: There are no accounts although there were.
    """
    secret = os.environ.get(VARIABLE) or _read_secret(workspace)
    if not secret:
        raise Forbidden(
            "this workspace has accounts, and nobody is logged in",
            hint=f"lazaretto login NAME; a program gets a token in {VARIABLE}",
        )
    return of_secret(workspace, secret, now)


def of_secret(workspace: Workspace, secret: str, now: datetime | None = None) -> Who:
    """Whose a secret is.

    Raises:
        Forbidden: It is none, or ended.
    """
    moment = time_text(now or datetime.now(UTC))
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        if not session.scalar(select(func.count()).select_from(AccountRow)):
            raise IntegrityViolated(
                f"{workspace.accounts_mark} says that there are accounts, but the ledger has none",
                hint="restore the ledger that belongs here; if no account was ever made: lazaretto accounts add",
            )
        row = session.get(SessionRow, _id(secret))
        if row is None or row.closed_at or row.expires_at <= moment:
            raise Forbidden("the login or token is not known here, or it ended", hint="lazaretto login NAME")
        if row.kind == "token":
            return Who(row.name, ("service",), tuple(json.loads(row.scopes)), tuple(json.loads(row.datasets)))
        account = session.get(AccountRow, row.name)
        if account is None or not account.active:
            raise Forbidden(f"the account {row.name} is closed", hint="an admin can open it again")
        return Who(account.name, tuple(json.loads(account.roles)))


def make_token(
    workspace: Workspace,
    who: Who,
    name: str,
    scopes: Sequence[str],
    lasts: timedelta,
    datasets: Sequence[str] = (),
    now: datetime | None = None,
) -> str:
    """Make a token for a program; gives its secret, which is nowhere else.

    Raises:
        UsageError: A scope is not known, or it would never expire.
        Forbidden: Whoever asks may not make one, or not for what they may not do themselves.
    """
    authorise(who, "token.make")
    unknown = next((scope for scope in scopes if scope not in SCOPES), None)
    if unknown is not None or not scopes:
        raise UsageError(f"{unknown!r} is nothing a token can be for", hint=f"scopes: {', '.join(SCOPES)}")
    if not timedelta() < lasts <= TOKEN_LASTS_AT_MOST:
        raise UsageError(f"a token lasts at most {TOKEN_LASTS_AT_MOST.days} days")
    if not name.strip() or len(name) > 60 or not name.isprintable():  # noqa: PLR2004  the column's width
        raise UsageError(f"{name[:40]!r} is no name of a token: 1 to 60 printable characters")
    moment = now or datetime.now(UTC)
    secret = "lzt_" + secrets.token_urlsafe(32)
    token = Token("", "token", name, tuple(scopes), tuple(datasets), who.name, "", "", "")
    with changing(workspace) as session:
        _add(session, secret, token, moment, moment + lasts)
        detail = {"scopes": sorted(scopes), "datasets": sorted(datasets), "expires": time_text(moment + lasts)}
        append_audit(session, Entry(0, time_text(moment), who.name, "token.made", "", _id(secret)[:_SHORT], detail))
    return secret


def list_tokens(workspace: Workspace) -> list[Token]:
    """Every login and token that was ever made, oldest first."""
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        return [_token(row) for row in session.scalars(select(SessionRow).order_by(SessionRow.made_at, SessionRow.id))]


def close(workspace: Workspace, who: Who, token: str, now: datetime | None = None) -> Token:
    """End a login or a token, named by the first digits of its id.

    Raises:
        UsageError: There is none, or more than one such.
        Forbidden: It is somebody else's.
    """
    moment = time_text(now or datetime.now(UTC))
    with changing(workspace) as session:
        rows = session.scalars(select(SessionRow).where(SessionRow.id.startswith(token, autoescape=True))).all()
        if len(rows) != 1 or not token:
            raise UsageError(
                f"{len(rows)} logins and tokens are called {token!r}", hint="lazaretto tokens list shows their ids"
            )
        row = rows[0]
        if row.kind == "token" or row.name != who.name:
            authorise(who, "token.revoke", own=row.made_by == who.name)
        if not row.closed_at:
            row.closed_at = moment
            append_audit(session, Entry(0, moment, who.name, "session.closed", "", row.id[:_SHORT], {}))
        return _token(row)


def session_findings(session: Session, entries: Iterable[Entry]) -> Iterator[str]:
    """One sentence for each login and token that the audit log does not tell of as it is: somebody made it past it."""
    told = _told(entries)
    for row in session.scalars(select(SessionRow).order_by(SessionRow.made_at, SessionRow.id)):
        found: dict[str, object] = {"kind": row.kind, "expires": row.expires_at, "open": not row.closed_at}
        if row.kind == "token":
            lists = {"scopes": sorted(json.loads(row.scopes)), "datasets": sorted(json.loads(row.datasets))}
            found |= {"made_by": row.made_by, **lists}
        else:
            found |= {"name": row.name}
        if told.get(row.id[:_SHORT]) != found:
            yield f"the {row.kind} {row.id[:_SHORT]} of {row.name} is not one that the audit log tells of"


def _told(entries: Iterable[Entry]) -> dict[str, dict[str, object]]:
    """What the audit log tells of every login and token, by the first digits of its id."""
    told: dict[str, dict[str, object]] = {}
    for entry in entries:
        if entry.action == "session.opened":
            expires = time_text(datetime.fromisoformat(entry.at) + LOGIN_LASTS)
            told[entry.subject] = {"kind": "login", "name": entry.actor, "expires": expires, "open": True}
        elif entry.action == "token.made":
            told[entry.subject] = {"kind": "token", "made_by": entry.actor, **entry.detail, "open": True}
        elif entry.action == "session.closed" and entry.subject in told:
            told[entry.subject]["open"] = False
        elif entry.action == "account.password":
            for one in told.values():  # whoever knew the old one is out
                if one.get("name") == entry.subject:
                    one["open"] = False
    return told


def keep_secret(workspace: Workspace, secret: str) -> Path:
    """Put a login's secret where only this user can read it."""
    path = _secret_file(workspace)
    make_folder(path.parent)
    write_durably(path, secret.encode() + b"\n")
    return path


def forget_secret(workspace: Workspace) -> str:
    """Take the login's secret away; gives its id, or nothing."""
    secret = _read_secret(workspace)
    _secret_file(workspace).unlink(missing_ok=True)
    return _id(secret) if secret else ""


def _secret_file(workspace: Workspace) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "lazaretto" / workspace.id / "login"


def _read_secret(workspace: Workspace) -> str:
    try:
        return _secret_file(workspace).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _add(session: Session, secret: str, token: Token, made: datetime, expires: datetime) -> None:
    session.add(
        SessionRow(
            id=_id(secret),
            kind=token.kind,
            name=token.name,
            scopes=json.dumps(token.scopes),
            datasets=json.dumps(token.datasets),
            made_by=token.made_by,
            made_at=time_text(made),
            expires_at=time_text(expires),
            closed_at="",
        )
    )


def _token(row: SessionRow) -> Token:
    lists = (tuple(json.loads(row.scopes)), tuple(json.loads(row.datasets)))
    return Token(row.id[:_SHORT], row.kind, row.name, *lists, row.made_by, row.made_at, row.expires_at, row.closed_at)


def _id(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
