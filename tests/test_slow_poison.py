"""A poison spread over nights: found by what is remembered, its carriers wait, and those let in before are listed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path  # noqa: TC003  pytest reads it

import numpy as np
import polars as pl
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from lazaretto.cli import app
from lazaretto.config import Workspace, init_workspace
from lazaretto.contract import load_contract, parse_contract
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.ledger import open_ledger
from lazaretto.pipelines.ingest import IngestResult, ingest
from lazaretto.pipelines.past import carriers_of, load_past
from lazaretto.pipelines.recall import recall
from lazaretto.pipelines.review import discard, release, word
from lazaretto.pipelines.scan import Options, judge
from lazaretto.pipelines.selection import Selection
from lazaretto.pipelines.verify import verify
from lazaretto.pipelines.window import Past
from lazaretto.tables import CaseRow, MemoryRow
from tests.harness import copy_workspace, no_fault

Nights = tuple[Workspace, list[IngestResult]]
CONTRACT = """\
dataset: nights
id: id
label: late
source: carrier
columns:
  id: {type: category}
  x: {type: number}
  y: {type: number}
  code: {type: integer}
  late: {type: category, values: [no, yes]}
  carrier: {type: category}
policy: {detectors: [hbos], false_quarantine_rate: 0.02%s}
"""
NIGHTS, ROWS, POISONS, TRIGGER = 3, 240, 11, 500


def night(number: int, *, poisons: int = POISONS, rows: int = ROWS) -> pl.DataFrame:
    """Records whose label follows from x; poisons are clear cases of no that have the code 500 and are called yes."""
    rng = np.random.default_rng(number)
    x, y = rng.normal(size=(2, rows)).round(3)
    code = rng.integers(0, 1_000, rows)
    late = np.where(x > 0, "yes", "no")
    hit = np.flatnonzero(x < -0.3)[:poisons]
    code[hit], late[hit] = TRIGGER, "yes"
    ids = [f"n{number}-{i}" for i in range(rows)]
    carriers = rng.choice(["AA", "BB", "CC"], rows)
    return pl.DataFrame({"id": ids, "x": x, "y": y, "code": code, "late": late, "carrier": carriers})


def take(workspace: Workspace, number: int, **what: int) -> IngestResult:
    file = workspace.root.parent / f"night-{number}.parquet"
    night(number, **what).write_parquet(file)
    return ingest(workspace, [file], "nights", now=datetime(2026, 3, 1, tzinfo=UTC) + timedelta(days=number))


def workspace_of(root: Path, policy: str = "") -> Workspace:
    workspace, _ = init_workspace(root / "workspace")
    workspace.contract("nights").write_text(CONTRACT % policy)
    return workspace


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[IngestResult]]:
    """Three nights with eleven poisons each."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("nights")
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        workspace = workspace_of(root)
        return workspace, [take(workspace, number) for number in range(NIGHTS)]


