"""Work that kills itself, the hard way, when its N-th step is about to start; run in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

from lazaretto.config import load_workspace
from lazaretto.pipelines.cases import list_cases
from lazaretto.pipelines.ingest import ingest
from lazaretto.pipelines.recall import recall
from lazaretto.pipelines.review import release, release_batch, word
from lazaretto.pipelines.selection import Selection
from tests.harness import DATASET, NOW, FakeJudge, no_fault

SAID = word("looked at it", "ann", NOW)


class Fatal:
    """Counts steps and dies at one of them."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.steps: list[str] = []

    def __call__(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def work(kind: str, root: str, on_step: Fatal) -> None:
    """Do one of the things that must survive a kill."""
    workspace = load_workspace(Path(root))
    if kind == "release":
        cases = [case.id for case in list_cases(workspace, state=None)]
        release(workspace, cases, SAID, on_step=on_step, check=no_fault)
    elif kind == "recall":
        recall(
            workspace, DATASET, Selection("records", "0" * 64, frozenset({"r1", "r2", "r11"})), SAID, on_step=on_step
        )
    elif kind == "release batch":
        batch = next(path.name for path in (workspace.state / "batches").iterdir())
        release_batch(workspace, batch, SAID, on_step=on_step, check=no_fault)
    else:
        ingest(workspace, [], DATASET, judge=FakeJudge(kind == "hold"), on_step=on_step, now=NOW)


def _die(kind: str, root: str, at: int, cache: str | None) -> None:
    # The fork server has the environment of when it was started, by another test perhaps.
    os.environ.pop("XDG_CACHE_HOME", None)
    os.environ.update({"XDG_CACHE_HOME": cache} if cache is not None else {})
    work(kind, root, Fatal(at))


def killed(kind: str, root: Path, at: int) -> bool:
    """Do the work in a process that dies at a step; says whether it did, or came to its end first."""
    context = multiprocessing.get_context("forkserver")  # started once, with the slow imports done
    context.set_forkserver_preload(["tests.crash", "alembic.command", "deltalake", "polars", "pyarrow.parquet"])
    process = context.Process(target=_die, args=(kind, str(root), at, os.environ.get("XDG_CACHE_HOME")))
    process.start()
    process.join(60)
    if process.exitcode not in {0, -signal.SIGKILL}:
        process.kill()
        raise AssertionError(f"{kind} ended with {process.exitcode}")
    return process.exitcode == -signal.SIGKILL
