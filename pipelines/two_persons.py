"""What a release by one person alone would be too risky for, and carrying out what two persons want."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from lazaretto.errors import Forbidden, LazarettoError
from lazaretto.pipelines.record import filed_row
from lazaretto.proposals import DONE, Wish, read_proposal, require_approved
from lazaretto.tables import BatchRow, CaseRow, DecisionRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.pipelines.review import Word
    from lazaretto.proposals import Proposal

RELEASE, RELEASE_BATCH, SIGN_CONTRACT, TRUST = "release", "release-batch", "sign-contract", "trust-records"
_DAY = timedelta(days=1)


class NeedsApproval(LazarettoError):  # noqa: N818  reads as what is the case
    """What was asked for takes a second person; it was not done."""

    exit_code = 3

    def __init__(self, wish: Wish) -> None:
        super().__init__(f"this takes a second person: {'; '.join(wish.why)}", hint="propose it: lazaretto.proposals")
        self.wish = wish


@dataclass(frozen=True)
class Wanted:
    """A release that somebody wants: of cases, or of all of a held batch that is no case."""

    dataset: str
    batch: str
    cases: tuple[CaseRow, ...]

    @property
    def kind(self) -> str:
        """The kind of a proposal of it."""
        return RELEASE if self.cases else RELEASE_BATCH


def require_two(
    session: Session, workspace: Workspace, contract: Contract, wanted: Sequence[Wanted], said: Word
) -> None:
    """Refuse a release that takes two persons and has one; where there are no accounts nobody can be told apart.

    Raises:
        NeedsApproval: The contract's policy says that it takes two, and no approved proposal of exactly this was given.
        Forbidden: The proposal is not approved, of something else, or over.
    """
    if not workspace.accounts_mark.exists():
        return
    if said.proposal:
        at = datetime.fromisoformat(said.at)
        for one in wanted:  # a proposal is of one batch: two of them do not fit it
            require_approved(session, workspace, said.proposal, one.kind, _what(session, one), at)
        return
    for one in wanted:
        why = _risks(session, contract, one, said)
        if why and len(wanted) > 1:
            raise Forbidden(
                f"of batch {one.batch} it takes a second person: {'; '.join(why)}; nothing was released",
                hint="name the cases of one batch at a time",
            )
        if why:
            raise NeedsApproval(Wish(one.kind, one.dataset, _what(session, one), tuple(why), said.reason))


def _what(session: Session, wanted: Wanted) -> dict[str, Any]:
    """Exactly what is to be released: of cases their digests too, of a batch those of its judging."""
    if wanted.cases:
        return {"cases": {case.id: filed_row(case) for case in wanted.cases}}
    row = session.get_one(BatchRow, wanted.batch)
    return {"batch": row.id, "judged": json.loads(row.digests)}


def _risks(session: Session, contract: Contract, wanted: Wanted, said: Word) -> list[str]:
    """Why a release takes two, one sentence each, with its numbers."""
    rule = contract.policy.two_persons
    why = []
    # Records without a score are as suspicious as can be.
    likely = [case for case in wanted.cases if case.q_value is None or case.q_value <= rule.q_value]
    if likely:
        why.append(f"{_of(likely)} have a q-value of at most {rule.q_value:g}, or none: most such are no chance finds")
    mined = [case for case in wanted.cases if rule.trigger and _carries_trigger(case)]
    if mined:
        why.append(f"{_of(mined)} carry a mined trigger")
    count = len(wanted.cases) or _records(session, wanted.batch)
    before = _released_lately(session, wanted.batch, said)
    if count + before > rule.records:
        again = f" beside {before} within a day" if before else ""
        why.append(f"{count} records of {wanted.batch}{again} are more than {rule.records}")
    return why


def _of(cases: Sequence[CaseRow]) -> str:
    named = ", ".join(case.id for case in cases[:3])
    return f"{len(cases)} of the records ({named}{', ...' if len(cases) > 3 else ''})"  # noqa: PLR2004


def _carries_trigger(case: CaseRow) -> bool:
    return any(str(one.get("detector", "")).partition("_")[0] == "trigger" for one in json.loads(case.evidence))


def _records(session: Session, batch: str) -> int:
    row = session.get_one(BatchRow, batch)
    return row.quarantined - row.suspects


def _released_lately(session: Session, batch: str, said: Word) -> int:
    since = (datetime.fromisoformat(said.at) - _DAY).astimezone(UTC).isoformat(timespec="seconds")
    mine = (DecisionRow.batch_id == batch, DecisionRow.action == "release", DecisionRow.at > since)
    return (
        session.scalar(select(func.count()).select_from(DecisionRow).where(*mine, DecisionRow.case_id.is_not(None)))
        or 0
    )


def carry_out_proposal(workspace: Workspace, proposal: str, now: datetime | None = None) -> str:
    """Do what two persons want; gives a sentence of what became of it.

    That it is done is noted in the transaction that does it. A proposal that was approved and not carried out, because
    the process died, is carried out by asking again.

    Raises:
        Forbidden: It is not approved, or over.
        UsageError: What it is about was decided otherwise since.
        IntegrityViolated: What was proposed, or its approval, is not what was signed.
    """
    moment = now or datetime.now(UTC)
    found = read_proposal(workspace, proposal)
    if found.state == DONE:
        return "done already"
    return CARRIED_OUT[found.kind](workspace, found, moment)


def _released(workspace: Workspace, found: Proposal, now: datetime) -> str:
    from lazaretto.pipelines.review import release, release_batch, word

    said = word(found.reason, found.proposed_by, now, proposal=found.id)
    if found.kind == RELEASE:
        made = release(workspace, list(found.what["cases"]), said)
    else:
        made = [release_batch(workspace, found.what["batch"], said)]
    return "; ".join(f"{one.records:,} of {one.batch} in {one.dataset} version {one.version}" for one in made)


def _signed(workspace: Workspace, found: Proposal, now: datetime) -> str:
    from lazaretto.pipelines.sign_contract import sign_contract

    statement, _ = sign_contract(workspace, found.dataset, now, proposal=found.id)
    return f"version {statement.epoch} of the contract of {found.dataset} is in force"


def _trusted(workspace: Workspace, found: Proposal, now: datetime) -> str:
    from lazaretto.pipelines.review import word
    from lazaretto.pipelines.selection import Selection
    from lazaretto.pipelines.vouching import add

    meant = Selection(found.what["by"], found.what["value"], frozenset(found.what["ids"]))
    made = add(workspace, found.dataset, meant, word(found.reason, found.proposed_by, now, proposal=found.id))
    return f"{made.records:,} records are in the trusted set of {found.dataset}, version {made.version}"


CARRIED_OUT: dict[str, Callable[[Workspace, Proposal, datetime], str]] = {
    RELEASE: _released,
    RELEASE_BATCH: _released,
    SIGN_CONTRACT: _signed,
    TRUST: _trusted,
}
"""Kind of a proposal -> what does it."""
