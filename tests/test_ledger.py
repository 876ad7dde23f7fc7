from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import inspect, text

from lazaretto.audit import Entry, verify_chain
from lazaretto.errors import IntegrityViolated, LazarettoError, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.ledger import append_audit, discarded, open_ledger, read_audit, remember_discarded
from lazaretto.pipelines.cases import list_cases
from lazaretto.pipelines.review import discard, word
from lazaretto.pipelines.verify import verify
from lazaretto.tables import Base, BatchRow, CaseRow, DecisionRow
from tests.harness import DATASET, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lazaretto.config import Workspace
    from lazaretto.ledger import Ledger


@pytest.fixture
def ledger(workspace: Workspace) -> Iterator[Ledger]:
    with open_ledger(workspace) as opened:
        yield opened


def batch_row(**other: int) -> BatchRow:
    counts = {"arrived": 3, "admitted": 1, "quarantined": 1, "rejected": 1, "suspects": 1, "files": 1, **other}
    texts = dict.fromkeys(("state", "ingested_at", "actor", "hold_reasons", "digests"), "x")
    return BatchRow(id="b-1", dataset=DATASET, **texts, **counts)


def case_row() -> CaseRow:
    return CaseRow(
        id="c", dataset=DATASET, batch_id="b-1", row=0, record_id="r", reasons="[]", evidence="[]", state="open"
    )


def decision(action: str, case: str | None = "c") -> DecisionRow:
    return DecisionRow(case_id=case, batch_id="b-1", action=action, reason="r", actor="a", at="t", unit="")


def test_the_tables_are_those_the_migrations_make(ledger: Ledger) -> None:
    found = inspect(ledger.engine)
    assert set(found.get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    for name, table in Base.metadata.tables.items():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        assert {index["name"] for index in found.get_indexes(name)} == {index.name for index in table.indexes}


def test_sqlite_is_set_to_lose_nothing(ledger: Ledger) -> None:
    with ledger.reading() as session:
        said = {
            name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
        }
        version = tuple(map(int, str(session.scalar(text("SELECT sqlite_version()"))).split(".")))
    assert said == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert version >= (3, 51, 3)


def test_a_batch_that_does_not_add_up_is_refused_by_the_database(ledger: Ledger) -> None:
    with pytest.raises(LazarettoError, match="nothing_lost"), ledger.writing() as session:
        session.add(batch_row(admitted=2))


def test_a_case_is_decided_once_whatever_the_code_above_does(ledger: Ledger) -> None:
    with ledger.writing() as session:
        session.add_all([batch_row(), case_row()])
        session.flush()
        session.add_all([decision("assign"), decision("assign"), decision("release")])
    with pytest.raises(LazarettoError, match=r"UNIQUE|unique"), ledger.writing() as session:
        session.add(decision("discard"))


@pytest.mark.parametrize("statement", ["UPDATE decisions SET reason = 'x'", "DELETE FROM decisions"])
def test_decisions_are_append_only(statement: str, ledger: Ledger) -> None:
    with ledger.writing() as session:
        session.add_all([batch_row(), case_row()])
        session.flush()
        session.add(decision("release"))
    with pytest.raises(LazarettoError, match="append-only"), ledger.writing() as session:
        session.execute(text(statement))


def test_a_decision_needs_its_case(ledger: Ledger) -> None:
    with ledger.writing() as session:
        session.add(batch_row())
    with pytest.raises(LazarettoError, match=r"FOREIGN KEY|foreign key"), ledger.writing() as session:
        session.add(decision("release", "nobody"))


def test_discarded_records_are_known_again_and_only_in_their_data_set(ledger: Ledger) -> None:
    assert discarded(ledger, DATASET, ["d1"]) == set()
    with ledger.writing() as session:
        row = batch_row()
        session.add(row)
        session.flush()
        assert remember_discarded(session, ledger.workspace, row, ["d1", "d2", "d1"], "t") == 2
        assert remember_discarded(session, ledger.workspace, row, ["d1", "d3"], "t") == 1
    assert discarded(ledger, DATASET, ["d0", "d1", "d3", *(f"x{i}" for i in range(1200))]) == {"d1", "d3"}
    assert discarded(ledger, "trains", ["d1"]) == set()
    assert hashlib.sha256(b"flights\nd1").hexdigest() not in _macs(ledger)


def _macs(ledger: Ledger) -> list[str]:
    with ledger.reading() as session:
        return [row[0] for row in session.execute(text("SELECT mac FROM discards"))]


def test_writers_take_turns_and_the_chain_holds(workspace: Workspace, ledger: Ledger) -> None:
    def append(name: str) -> None:
        for number in range(10):
            with open_ledger(workspace) as mine, mine.writing() as session:
                append_audit(session, Entry(0, "t", name, "x.done", DATASET, str(number), {}))

    threads = [threading.Thread(target=append, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ledger.reading() as session:
        assert verify_chain(read_audit(session)) == 40


def test_a_ledger_of_a_newer_version_is_left_alone(workspace: Workspace, ledger: Ledger) -> None:
    with ledger.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UsageError, match="newer than this Lazaretto"), open_ledger(workspace):
        pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://ann:secret@h/d", "'mysql' is not supported"),
        ("postgresql+nodriver://ann:secret@h/d", "driver is not installed"),
        ("postgresql+psycopg://ann:secret@127.0.0.1:1/d", "cannot be used"),
    ],
)
def test_an_unusable_ledger_is_one_sentence_without_a_password(url: str, said: str, workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=said) as error, open_ledger(replace(workspace, ledger_url=url)):
        pass
    assert "secret" not in f"{error.value}{error.value.hint}"


