"""Accounts to act with."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pyotp

from lazaretto.accounts import add_account, set_codes
from lazaretto.authorisation import SCOPES, Who
from lazaretto.one_time_codes import new_secret
from lazaretto.sessions import VARIABLE, log_in, make_token
from tests.harness import NOW

if TYPE_CHECKING:
    from datetime import datetime

    import pytest

    from lazaretto.config import Workspace

PASSWORD = "four words in a row"  # noqa: S105  of accounts that live as long as a test
ROOT = Who("root-of-all", ("admin",))


def account(workspace: Workspace, name: str, *roles: str, password: str = PASSWORD) -> Who:
    """An account with these roles."""
    made = add_account(workspace, ROOT, name, roles, password, NOW)
    return Who(made.name, made.roles)


def with_codes(workspace: Workspace, who: Who, now: datetime = NOW) -> pyotp.TOTP:
    """Set up somebody's one-time codes."""
    codes = pyotp.TOTP(new_secret())
    set_codes(workspace, who, codes.secret, codes.at(now), now)
    return codes


def logged_in(workspace: Workspace, role: str, monkeypatch: pytest.MonkeyPatch) -> Who:
    """Act as somebody of this role from now on, as commands do."""
    if role == "service":
        secret = make_token(workspace, ROOT, "job", SCOPES, timedelta(days=30))
        who = Who("job", ("service",), SCOPES)
    else:
        who = account(workspace, f"the-{role}", role)
        secret = log_in(workspace, who.name, PASSWORD)
    monkeypatch.setenv(VARIABLE, secret)
    return who
