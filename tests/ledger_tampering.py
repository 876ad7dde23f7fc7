"""A workspace in which everything happened once, what can be done to its ledger, and what verify finds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from lazaretto.audit import NOTHING
from lazaretto.errors import IntegrityViolated
from lazaretto.gatekeeper import gate
from lazaretto.ledger import checkpoint, open_ledger, read_audit
from lazaretto.pipelines.cases import list_cases
from lazaretto.pipelines.review import discard, release, word
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, make_workspace, no_fault, publish

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lazaretto.config import Workspace

SAID = word("looked at it", "ann")


def make_full(root: Path) -> Workspace:
    """A workspace in which everything happened once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        workspace = make_workspace(root)
        publish(workspace, rows=20)
        publish(workspace, 100)
        publish(workspace, 200, hold=True)
        one, two, *_ = (case.id for case in list_cases(workspace))
        release(workspace, [one], SAID, check=no_fault)
        discard(workspace, [two], SAID)
        gate(DATASET, run="train-7", workspace=workspace)
    return workspace


def found(workspace: Workspace) -> str:
    """What verify finds, which must be something."""
    result = verify(workspace)
    with pytest.raises(IntegrityViolated) as error:
        result.require()
    assert error.value.exit_code == 5
    return "\n".join(result.findings)


def alter(workspace: Workspace, statement: str, **values: object) -> None:
    """What somebody does who may write the ledger and knows SQL."""
    with open_ledger(workspace) as ledger, ledger.writing() as session:
        for table in ("audit", "decisions"):
            for verb in ("update", "delete"):
                session.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_{verb}"))
        session.execute(text(statement), values)


def rewrite(workspace: Workspace, change: Callable[[dict[str, Any]], object]) -> None:
    """The whole audit log anew, chain and checkpoint included: what takes the audit key."""
    with open_ledger(workspace) as ledger:
        with ledger.reading() as session:
            entries = [entry for entry, _ in read_audit(session)]
        previous = NOTHING
        for old in entries:
            entry = replace(old, detail=change(old.detail), previous=previous)  # type: ignore[arg-type]  on purpose
            previous = entry.hash
            values = {"detail": json.dumps(entry.detail), "previous": entry.previous, "hash": previous, "seq": old.seq}
            alter(
                workspace,
                "UPDATE audit SET detail = :detail, previous = :previous, hash = :hash WHERE seq = :seq",
                **values,
            )
        workspace.checkpoint.unlink()
        checkpoint(ledger)