def test_a_file_that_is_no_database_is_one_sentence(workspace: Workspace) -> None:
    (workspace.state / "ledger.db").write_bytes(b"no database" * 1000)
    with pytest.raises(IntegrityViolated, match=r"the ledger .* is damaged: file is not a database"):
        verify(workspace)


@pytest.mark.parametrize("command", [verify, list_cases, publish])
def test_a_database_with_a_damaged_page_is_one_sentence(command: Callable[..., object], workspace: Workspace) -> None:
    publish(workspace, rows=2000)
    path = workspace.state / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("PRAGMA page_size").fetchone()[0]
    content = path.read_bytes()
    path.write_bytes(content[:page] + b"\xff" * (len(content) - page))
    for beside in workspace.state.glob("ledger.db-*"):
        beside.unlink()
    with pytest.raises(IntegrityViolated, match=r"the ledger .* is damaged: .*malformed") as error:
        command(workspace)
    assert "backup" in str(error.value.hint)


@pytest.mark.parametrize("table", ["batches", "audit", "alembic_version"])
def test_a_database_without_one_of_its_tables_is_damaged(table: str, workspace: Workspace) -> None:
    with open_ledger(workspace) as ledger, ledger.writing() as session:
        session.execute(text(f"ALTER TABLE {table} RENAME TO lost"))
    with pytest.raises(IntegrityViolated, match="is damaged"):
        verify(workspace)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE alembic_version SET version_num = 'zzzz'",
        "UPDATE alembic_version SET version_num = '0000'",
        "UPDATE alembic_version SET version_num = ''",
        "DELETE FROM alembic_version",
        "INSERT INTO alembic_version VALUES ('zzzz')",
    ],
)
def test_a_revision_that_no_version_makes_is_damage(change: str, workspace: Workspace) -> None:
    with open_ledger(workspace) as ledger, ledger.writing() as session:
        session.execute(text(change))
    with pytest.raises(IntegrityViolated, match=r"is damaged: its revision is"), open_ledger(workspace):
        pass


@pytest.mark.parametrize("run", ["", " ", "x" * 201, "a\nb", "a\0b", "\udcff"])
def test_a_run_id_that_the_ledger_cannot_hold_closes_the_gate_before_anything(run: str, workspace: Workspace) -> None:
    publish(workspace)
    with pytest.raises(UsageError, match="is no id of a training run"):
        gate(DATASET, run=run, workspace=workspace)
    assert gate(DATASET, run="x" * 200, workspace=workspace).active_rows == 8
    assert verify(workspace).findings == ()


def test_the_sqlite_file_is_private(workspace: Workspace, ledger: Ledger) -> None:
    assert (workspace.state / "ledger.db").stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The URL of a throw-away PostgreSQL server."""
    pytest.importorskip("psycopg", reason="the postgres extra is not installed")
    # Debian keeps the server's programs out of the search path, in a folder per version.
    debian = sorted(str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *reversed(debian)])
    tools = {name: shutil.which(name, path=path) for name in ("initdb", "pg_ctl")}
    if None in tools.values():
        pytest.skip("no PostgreSQL server programs")
    user = None
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        if "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
            pytest.skip("running as root, and there is no user postgres")
        user = "postgres"
    data = Path(tempfile.mkdtemp(prefix="lz-pg-"))
    if user:
        shutil.chown(data, user)

    def run(tool: str, *arguments: str) -> None:
        subprocess.run([str(tools[tool]), "-D", data, *arguments], check=True, stdout=subprocess.DEVNULL, user=user)

    run("initdb", "-U", "lz", "-A", "trust")
    try:
        run("pg_ctl", "-o", f"-k {data} -c listen_addresses= -c fsync=off", "-w", "-l", f"{data}/log", "start")
        yield f"postgresql+psycopg://lz@/postgres?host={data}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(data)


def test_postgresql_does_the_same(postgres: str, workspace: Workspace) -> None:
    workspace = replace(workspace, ledger_url=postgres)
    publish(workspace)
    assert [case.row for case in list_cases(workspace)] == [5]
    discard(workspace, [list_cases(workspace)[0].id], word("looked at it"))
    gate(DATASET, run="x" * 200, workspace=workspace)
    assert verify(workspace).findings == ()
    with open_ledger(workspace) as ledger:
        for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE decisions"):
            with pytest.raises(LazarettoError, match="append-only"), ledger.writing() as session:
                session.execute(text(statement))
        assert set(inspect(ledger.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


def test_the_migrations_lie_beside_the_package() -> None:
    from lazaretto import database

    assert (database._MIGRATIONS / "env.py").is_file()
    assert (database._MIGRATIONS / "versions" / "0001_ledger.py").is_file()
