from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from lazaretto.config import dataset_lock
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines.cases import MASKED, count_cases, list_cases, show_case
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.review import (
    assign,
    discard,
    discard_batch,
    release,
    release_batch,
    word,
)
from lazaretto.pipelines.status import status
from lazaretto.pipelines.verify import verify
from lazaretto.tables import CaseRow
from tests.harness import DATASET, NOW, no_fault, publish, stored
from tests.ledger_tampering import alter

if TYPE_CHECKING:
    from types import ModuleType

    from lazaretto.config import Workspace
    from lazaretto.pipelines.cases import Case

SAID = word("looked at it", "ann", NOW)


def only_case(workspace: Workspace) -> Case:
    (case,) = list_cases(workspace)
    return case


def test_cases_are_listed_the_most_suspicious_first_and_filtered(workspace: Workspace) -> None:
    first = publish(workspace, rows=30)
    publish(workspace, 100)
    assert [case.record_id for case in list_cases(workspace, batch=first.batch)] == ["r5", "r15", "r25"]
    assert len(list_cases(workspace)) == 4
    assert len(list_cases(workspace, limit=2, offset=3)) == 1
    assert list_cases(workspace, dataset="trains") == list_cases(workspace, state="released") == []
    assert count_cases(workspace, dataset=DATASET) == {"open": 4, "released": 0, "discarded": 0}
    with pytest.raises(UsageError, match="'opne' is no state"):
        list_cases(workspace, state="opne")


def test_cases_of_equal_p_value_are_listed_by_suspicion_and_what_has_none_first(workspace: Workspace) -> None:
    publish(workspace, rows=40)
    with open_ledger(workspace) as ledger, ledger.writing() as session:
        for record, suspicion in (("r5", 3.1), ("r15", None), ("r25", 3.2), ("r35", 9.9)):
            session.execute(update(CaseRow).where(CaseRow.record_id == record).values(suspicion=suspicion))
        session.execute(update(CaseRow).where(CaseRow.record_id == "r35").values(p_value=0.002))
    assert [case.record_id for case in list_cases(workspace)] == ["r15", "r25", "r5", "r35"]


def test_a_case_shows_its_record_its_reasons_and_its_story(workspace: Workspace) -> None:
    publish(workspace)
    case = only_case(workspace)
    assign(workspace, [case.id], "bob", SAID)
    file = show_case(workspace, case.id)
    assert file.record == {"id": "r5", "x": 1000.0, "late": False}
    assert file.case.reasons == ("outlier: x is far out",)
    assert file.case.evidence[0]["detector"] == "outlier"
    assert file.case.assignee == "bob"
    assert [(said.action, said.actor, said.reason) for said in file.decisions] == [("assign", "ann", "looked at it")]
    with pytest.raises(UsageError, match="there is no case nobody"):
        show_case(workspace, "nobody")


def test_personal_columns_are_shown_only_when_asked_for(workspace: Workspace) -> None:
    publish(workspace)
    path = workspace.contract(DATASET)
    path.write_text(path.read_text().replace("x: {type: number}", "x: {type: number, pii: true}"))
    case = only_case(workspace)
    assert show_case(workspace, case.id).record["x"] == MASKED
    assert show_case(workspace, case.id, personal=True).record["x"] == 1000.0
    path.unlink()
    assert set(show_case(workspace, case.id).record.values()) == {MASKED}


def test_a_released_record_enters_the_store_once_with_its_own_attestation(workspace: Workspace) -> None:
    batch = publish(workspace)
    case = only_case(workspace)
    (released,) = release(workspace, [case.id], SAID, check=no_fault)
    assert (released.records, released.version, released.epoch) == (1, 3, 2)
    assert stored(workspace)["_record_id"].to_list().count("r5") == 1
    head = read_chain(workspace, DATASET).head
    assert head is not None
    assert (head.kind, head.unit, head.batch) == ("release", released.unit, batch.batch)
    assert gate(DATASET, workspace=workspace).active_rows == 9
    assert show_case(workspace, case.id).case.state == "released"
    assert verify(workspace).findings == ()


