"""Accounts of people: their roles, passwords, one-time codes and the keys that approvers sign with.

Every change is an entry of the audit log, which repeats what gives rights (roles, whether the account is active,
digests of the password's hash, of the sealed code secret and of the public key), so that a change past it is found by
`account_findings`. There is no default account and no default password: the first account is an admin's, made while
there is none.
"""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from lazaretto.audit import Entry, digest_of, time_text
from lazaretto.authorisation import PEOPLE, authorise
from lazaretto.durable import make_folder, write_durably
from lazaretto.errors import Forbidden, UsageError
from lazaretto.ledger import append_audit, changing, open_ledger
from lazaretto.one_time_codes import sealed, step_of
from lazaretto.tables import AccountRow, SessionRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from sqlalchemy.orm import Session

    from lazaretto.authorisation import Role, Who
    from lazaretto.config import Workspace

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,59}")
SHORTEST = 12
"""Characters of a password at least (NIST SP 800-63B asks for 8, and 15 where there is no second factor)."""
LONGEST = 1000
_TOLD = ("account.added", "account.changed", "account.password", "account.totp")


@dataclass(frozen=True)
class Account:
    """A person who may log in."""

    name: str
    roles: tuple[str, ...]
    active: bool
    one_time_codes: bool
    """Whether their one-time codes are set up."""
    may_sign: bool
    """Whether they have a key to approve with."""
    blocked_until: str


def add_account(
    workspace: Workspace, who: Who, name: str, roles: Sequence[str], password: str, now: datetime | None = None
) -> Account:
    """Make an account.

    Args:
        workspace: The workspace.
        who: Who makes it; while there is none, anybody, and it must be an admin's.
        name: Its name; never reused.
        roles: What it may be.
        password: Its first password.
        now: The time; the clock's by default.

    Raises:
        UsageError: The name is taken or none, a role is not known, the password is too short.
        Forbidden: Whoever asks is no admin.
    """
    chosen = _roles(roles)
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of an account", hint="1 to 60 lower-case letters, digits, '.', '_', '@' and '-'"
        )
    _check_password(name, password)
    row = new_row(name, chosen)
    row.password = _hashed(password)
    _give_key(row, password)
    with changing(workspace) as session:
        first = not session.scalar(select(func.count()).select_from(AccountRow))
        if first and "admin" not in chosen:
            raise UsageError("the first account is an admin's", hint="give it --role admin, and others after it")
        if not first:
            authorise(who, "account.add", own=False)
        if session.get(AccountRow, name) is not None:
            raise UsageError(f"there is an account {name} already", hint="lazaretto accounts list shows them")
        # Before anything is in the ledger: from here on nobody acts without an account.
        make_folder(workspace.people)
        write_durably(workspace.accounts_mark, b"This workspace has accounts; see docs/people.md.\n")
        session.add(row)
        tell_account(session, "account.added", who.name, row, now)
        return _account(row)


def new_row(name: str, roles: Sequence[str], subject: str = "") -> AccountRow:
    """An account that nobody has a password of."""
    return AccountRow(
        name=name, roles=json.dumps(list(roles)), active=True, password="", totp="", totp_step=0, public_key="",
        private_key="", failures=0, blocked_until="", subject=subject,
    )  # fmt: skip


def change_account(
    workspace: Workspace,
    who: Who,
    name: str,
    *,
    roles: Sequence[str] | None = None,
    active: bool | None = None,
    now: datetime | None = None,
) -> Account:
    """Give an account other roles, or let it log in or no longer; its sessions end with the next command they ask for.

    Raises:
        UsageError: There is no such account, or no admin would be left.
        Forbidden: Whoever asks is no admin, or it is their own account.
    """
    authorise(who, "account.change", own=who.name == name)

    def change(session: Session, row: AccountRow) -> None:
        if roles is not None:
            row.roles = json.dumps(_roles(roles))
            if "approver" not in _roles(roles):
                row.public_key = row.private_key = ""  # a key is given with the next password
        if active is not None:
            row.active = active
        session.flush()
        _require_admin(session)

    return _changed(workspace, who, name, "account.changed", change, now)


def set_password(
    workspace: Workspace, who: Who, name: str, new: str, *, old: str | None = None, now: datetime | None = None
) -> Account:
    """Give an account another password, and end its logins; with the old one its signing key stays, else it is new.

    Raises:
        UsageError: There is no such account, the old password is wrong, or the new one too short.
        Forbidden: It is somebody else's, and whoever asks is no admin.
    """
    own, moment = who.name == name, now or datetime.now(UTC)
    authorise(who, "account.password", own=own)
    if own and old is None:
        raise UsageError("your own password is changed with the old one", hint="give both")
    _check_password(name, new)

    def change(session: Session, row: AccountRow) -> None:
        if old is not None and not password_fits(row, old):
            raise Forbidden("the old password is wrong")
        key = signing_key(row, old) if old is not None and row.private_key else None
        row.password = _hashed(new)
        row.failures, row.blocked_until = 0, ""
        _give_key(row, new, key)
        # Whoever knew the old one is out.
        mine = (SessionRow.name == name, SessionRow.kind == "login", SessionRow.closed_at == "")
        session.execute(update(SessionRow).where(*mine).values(closed_at=time_text(moment)))

    return _changed(workspace, who, name, "account.password", change, moment)


