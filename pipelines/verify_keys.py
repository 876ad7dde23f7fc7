"""The history of keys and the signed contracts, against themselves and against what the audit log tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lazaretto.contract import load_contract
from lazaretto.errors import IntegrityViolated, LazarettoError
from lazaretto.key_history import read_history
from lazaretto.pipelines.change_keys import entry_of
from lazaretto.pipelines.sign_contract import CONTRACT_SIGNED
from lazaretto.signed_contract import check_contracts, check_file, contract_digests, read_statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lazaretto.attest import Chain
    from lazaretto.audit import Entry
    from lazaretto.config import Workspace
    from lazaretto.signed_contract import SignedContract


def key_findings(workspace: Workspace, entries: Sequence[Entry]) -> Iterator[str]:
    """One sentence for each change of a key that the audit log tells otherwise, or not at all.

    Args:
        workspace: Whose.
        entries: The audit entries that can be believed.
    """
    try:
        history = read_history(workspace)
    except IntegrityViolated as fault:
        yield fault.message
        return
    told = {entry.subject: entry for entry in entries if entry.action.startswith("key.")}
    for record in history:
        entry, mine = told.pop(record.digest, None), entry_of(record)
        facts = ("at", "actor", "action", "detail")
        if entry is None or any(getattr(entry, name) != getattr(mine, name) for name in facts):
            yield f"the {record.name}'s key was {record.kind} {record.at}, of which the audit log tells otherwise"
    if not workspace.changing_keys.exists():
        for entry in told.values():
            yield f"the audit log tells of a key that was changed {entry.at}, the history of keys does not"


def contract_findings(
    workspace: Workspace, dataset: str, chain: Chain | None, entries: Sequence[Entry], *, sound: bool
) -> Iterator[str]:
    """One sentence for each way in which a data set's contract is not the one that was signed and attested.

    Args:
        workspace: Whose.
        dataset: The data set.
        chain: Its attestations; None when they do not hold, which is a finding of its own.
        entries: Its audit entries that can be believed.
        sound: Whether it is a finding that a stolen policy key may have signed it.
    """
    try:
        statements = read_statements(workspace, dataset)
        told = {entry.subject: entry for entry in entries if entry.action == CONTRACT_SIGNED}
        for statement in statements.versions:
            entry = told.pop(statement.digest, None)
            if entry is None or entry.detail.get("digests") != {**statement.said, "file": statement.file}:
                yield f"the audit log does not tell of version {statement.epoch} of the signed contract of {dataset}"
        for entry in told.values():
            yield f"the audit log tells of a contract of {dataset} that was signed {entry.at}, and it is not there"
        if chain is not None and sound:
            check_contracts(workspace, chain, remember=False)
        if statements.versions:
            yield from _on_disk(workspace, statements.versions[-1])
    except IntegrityViolated as fault:
        yield fault.message


def _on_disk(workspace: Workspace, newest: SignedContract) -> Iterator[str]:
    check_file(workspace, newest)
    try:
        same = contract_digests(load_contract(workspace.contract(newest.dataset))) == newest.said
    except LazarettoError as error:
        yield error.message
        return
    if not same:
        yield f"the trusted set of {newest.dataset} is not the one that was signed {newest.at} by {newest.by}"
