from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from lazaretto.errors import IntegrityViolated
from lazaretto.ledger import open_ledger
from lazaretto.pipelines.cases import list_cases, show_case
from lazaretto.pipelines.review import assign, discard, discard_batch, release, release_batch
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, copy_workspace, no_fault, publish
from tests.ledger_tampering import SAID, alter, found, make_full, rewrite

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_full(tmp_path_factory.mktemp("full")).root


@pytest.fixture
def full(template: Path, tmp_path: Path) -> Workspace:
    return copy_workspace(template, tmp_path)


@pytest.mark.parametrize(
    "change", ["row = row + 1000", "p_value = 0.9", "evidence = '[]'", "reasons = '['", "record_id = 'zz'"]
)
def test_a_case_that_was_made_to_say_something_else_is_found(change: str, full: Workspace) -> None:
    case = list_cases(full)[0].id
    with open_ledger(full) as ledger, ledger.writing() as session:
        session.execute(text(f"UPDATE cases SET {change} WHERE id = :case"), {"case": case})  # noqa: S608  ours
    assert f"case {case} is not what was judged" in found(full)


def test_a_case_that_points_at_another_record_is_not_released(full: Workspace) -> None:
    case = list_cases(full)[0].id
    with open_ledger(full) as ledger, ledger.writing() as session:
        session.execute(text("UPDATE cases SET row = row + 1000 WHERE id = :case"), {"case": case})
    with pytest.raises(IntegrityViolated, match="another record"):
        release(full, [case], SAID, check=no_fault)


@pytest.mark.parametrize("change", ["dataset = 'trains'", "dataset = x'ff'"])
def test_a_case_of_another_data_set_than_its_batch_is_neither_shown_nor_released(change: str, full: Workspace) -> None:
    case = list_cases(full)[0].id
    alter(full, f"UPDATE cases SET {change} WHERE id = :case", case=case)  # noqa: S608  ours
    for use in (lambda: show_case(full, case), lambda: release(full, [case], SAID, check=no_fault)):
        with pytest.raises(IntegrityViolated, match="another record"):
            use()


def test_a_case_whose_batch_is_gone_is_refused_before_anything_is_published(full: Workspace) -> None:
    case = list_cases(full)[0].id
    with closing(sqlite3.connect(full.state / "ledger.db")) as connection, connection:
        connection.execute("UPDATE batches SET id = 'x' || id")
    for use in (lambda: show_case(full, case), lambda: release(full, [case], SAID, check=no_fault)):
        with pytest.raises(IntegrityViolated, match="another record"):
            use()
    assert not full.journal(DATASET).exists()


@pytest.mark.parametrize("digests", ["[]", "x", "{}"])
def test_digests_of_a_batch_that_cannot_be_read_are_found(digests: str, full: Workspace) -> None:
    with open_ledger(full) as ledger, ledger.writing() as session:
        session.execute(text("UPDATE batches SET digests = :said"), {"said": digests})
    assert "cannot be read" in found(full)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE batches SET admitted = admitted + 1, rejected = rejected - 1", "is not the one the audit log tells"),
        ("UPDATE batches SET digests = '{}'", "is not the one the audit log tells"),
        ("UPDATE batches SET version = 9", "is not the one the audit log tells"),
        ("UPDATE cases SET state = 'released' WHERE state = 'open'", "its decisions say open"),
        ("UPDATE cases SET state = 'open'", "its decisions say"),
        ("DELETE FROM cases WHERE state = 'open'", "has 0 cases where it had 1"),
        ("DELETE FROM decisions", "the decision to release"),
        ("UPDATE decisions SET action = 'release'", "the decision to discard"),
        ("DELETE FROM training_runs", "training run train-7"),
        ("DELETE FROM discards", "remembers 0 discarded records"),
        ("UPDATE audit SET actor = 'eve' WHERE seq = 2", "audit entry 2 .batch.admitted"),
        ("UPDATE audit SET detail = '{' WHERE seq = 2", "audit entry 2 .batch.admitted"),
        ("UPDATE audit SET previous = x'ff' WHERE seq = 2", "audit entry 2 .batch.admitted"),
        ("DELETE FROM audit WHERE seq = 3", "audit entry 3 is missing"),
        ("DELETE FROM audit WHERE seq = 6", "has 5 entries but checkpoint"),
        ("DELETE FROM audit", "has 0 entries but checkpoint"),
        ("UPDATE decisions SET reason = 'x' WHERE action = 'discard'", "the decision to discard"),
        ("UPDATE decisions SET actor = 'eve' WHERE action = 'release'", "the decision to release"),
        ("UPDATE decisions SET at = 'x' WHERE action = 'release'", "the decision to release"),
        ("UPDATE decisions SET unit = 'x' WHERE action = 'release'", "the decision to release"),
        ("UPDATE batches SET actor = 'eve'", "is not the one the audit log tells"),
        ("UPDATE batches SET ingested_at = 'x'", "is not the one the audit log tells"),
        ("UPDATE batches SET hold_reasons = '[\"x\"]' WHERE state = 'held'", "the reasons for holding batch"),
        ("UPDATE batches SET hold_reasons = '[\"x\"]' WHERE state = 'admitted'", "the reasons for holding batch"),
        ("UPDATE batches SET hold_reasons = '[]' WHERE state = 'held'", "reasons for holding batch .* cannot be read"),
        ("UPDATE batches SET hold_reasons = '{'", "reasons for holding batch .* cannot be read"),
        ("UPDATE batches SET dataset = 'trains' WHERE state = 'held'", "is in the audit log but gone from the ledger"),
        ("UPDATE batches SET dataset = '../x' WHERE state = 'held'", "'../x', which is no data set's"),
        ("UPDATE batches SET state = 'admitted'", "is said to be admitted, but it is held"),
        ("UPDATE batches SET state = 'held'", "is said to be held, but it is admitted"),
        ("UPDATE cases SET assignee = 'eve' WHERE state = 'open'", "is not assigned to whom its decisions say"),
        ("UPDATE cases SET dataset = 'trains'", "has 0 cases where it had 2"),
        ("UPDATE batches SET dataset = 'trains' WHERE state = 'held'", "there are cases of batch .* no batch of their"),
        ("UPDATE cases SET p_value = '['", "is not what was judged"),
        ("UPDATE cases SET evidence = x'ff'", "is not what was judged"),
        ("UPDATE discards SET mac = 'ab'", "the records of batch .* are not those"),
        ("UPDATE discards SET mac = x'ff'", "the records of batch .* are not those"),
        ("UPDATE decisions SET assignee = 'eve' WHERE action = 'discard'", "the decision to discard"),
        ("UPDATE discards SET at = 'x'", "the records of batch .* discarded at x are not those"),
        ("UPDATE training_runs SET epoch = 9", "training run train-7"),
        ("UPDATE training_runs SET at = 'x'", "training run train-7"),
        ("UPDATE decisions SET reason = x'ff'", "cannot be compared with anything"),
    ],
)
def test_every_change_of_the_ledger_is_found(statement: str, said: str, full: Workspace) -> None:
    alter(full, statement)
    assert re.search(said, found(full))


