"""Is a changed audit log noticed? Ways to tamper with it, each against `verify`, with an anchor and without.

Part of `make bench-security`. A workspace with three batches and a training run, its checkpoints copied to a folder, is
published for real; each way is tried on a fresh copy by somebody who may write the ledger and the workspace and, where
that is said, holds the audit key. *With the anchor* is a verification that reads that folder; *without* one of the very
same copy whose configuration names none. Everything has to be found with it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from benchmarks.gate import DATASET, publish
from lazaretto.attest import NOTHING
from lazaretto.audit import Checkpoint, Entry, origin_of, sign_note
from lazaretto.config import init_workspace, load_workspace
from lazaretto.gatekeeper import gate
from lazaretto.keys import AUDIT, private_key
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.config import Workspace

ROWS = 60
_ANCHOR = 'anchor = "../anchor"'


@dataclass(frozen=True)
class Ground:
    """What there is to tamper with."""

    now: Path
    """Holds ``workspace`` and ``anchor``."""
    older: Path
    """The same, before the last batch and the training run."""

    def copied(self, into: Path) -> Tampered:
        """A fresh copy."""
        shutil.copytree(self.now, into)
        return Tampered(load_workspace(into / "workspace"), into / "anchor", self.older)


@dataclass(frozen=True)
class Tampered:
    """A copy that somebody tampers with."""

    workspace: Workspace
    anchor: Path
    older: Path

    def entries(self) -> list[Entry]:
        """The log."""
        with open_ledger(self.workspace) as ledger, ledger.reading() as session:
            return [entry for entry, _ in read_audit(session)]

    def run(self, *statements: str, **values: object) -> None:
        """What somebody who knows SQL does."""
        with open_ledger(self.workspace) as ledger, ledger.writing() as session:
            for table in ("audit", "decisions"):
                for verb in ("update", "delete"):
                    session.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_{verb}"))
            for statement in statements:
                session.execute(text(statement), values)

    def rewrite(self, entries: list[Entry]) -> Checkpoint:
        """The whole log anew, numbered and linked; gives the checkpoint that would fit it."""
        self.run("DELETE FROM audit")
        previous = NOTHING
        names = "seq, at, actor, action, dataset, subject, detail, previous, hash"
        for seq, old in enumerate(entries, start=1):
            entry = replace(old, seq=seq, previous=previous)
            previous = entry.hash
            values = {name: getattr(entry, name) for name in names.split(", ")}
            values["detail"] = json.dumps(entry.detail, sort_keys=True)
            self.run(f"INSERT INTO audit ({names}) VALUES (:{names.replace(', ', ', :')})", **values)  # noqa: S608  ours
        return Checkpoint(origin_of(self.workspace), len(entries), previous)

    def sign(self, checkpoint: Checkpoint) -> None:
        """What takes the audit key."""
        key = private_key(self.workspace.keys, AUDIT)
        self.workspace.checkpoint.write_bytes(sign_note(checkpoint.body, checkpoint.origin, key))

    def put_back_checkpoint(self) -> None:
        """The checkpoint before the training run, which the anchor has, and so has who looked at it then."""
        self.workspace.checkpoint.write_bytes(sorted(self.anchor.iterdir())[-2].read_bytes())


def changed(on: Tampered) -> None:
    """The entry of a batch says another user."""
    on.run("UPDATE audit SET actor = 'nobody' WHERE seq = 2", "UPDATE batches SET actor = 'nobody'")


def deleted_at_the_end(on: Tampered) -> None:
    """A training run never happened."""
    on.run("DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)", "DELETE FROM training_runs")


def deleted_in_the_middle(on: Tampered) -> None:
    """The second batch never came, and the rest is numbered and linked anew."""
    entries = on.entries()
    on.rewrite([*entries[:1], *entries[2:]])


def inserted(on: Tampered) -> None:
    """Somebody else looked on as well."""
    entries = on.entries()
    on.rewrite([*entries[:2], replace(entries[-1], subject="train-0", actor="eve"), *entries[2:]])


def reordered(on: Tampered) -> None:
    """The first two batches came the other way round."""
    first, second, *rest = on.entries()
    on.rewrite([second, first, *rest])


def cut_short_with_its_checkpoint(on: Tampered) -> None:
    """A training run never happened, and the checkpoint before it is back."""
    deleted_at_the_end(on)
    on.put_back_checkpoint()


def written_anew(on: Tampered) -> None:
    """Everything was done by somebody else; every hash fits, and the key is not at hand."""
    on.rewrite([replace(entry, actor="nobody") for entry in on.entries()])
    on.run("UPDATE batches SET actor = 'nobody'")


def written_anew_with_the_key(on: Tampered) -> None:
    """The same with a stolen audit key."""
    checkpoint = on.rewrite([replace(entry, actor="nobody") for entry in on.entries()])
    on.run("UPDATE batches SET actor = 'nobody'")
    on.sign(checkpoint)


def run_removed_with_the_key(on: Tampered) -> None:
    """A training run never happened, and a stolen audit key has signed that."""
    on.run("DELETE FROM training_runs")
    on.sign(on.rewrite(on.entries()[:-1]))


def dated_back_with_the_key(on: Tampered) -> None:
    """The clock is said to have been a day behind, and a stolen audit key has signed that."""
    day = timedelta(days=1)
    entries = on.entries()
    moved = (datetime.fromisoformat(entries[-1].at) - day).isoformat(timespec="seconds")
    on.run("UPDATE training_runs SET at = :at", at=moved)
    on.sign(on.rewrite([*entries[:-1], replace(entries[-1], at=moved)]))


def everything_put_back(on: Tampered) -> None:
    """Ledger, checkpoint, store and attestations as they were before the last batch."""
    shutil.rmtree(on.workspace.state)
    shutil.copytree(on.older / "workspace" / "state", on.workspace.state)


def ledger_put_back(on: Tampered) -> None:
    """Ledger and checkpoint as they were before the last batch, the store as it is."""
    for path in on.workspace.state.glob("ledger.db*"):
        path.unlink()
    for path in (on.older / "workspace" / "state").glob("ledger.db*"):
        shutil.copy(path, on.workspace.state)
    shutil.copy(on.older / "workspace" / "state" / "audit" / "checkpoint", on.workspace.checkpoint)


def checkpoint_of_another_log(on: Tampered) -> None:
    """A checkpoint of another workspace, signed with this one's key."""
    on.sign(Checkpoint("lazaretto/another/audit", 1, "ab" * 32))


