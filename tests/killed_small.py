"""Kills of an ingest with a judge that admits everything: `benchmarks.kills` in small, in a process of its own.

    python -m tests.killed_small FOLDER RUNS

Prints what came of it as JSON.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import boundaries, forked, kills
from benchmarks.gate import admit_all
from benchmarks.journeys import DATASET, NOW, Journey, fresh, landing
from lazaretto.config import load_workspace
from lazaretto.pipelines.ingest import ingest

if TYPE_CHECKING:
    from lazaretto.config import Workspace

CONTRACT = f"dataset: {DATASET}\nid: id\ncolumns:\n  id: {{type: category}}\n  x: {{type: integer}}\n"


@dataclass(frozen=True)
class Small(Journey):
    """One batch is in, another waits."""

    def prepare(self, folder: Path, recorded: Path) -> None:  # noqa: ARG002  nothing is judged
        """Nothing is recorded."""
        workspace = fresh(folder, CONTRACT)
        for start in (0, 100):
            landing(workspace).parent.mkdir(exist_ok=True)
            landing(workspace).write_text("id,x\n" + "".join(f"r{row},{row}\n" for row in range(start, start + 4)))
            if not start:
                ingested(workspace)

    def record(self, folder: Path, recorded: Path) -> None:
        """Nothing."""

    def go(self, root: Path, recorded: Path) -> dict[str, Any]:  # noqa: ARG002  nothing is judged
        """What waits is ingested."""
        return ingested(load_workspace(root))


def ingested(workspace: Workspace) -> dict[str, Any]:
    return ingest(workspace, [], DATASET, judge=admit_all, now=NOW).counts


def main(folder: Path, runs: int) -> None:
    if not boundaries.loaded():
        boundaries.run(boundaries.build(folder), "tests.killed_small", sys.argv[1:])
    for name in forked.COMMANDS:
        importlib.import_module(name)
    journey = Small("small", CONTRACT, published=True, lands=True, said_again="nothing waits in")
    one, found = kills.prepare(journey, folder / "small"), kills.Kills()
    for _, at, how, second in kills.chosen([one], runs, random.Random(0)):  # noqa: S311  where to kill is no secret
        kills.once(one, found, at, how, second)
    sys.stdout.write(json.dumps({**asdict(found), "points": len(one.points), "places": len(found.places)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