@pytest.mark.parametrize("detail", ["{}", "[]", '{"counts": 3}', "null", "NaN", "9", '"x"', "[" * 100_000])
def test_entries_of_another_shape_are_found_and_nothing_is_made_of_them(detail: str, full: Workspace) -> None:
    alter(full, "UPDATE audit SET detail = :detail", detail=detail)
    assert "audit entry 1 (batch.admitted" in found(full)


@pytest.mark.parametrize("detail", [{}, [], {"counts": 3}, {"counts": {}, "digests": {}, "epoch": 1}])
def test_entries_that_fit_their_hash_but_say_too_little_are_found(detail: object, full: Workspace) -> None:
    rewrite(full, lambda _old: detail)
    said = found(full)
    assert "does not say what such an entry says" in said
    assert "the audit log does not tell of batch" in said


def test_what_earlier_versions_wrote_is_found_sound(full: Workspace) -> None:
    later = {"reason", "hold_reasons", "discards", "assignee"}
    assign(full, [list_cases(full)[0].id], "bob", SAID)

    def earlier(detail: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in detail.items() if name not in later}
        if "digests" in kept:
            kept["digests"] = {name: digest for name, digest in kept["digests"].items() if name != "summary"}
        return kept

    rewrite(full, earlier)
    alter(full, "UPDATE batches SET digests = json_remove(digests, '$.summary')")
    alter(full, "UPDATE batches SET digests = replace(replace(digests, ':', ': '), ',', ', ')")
    assert verify(full).findings == ()
    for path in (full.state / "batches").glob("*/summary.json"):
        path.unlink()
    assert verify(full).findings == ()


def test_every_way_to_decide_leaves_a_sound_workspace(full: Workspace) -> None:
    batch = publish(full, 300, hold=True, rows=20).batch
    other = publish(full, 400, hold=True, rows=20).batch
    three, four, *_ = (case.id for case in list_cases(full, batch=batch))
    for name in ("bob", "eve"):
        assign(full, [three, four], name, SAID)
    for case in (three, four):
        discard(full, [case], SAID)  # within one second
    release_batch(full, batch, SAID, check=no_fault)
    discard_batch(full, other, SAID)
    assert verify(full).findings == ()
    alter(full, "UPDATE decisions SET assignee = 'ann' WHERE assignee = 'bob'")
    assert "the decision to assign" in found(full)


def test_a_discarded_batch_that_is_said_to_be_held_again_is_found_and_not_released(full: Workspace) -> None:
    batch = publish(full, 300, hold=True).batch
    discard_batch(full, batch, SAID)
    alter(full, "UPDATE batches SET state = 'held' WHERE id = :batch", batch=batch)
    assert f"batch {batch} is said to be held, but it is discarded" in found(full)
    for again in (lambda: release_batch(full, batch, SAID, check=no_fault), lambda: discard_batch(full, batch, SAID)):
        with pytest.raises(IntegrityViolated, match=r"is said to be held, but it was discarded by ann"):
            again()
