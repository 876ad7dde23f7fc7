"""What a workspace lives through in the reliability benchmark: each kind of change, where it starts, and the command.

A batch has 240 records of three columns, judged for real by one detector: some are admitted, some quarantined, some
break the contract. Where the judging itself is not what is tried, it is replayed: what one real judging of the same
bytes left, with its scores and verdicts, is copied into place. Everything after it is the product's own.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lazaretto.config import Workspace, init_workspace, load_workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lazaretto.contract import Contract
    from lazaretto.pipelines.ingest import Hooks, Judge
    from lazaretto.pipelines.review import Word
    from lazaretto.pipelines.scan import Judged

DATASET = "flights"
CONTRACT = """\
dataset: flights
id: id
columns:
  id: {type: category}
  x: {type: number, min: 0}
  y: {type: number}
policy: {detectors: [hbos], false_quarantine_rate: 0.05, hold_when_quarantined_over: 0.9}
"""
HOLDING = CONTRACT.replace("0.05, hold_when_quarantined_over: 0.9", "0.05, max_records: 10")
"""Every batch waits as a whole."""
ROWS = 240
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_REPLAYED = ("canonical", "verdicts.parquet", "evidence.parquet", "rejects.parquet", "summary.json", "report.html",
             "clusters.json")  # fmt: skip


def write_batch(path: Path, start: int, rows: int = ROWS) -> Path:
    """Records numbered from ``start``: every fortieth is far out, every sixtieth breaks the contract."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["id,x,y"]
    for number in range(start, start + rows):
        x = 5000 + number if number % 40 == 7 else -1 if number % 60 == 9 else number * 37 % 101  # noqa: PLR2004
        lines.append(f"r{number},{x},{number * 53 % 97}")
    path.write_text("\n".join(lines) + "\n")
    return path


def fresh(folder: Path, contract: str = CONTRACT) -> Workspace:
    """A new workspace in a folder."""
    workspace, _ = init_workspace(folder / "workspace")
    workspace.contract(DATASET).write_text(contract)
    return workspace


def landing(workspace: Workspace) -> Path:
    """The file that waits to be ingested."""
    return workspace.landing / DATASET / "night.csv"