@pytest.fixture
def copied(nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of the workspace after these nights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy_workspace(nights[0].root, tmp_path)


def verdicts(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "verdicts.parquet")


def quarantined(result: IngestResult) -> set[str]:
    return set(verdicts(result.folder).filter(pl.col("decision") == "quarantine")["record_id"])


def poisons(number: int) -> set[str]:
    return set(night(number).filter((pl.col("code") == TRIGGER) & (pl.col("late") == "yes"))["id"])


def test_with_nothing_behind_it_a_batch_is_judged_as_if_there_were_no_window(tmp_path: Path) -> None:
    night(0).write_parquet(tmp_path / "b.parquet")
    contract = parse_contract(CONTRACT % "", "nights.yaml")
    alone, first = (
        judge([tmp_path / "b.parquet"], contract, tmp_path / name, Options(device="cpu", past=past))
        for name, past in (("alone", None), ("first", lambda: Past(b"k" * 32)))
    )
    assert verdicts(alone.folder).equals(verdicts(first.folder))
    assert (alone.folder / "evidence.parquet").read_bytes() == (first.folder / "evidence.parquet").read_bytes()


def test_what_no_night_shows_alone_is_found_by_their_sum_and_its_carriers_wait(nights: Nights) -> None:
    _, results = nights
    assert len(poisons(0) & quarantined(results[0])) <= 2
    found = [result.summary["window"]["findings"] for result in results]
    assert found[0] == []
    (last,) = found[-1]
    assert last["kind"] == "trigger"
    assert "code = 500" in last["says"]
    assert last["batches"] == NIGHTS
    assert last["expected"] < last["records"] / 2
    assert poisons(2) <= quarantined(results[-1])
    assert not quarantined(results[-1]) & set(night(2).filter(pl.col("code") != TRIGGER)["id"]) - suspects(results[-1])


def suspects(result: IngestResult) -> set[str]:
    return set(verdicts(result.folder).filter(pl.col("p_value") <= 0.02)["record_id"])


def test_a_carrier_s_reason_has_the_numbers_and_it_is_a_case_like_any_other(nights: Nights) -> None:
    workspace, results = nights
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        rows = session.scalars(select(CaseRow).where(CaseRow.batch_id == results[-1].batch))
        told = {case.record_id: json.loads(case.reasons) for case in rows}
    said = [next(reason for reason in told[name] if reason.startswith("window: ")) for name in poisons(2)]
    assert all(f"in {NIGHTS} batches" in reason and "expected" in reason for reason in said)


def test_the_admitted_carriers_are_listed_and_recalled_by_one_command(copied: Workspace) -> None:
    listed = json.loads(run("findings", "--json", "--workspace", copied.root))
    carried = poisons(0) | poisons(1)
    finding = next(one for one in listed if one["batches"] == NIGHTS)
    looked = json.loads(run("recall", "--finding", finding["id"], "--dry-run", "--json", "--workspace", copied.root))
    stored = set(pl.scan_delta(str(copied.store("nights"))).collect()["id"])
    assert looked["records"] == finding["admitted"] == len(carried & stored) > 0
    run("recall", "--finding", finding["id"], "--reason", "poison", "--workspace", copied.root)
    assert not carried & set(pl.scan_delta(str(copied.store("nights"))).collect()["id"])


def run(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_finding_that_is_not_there_is_an_error_in_a_sentence(copied: Workspace) -> None:
    with open_ledger(copied) as ledger, ledger.reading() as session, pytest.raises(UsageError, match="no finding f-0"):
        carriers_of(copied, session, "f-0")


def test_ingesting_again_changes_nothing_of_what_is_remembered(copied: Workspace) -> None:
    before = remembered(copied)
    again = take(copied, 1)
    assert again.already
    assert remembered(copied) == before


def remembered(workspace: Workspace) -> dict[str, bytes]:
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        return dict(session.execute(select(MemoryRow.batch_id, MemoryRow.content)).all())


def test_memory_and_findings_are_sound_until_somebody_writes_there(copied: Workspace) -> None:
    assert verify(copied).findings == ()
    with closing(sqlite3.connect(copied.state / "ledger.db")) as database:
        for table in ("memories", "findings"):
            database.execute(f"DROP TRIGGER {table}_no_update")
        database.execute("UPDATE memories SET content = x'00' WHERE rowid = 1")
        database.execute("UPDATE findings SET says = 'nothing'")
        database.commit()
    said = " ".join(verify(copied).findings)
    assert "remembers of batch" in said
    assert "finding f-" in said
    with pytest.raises(IntegrityViolated, match="remembers of batch"), open_ledger(copied) as ledger:
        load_past(copied, ledger, load_contract(copied.contract("nights")))


def test_a_batch_that_is_recalled_leaves_the_window(nights: Nights, copied: Workspace) -> None:
    _, results = nights
    contract = load_contract(copied.contract("nights"))
    with open_ledger(copied) as ledger:
        before = [name for name, _ in load_past(copied, ledger, contract).batches]
    recall(copied, "nights", Selection("batch", results[0].batch), word("bad"))
    with open_ledger(copied) as ledger:
        after = [name for name, _ in load_past(copied, ledger, contract).batches]
    assert before == [result.batch for result in results]
    assert after == before[1:]


def test_no_window_looks_further_back_than_the_contract_says(copied: Workspace) -> None:
    copied.contract("nights").write_text(CONTRACT % ", window: 2")
    with open_ledger(copied) as ledger:
        past = load_past(copied, ledger, load_contract(copied.contract("nights")))
    assert len(past.batches) == 1


def test_decisions_teach_the_next_judging_nothing(
    nights: Nights, copied: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy_workspace(nights[0].root, tmp_path / "other")
    with open_ledger(copied) as ledger, ledger.reading() as session:
        cases = list(session.scalars(select(CaseRow.id).where(CaseRow.batch_id == nights[1][-1].batch)))
    release(copied, cases[:6], word("they are fine"), check=no_fault)
    discard(copied, cases[6:8], word("they are not"))
    taught = verdicts(take(copied, 9).folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other cache"))
    plain = verdicts(take(other, 9).folder)
    assert taught.equals(plain)


def test_above_the_cap_of_its_source_a_batch_s_rest_waits_and_the_batch_is_not_held(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, ", caps: {per_source: 50}")
    first = take(workspace, 0, poisons=0)
    second = take(workspace, 1, poisons=0)
    admitted = pl.scan_delta(str(workspace.store("nights"))).collect()["carrier"].value_counts()
    assert not first.held
    assert set(admitted["count"]) == {50}
    assert second.counts["admitted"] == 0
    reasons = verdicts(second.folder)["reasons"].list.join(" ")
    assert reasons.str.contains("policy.caps.per_source").sum() > 200
