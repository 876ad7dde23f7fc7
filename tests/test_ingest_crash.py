"""A kill at any step, then the same command again: the same end as without a kill."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.verify import verify
from lazaretto.tables import BatchRow, CaseRow, DecisionRow, RecallRow
from tests.crash import Fatal, killed, work
from tests.harness import DATASET, copy_workspace, make_workspace, publish, stored, write_batch

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace

KINDS = ("admit", "hold", "release", "release batch", "recall")
RANDOM = {"quarantine", "attestation"}
"""Digests that differ from run to run: of what holds a random key, a random salt or the time of a Delta commit."""


def prepared(root: Path, kind: str) -> Workspace:
    workspace = make_workspace(root)
    if kind.startswith("re"):
        publish(workspace, 0, hold=kind == "release batch", rows=20)
    else:
        write_batch(workspace.landing / DATASET / "night.csv", rows=20)
        with open_ledger(workspace):
            pass  # made once, not at every kill
    return workspace


def state(workspace: Workspace) -> dict[str, Any]:
    """Everything a workspace holds, but for random keys and times."""
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        audit = [(entry.action, entry.subject, _plain(entry.detail)) for entry, _ in read_audit(session)]
        rows = [
            _plain({name: value for name, value in vars(row).items() if not name.startswith("_")})
            for table in (BatchRow, CaseRow, DecisionRow, RecallRow)
            for row in session.scalars(select(table).order_by(table.id))
        ]
    chain = [
        (a.epoch, a.version, a.kind, a.unit, a.added, a.removed, a.active_digest, a.counts)
        for a in read_chain(workspace, DATASET).attestations
    ]
    ignored = {"ledger.db-wal", "ledger.db-shm"}
    files = sorted(
        str(path.relative_to(workspace.root))
        for path in workspace.root.rglob("*")
        if path.name not in ignored and path.suffix != ".lock" and "observed" not in path.parts  # what verify noted
    )
    frame = stored(workspace).to_dicts() if chain else []
    return {"audit": audit, "rows": rows, "chain": chain, "files": files, "store": frame}


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    if isinstance(content.get("digests"), str):
        content = {**content, "digests": json.loads(content["digests"])}
    return {
        name: _plain(value) if isinstance(value, dict) else value
        for name, value in content.items()
        if name not in RANDOM
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_step_and_the_same_command_again_end_as_if_nothing_had_happened(
    kind: str, tmp_path: Path
) -> None:
    start = prepared(tmp_path / "start", kind)
    whole = copy_workspace(start.root, tmp_path / "whole")
    steps = Fatal()
    work(kind, str(whole.root), steps)
    expected = state(whole)
    for at in range(1, len(steps.steps) + 1):
        workspace = copy_workspace(start.root, tmp_path / f"killed-{at}")
        assert killed(kind, workspace.root, at), f"it did not get to {steps.steps[at - 1]}"
        # What is half-way is not told as tampering that only a backup mends.
        assert all("interrupted" in finding for finding in verify(workspace).findings)
        work(kind, str(workspace.root), Fatal())
        assert state(workspace) == expected, f"killed before {steps.steps[at - 1]}"
        assert verify(workspace).findings == ()


def test_the_steps_are_those_where_something_lasting_happens(tmp_path: Path) -> None:
    steps = Fatal()
    work("admit", str(prepared(tmp_path, "admit").root), steps)
    lasting = ["keep", "quarantine", "files", "prepare", "commit", "attest", "ledger", "checkpoint", "clean"]
    assert steps.steps[-len(lasting) :] == lasting


@pytest.mark.parametrize("at", [6, 8, 10])
def test_another_batch_that_comes_after_a_kill_finishes_the_interrupted_one_first(at: int, tmp_path: Path) -> None:
    workspace = prepared(tmp_path, "admit")
    assert killed("admit", workspace.root, at)
    publish(workspace, 100)
    work("admit", str(workspace.root), Fatal()) if (workspace.landing / DATASET / "night.csv").exists() else None
    assert verify(workspace).findings == ()
    assert sorted(stored(workspace)["_record_id"].to_list()) == sorted(
        f"r{i}" for start, rows in ((0, 20), (100, 10)) for i in range(start, start + rows) if i % 10 not in {5, 6}
    )


@pytest.mark.parametrize("again", [1, 2, 3, 4])
def test_a_recovery_that_is_killed_too_is_finished_by_the_next(again: int, tmp_path: Path) -> None:
    start = prepared(tmp_path / "start", "admit")
    whole = copy_workspace(start.root, tmp_path / "whole")
    work("admit", str(whole.root), Fatal())
    workspace = copy_workspace(start.root, tmp_path / "killed")
    assert killed("admit", workspace.root, 7)  # the plan is written, nothing is carried out
    assert killed("admit", workspace.root, again)
    work("admit", str(workspace.root), Fatal())
    assert state(workspace) == state(whole)