def set_codes(workspace: Workspace, who: Who, secret: str, code: str, now: datetime | None = None) -> Account:
    """Set up one's one-time codes; the code shows that the app has the secret.

    Raises:
        UsageError: The code is not one of the secret at this time.
    """
    authorise(who, "account.totp", own=True)
    moment = now or datetime.now(UTC)
    step = step_of(secret, code, moment)
    if step is None:
        raise UsageError(
            "this is no code of that secret now", hint="check the clock of both machines, and try the next"
        )

    def change(_session: Session, row: AccountRow) -> None:
        row.totp = sealed(workspace, row.name, secret)
        row.totp_step = step

    return _changed(workspace, who, who.name, "account.totp", change, moment)


def password_fits(row: AccountRow, password: str) -> bool:
    """Whether this is the account's password; takes as long where it has none."""
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return PasswordHasher().verify(row.password or _nobody(), password[:LONGEST]) and bool(row.password)
    except (Argon2Error, InvalidHashError):
        return False


def signing_key(row: AccountRow, password: str) -> Ed25519PrivateKey:
    """An approver's key.

    Raises:
        Forbidden: They have none, or the password does not open it.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not row.private_key:
        raise Forbidden(f"{row.name} has no key to sign with", hint="set a password anew: lazaretto accounts password")
    try:
        key = load_pem_private_key(row.private_key.encode(), password.encode())
    except ValueError as error:
        raise Forbidden("the password does not open the signing key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Forbidden(f"the signing key of {row.name} is none")
    return key


def list_accounts(workspace: Workspace) -> list[Account]:
    """Every account, by name."""
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        return [_account(row) for row in session.scalars(select(AccountRow).order_by(AccountRow.name))]


def account_findings(session: Session, entries: Iterable[Entry]) -> Iterator[str]:
    """One sentence for each account that is not as the audit log tells."""
    told = {entry.subject: entry for entry in entries if entry.action in _TOLD}
    for row in session.scalars(select(AccountRow).order_by(AccountRow.name)):
        entry = told.pop(row.name, None)
        if entry is None or entry.detail != _said(row):
            yield f"account {row.name} is not what the audit log tells: its rights were changed past it"
    for name in sorted(told):
        yield f"account {name} is in the audit log but gone from the ledger"


def _changed(
    workspace: Workspace,
    who: Who,
    name: str,
    action: str,
    change: Callable[[Session, AccountRow], None],
    now: datetime | None,
) -> Account:
    with changing(workspace) as session:
        row = session.get(AccountRow, name)
        if row is None:
            raise UsageError(f"there is no account {name}", hint="lazaretto accounts list shows them")
        change(session, row)
        tell_account(session, action, who.name, row, now)
        return _account(row)


def tell_account(session: Session, action: str, actor: str, row: AccountRow, now: datetime | None) -> None:
    """Write into the audit log what an account is now."""
    at = time_text(now or datetime.now(UTC))
    append_audit(session, Entry(0, at, actor, action, "", row.name, _said(row)))


def _said(row: AccountRow) -> dict[str, object]:
    return {
        "roles": json.loads(row.roles),
        "active": bool(row.active),
        "password": digest_of(row.password),
        "codes": digest_of(row.totp),
        "key": digest_of(row.public_key),
        "subject": digest_of(row.subject),
    }


def _account(row: AccountRow) -> Account:
    roles = tuple(json.loads(row.roles))
    return Account(row.name, roles, bool(row.active), bool(row.totp), bool(row.public_key), row.blocked_until)


def _require_admin(session: Session) -> None:
    rows = session.scalars(select(AccountRow).where(AccountRow.active))
    if not any("admin" in json.loads(row.roles) for row in rows):
        raise UsageError("no admin would be left", hint="make another one first")


def _roles(roles: Sequence[str]) -> list[Role]:
    unknown = next((role for role in roles if role not in PEOPLE), None)
    if unknown is not None or not roles:
        said = f"there is no role {unknown!r}" if roles else "an account needs a role"
        raise UsageError(said, hint=f"roles: {', '.join(PEOPLE)}")
    return [role for role in PEOPLE if role in roles]


def _check_password(name: str, password: str) -> None:
    if len(password) < SHORTEST or name in password.lower() or len(set(password)) < SHORTEST // 2:
        raise UsageError(
            f"the password is too weak: at least {SHORTEST} characters, {SHORTEST // 2} of them different,"
            " and without the account's name",
            hint="several words in a row are easy to remember",
        )
    if len(password) > LONGEST:
        raise UsageError(f"the password is too long: at most {LONGEST:,} characters")


def _hashed(password: str) -> str:
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password)


def _nobody() -> str:
    """A hash that no password fits, of the same costs as any other."""
    return _hashed(base64.b64encode(os.urandom(18)).decode())


def _give_key(row: AccountRow, password: str, key: Ed25519PrivateKey | None = None) -> None:
    """Give an approver a signing key, encrypted with the password; the one there is, or a new one."""
    if "approver" not in json.loads(row.roles):
        return
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        PublicFormat,
    )

    chosen = key or Ed25519PrivateKey.generate()
    locked = BestAvailableEncryption(password.encode())
    row.private_key = chosen.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked).decode()
    row.public_key = chosen.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
