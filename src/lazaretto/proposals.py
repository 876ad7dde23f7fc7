"""The two-person rule: what one person proposes, another approves with their own key, and only that is then done.

A proposal is a statement in canonical JSON: what is to be done, to exactly which records, why, by whom, until when. Its
id is a digest of it. An approval is that statement in a DSSE envelope, signed with the approver's key, which only their
password opens; a one-time code is asked for as well. So an approval cannot be moved to another proposal, and a proposal
cannot be changed once it is approved. Nobody approves their own, and neither outlives its time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from lazaretto.accounts import signing_key
from lazaretto.attest import canonical_json, opened, seal
from lazaretto.audit import Entry, digest_of, time_text
from lazaretto.authorisation import authorise, reach
from lazaretto.errors import Forbidden, IntegrityViolated, UsageError
from lazaretto.ledger import append_audit, changing, open_ledger
from lazaretto.sessions import check_credentials
from lazaretto.tables import AccountRow, AuditRow, ProposalRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sqlalchemy.orm import Session

    from lazaretto.authorisation import Who
    from lazaretto.config import Workspace

PAYLOAD_TYPE = "application/vnd.lazaretto.proposal+json"
LASTS = timedelta(days=3)
"""How long a proposal waits, and how long it may be carried out."""
OPEN, APPROVED, DONE, REFUSED, WITHDRAWN = "open", "approved", "done", "refused", "withdrawn"
_HINT = "lazaretto proposals list shows what waits"


@dataclass(frozen=True)
class Wish:
    """What somebody wants to be done, and may not do alone."""

    kind: str
    dataset: str
    what: dict[str, Any]
    """What it is about; its form is the kind's."""
    why: tuple[str, ...]
    """Why it takes two."""
    reason: str


@dataclass(frozen=True)
class Proposal:
    """What somebody proposed."""

    id: str
    kind: str
    dataset: str
    what: dict[str, Any]
    """What it is about; its form is the kind's."""
    why: tuple[str, ...]
    """Why it takes two."""
    reason: str
    """The proposer's."""
    proposed_by: str
    at: str
    expires_at: str
    state: str
    decided_by: str = ""
    decided_at: str = ""


@dataclass(frozen=True)
class Credentials:
    """What an approver gives anew for each approval."""

    password: str
    code: str


def propose(workspace: Workspace, who: Who, wish: Wish, now: datetime | None = None) -> Proposal:
    """Write down what somebody proposes; the same once more is the same proposal while it is open.

    The caller saw to it that they may do what they propose, were it not for the second person.
    """
    moment = now or datetime.now(UTC)
    with changing(workspace) as session:
        mine = select(ProposalRow).where(ProposalRow.proposed_by == who.name, ProposalRow.state == OPEN)
        for row in session.scalars(mine):
            before = _read(row)
            said = (before.kind, before.dataset, before.what, before.reason)
            if said == (wish.kind, wish.dataset, wish.what, wish.reason) and time_text(moment) < row.expires_at:
                return before
        common = {"proposed_by": who.name, "at": time_text(moment), "expires_at": time_text(moment + LASTS)}
        statement = canonical_json({"workspace": workspace.id, **asdict(wish), **common})
        row = ProposalRow(
            id=_id(statement), kind=wish.kind, dataset=wish.dataset, statement=statement.decode(), state=OPEN,
            decided_by="", decided_at="", approval="", **common,
        )  # fmt: skip
        if session.get(ProposalRow, row.id) is not None:
            raise UsageError(f"{row.id} was proposed already, and decided", hint="give another reason")
        session.add(row)
        _tell(session, "proposal.made", who.name, row, moment)
        return _read(row)


def approve(
    workspace: Workspace, who: Who, proposal: str, credentials: Credentials, now: datetime | None = None
) -> Proposal:
    """Approve what another person proposed.

    Raises:
        UsageError: There is no such proposal, it was decided, or its time is over.
        Forbidden: It is their own, they are no approver, or password or code is wrong.
        IntegrityViolated: The proposal is not what was proposed.
    """
    moment = now or datetime.now(UTC)
    refused = None
    with changing(workspace) as session:
        row = _open(session, workspace, proposal, moment)
        authorise(who, "proposal.approve", own=row.proposed_by == who.name)
        account = session.get(AccountRow, who.name)
        if account is None or not account.totp:
            raise Forbidden(
                f"{who.name} has no one-time codes, without which nothing is approved",
                hint="lazaretto accounts codes sets them up",
            )
        refused = check_credentials(session, workspace, who.name, credentials.password, credentials.code, moment)
        if refused is None:
            key = signing_key(account, credentials.password)
            row.approval = seal(row.statement.encode(), PAYLOAD_TYPE, key).decode()
            row.state, row.decided_by, row.decided_at = APPROVED, who.name, time_text(moment)
            _tell(session, "proposal.approved", who.name, row, moment, key=digest_of(account.public_key))
        else:
            append_audit(session, Entry(0, time_text(moment), who.name, "login.refused", "", who.name, {}))
        made = _read(row)
    if refused is not None:
        raise refused  # after the try was counted
    return made