def test_what_was_decided_is_not_decided_again(workspace: Workspace) -> None:
    publish(workspace, rows=20)
    one, two = (case.id for case in list_cases(workspace))
    release(workspace, [one], SAID, check=no_fault)
    discard(workspace, [two], SAID)
    for case, state in ((one, "released"), (two, "discarded")):
        for again in (
            lambda ids: release(workspace, ids, SAID, check=no_fault),
            lambda ids: discard(workspace, ids, SAID),
            lambda ids: assign(workspace, ids, "bob", SAID),
        ):
            with pytest.raises(UsageError, match=rf"case {case} was {state} by ann at 2026.*: looked at it"):
                again([case])
    assert stored(workspace).height == 17
    assert verify(workspace).findings == ()


@pytest.mark.parametrize("reason", ["", "  ", "\n"])
def test_a_decision_needs_a_reason(reason: str) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        word(reason)


def test_all_or_none_of_what_is_decided_together(workspace: Workspace) -> None:
    publish(workspace, rows=20)
    one, two = (case.id for case in list_cases(workspace))
    with pytest.raises(UsageError, match="no case nobody"):
        release(workspace, [one, "nobody"], SAID, check=no_fault)
    broken = {15: "x is not between 0 and 9"}
    with pytest.raises(UsageError, match=r"record 15 of b-.* breaks today's contract of flights: x is not between"):
        release(workspace, [one, two], SAID, check=lambda *_: broken)
    assert count_cases(workspace)["open"] == 2
    assert stored(workspace).height == 16
    assert not workspace.work(DATASET).exists()
    release(workspace, [one, two], SAID, check=no_fault)
    assert stored(workspace).height == 18


def test_cases_of_two_batches_are_two_releases(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    released = release(workspace, [case.id for case in list_cases(workspace)], SAID, check=no_fault)
    assert len({item.batch for item in released}) == len({item.unit for item in released}) == 2
    assert stored(workspace).height == 18


def test_a_released_record_is_judged_by_todays_contract(workspace: Workspace, gx: ModuleType) -> None:
    publish(workspace, rows=20)
    one, two = (case.id for case in list_cases(workspace))
    release(workspace, [one], SAID)
    path = workspace.contract(DATASET)
    path.write_text(path.read_text().replace("x: {type: number}", "x: {type: number, max: 9}"))
    with pytest.raises(UsageError, match="breaks today's contract"):
        release(workspace, [two], SAID)
    assert stored(workspace)["x"].max() == 1000.0
    assert count_cases(workspace) == {"open": 1, "released": 1, "discarded": 0}


def test_what_only_a_batch_can_break_does_not_keep_a_record_in(workspace: Workspace, gx: ModuleType) -> None:
    publish(workspace)
    path = workspace.contract(DATASET)
    path.write_text(
        path.read_text()
        + "expectations:\n- {type: expect_column_mean_to_be_between, column: x, min_value: 0, max_value: 9}\n"
        + "policy: {min_records: 100}\n"
    )
    (released,) = release(workspace, [only_case(workspace).id], SAID)
    assert released.records == 1


def test_the_rest_of_a_held_batch_is_released_as_a_whole(workspace: Workspace) -> None:
    batch = publish(workspace, hold=True, rows=20).batch
    released = release_batch(workspace, batch, SAID, check=no_fault)
    assert (released.records, released.cases) == (16, ())
    assert stored(workspace)["x"].max() == 6.0
    assert gate(DATASET, batch=batch, workspace=workspace).version == released.version
    assert count_cases(workspace)["open"] == 2
    for again in (release_batch, discard_batch):
        with pytest.raises(UsageError, match="is not held: it is released"):
            again(workspace, batch, SAID)
    assert verify(workspace).findings == ()


def test_one_record_of_a_held_batch_does_not_make_the_batch_admitted(workspace: Workspace) -> None:
    batch = publish(workspace, hold=True).batch
    release(workspace, [only_case(workspace).id], SAID, check=no_fault)
    assert gate(DATASET, workspace=workspace).active_rows == 1
    from lazaretto.errors import Blocked

    with pytest.raises(Blocked, match="is held since"):
        gate(DATASET, batch=batch, workspace=workspace)


def test_a_discarded_batch_stays_out_and_so_do_its_records(workspace: Workspace) -> None:
    batch = publish(workspace, hold=True, rows=20).batch
    assert discard_batch(workspace, batch, SAID) == 16
    again = publish(workspace, rows=21)
    assert (again.counts["rejected"], again.counts["admitted"]) == (18, 1)
    assert verify(workspace).findings == ()


def test_only_a_batch_that_exists_and_is_held_can_be_released(workspace: Workspace) -> None:
    batch = publish(workspace).batch
    with pytest.raises(UsageError, match="is not held: it is admitted"):
        release_batch(workspace, batch, SAID, check=no_fault)
    with pytest.raises(UsageError, match="there is no batch b-0"):
        release_batch(workspace, "b-0", SAID, check=no_fault)


def test_assigning_is_told_and_can_be_done_again(workspace: Workspace) -> None:
    publish(workspace)
    case = only_case(workspace).id
    for name in ("bob", "eve"):
        assign(workspace, [case], name, SAID)
    assert [found.id for found in list_cases(workspace, assignee="eve")] == [case]
    with pytest.raises(UsageError, match="the name is empty"):
        assign(workspace, [case], " ", SAID)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        assert [entry.action for entry, _ in read_audit(session)][1:] == ["case.assigned"] * 2


def test_nobody_decides_while_somebody_works_on_the_data_set(workspace: Workspace) -> None:
    publish(workspace)
    case = only_case(workspace).id
    with dataset_lock(workspace, DATASET):
        for decide in (release, discard):
            with pytest.raises(UsageError, match="worked on by another"):
                decide(workspace, [case], SAID)


def test_deciding_on_nothing_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="no case was named"):
        discard(workspace, [], SAID)


