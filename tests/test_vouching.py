"""Records come into the trusted set by a person's explicit act alone, within a cap, and go out as they came."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import polars as pl
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from lazaretto.cli import app
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.ledger import open_ledger
from lazaretto.pipelines.review import Word, discard, release
from lazaretto.pipelines.selection import Selection
from lazaretto.pipelines.verify import verify
from lazaretto.pipelines.vouching import add, added_files, list_acts, revert
from lazaretto.tables import AuditRow, CaseRow
from tests.harness import CONTRACT, DATASET, no_fault, publish

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace

KNOWN = 40


@pytest.fixture
def vouched(workspace: Workspace) -> Workspace:
    """Three batches admitted, from two carriers, and forty trusted records in the contract's own file."""
    text = CONTRACT.replace("label: late\n", "label: late\ntrusted: known.csv\n")
    workspace.contract(DATASET).write_text(text)
    lines = [f"k{i},{i % 5},{str(i % 2 == 0).lower()}" for i in range(KNOWN)]
    (workspace.root / "contracts" / "known.csv").write_text("\n".join(["id,x,late", *lines]) + "\n")
    for start in (0, 100, 200):
        publish(workspace, start)
    return workspace


def said(actor: str = "ann") -> Word:
    return Word("they were looked at", actor, "2026-03-02T00:00:00+00:00")


def chosen(*numbers: int) -> Selection:
    return Selection("records", "listed", frozenset(f"r{number}" for number in numbers))


def files(workspace: Workspace) -> tuple[str, ...]:
    with open_ledger(workspace) as ledger:
        return added_files(workspace, ledger, DATASET)


def test_no_decision_puts_a_record_into_the_trusted_set(vouched: Workspace) -> None:
    with open_ledger(vouched) as ledger, ledger.reading() as session:
        cases = list(session.scalars(select(CaseRow.id).order_by(CaseRow.id)))
    release(vouched, cases[:2], said(), check=no_fault)
    discard(vouched, cases[2:], said())
    assert files(vouched) == ()
    assert list_acts(vouched) == []


def test_what_a_person_adds_is_there_versioned_and_in_the_audit_log_without_content(vouched: Workspace) -> None:
    done = add(vouched, DATASET, chosen(0, 1, 2), said())
    (path,) = files(vouched)
    assert pl.read_parquet(path)["id"].to_list() == ["r0", "r1", "r2"]
    assert (done.version, done.records, done.active) == (1, 3, True)
    with open_ledger(vouched) as ledger, ledger.reading() as session:
        entry = session.scalars(select(AuditRow).where(AuditRow.action == "trusted.added")).one()
    assert (entry.actor, entry.subject) == ("ann", done.id)
    assert "looked at" not in entry.detail
    assert verify(vouched).findings == ()


def test_one_person_may_not_have_added_more_than_the_share_and_is_told_how_many(vouched: Workspace) -> None:
    add(vouched, DATASET, chosen(*range(5)), said())
    with pytest.raises(
        UsageError, match="ann would have added 13 of 53 trusted records, over the limit of 20%"
    ) as caught:
        add(vouched, DATASET, chosen(*range(100, 105), 107, 108, 109), said())
    assert caught.value.hint == "add 5 at most"
    add(vouched, DATASET, chosen(100, 101, 102, 103, 104), said())
    add(vouched, DATASET, chosen(107, 108, 109), said("bob"))
    assert len(files(vouched)) == 3


def test_one_source_may_not_have_contributed_more_than_the_share_whoever_adds_it(vouched: Workspace) -> None:
    contract = vouched.contract(DATASET)
    contract.write_text(contract.read_text().replace("label: late\n", "source: late\n"))
    add(vouched, DATASET, chosen(0, 2, 4, 8, 100, 102, 104, 108, 200), said())
    with pytest.raises(UsageError, match="source 'true' would have added 12 of 52 trusted records"):
        add(vouched, DATASET, chosen(202, 204, 208), said("bob"))


def test_records_that_are_trusted_already_are_no_addition(vouched: Workspace) -> None:
    add(vouched, DATASET, chosen(0, 1), said())
    with pytest.raises(UsageError, match="in the trusted set already"):
        add(vouched, DATASET, chosen(0, 1), said("bob"))


def test_without_trusted_files_of_the_contract_nobody_may_be_the_only_one(workspace: Workspace) -> None:
    publish(workspace)
    with pytest.raises(UsageError, match="2 of 2 trusted records"):
        add(workspace, DATASET, chosen(0, 1), said())


def test_what_one_person_added_is_taken_out_again_and_the_rest_stays(vouched: Workspace) -> None:
    add(vouched, DATASET, chosen(0, 1), said())
    kept = add(vouched, DATASET, chosen(2, 3), said("bob"))
    add(vouched, DATASET, chosen(4), said())
    back = revert(vouched, DATASET, said("carol"), by="ann")
    assert [act.version for act in back] == [4, 5]
    assert [path for path in files(vouched) if kept.id not in path] == []
    assert [act.active for act in list_acts(vouched)] == [False, True, False, False, False]
    with pytest.raises(UsageError, match="no addition by ann"):
        revert(vouched, DATASET, said(), by="ann")


def test_an_altered_file_is_not_trusted_and_an_altered_row_is_found(vouched: Workspace) -> None:
    done = add(vouched, DATASET, chosen(0, 1), said())
    path = vouched.state / "trusted" / DATASET / f"{done.id}.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(IntegrityViolated, match="is not what was added"):
        files(vouched)
    with closing(sqlite3.connect(vouched.state / "ledger.db")) as database:
        database.execute("DROP TRIGGER trusted_acts_no_update")
        database.execute("UPDATE trusted_acts SET actor = 'bob'")
        database.commit()
    assert any(done.id in finding for finding in verify(vouched).findings)


def test_the_command_line_adds_lists_and_reverts(vouched: Workspace, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("r0\nr1\n")
    where = ["--dataset", DATASET, "--workspace", str(vouched.root), "--json"]
    listing = ["--records", str(tmp_path / "ids.txt"), "--reason", "seen"]
    done = json.loads(run("trusted", "add", *listing, *where))
    assert done["records"] == 2
    assert [act["id"] for act in json.loads(run("trusted", "list", *where))] == [done["id"]]
    back = json.loads(run("trusted", "revert", "--act", done["id"], "--reason", "no", *where))
    assert [act["of"] for act in back] == [done["id"]]
    assert files(vouched) == ()


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.output