def refuse(workspace: Workspace, who: Who, proposal: str, now: datetime | None = None) -> Proposal:
    """End a proposal that is not done: one's own is withdrawn, another's refused.

    Raises:
        UsageError: There is no such proposal, or it was decided.
        Forbidden: They may not.
    """
    moment = now or datetime.now(UTC)
    with changing(workspace) as session:
        row = session.get(ProposalRow, proposal)
        if row is None:
            raise UsageError(f"there is no proposal {proposal}", hint=_HINT)
        own = row.proposed_by == who.name
        action = "proposal.withdraw" if own or "any" in reach(who, "proposal.withdraw") else "proposal.refuse"
        authorise(who, action, own=own)
        if row.state not in {OPEN, APPROVED}:
            raise UsageError(f"{proposal} is {row.state}, by {row.decided_by} at {row.decided_at}", hint=_HINT)
        row.state, row.decided_by = WITHDRAWN if own else REFUSED, who.name
        row.decided_at, row.approval = time_text(moment), ""
        _tell(session, f"proposal.{row.state}", who.name, row, moment)
        return _read(row)


def require_approved(
    session: Session, workspace: Workspace, proposal: str, kind: str, what: Mapping[str, Any], now: datetime
) -> Proposal:
    """The approved proposal to do exactly this.

    Raises:
        Forbidden: It is not approved, of something else, over, or whoever approved it may do so no longer.
        IntegrityViolated: It, or its approval, is not what was signed.
    """
    row = session.get(ProposalRow, proposal)
    if row is None or row.state != APPROVED:
        raise Forbidden(f"the proposal {proposal} is not approved", hint=_HINT)
    found = _checked(workspace, row)
    _check_told(session, row)
    if (found.kind, found.what) != (kind, dict(what)):
        raise Forbidden(f"the proposal {proposal} is of something else than is to be done now", hint="propose it anew")
    if time_text(now) >= found.expires_at:
        raise Forbidden(f"the time of the proposal {proposal} was over at {found.expires_at}", hint="propose it anew")
    account = session.get(AccountRow, row.decided_by)
    roles = json.loads(account.roles) if account is not None and account.active else []
    if account is None or "approver" not in roles or row.decided_by == found.proposed_by:
        raise Forbidden(f"{row.decided_by} may not approve (any longer) what was proposed as {proposal}")
    _check_signature(row, account.public_key)
    return found


def done(session: Session, actor: str, proposal: str, at: str) -> None:
    """Note that an approved proposal was carried out, in the transaction that does it; once."""
    row = session.get(ProposalRow, proposal)
    if row is not None and row.state == APPROVED:
        row.state = DONE
        session.flush()
        _tell(session, "proposal.done", actor, row, datetime.fromisoformat(at))


def read_proposal(workspace: Workspace, proposal: str) -> Proposal:
    """One proposal.

    Raises:
        UsageError: There is none.
        IntegrityViolated: It is not what was proposed.
    """
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        row = session.get(ProposalRow, proposal)
        if row is None:
            raise UsageError(f"there is no proposal {proposal}", hint=_HINT)
        return _checked(workspace, row)


def list_proposals(workspace: Workspace, state: str | None = None) -> list[Proposal]:
    """Proposals, oldest first; of one state, or all."""
    wanted = select(ProposalRow).order_by(ProposalRow.at, ProposalRow.id)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        rows = session.scalars(wanted if state is None else wanted.where(ProposalRow.state == state))
        return [_checked(workspace, row) for row in rows]


def proposal_findings(session: Session, workspace: Workspace, entries: Iterable[Entry]) -> Iterator[str]:
    """One sentence for each proposal that is not as the audit log tells, or whose approval does not hold."""
    told: dict[str, Entry] = {}
    keys: set[tuple[str, str]] = set()
    signed: dict[str, str] = {}
    for entry in entries:
        key = str(entry.detail.get("key"))
        if entry.action.startswith("account."):
            keys.add((entry.subject, key))
        elif entry.action.startswith("proposal."):
            told[entry.subject] = entry
        if entry.action == "proposal.approved":
            signed[entry.subject] = key
            if (entry.actor, key) not in keys:
                yield f"the proposal {entry.subject} was approved with a key that {entry.actor} did not have"
    for row in session.scalars(select(ProposalRow).order_by(ProposalRow.id)):
        last = told.pop(row.id, None)
        if last is None or {**last.detail, "key": ""} != {**_said(row), "key": ""}:
            yield f"the proposal {row.id} is not what the audit log tells of it"
            continue
        yield from _faults(session, workspace, row, signed.get(row.id))
    for name in sorted(told):
        yield f"proposal {name} is in the audit log but gone from the ledger"