def cases_of_two_batches(workspace: Workspace) -> list[str]:
    publish(workspace)
    publish(workspace, 100)
    return [case.id for case in list_cases(workspace)]


def test_a_mistake_in_the_second_batch_changes_nothing_in_the_first(workspace: Workspace) -> None:
    one, two = cases_of_two_batches(workspace)
    discard(workspace, [two], SAID)
    for decide in (
        lambda ids: release(workspace, ids, SAID, check=no_fault),
        lambda ids: discard(workspace, ids, SAID),
        lambda ids: assign(workspace, ids, "bob", SAID),
    ):
        with pytest.raises(UsageError, match=f"case {two} was discarded"):
            decide([one, two])
    assert count_cases(workspace) == {"open": 1, "released": 0, "discarded": 1}
    assert only_case(workspace).assignee is None
    assert stored(workspace).height == 16


def test_a_quarantine_that_cannot_be_opened_keeps_everything_from_being_discarded(workspace: Workspace) -> None:
    ids = cases_of_two_batches(workspace)
    (workspace.quarantine(DATASET, list_cases(workspace)[1].batch) / "manifest").write_bytes(b"x")
    with pytest.raises(IntegrityViolated):
        discard(workspace, ids, SAID)
    assert count_cases(workspace)["discarded"] == 0


def test_a_breach_in_the_second_batch_says_what_was_released_before(workspace: Workspace) -> None:
    ids = cases_of_two_batches(workspace)
    answers = iter([{}, {5: "x is not between 0 and 9"}])
    first = list_cases(workspace)[0].batch
    with pytest.raises(UsageError, match=rf"breaks today's contract .*; released before that: 1 of {first}"):
        release(workspace, ids, SAID, check=lambda *_: next(answers))
    assert count_cases(workspace) == {"open": 1, "released": 1, "discarded": 0}
    assert verify(workspace).findings == ()