def checkpoint_removed(on: Tampered) -> None:
    """No checkpoint was ever signed."""
    on.workspace.checkpoint.unlink()


def anchor_entry_removed(on: Tampered) -> None:
    """The anchor forgot the second checkpoint; the log is as it was."""
    sorted(on.anchor.iterdir())[1].unlink()


WAYS: dict[str, Callable[[Tampered], None]] = {
    "an entry changed": changed,
    "the last entry deleted": deleted_at_the_end,
    "an entry deleted in the middle, the rest linked anew": deleted_in_the_middle,
    "an entry inserted, the rest linked anew": inserted,
    "two entries exchanged, the rest linked anew": reordered,
    "cut short, with the checkpoint before": cut_short_with_its_checkpoint,
    "written anew without the key": written_anew,
    "written anew with a stolen audit key": written_anew_with_the_key,
    "a training run removed with a stolen audit key": run_removed_with_the_key,
    "dated back with a stolen audit key": dated_back_with_the_key,
    "ledger and checkpoint put back": ledger_put_back,
    "everything put back": everything_put_back,
    "the checkpoint of another log": checkpoint_of_another_log,
    "the checkpoint removed": checkpoint_removed,
    "an entry of the anchor removed": anchor_entry_removed,
}
"""What -> how."""


@dataclass(frozen=True)
class Noticed:
    """What verifications found."""

    way: str
    with_anchor: str
    """The first finding; empty where nothing was found."""
    without: str


def ground(folder: Path) -> Ground:
    """A workspace with an anchor, and the same a batch and a training run earlier."""
    workspace, _ = init_workspace(folder / "now" / "workspace")
    config = workspace.root / "lazaretto.toml"
    config.write_text(config.read_text().replace('# anchor = "/mnt/worm/lazaretto"', _ANCHOR))
    (folder / "now" / "anchor").mkdir()
    publish(folder / "now", 2, ROWS)
    shutil.copytree(folder / "now", folder / "older")
    workspace = publish(folder / "now", 3, ROWS)
    gate(DATASET, run="train-1", workspace=workspace)
    return Ground(folder / "now", folder / "older")


def noticed(on: Ground, way: str) -> Noticed:
    """Tamper with a copy, and verify it twice."""
    with tempfile.TemporaryDirectory() as scratch:
        # Nobody who verifies remembers anything: that would find what was put back without any anchor.
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch) / "cache")
        tampered = on.copied(Path(scratch) / "copy")
        WAYS[way](tampered)
        found = verify(tampered.workspace, public=True).findings
        bare = replace(tampered.workspace, anchors=())
        return Noticed(way, next(iter(found), ""), next(iter(verify(bare, public=True).findings), ""))
