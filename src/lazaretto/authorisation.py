"""Who may do what: one table that every command and every page asks.

An action without a row cannot be asked for, so a new one cannot be forgotten. `docs/authorisation.md` shows the table
as it is here; a test holds them together.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import Literal, get_args

from lazaretto.errors import Forbidden

Role = Literal["viewer", "analyst", "approver", "engineer", "auditor", "admin", "service"]
"""What an account may be; ``service`` is what tokens of programs are, and no account."""
Reach = Literal["any", "own", "other"]
"""Whose things: everybody's, one's own alone, or everybody's but one's own."""
ROLES: tuple[Role, ...] = get_args(Role)
PEOPLE: tuple[Role, ...] = tuple(role for role in ROLES if role != "service")

_STAFF: tuple[Role, ...] = ("viewer", "analyst", "approver", "engineer", "auditor")


def _row(anyones: tuple[Role, ...] = (), own: tuple[Role, ...] = (), other: tuple[Role, ...] = ()) -> dict[str, Reach]:
    table: dict[str, Reach] = dict.fromkeys(own, "own")
    return {**table, **dict.fromkeys(other, "other"), **dict.fromkeys(anyones, "any")}


TABLE: dict[str, dict[str, Reach]] = {
    "status.see": _row(ROLES),
    "contract.see": _row(PEOPLE),
    "report.see": _row(_STAFF),
    "fairness.see": _row((*_STAFF, "admin")),
    # A case is one's own while it is assigned to oneself or to nobody.
    "case.list": _row(_STAFF),
    "case.see": _row(("analyst", "approver")),
    "case.see_personal": _row(("approver",), own=("analyst",)),
    "case.decide": _row(("approver",), own=("analyst",)),
    "case.assign": _row(("approver",), own=("analyst",)),
    "batch.decide": _row(("approver",)),
    "ingest.run": _row(("engineer", "service")),
    "nightly.run": _row(("engineer", "service")),
    "drill.run": _row(("engineer", "service")),
    "gate.ask": _row(ROLES),
    "data.read": _row(("engineer", "service")),
    "recall.make": _row(("approver", "engineer")),
    "recall.see": _row(_STAFF),
    "metrics.see": _row(("engineer", "auditor", "admin", "service")),
    "alerts.send": _row(("engineer", "admin", "service")),
    "verify.run": _row(("engineer", "auditor", "admin", "service")),
    "audit.see": _row(("auditor", "admin")),
    # A proposal is one's own when one made it: nobody approves that.
    "proposal.see": _row(("analyst", "approver", "engineer", "auditor", "admin")),
    "proposal.approve": _row(other=("approver",)),
    "proposal.refuse": _row(other=("approver",)),
    "proposal.withdraw": _row(("admin",), own=("analyst", "approver", "engineer")),
    # Nobody gives roles to oneself.
    "account.add": _row(other=("admin",)),
    "account.change": _row(other=("admin",)),
    "account.see": _row(("auditor", "admin"), own=("viewer", "analyst", "approver", "engineer")),
    "account.password": _row(("admin",), own=_STAFF),
    "account.totp": _row(own=PEOPLE),
    "contract.sign": _row(("engineer",)),
    "trusted.see": _row(_STAFF),
    "trusted.change": _row(("approver", "engineer")),
    "key.see": _row(("engineer", "auditor", "admin")),
    "key.change": _row(("admin",)),
    "export.make": _row(("engineer", "auditor", "service")),
    "token.make": _row(("engineer", "admin")),
    "token.see": _row(("engineer", "auditor", "admin")),
    "token.revoke": _row(("admin",), own=("engineer",)),
}
SCOPES = tuple(action for action, row in TABLE.items() if "service" in row)
"""What a program's token may be for."""


@dataclass(frozen=True)
class Who:
    """Somebody who does something."""

    name: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...] = ()
    """Of a program's token, the actions it is for."""
    datasets: tuple[str, ...] = ()
    """Of a program's token, the data sets it is for; none for all."""


def everybody() -> Who:
    """Who acts where there are no accounts: the user this process runs as, who may do everything."""
    return Who(getpass.getuser(), PEOPLE)


def reach(who: Who, action: str) -> tuple[Reach, ...]:
    """Whose things somebody may do this to, by any of their roles; nothing where they may not."""
    row = TABLE[action]
    found = [row[role] for role in who.roles if role in row and (role != "service" or action in who.scopes)]
    return tuple(dict.fromkeys(found))


def authorise(who: Who, action: str, *, own: bool | None = None, dataset: str | None = None) -> None:
    """Let somebody do something, or raise.

    Args:
        who: The person or program.
        action: A row of `TABLE`.
        own: Whether what it is done to is theirs; None while that is not known yet.
        dataset: The data set it is done to, if it is to one.

    Raises:
        Forbidden: No role of theirs may do that, or not to this.
    """
    found = reach(who, action)
    may = bool(found) if own is None else "any" in found or ("own" if own else "other") in found
    if not may:
        raise Forbidden(_sentence(who, action, found, own=own), hint=_hint(action, own=own))
    if dataset is not None and who.datasets and dataset not in who.datasets:
        raise Forbidden(
            f"the token {who.name!r} is not for the data set {dataset}", hint="ask whoever made it for another"
        )


def _sentence(who: Who, action: str, found: tuple[Reach, ...], *, own: bool | None) -> str:
    roles = " and ".join(who.roles) or "no role"
    if found and own is not None:
        whose = "is their own" if own else "belongs to another person"
        return f"{who.name} ({roles}) may not do this to what {whose} ({action})"
    if who.scopes or who.roles == ("service",):
        return f"the token {who.name!r} is not for this ({action})"
    return f"{who.name} ({roles}) may not do this ({action})"


def _hint(action: str, *, own: bool | None) -> str:
    roles = [
        role for role, reach_ in TABLE[action].items() if own is None or reach_ in {"any", "own" if own else "other"}
    ]
    return f"it takes the role {' or '.join(roles)}; an admin gives roles" if roles else "nobody may"