def _faults(session: Session, workspace: Workspace, row: ProposalRow, key: str | None) -> Iterator[str]:
    try:
        own = _checked(workspace, row).proposed_by == row.decided_by
        if row.state in {APPROVED, DONE}:
            if own:
                yield f"the proposal {row.id} was approved by whoever proposed it"
            account = session.get(AccountRow, row.decided_by)
            # Of a key that was replaced since only the digest is known.
            if account is not None and digest_of(account.public_key) == key:
                _check_signature(row, account.public_key)
    except IntegrityViolated as fault:
        yield fault.message


def _open(session: Session, workspace: Workspace, proposal: str, now: datetime) -> ProposalRow:
    row = session.get(ProposalRow, proposal)
    if row is None:
        raise UsageError(f"there is no proposal {proposal}", hint=_HINT)
    found = _checked(workspace, row)
    if found.state != OPEN:
        raise UsageError(f"{proposal} is {found.state}, by {found.decided_by} at {found.decided_at}", hint=_HINT)
    if time_text(now) >= found.expires_at:
        raise UsageError(f"the time of {proposal} was over at {found.expires_at}", hint="it has to be proposed anew")
    return row


def _checked(workspace: Workspace, row: ProposalRow) -> Proposal:
    """A proposal whose row says what its statement says."""
    found = _read(row)
    said = (row.kind, row.dataset, row.proposed_by, row.at, row.expires_at)
    told = (found.kind, found.dataset, found.proposed_by, found.at, found.expires_at)
    if _id(row.statement.encode()) != row.id or said != told or json.loads(row.statement)["workspace"] != workspace.id:
        raise IntegrityViolated(f"the proposal {row.id} is not what was proposed", hint="run lazaretto verify")
    return found


def _check_told(session: Session, row: ProposalRow) -> None:
    """Refuse a proposal whose row was put back: what was done or refused would be done (again) by its real approval."""
    mine = (AuditRow.subject == row.id, AuditRow.action.startswith("proposal."))
    last = session.scalars(select(AuditRow).where(*mine).order_by(AuditRow.seq.desc()).limit(1)).first()
    if last is None or {**json.loads(last.detail), "key": ""} != {**_said(row), "key": ""}:
        raise IntegrityViolated(
            f"the proposal {row.id} is not what the audit log tells of it", hint="run lazaretto verify"
        )


def _check_signature(row: ProposalRow, public_key: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public_key.encode())
        sound = isinstance(key, Ed25519PublicKey) and (
            opened(row.approval.encode(), PAYLOAD_TYPE, {row.decided_by: key}, row.id) == row.statement.encode()
        )
    except (ValueError, IntegrityViolated):
        sound = False
    if not sound:
        raise IntegrityViolated(
            f"the approval of {row.id} is not signed with the key of {row.decided_by}", hint="run lazaretto verify"
        )


def _read(row: ProposalRow) -> Proposal:
    try:
        said = json.loads(row.statement)
        names = ("kind", "dataset", "reason", "proposed_by", "at", "expires_at")
        facts = {name: said[name] for name in names}
        what, why = dict(said["what"]), tuple(said["why"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityViolated(f"the proposal {row.id} cannot be read", hint="run lazaretto verify") from error
    return Proposal(
        row.id, what=what, why=why, state=row.state, decided_by=row.decided_by, decided_at=row.decided_at, **facts
    )


def _tell(session: Session, action: str, actor: str, row: ProposalRow, now: datetime, **more: str) -> None:
    append_audit(session, Entry(0, time_text(now), actor, action, row.dataset, row.id, {**_said(row), **more}))


def _said(row: ProposalRow) -> dict[str, str]:
    """What the audit log says: digests, for a statement may name records and a reason may quote one."""
    return {
        "kind": row.kind,
        "statement": digest_of(row.statement),
        "state": row.state,
        "decided_by": row.decided_by,
        "approval": digest_of(row.approval),
    }


def _id(statement: bytes) -> str:
    return "p-" + hashlib.sha256(statement).hexdigest()[:20]
