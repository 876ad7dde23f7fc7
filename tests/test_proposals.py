"""The two-person rule: one proposes, another approves exactly that, in time, and it is done once."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from lazaretto.accounts import change_account, set_password
from lazaretto.authorisation import Who
from lazaretto.entrance import enter
from lazaretto.errors import Forbidden, IntegrityViolated, UsageError
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines.cases import list_cases
from lazaretto.pipelines.review import assign, discard, release, release_batch, word
from lazaretto.pipelines.selection import Selection
from lazaretto.pipelines.sign_contract import sign_contract
from lazaretto.pipelines.two_persons import NeedsApproval, carry_out_proposal
from lazaretto.pipelines.verify import verify
from lazaretto.pipelines.vouching import add, list_acts
from lazaretto.proposals import Credentials, Proposal, approve, list_proposals, propose, refuse, require_approved
from lazaretto.signed_contract import read_statements
from tests.harness import CONTRACT, DATASET, NOW, no_fault, publish, stored
from tests.people import PASSWORD, ROOT, account, with_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyotp

    from lazaretto.config import Workspace

BOLD = CONTRACT.rstrip() + "\npolicy: {two_persons: {q_value: 0.01}}\n"
"""A policy by which every case of the harness (p 0.001) takes two."""


class Office:
    """Ann, an analyst, who proposes; Ben and Cleo, who approve."""

    def __init__(self, workspace: Workspace, contract: str = BOLD) -> None:
        workspace.contract(DATASET).write_text(contract)
        publish(workspace, rows=20)
        account(workspace, "root-of-all", "admin")
        self.workspace = workspace
        self.ann = account(workspace, "ann", "analyst")
        self.ben = account(workspace, "ben", "analyst", "approver")
        self.codes = {"ben": with_codes(workspace, self.ben, NOW - timedelta(days=1))}
        self.case = list_cases(workspace)[0].id

    def place(self, who: Who) -> Workspace:
        return enter(acting_as(self.workspace, who), "case.decide")

    def wants(self, who: Who, cases: Sequence[str] | None = None) -> NeedsApproval:
        with pytest.raises(NeedsApproval) as needed:
            release(self.place(who), cases or [self.case], word("it is fine", who.name, NOW), check=no_fault)
        return needed.value

    def proposed(self) -> Proposal:
        return propose(self.workspace, self.ann, self.wants(self.ann).wish, NOW)

    def approved(self, made: Proposal, days: float = 1) -> Proposal:
        at = NOW + timedelta(days=days)
        return approve(self.workspace, self.ben, made.id, Credentials(PASSWORD, self.code(at)), at)

    def code(self, at: object, name: str = "ben") -> str:
        codes: pyotp.TOTP = self.codes[name]
        return codes.at(at)  # type: ignore[arg-type]

    def done(self, made: Proposal, days: float = 1) -> str:
        return carry_out_proposal(self.place(self.ben), made.id, NOW + timedelta(days=days))


def acting_as(workspace: Workspace, who: Who) -> Workspace:

    return replace(workspace, who=who)


@pytest.fixture
def office(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr("lazaretto.pipelines.review.recheck", no_fault)
    return Office(workspace)


def test_what_one_proposes_another_approves_and_it_is_done_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = office.proposed()
    assert list(made.what["cases"]) == [office.case]
    assert "q-value of at most 0.01" in made.why[0]
    assert stored(office.workspace).height == 16
    assert propose(office.workspace, office.ann, office.wants(office.ann).wish, NOW).id == made.id
    office.approved(made)
    assert "1 of b-" in office.done(made)
    assert stored(office.workspace).height == 17
    assert office.done(made) == "done already"
    found = list_proposals(office.workspace)[0]
    assert (found.state, found.decided_by) == ("done", "ben")
    with open_ledger(office.workspace) as ledger, ledger.reading() as session:
        told = [(entry.action, entry.actor) for entry, _ in read_audit(session) if "proposal" in str(entry.detail)]
        assert ("case.released", "ann") in told
        assert "it is fine" not in json.dumps([entry.detail for entry, _ in read_audit(session)])
    assert verify(office.workspace).findings == ()


def test_nobody_approves_their_own(office: Office) -> None:
    made = propose(office.workspace, office.ben, office.wants(office.ben).wish, NOW)
    with pytest.raises(Forbidden, match="what is their own"):
        office.approved(made)
    with pytest.raises(Forbidden, match=r"proposal\.approve"):
        approve(office.workspace, office.ann, made.id, Credentials(PASSWORD, ""), NOW)
    with pytest.raises(Forbidden, match="is not approved"):
        office.done(made)
    assert stored(office.workspace).height == 16


@pytest.mark.parametrize(("password", "code"), [("wrong words in a row", None), (PASSWORD, "000000"), (PASSWORD, "")])
def test_an_approval_needs_password_and_code(password: str, code: str | None, office: Office) -> None:
    made = office.proposed()
    given = Credentials(password, office.code(NOW) if code is None else code)
    with pytest.raises(Forbidden, match="is wrong"):
        approve(office.workspace, office.ben, made.id, given, NOW)
    assert list_proposals(office.workspace)[0].state == "open"


def test_who_has_no_codes_approves_nothing(office: Office) -> None:
    cleo = account(office.workspace, "cleo", "approver")
    with pytest.raises(Forbidden, match="cleo has no one-time codes"):
        approve(office.workspace, cleo, office.proposed().id, Credentials(PASSWORD, ""), NOW)


def test_neither_a_proposal_nor_its_approval_outlives_its_time(office: Office) -> None:
    made = office.proposed()
    with pytest.raises(UsageError, match="was over"):
        office.approved(made, days=3)
    office.approved(made, days=2.9)
    with pytest.raises(Forbidden, match="was over"):
        office.done(made, days=3)
    assert stored(office.workspace).height == 16


def test_an_approval_is_of_exactly_what_was_proposed(office: Office) -> None:
    made = office.proposed()
    office.approved(made)
    other = list_cases(office.workspace)[1].id
    said = word("it is fine", "ann", NOW, proposal=made.id)
    for cases in ([other], [office.case, other]):
        with pytest.raises(Forbidden, match="of something else"):
            release(office.place(office.ben), cases, said, check=no_fault)
    with open_ledger(office.workspace) as ledger, ledger.writing() as session:
        session.execute(text("UPDATE cases SET p_value = 0.9 WHERE id = :id"), {"id": office.case})
    with pytest.raises(Forbidden, match="of something else"):
        office.done(made)


def test_what_was_refused_withdrawn_or_decided_otherwise_is_not_done(office: Office) -> None:
    made = office.proposed()
    office.approved(made)
    assert refuse(office.workspace, office.ben, made.id, NOW).state == "refused"
    with pytest.raises(Forbidden, match="is not approved"):
        office.done(made)
    again = propose(office.workspace, office.ann, office.wants(office.ann).wish, NOW + timedelta(seconds=1))
    assert refuse(office.workspace, office.ann, again.id, NOW).state == "withdrawn"
    third = propose(office.workspace, office.ann, office.wants(office.ann).wish, NOW + timedelta(seconds=2))
    office.approved(third, days=1.5)
    discard(office.place(office.ben), [office.case], word("no", "ben", NOW))
    with pytest.raises(UsageError, match="was discarded by ben"):
        office.done(third)


@pytest.mark.parametrize("how", ["closed", "no approver any longer", "another key"])
def test_whoever_lost_the_right_to_approve_has_approved_nothing(how: str, office: Office) -> None:
    made = office.proposed()
    office.approved(made)
    if how == "another key":
        set_password(office.workspace, ROOT, "ben", "some other words entirely")
    else:
        change_account(office.workspace, ROOT, "ben", roles=["analyst", "engineer"], active=how != "closed")
    with pytest.raises((Forbidden, IntegrityViolated), match=r"may not approve|not signed with the key"):
        carry_out_proposal(acting_as(office.workspace, Who("cleo", ("approver",))), made.id, NOW)
    assert stored(office.workspace).height == 16


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE proposals SET state = 'approved', decided_by = 'ben'",
        "UPDATE proposals SET statement = replace(statement, 'fine', 'good')",
        "UPDATE proposals SET proposed_by = 'ben'",
        "UPDATE proposals SET expires_at = '2099-01-01T00:00:00+00:00'",
        "DELETE FROM proposals",
    ],
)
def test_a_proposal_that_is_altered_is_not_done_and_is_found(change: str, office: Office) -> None:
    made = office.proposed()
    with open_ledger(office.workspace) as ledger, ledger.writing() as session:
        session.execute(text(change))
    with pytest.raises((Forbidden, IntegrityViolated, UsageError)):
        office.done(made)
    assert stored(office.workspace).height == 16
    assert any("proposal" in finding for finding in verify(office.workspace).findings)


def test_a_proposal_that_was_done_is_not_done_again_by_putting_its_row_back(office: Office) -> None:
    made = office.proposed()
    office.approved(made)
    office.done(made)
    with open_ledger(office.workspace) as ledger, ledger.writing() as session:
        session.execute(text("UPDATE proposals SET state = 'approved'"))
        with pytest.raises(IntegrityViolated, match="is not what the audit log tells"):
            require_approved(session, office.workspace, made.id, made.kind, made.what, NOW)


def test_putting_a_contract_into_force_takes_two(office: Office) -> None:
    place = acting_as(office.workspace, Who("eng", ("engineer",)))
    with pytest.raises(NeedsApproval, match="put into force by two persons") as needed:
        sign_contract(place, DATASET, NOW, reason="first contract")
    assert read_statements(office.workspace, DATASET).versions == ()
    made = propose(office.workspace, place.who or ROOT, needed.value.wish, NOW)
    office.approved(made)
    assert office.done(made) == "version 1 of the contract of flights is in force"
    # What was approved was that contract: another one takes another approval.
    office.workspace.contract(DATASET).write_text(BOLD + "# looser\n")
    with pytest.raises(Forbidden, match="is not approved"):
        sign_contract(place, DATASET, NOW, proposal=made.id)
    assert verify(acting_as(office.workspace, ROOT)).findings != ()  # it is not the signed one any longer
    office.workspace.contract(DATASET).write_text(BOLD)
    assert verify(acting_as(office.workspace, ROOT)).findings == ()


def test_adding_to_the_trusted_set_takes_two(workspace: Workspace) -> None:
    lines = [f"k{i},{i % 5},{str(i % 2 == 0).lower()}" for i in range(40)]
    (workspace.root / "contracts" / "known.csv").write_text("\n".join(["id,x,late", *lines]) + "\n")
    office = Office(workspace, CONTRACT.replace("label: late\n", "label: late\ntrusted: known.csv\n"))
    meant = Selection("records", "0" * 64, frozenset({"r1", "r2"}))
    with pytest.raises(NeedsApproval, match="says what is usual") as needed:
        add(office.place(office.ben), DATASET, meant, word("looked at them", "cleo", NOW))
    made = propose(workspace, Who("cleo", ("approver",)), needed.value.wish, NOW)
    office.approved(made)
    assert "2 records are in the trusted set of flights" in office.done(made)
    assert [act.actor for act in list_acts(workspace)] == ["cleo"]
    assert office.done(made) == "done already"


def test_many_at_once_take_two_and_so_do_many_one_after_the_other(workspace: Workspace) -> None:
    office = Office(workspace, CONTRACT.rstrip() + "\npolicy: {two_persons: {q_value: 0, records: 1}}\n")
    first, second = (case.id for case in list_cases(workspace))
    assert "2 records of b-" in office.wants(office.ann, [first, second]).wish.why[0]
    release(office.place(office.ann), [first], word("fine", "ann", NOW), check=no_fault)
    assert "1 records of b-" in office.wants(office.ann, [second]).wish.why[0]
    later = word("fine", "ann", NOW + timedelta(days=1, seconds=1))
    assert release(office.place(office.ann), [second], later, check=no_fault)


def test_a_held_batch_of_many_takes_two(workspace: Workspace) -> None:
    office = Office(workspace, CONTRACT.rstrip() + "\npolicy: {two_persons: {records: 3}}\n")
    batch = publish(acting_as(workspace, Who("eng", ("engineer",))), 100, hold=True).batch
    with pytest.raises(Forbidden, match=r"batch\.decide"):
        release_batch(office.place(office.ann), batch, word("fine", "ann", NOW), check=no_fault)
    with pytest.raises(NeedsApproval, match=r"8 records of b-.* are more than 3"):
        release_batch(office.place(office.ben), batch, word("fine", "ben", NOW), check=no_fault)


def test_ones_own_cases_are_those_of_nobody_else(workspace: Workspace) -> None:
    office = Office(workspace, CONTRACT.rstrip() + "\npolicy: {two_persons: {q_value: 0}}\n")
    first, second = (case.id for case in list_cases(workspace))
    said = word("mine", "ann", NOW)
    with pytest.raises(Forbidden, match="another person"):
        assign(office.place(office.ann), [first], "ben", said)
    assign(office.place(office.ann), [first], "ann", said)
    assign(office.place(office.ben), [second], "ben", word("mine", "ben", NOW))
    with pytest.raises(Forbidden, match="another person"):
        release(office.place(office.ann), [first, second], said, check=no_fault)
    assert discard(office.place(office.ann), [first], said) == (first,)
