"""Runs one hostile input the way it is run in earnest, in processes that are forked from a warm one.

Two processes stand for the product: one takes the snapshot, as the command does that a person runs, and one parses,
sandboxed and limited as `lazaretto.pipelines.confined` is. Nothing here may use polars or pyarrow before it forks:
their threads would not be there in the child.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazaretto.errors import LazarettoError, first_line, is_panic
from lazaretto.pipelines.sandbox import enter, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lazaretto.contract import Contract

MEMORY = 6 * 2**30
"""As `lazaretto.pipelines.confine.Limits` has it."""
_KIBI = 2**10


@dataclass(frozen=True)
class Ended:
    """What became of one input."""

    what: str
    """``refused``, ``rejected`` (some records), ``held``, ``read`` (all records), ``died``, ``late``, or ``fault``."""
    said: str = ""
    arrived: int = 0
    rejected: int = 0
    """Of those, counted in the files that were written."""
    kept: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    """Of these seconds, those spent computing: on a machine that others use too they are fewer."""
    memory: int = 0
    """Peak resident bytes of the parsing process, the warm libraries included."""


def in_a_child(work: Callable[[], Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """Do something in a forked process; its answer and what it took, or ``what`` became of it if it gave none."""
    read_end, write_end = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if not child:
        os.close(read_end)
        _answer(write_end, work)
    os.close(write_end)
    text = _read(read_end, began + seconds)
    late = text is None
    if late:
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    os.close(read_end)
    measured = {
        "seconds": time.perf_counter() - began,
        "processor": used.ru_utime + used.ru_stime,
        "memory": used.ru_maxrss * _KIBI,
    }
    if late:
        return {"what": "late", **measured}
    if not text or status:
        how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status}"
        return {"what": "died", "said": how, **measured}
    return {**json.loads(text), **measured}


def _answer(into: int, work: Callable[[], Mapping[str, Any]]) -> None:
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        with os.fdopen(into, "wb") as out:
            out.write(json.dumps(work()).encode())
        code = 0
    finally:
        os._exit(code)


def _read(source: int, until: float) -> bytes | None:
    """All that is said before the deadline; None if it is not the end then."""
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([source], [], [], max(0.0, until - time.perf_counter()))
        if not ready:
            return None
        part = os.read(source, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def run(paths: list[Path], contract: Contract, work: Path, seconds: float) -> Ended:
    """Take a snapshot and parse it.

    Args:
        paths: What a person would name.
        contract: What it should be.
        work: A folder for all that is written; removed afterwards.
        seconds: After which the parse is ended.
    """
    found = in_a_child(lambda: _whole(paths, contract, work, seconds), 2 * seconds + 60)
    shutil.rmtree(work, ignore_errors=True)
    if found["what"] in {"died", "late"}:
        return Ended("fault", f"the parent: {found['what']} {found.get('said', '')}")
    measured = found.pop("parse", {})
    return Ended(**{**found, **measured})


def _whole(paths: list[Path], contract: Contract, work: Path, seconds: float) -> Mapping[str, Any]:
    from lazaretto.pipelines.snapshot import snapshot

    began = time.perf_counter()
    try:
        batch = snapshot(paths, "d", work / "snapshot")
    except LazarettoError as error:
        return {"what": "refused", "said": error.message, "parse": {"seconds": time.perf_counter() - began}}
    (work / "out").mkdir()

    def parse() -> Mapping[str, Any]:
        os.environ.update(environment(work / "out"))
        limit(MEMORY)
        enter([work / "snapshot"], [work / "out"])
        return asdict(parsed(batch, contract, work / "out"))

    found = in_a_child(parse, seconds)
    measured = {name: found.pop(name) for name in ("seconds", "processor", "memory")}
    return {**found, "parse": measured}


def limit(memory: int) -> None:
    """Limit this process's memory, beyond what it has; to be called while it may still look at itself."""
    used = 0
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        used = int(lines["VmData"].split()[0]) * _KIBI
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def parsed(batch: Any, contract: Contract, into: Path) -> Ended:  # noqa: ANN401  its module may not be imported yet
    """Parse a snapshot here and count what was written."""
    from lazaretto.pipelines.read import parse

    try:
        done = parse(batch, contract, into)
    except LazarettoError as error:
        return Ended("refused", error.message)
    except MemoryError:
        return Ended("refused", "needs more memory than a reader may use")
    except BaseException as error:
        if is_panic(error):
            return Ended("refused", f"the reader broke off: {first_line(error)}")
        if not isinstance(error, Exception):
            raise
        return Ended("fault", f"{type(error).__name__}: {first_line(error)}")
    kept, rejected = _rows(done.partitions), _rows([done.rejects])
    what = "held" if done.holds else "rejected" if rejected else "read"
    return Ended(what, "; ".join(done.holds)[:300], done.arrived, rejected, kept)


def _rows(paths: Any) -> int:  # noqa: ANN401  paths
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in paths)
