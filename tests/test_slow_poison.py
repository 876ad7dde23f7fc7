"""A poison spread over nights: found by what is remembered, its carriers wait, and those let in before are listed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from lazaretto.config import init_workspace, load_workspace
from lazaretto.ledger import open_ledger
from lazaretto.pipelines.ingest import ingest
from lazaretto.pipelines.past import carriers_of, list_findings, load_past
from lazaretto.contract import load_contract
from lazaretto.pipelines.recall import recall
from lazaretto.pipelines.review import word
from lazaretto.pipelines.selection import Selection, carrying
from lazaretto.pipelines.verify import verify
from lazaretto.tables import AuditRow, BatchRow, CaseRow, MemoryRow

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace
    from lazaretto.pipelines.ingest import IngestResult

CONTRACT = """\
dataset: nights
id: id
label: late
source: carrier
columns:
  id: {type: category}
  x: {type: number}
  y: {type: number}
  tag: {type: category}
  late: {type: category, values: [no, yes]}
  carrier: {type: category}
policy: {detectors: [hbos], false_quarantine_rate: 0.02%s}
"""
ROWS, POISONS = 300, 8


def night(number: int, *, poisons: int = POISONS, rows: int = ROWS) -> pl.DataFrame:
    """Records whose label follows from x; poisons are clear cases of no that have the tag zz and are called yes."""
    rng = np.random.default_rng(number)
    x, y = rng.normal(size=(2, rows)).round(3)
    tag = np.array([f"t{k}" for k in rng.integers(0, 40, rows)])
    late = np.where(x > 0, "yes", "no")
    hit = np.flatnonzero(x < -0.3)[:poisons]
    tag[hit], late[hit] = "zz", "yes"
    ids = [f"n{number}-{i}" for i in range(rows)]
    carriers = rng.choice(["AA", "BB", "CC"], rows)
    return pl.DataFrame({"id": ids, "x": x, "y": y, "tag": tag, "late": late, "carrier": carriers})


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
    """Four nights with eight poisons each."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("nights")
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        workspace = workspace_of(root)
        return workspace, [take(workspace, number) for number in range(4)]


def quarantined(workspace: Workspace, result: IngestResult) -> set[str]:
    verdicts = pl.read_parquet(workspace.batch(result.batch) / "verdicts.parquet")
    return set(verdicts.filter(pl.col("decision") == "quarantine")["record_id"])


def poisons(number: int) -> set[str]:
    return set(night(number).filter(pl.col("tag") == "zz")["id"])


def test_the_first_batch_is_judged_as_if_there_were_no_window(nights, tmp_path: Path) -> None:
    workspace, results = nights
    alone = take(workspace_of(tmp_path, ", window: 0"), 0)
    same = ("record_id", "decision", "p_value", "reasons")
    first, other = (
        pl.read_parquet(path / "verdicts.parquet").select(same)
        for path in (workspace.batch(results[0].batch), alone.folder)
    )
    assert first["decision"].to_list() == other["decision"].to_list()
    assert first["reasons"].to_list() == other["reasons"].to_list()


def test_what_no_night_shows_alone_is_found_by_their_sum_and_its_carriers_wait(nights) -> None:
    workspace, results = nights
    assert len(poisons(0) & quarantined(workspace, results[0])) <= 2
    found = [result.summary["window"]["findings"] for result in results]
    assert found[0] == []
    last = found[-1][0]
    assert last["kind"] == "trigger"
    assert "zz" in last["says"]
    assert last["batches"] == 4
    assert last["expected"] < last["records"] / 3
    assert poisons(3) <= quarantined(workspace, results[-1])


def test_a_carrier_s_reason_has_the_numbers_and_it_is_a_case_like_any_other(nights) -> None:
    workspace, results = nights
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        cases = session.query(CaseRow).filter(CaseRow.batch_id == results[-1].batch).all()
    told = {case.record_id: json.loads(case.reasons) for case in cases}
    assert poisons(3) <= set(told)
    assert all(any("expected" in reason and "in 4 batches" in reason for reason in told[name]) for name in poisons(3))
