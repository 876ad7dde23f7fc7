"""Recalled records leave the store by a new attested version; old ones are closed, runs that read them are named."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import polars as pl
import pytest
from sqlalchemy import select, text

import lazaretto
from lazaretto.errors import Blocked, IntegrityViolated, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.recall import list_recalls, look, recall
from lazaretto.pipelines.recalled import LIST
from lazaretto.pipelines.review import word
from lazaretto.pipelines.selection import Selection
from lazaretto.pipelines.verify import verify
from lazaretto.tables import DiscardRow
from tests.harness import CONTRACT, DATASET, NOW, publish, stored

if TYPE_CHECKING:
    from lazaretto.config import Workspace

SAID = word("the supplier was broken into", "ann", NOW)


def some(*ids: str) -> Selection:
    return Selection("records", "0" * 64, frozenset(ids))


def ids(workspace: Workspace) -> list[str]:
    return stored(workspace)["_record_id"].to_list()


def test_single_records_leave_the_store_and_the_others_stay_as_they_were(workspace: Workspace) -> None:
    publish(workspace, rows=20)
    before = stored(workspace)
    made = recall(workspace, DATASET, some("r1", "r12", "elsewhere"), SAID)
    assert (made.records, made.version, made.epoch, made.readers) == (2, 3, 2, ())
    expected = before.filter(~pl.col("_record_id").is_in(["r1", "r12"]))
    assert stored(workspace).equals(expected)
    frames = pl.concat(lazaretto.open_admitted(DATASET, workspace=workspace, columns=["id", "x"]).frames())
    assert sorted(frames["id"]) == sorted(expected["id"])
    attestation = gate(DATASET, workspace=workspace)
    assert (attestation.kind, attestation.unit, attestation.active_rows) == ("recall", made.unit, 14)
    # Only the files that held one of them were written anew.
    assert len(attestation.removed) == len(attestation.added) == 2
    assert verify(workspace).findings == ()


def test_another_delta_reader_sees_what_we_see(workspace: Workspace) -> None:
    publish(workspace, rows=20)
    recall(workspace, DATASET, some("r1"), SAID)
    from deltalake import DeltaTable

    table = DeltaTable(workspace.store(DATASET))
    assert sorted(table.to_pyarrow_table()["_record_id"].to_pylist()) == ids(workspace)
    assert table.history(1)[0]["operation"] == "DELETE"
    # An earlier version can still be read by whoever goes past the gate, as evidence.
    assert "r1" in DeltaTable(workspace.store(DATASET), version=2).to_pyarrow_table()["_record_id"].to_pylist()


def test_a_version_with_recalled_records_is_closed_and_one_before_them_is_not(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    made = recall(workspace, DATASET, some("r101"), SAID)
    with pytest.raises(Blocked, match=f"version 3 of flights holds records that were recalled .*{made.unit}"):
        gate(DATASET, version=3, workspace=workspace)
    with pytest.raises(Blocked, match="recalled"):
        lazaretto.open_admitted(DATASET, version=3, workspace=workspace)
    assert gate(DATASET, version=2, workspace=workspace).version == 2
    assert gate(DATASET, workspace=workspace).version == 4


def test_the_runs_that_read_them_are_named_and_no_other(workspace: Workspace) -> None:
    publish(workspace)
    gate(DATASET, run="before they came", workspace=workspace)
    publish(workspace, 100)
    gate(DATASET, run="read them", workspace=workspace)
    lazaretto.open_admitted(DATASET, workspace=workspace, run="read them too")
    made = recall(workspace, DATASET, some("r101"), SAID)
    gate(DATASET, run="after they went", workspace=workspace)
    assert {reader.run for reader in made.readers} == {"read them", "read them too"}
    # A second recall from a file that is a remainder by now finds the runs that read it before the first.
    again = recall(workspace, DATASET, some("r102"), SAID)
    assert {reader.run for reader in again.readers} == {"read them", "read them too", "after they went"}
    assert [one.unit for one in list_recalls(workspace)] == [made.unit, again.unit]


def test_a_recalled_batch_is_gone_whole_and_the_gate_says_so(workspace: Workspace) -> None:
    first, second = publish(workspace), publish(workspace, 100)
    recall(workspace, DATASET, Selection("batch", first.batch), SAID)
    assert set(stored(workspace)["_batch_id"]) == {second.batch}
    with pytest.raises(Blocked, match=f"batch {first.batch} was recalled"):
        gate(DATASET, batch=first.batch, workspace=workspace)
    gate(DATASET, batch=second.batch, workspace=workspace)
    recall(workspace, DATASET, Selection("batch", second.batch), SAID)
    with pytest.raises(Blocked, match="holds no records: all were recalled"):
        gate(DATASET, workspace=workspace)
    # What comes after that is stored as ever.
    publish(workspace, 200)
    assert gate(DATASET, workspace=workspace).active_rows == 8
    assert verify(workspace).findings == ()


@pytest.mark.parametrize("selection", [Selection("after", "2"), some(*(f"r{number}" for number in range(100, 110)))])
def test_a_batch_of_which_everything_was_recalled_in_another_way_is_not_there(
    selection: Selection, workspace: Workspace
) -> None:
    first, second = publish(workspace), publish(workspace, 100)
    recall(workspace, DATASET, some("r101"), SAID)
    assert gate(DATASET, batch=second.batch, workspace=workspace)  # the rest of it is
    recall(workspace, DATASET, selection, SAID)
    with pytest.raises(Blocked, match=f"batch {second.batch} was recalled"):
        gate(DATASET, batch=second.batch, workspace=workspace)
    gate(DATASET, batch=first.batch, workspace=workspace)


def test_everything_is_rolled_back_to_the_empty_table(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    assert recall(workspace, DATASET, Selection("after", "0"), SAID).records == 16
    with pytest.raises(Blocked, match="holds no records"):
        gate(DATASET, workspace=workspace)


@pytest.mark.parametrize("may_return", [False, True])
def test_the_same_file_comes_again_as_another_batch_where_all_of_it_may_return(
    may_return: bool, workspace: Workspace
) -> None:
    first = publish(workspace)
    made = recall(workspace, DATASET, Selection("batch", first.batch), SAID, may_return=may_return)
    again = publish(workspace)
    if not may_return:
        assert (again.batch, again.already, again.recalled) == (first.batch, True, made.unit)
        assert ids(workspace) == []
        return
    assert again.batch != first.batch
    assert not again.already
    assert again.counts == first.counts
    assert gate(DATASET, batch=again.batch, workspace=workspace).active_rows == 8
    assert publish(workspace).batch == again.batch  # and once more changes nothing
    assert verify(workspace).findings == ()


def test_a_source_is_recalled_by_its_name(workspace: Workspace) -> None:
    publish(workspace)
    with pytest.raises(UsageError, match="names no source"):
        recall(workspace, DATASET, Selection("source", "r1"), SAID)
    workspace.contract(DATASET).write_text(CONTRACT.replace("id: id\n", "source: id\n", 1))
    made = recall(workspace, DATASET, Selection("source", "r1"), SAID)
    assert made.records == 1
    assert "r1" not in ids(workspace)
    with pytest.raises(UsageError, match="no record of source 'r22' is in the store") as refused:
        recall(workspace, DATASET, Selection("source", "r22"), SAID)
    assert refused.value.hint == "did you mean 'r2'?"
    with pytest.raises(UsageError, match="of source 'sky'") as refused:
        recall(workspace, DATASET, Selection("source", "sky"), SAID)
    assert refused.value.hint.startswith("sources that are there: r0, r2, ")


def test_rolling_back_takes_out_what_came_after_a_version_and_nothing_before(workspace: Workspace) -> None:
    publish(workspace)
    before = ids(workspace)
    publish(workspace, 100)
    recall(workspace, DATASET, some("r1"), SAID)
    publish(workspace, 200)
    made = recall(workspace, DATASET, Selection("after", "2"), SAID)
    assert made.records == 16
    assert ids(workspace) == [name for name in before if name != "r1"]
    with pytest.raises(UsageError, match="version 17 of flights was never published"):
        recall(workspace, DATASET, Selection("after", "17"), SAID)


@pytest.mark.parametrize("may_return", [False, True])
def test_what_was_recalled_is_refused_when_it_comes_again_unless_that_is_allowed(
    may_return: bool, workspace: Workspace
) -> None:
    batch = publish(workspace).batch
    made = recall(workspace, DATASET, some("r1", "r2"), SAID, may_return=may_return)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        kept = session.scalars(select(DiscardRow)).all()
        assert [(row.batch_id, row.at) for row in kept] == [] if may_return else [(batch, SAID.at)] * 2
        entries = [entry for entry, _ in read_audit(session)]
    list_ = pl.read_parquet(workspace.recall(DATASET, made.unit) / LIST)
    assert sorted(list_["record_id"]) == ["r1", "r2"]
    assert may_return or sorted(list_["keyed"]) == sorted(row.mac for row in kept)
    # The audit log names digests, never what was recalled by.
    told = json.dumps([entry.detail for entry in entries])
    assert SAID.reason not in told
    assert made.unit in {entry.subject for entry in entries}
    assert verify(workspace).findings == ()


def test_nothing_that_is_meant_is_an_error_and_changes_nothing(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="nothing of flights was ever admitted"):
        recall(workspace, DATASET, some("r1"), SAID)
    publish(workspace)
    # r5 waits in quarantine.
    with pytest.raises(UsageError, match="no record among the 1 listed is in the store of flights"):
        recall(workspace, DATASET, some("r5"), SAID)
    assert len(read_chain(workspace, DATASET).attestations) == 1
    assert list_recalls(workspace) == []
    assert verify(workspace).findings == ()


def test_looking_says_no_where_the_recall_would(workspace: Workspace) -> None:
    publish(workspace)
    with pytest.raises(UsageError, match="no record among the 1 listed"):
        look(workspace, DATASET, some("r5"))
    before = workspace.root.with_name("before")
    shutil.copytree(workspace.root, before)
    publish(workspace, 100)
    gate(DATASET, workspace=workspace)
    shutil.rmtree(workspace.root)
    shutil.copytree(before, workspace.root)
    with pytest.raises(IntegrityViolated, match="the store was put back"):
        look(workspace, DATASET, some("r1"))


def test_looking_changes_nothing(workspace: Workspace) -> None:
    batch = publish(workspace).batch
    gate(DATASET, run="a run", workspace=workspace)
    found = look(workspace, DATASET, some("r1", "r2"))
    assert (found.records, found.batches, [one.run for one in found.readers]) == (2, {batch: 2}, ["a run"])
    assert len(read_chain(workspace, DATASET).attestations) == 1


def test_a_store_that_was_altered_is_not_rewritten(workspace: Workspace) -> None:
    publish(workspace)
    path = next(workspace.store(DATASET).glob("b-*/*.parquet"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityViolated, match="is not the one that was attested"):
        recall(workspace, DATASET, some("r1"), SAID)
    assert len(read_chain(workspace, DATASET).attestations) == 1


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE recalls SET reason = 'nothing was wrong'", "account of the recall k-"),
        ("UPDATE recalls SET records = 1", "account of the recall k-"),
        ("DELETE FROM recalls", "is in the audit log but gone from the ledger"),
    ],
)
def test_every_change_of_what_the_ledger_says_of_a_recall_is_refused_and_found(
    statement: str, said: str, workspace: Workspace
) -> None:
    publish(workspace)
    recall(workspace, DATASET, some("r1", "r2"), SAID)
    with open_ledger(workspace) as ledger:
        with pytest.raises(Exception, match="append-only"), ledger.writing() as session:
            session.execute(text(statement))
        with ledger.writing() as session:
            for verb in ("update", "delete"):
                session.execute(text(f"DROP TRIGGER recalls_no_{verb}"))
            session.execute(text(statement))
    assert said in "\n".join(verify(workspace).findings)


@pytest.mark.parametrize("which", ["list", "evidence", "stray"])
def test_what_is_kept_of_a_recall_is_verified(which: str, workspace: Workspace) -> None:
    publish(workspace)
    made = recall(workspace, DATASET, some("r1"), SAID)
    folder = workspace.recall(DATASET, made.unit)
    if which == "list":
        (folder / LIST).write_bytes((folder / LIST).read_bytes() + b"x")
        expected = "is not what was written when the records were recalled"
    elif which == "evidence":
        old = read_chain(workspace, DATASET).attestations[-1].removed[0]
        path = workspace.store(DATASET) / old
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        expected = "kept of a recall, is not the one attested"
    else:
        folder.with_name("k-0").mkdir()
        expected = "is kept of a recall that the ledger does not know"
    assert expected in "\n".join(verify(workspace).findings)


def test_a_list_of_recalls_is_not_read_from_an_altered_ledger(workspace: Workspace) -> None:
    publish(workspace)
    recall(workspace, DATASET, some("r1"), SAID)
    with open_ledger(workspace) as ledger, ledger.writing() as session:
        session.execute(text("DROP TRIGGER recalls_no_update"))
        session.execute(text("UPDATE recalls SET reason = 'other'"))
    with pytest.raises(IntegrityViolated, match="is not the one the audit log tells"):
        list_recalls(workspace)
    with pytest.raises(UsageError, match="no data set 'boats'"):
        list_recalls(workspace, "boats")
