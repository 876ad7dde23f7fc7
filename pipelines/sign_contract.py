"""Puts a contract into force: a statement is drafted, signed with the policy key, audited, and only then counts.

The three steps are apart, so that a rule of two persons can lie between the draft and the signature.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lazaretto.attest import NOTHING, PAYLOAD_TYPE, SUFFIX, seal
from lazaretto.audit import Entry
from lazaretto.config import dataset_lock
from lazaretto.contract import load_contract
from lazaretto.durable import file_mode_like, make_folder, writable, write_durably
from lazaretto.entrance import acting
from lazaretto.errors import UsageError
from lazaretto.key_history import signing_key
from lazaretto.keys import POLICY
from lazaretto.ledger import append_once, checkpoint, open_ledger, refuse_changing
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.two_persons import SIGN_CONTRACT, NeedsApproval
from lazaretto.proposals import Wish, done, require_approved
from lazaretto.signed_contract import (
    SignedContract,
    contract_digests,
    parse_statement,
    read_statements,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from lazaretto.config import Workspace

CONTRACT_SIGNED = "contract.signed"
"""Action of the audit entry."""


def draft(workspace: Workspace, dataset: str, by: str, at: str) -> bytes:
    """The statement that puts today's contract file of a data set into force: the bytes to be signed.

    Args:
        workspace: Whose.
        dataset: The data set.
        by: Who puts it into force.
        at: When, UTC in ISO 8601.

    Raises:
        UsageError: There is no contract, or it is another data set's.
        IntegrityViolated: The statements signed before do not hold.
    """
    path = workspace.contract(dataset)
    contract = load_contract(path)
    if contract.dataset != dataset:
        raise UsageError(f"{path} is the contract of {contract.dataset!r}, not of {dataset!r}")
    content = path.read_bytes()
    before = read_statements(workspace, dataset).versions
    head = read_chain(workspace, dataset, sound=False).head
    digests = contract_digests(contract)
    statement = SignedContract(
        workspace=workspace.id,
        dataset=dataset,
        epoch=len(before) + 1,
        previous=before[-1].digest if before else NOTHING,
        file=hashlib.sha256(content).hexdigest(),
        contract=digests["contract"],
        policy=digests["policy"],
        trusted=digests.get("trusted", ""),
        after=head.epoch if head else 0,
        at=at,
        by=by,
    )
    return statement.payload()


def sign_statement(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signed envelope of a drafted statement."""
    return seal(payload, PAYLOAD_TYPE, key)


def put_in_force(
    workspace: Workspace, payload: bytes, key: Ed25519PrivateKey, actor: str, proposal: str = ""
) -> SignedContract:
    """Sign a drafted statement, write it down in the audit log, and let it count.

    Args:
        workspace: Whose.
        payload: What `draft` gave.
        key: The policy key in use.
        actor: Who signs, for the audit log.
        proposal: The approved proposal to do so, where it takes two persons.

    Raises:
        UsageError: Since the draft the contract, its trusted set or the data set's store was changed.
        IntegrityViolated: What was signed before does not hold.
    """
    statement = parse_statement(payload, "the draft")
    dataset = statement.dataset
    with writable(workspace.state), dataset_lock(workspace, dataset), open_ledger(workspace) as ledger:
        refuse_changing(workspace)
        folder = workspace.signed_contracts(dataset)
        if draft(workspace, dataset, statement.by, statement.at) != payload:
            raise UsageError(
                f"the contract of {dataset}, its trusted set or its store was changed since the statement was drafted",
                hint="look at it again, and draft anew",
            )
        waiting = folder / f".next{SUFFIX}"
        make_folder(folder)
        checkpoint(ledger)  # an anchor that cannot be reached stops it here, before anything is written
        write_durably(waiting, sign_statement(payload, key), mode=file_mode_like(folder))
        detail = {"digests": {**statement.said, "file": statement.file}, "number": statement.epoch}
        with ledger.writing() as session:
            entry = Entry(0, statement.at, actor, CONTRACT_SIGNED, dataset, statement.digest, detail)
            append_once(session, entry)
            if proposal:
                done(session, actor, proposal, statement.at)
        waiting.replace(folder / f"{statement.epoch:06}{SUFFIX}")
        checkpoint(ledger)
    return statement


def finish(workspace: Workspace, dataset: str) -> SignedContract | None:
    """Let a statement count that was audited when the process was killed; gives it, if there is one."""
    folder = workspace.signed_contracts(dataset)
    waiting = folder / f".next{SUFFIX}"
    if not waiting.exists():
        return None
    from sqlalchemy import select

    from lazaretto.attest import opened
    from lazaretto.key_history import signers_of
    from lazaretto.tables import AuditRow

    with dataset_lock(workspace, dataset), open_ledger(workspace) as ledger:
        key = {POLICY: signers_of(workspace, POLICY).current}
        statement = parse_statement(opened(waiting.read_bytes(), PAYLOAD_TYPE, key, str(waiting)), str(waiting))
        told = (AuditRow.action == CONTRACT_SIGNED, AuditRow.subject == statement.digest)
        with ledger.reading() as session:
            known = session.scalar(select(AuditRow.seq).where(*told)) is not None
        before = read_statements(workspace, dataset).versions
        if not known or statement.previous != (before[-1].digest if before else NOTHING):
            waiting.unlink()
            return None
        waiting.replace(folder / f"{statement.epoch:06}{SUFFIX}")
        checkpoint(ledger)
    return statement


def sign_contract(
    workspace: Workspace, dataset: str, now: datetime | None = None, *, reason: str = "", proposal: str = ""
) -> tuple[SignedContract, bool]:
    """Sign today's contract of a data set; gives the statement in force and whether it is new.

    Args:
        workspace: Whose.
        dataset: The data set.
        now: The time to write down; the clock's by default.
        reason: Why, for the second person.
        proposal: The approved proposal to do so, where it takes two persons.

    Raises:
        UsageError: There is no contract, or no policy key.
        NeedsApproval: There are accounts, so it takes two persons.
        Forbidden: The proposal is not approved, over, or of another contract.
        IntegrityViolated: What was signed before does not hold.
    """
    finish(workspace, dataset)
    key, actor = signing_key(workspace, POLICY), acting(workspace).name
    at = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    statement = parse_statement(draft(workspace, dataset, actor, at), "the draft")
    statements = read_statements(workspace, dataset)
    last = statements.versions[-1] if statements.versions else None
    if last is not None and (last.file, last.said) == (statement.file, statement.said) and statements.stands(last):
        return last, False
    if workspace.accounts_mark.exists():
        _require_two(workspace, statement, reason, proposal)
    return put_in_force(workspace, statement.payload(), key, actor, proposal), True


def _require_two(workspace: Workspace, statement: SignedContract, reason: str, proposal: str) -> None:
    what = {**statement.said, "file": statement.file, "number": statement.epoch}
    if not proposal:
        why = "a contract is put into force by two persons, for its policy says what is suspicious"
        raise NeedsApproval(Wish(SIGN_CONTRACT, statement.dataset, what, (why,), reason))
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        require_approved(session, workspace, proposal, SIGN_CONTRACT, what, datetime.fromisoformat(statement.at))
