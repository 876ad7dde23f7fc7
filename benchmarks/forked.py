"""Work in a forked copy of this process, which has imported everything and computed nothing.

A command that starts anew imports for seconds; a fork of a process that has imported all of it begins at once. Threads
do not survive a fork, so the process that forks must have none that matter: it imports, copies files and waits.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazaretto.errors import LazarettoError

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 120.0
"""Longest a command may take."""
_PIECE = 1 << 16
COMMANDS = (
    "alembic.command",
    "deltalake",
    "lazaretto.attest",
    "lazaretto.gatekeeper",
    "lazaretto.loader",
    "lazaretto.pipelines.recall",
    "lazaretto.pipelines.review",
    "lazaretto.pipelines.selection",
    "lazaretto.pipelines.verify",
    "pyarrow.parquet",
    "securesystemslib.signer",
)
"""What commands import late, and what they import of others."""
_HARMLESS = {"jemalloc_bg_thd", "polars-ooc-clea"}
"""Threads that Polars' import starts: they clear up, hold no lock, and are begun anew or not missed after a fork."""


@dataclass(frozen=True)
class Ended:
    """How a piece of work ended."""

    status: int
    """Exit status; negative: the signal that killed it."""
    value: Any = None
    """What the work gave, if it came to its end."""
    refused: str = ""
    """One of our own errors, in its words."""
    code: int = 0
    """Exit code the command line would give for it."""
    crashed: str = ""
    """Any other error: its traceback."""

    @property
    def killed(self) -> bool:
        """Whether it was killed by SIGKILL."""
        return self.status == -signal.SIGKILL


def warm() -> None:
    """Import what the commands import, here and in what they import late.

    Raises:
        RuntimeError: That started a thread, which would not survive a fork.
    """
    from lazaretto.expectations.gx import load

    load()
    done = work(_imported)
    for name in (*(done.value or ()), *COMMANDS):
        with suppress(Exception):  # some modules are there only under another module's care
            importlib.import_module(name)
    tasks = sorted(Path("/proc/self/task").iterdir(), key=lambda task: int(task.name))
    found = [(task / "comm").read_text().strip() for task in tasks]
    threads = [name for name in found[1:] if name not in _HARMLESS]
    if threads:
        raise RuntimeError(f"importing started threads ({', '.join(threads)}): a fork would hang")


def _imported() -> list[str]:
    """The modules that one whole ingest imports, found by doing it."""
    import sys
    import tempfile

    from benchmarks.journeys import fresh, ingest_for_real

    with tempfile.TemporaryDirectory() as scratch:
        ingest_for_real(fresh(Path(scratch)))
    return sorted(name for name in sys.modules if name != "__main__")


def start(job: Callable[[], Any], *, before: Callable[[], None] | None = None) -> tuple[int, int]:
    """Fork and begin; gives the child's process id and the pipe its answer comes through.

    Args:
        job: What to do; what it gives must be JSON.
        before: Called in the child just before the work.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    status = 70
    try:
        if before is not None:
            before()
        answer = _answer(job)
        with os.fdopen(writing, "wb") as out:
            out.write(json.dumps(answer).encode())
        status = 0
    finally:
        os._exit(status)


def _answer(job: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": job()}
    except LazarettoError as error:
        return {"refused": f"{error.message} ({error.hint})" if error.hint else error.message, "code": error.exit_code}
    except BaseException:  # noqa: BLE001  whatever it is, it is told
        return {"crashed": traceback.format_exc(), "code": 1}


def finish(child: int, reading: int, seconds: float = _SECONDS) -> Ended:
    """Wait for what `start` began; work that hangs is killed and told as crashed."""
    said, until, hung = bytearray(), time.monotonic() + seconds, False
    while True:
        ready, _, _ = select.select([reading], [], [], max(until - time.monotonic(), 0))
        if not ready:
            hung = True
            os.kill(child, signal.SIGKILL)
            break
        piece = os.read(reading, _PIECE)
        if not piece:
            break
        said += piece
    os.close(reading)
    _, waited = os.waitpid(child, 0)
    if hung:
        return Ended(1, crashed=f"it did not end within {seconds:.0f} seconds", code=1)
    status = os.waitstatus_to_exitcode(waited)
    try:
        return Ended(status, **json.loads(said))
    except ValueError:
        return Ended(status)


def work(job: Callable[[], Any], *, before: Callable[[], None] | None = None) -> Ended:
    """Do something in a fork and wait for it."""
    return finish(*start(job, before=before))