def test_nothing_is_released_by_the_contract_of_another_data_set(workspace: Workspace) -> None:
    publish(workspace)
    path = workspace.contract(DATASET)
    path.write_text(path.read_text().replace("dataset: flights", "dataset: trains"))
    with pytest.raises(UsageError, match="is the contract of 'trains', not of 'flights'"):
        release(workspace, [only_case(workspace).id], SAID, check=no_fault)
    assert stored(workspace).height == 8


@pytest.mark.parametrize(("state", "said"), [("open", "was discarded by ann"), ("released", "was discarded by ann")])
def test_a_decided_case_that_is_said_to_be_otherwise_is_not_released(
    state: str, said: str, workspace: Workspace
) -> None:
    publish(workspace)
    case = only_case(workspace).id
    discard(workspace, [case], SAID)
    alter(workspace, "UPDATE cases SET state = :state", state=state)
    with pytest.raises(IntegrityViolated, match=rf"case {case} is said to be {state}, but it {said}"):
        release(workspace, [case], SAID, check=no_fault)
    assert stored(workspace).height == 8


def test_what_nobody_decided_on_but_is_said_to_be_decided_is_refused(workspace: Workspace) -> None:
    batch = publish(workspace, hold=True).batch
    case = only_case(workspace).id
    alter(workspace, "UPDATE cases SET state = 'released'")
    alter(workspace, "UPDATE batches SET state = 'released'")
    with pytest.raises(IntegrityViolated, match="but nobody decided on it"):
        release(workspace, [case], SAID, check=no_fault)
    with pytest.raises(IntegrityViolated, match="but nobody decided on it"):
        release_batch(workspace, batch, SAID, check=no_fault)


@pytest.mark.parametrize(
    "change",
    ["reasons = '['", "reasons = '{}'", "reasons = '[1]'", "evidence = 'x'", "evidence = '[\"x\"]'", "p_value = '['"],
)
def test_a_case_with_garbage_in_it_is_one_sentence(change: str, workspace: Workspace) -> None:
    publish(workspace)
    case = only_case(workspace).id
    alter(workspace, f"UPDATE cases SET {change}")  # noqa: S608  ours
    for look in (lambda: list_cases(workspace), lambda: show_case(workspace, case)):
        with pytest.raises(IntegrityViolated, match=rf"what the ledger says of case {case} cannot be read") as error:
            look()
        assert "lazaretto verify" in str(error.value.hint)


@pytest.mark.parametrize("reasons", ["[]", "{", "[1]", "null"])
def test_the_status_is_shown_although_a_batchs_reasons_cannot_be_read(reasons: str, workspace: Workspace) -> None:
    batch = publish(workspace, hold=True).batch
    alter(workspace, "UPDATE batches SET hold_reasons = :reasons", reasons=reasons)
    (one,) = status(workspace)
    (held,) = one.held
    assert held["reasons"] == [f"the ledger's reasons for holding batch {batch} cannot be read; run lazaretto verify"]
    with pytest.raises(IntegrityViolated, match="cannot be read"):
        gate(DATASET, workspace=workspace)


def test_the_status_is_shown_although_a_batch_is_of_no_data_set(workspace: Workspace) -> None:
    publish(workspace, hold=True)
    alter(workspace, "UPDATE batches SET dataset = x'ff'")
    assert DATASET in {one.dataset for one in status(workspace)}


@pytest.mark.parametrize("reason", ["not \udcff text", "a\0b"])
def test_a_reason_that_cannot_be_kept_is_refused(reason: str) -> None:
    with pytest.raises(UsageError, match="no text that can be kept"):
        word(reason, "ann")


@pytest.mark.parametrize("name", ["x" * 201, "bob\udcff", "bob\n"])
def test_a_name_that_cannot_be_kept_is_refused(name: str, workspace: Workspace) -> None:
    publish(workspace)
    with pytest.raises(UsageError, match="is no name"):
        word("because", name)
    with pytest.raises(UsageError, match="is no name"):
        assign(workspace, [only_case(workspace).id], f"{name}.", SAID)