@dataclass(frozen=True)
class Replay:
    """A judge that gives what a real judging of the same bytes gave."""

    recorded: Path
    """Folder per batch id, each as `lazaretto.pipelines.scan.judge` left it."""

    def __call__(self, files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> Judged:
        """Take the snapshot for real, then copy."""
        from lazaretto.pipelines.scan import Judged
        from lazaretto.pipelines.snapshot import snapshot
        from lazaretto.records import Parsed

        hooks.on_step("snapshot")
        batch = snapshot(files, contract.dataset, into / "snapshot")
        hooks.on_batch(batch)
        hooks.on_step("decide")
        recorded = self.recorded / batch.id
        for name in _REPLAYED:
            if (recorded / name).is_dir():
                shutil.copytree(recorded / name, into / name)
            elif (recorded / name).exists():
                shutil.copyfile(recorded / name, into / name)
        summary = json.loads((into / "summary.json").read_bytes())
        said = json.loads((recorded / "parsed.json").read_bytes())
        parts = tuple(sorted((into / "canonical").glob("*.parquet")))
        return Judged(into, Parsed(batch, parts, into / "rejects.parquet", **said), contract, summary)


@dataclass(frozen=True)
class Recording:
    """The real judge, which keeps what it left for `Replay`; what is kept already is replayed."""

    recorded: Path

    def __call__(self, files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> Judged:
        """Judge and copy."""
        from lazaretto.pipelines.ingest import scan_judge
        from lazaretto.pipelines.snapshot import snapshot

        batch = snapshot(files, contract.dataset, into / "known").id
        shutil.rmtree(into / "known")
        if (self.recorded / batch / "parsed.json").exists():
            return Replay(self.recorded)(files, contract, into, hooks)
        judged = scan_judge()(files, contract, into, hooks)
        target = self.recorded / batch
        shutil.copytree(into, target, ignore=shutil.ignore_patterns("snapshot"), dirs_exist_ok=True)
        said = {"arrived": judged.parsed.arrived, "rejected": judged.parsed.rejected}
        (target / "parsed.json").write_text(json.dumps(said))
        return judged


def ingest_for_real(workspace: Workspace) -> None:
    """One batch, judged for real."""
    from lazaretto.pipelines.ingest import ingest

    ingest(workspace, [write_batch(workspace.root.parent / "first.csv", 0)], DATASET, now=NOW)


def _ingest(workspace: Workspace, judge: Judge | None, files: Sequence[Path] = ()) -> dict[str, Any]:
    from lazaretto.pipelines.ingest import ingest

    result = ingest(workspace, files, DATASET, judge=judge, now=NOW)
    return {"batch": result.batch, "already": result.already, **result.counts}


def _said() -> Word:
    from lazaretto.pipelines.review import word

    return word("looked at it", "ann", NOW)


def _review(workspace: Workspace, how: str) -> dict[str, Any]:
    from lazaretto.pipelines import review
    from lazaretto.pipelines.cases import list_cases

    cases = sorted(case.id for case in list_cases(workspace, state=None))[:3]
    decide: Callable[..., object] = getattr(review, how)
    decide(workspace, cases, _said())
    return {"cases": len(cases)}


def _review_batch(workspace: Workspace, how: str) -> dict[str, Any]:
    from lazaretto.pipelines import review

    batch = min(path.name for path in (workspace.state / "batches").iterdir())
    decide: Callable[..., object] = getattr(review, how)
    decide(workspace, batch, _said())
    return {"batch": batch}


def _recall(workspace: Workspace) -> dict[str, Any]:
    from lazaretto.pipelines.recall import recall
    from lazaretto.pipelines.selection import Selection

    chosen = Selection("records", "0" * 64, frozenset({"r1", "r2", "r11", "r120"}))
    return {"records": recall(workspace, DATASET, chosen, _said()).records}


@dataclass(frozen=True)
class Journey:
    """One kind of change."""

    name: str
    contract: str
    published: bool
    """Whether one batch was ingested before."""
    lands: bool
    """Whether a batch waits in the landing folder."""
    judged: bool = False
    """Judged for real, instead of replayed."""
    said_again: str = ""
    """What the command may answer when what it should do was done already by the one that was killed."""

    def prepare(self, folder: Path, recorded: Path) -> None:
        """Make the workspace it starts from."""
        workspace = fresh(folder, self.contract)
        if self.published:
            _ingest(workspace, Recording(recorded), [write_batch(folder / "first.csv", 0)])
        if self.lands:
            write_batch(landing(workspace), 1000)

    def record(self, folder: Path, recorded: Path) -> None:
        """Judge what waits for real, in a copy, for `Replay`."""
        if self.lands:
            _ingest(load_workspace(folder / "workspace"), Recording(recorded))

    def go(self, root: Path, recorded: Path) -> dict[str, Any]:
        """The command, as a user would give it again after it was killed."""
        workspace = load_workspace(root)
        if self.lands:
            # What waited may be taken in and gone: a person names nothing and is told that nothing waits.
            return _ingest(workspace, None if self.judged else Replay(recorded))
        return _COMMANDS[self.name](workspace)


_COMMANDS: dict[str, Callable[[Workspace], dict[str, Any]]] = {
    "release": lambda workspace: _review(workspace, "release"),
    "discard": lambda workspace: _review(workspace, "discard"),
    "release of a held batch": lambda workspace: _review_batch(workspace, "release_batch"),
    "discard of a held batch": lambda workspace: _review_batch(workspace, "discard_batch"),
    "recall": _recall,
}
_DECIDED = "was (released|discarded) by|is not held"
JOURNEYS = {
    journey.name: journey
    for journey in (
        Journey("ingest", CONTRACT, published=True, lands=True, said_again="nothing waits in"),
        Journey("first ingest", CONTRACT, published=False, lands=True, said_again="nothing waits in"),
        Journey("ingest, held", HOLDING, published=True, lands=True, said_again="nothing waits in"),
        Journey("ingest, judged", CONTRACT, published=True, lands=True, judged=True, said_again="nothing waits in"),
        Journey("release", CONTRACT, published=True, lands=False, said_again=_DECIDED),
        Journey("release of a held batch", HOLDING, published=True, lands=False, said_again=_DECIDED),
        Journey("discard", CONTRACT, published=True, lands=False, said_again=_DECIDED),
        Journey("discard of a held batch", HOLDING, published=True, lands=False, said_again=_DECIDED),
        Journey("recall", CONTRACT, published=True, lands=False, said_again="no record"),
    )
}
"""By name."""
