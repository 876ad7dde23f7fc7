"""Thousands of mutants through snapshot and parse, some hundred a process; who ends it is named, the rest go on."""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.hostile_counts import records
from benchmarks.hostile_mutants import mutant
from benchmarks.hostile_run import MEMORY, Ended, limit, parsed
from benchmarks.hostile_tables import contract_for
from lazaretto.errors import LazarettoError
from lazaretto.pipelines.sandbox import enter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_BATCH = 250
_SUFFIX = {"csv": "csv", "jsonl": "jsonl", "parquet": "parquet"}


@dataclass
class Storm:
    """What became of the mutants of one format."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    counted: int = 0
    """Of those that were read: how many had their records counted independently."""
    faults: list[str] = field(default_factory=list)
    """Errors that are none of ours, lost records, processes that were late: each with its mutant's number."""
    died: list[str] = field(default_factory=list)
    """Mutants that ended the process which parses; the command refuses such a file."""
    seconds: float = 0.0
    """The slowest."""
    memory: int = 0
    """Peak resident bytes of a process that parsed some hundred."""

    @property
    def count(self) -> int:
        """Mutants tried."""
        return self.outcomes.total()


def storm(kind: str, known: Sequence[bytes], seed: int, count: int, until: float) -> Storm:
    """Try mutants of one format.

    Args:
        kind: The format.
        known: Sound files.
        seed: With the number of a mutant it makes that mutant again.
        count: How many.
        until: When to stop, by `time.perf_counter`.
    """
    found = Storm(kind)
    at = 0
    while at < count and time.perf_counter() < until:
        at += _some(found, known, seed, range(at, min(at + _BATCH, count)))
    return found


def made(kind: str, known: Sequence[bytes], seed: int, number: int) -> bytes:
    """One mutant."""
    place = ("csv", "jsonl", "parquet", "images").index(kind)
    return mutant(kind, known, np.random.default_rng([seed, place, number]))


def _some(found: Storm, known: Sequence[bytes], seed: int, numbers: range) -> int:
    """Run some in one process; how many of them came to an end, the one that ended the process among them."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        _work(write_end, found.kind, known, seed, numbers)
    os.close(write_end)
    done = 0
    ended = ""
    for said in _said(read_end):
        if said is None:
            os.kill(child, signal.SIGKILL)
            ended = "late"
            break
        done += 1
        _take(found, said)
    os.close(read_end)
    _, status, used = os.wait4(child, 0)
    found.memory = max(found.memory, used.ru_maxrss * 2**10)
    if done < len(numbers):
        how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status}"
        found.outcomes[ended or "died"] += 1
        # A reader that ends is what the command is made for: it refuses the file (`confine`). One that hangs is not.
        (found.faults if ended else found.died).append(f"{found.kind} {numbers[done]}: {ended or 'died'} ({how})")
        done += 1
    return done


def _said(source: int) -> Iterator[dict[str, Any] | None]:
    rest = b""
    while True:
        ready, _, _ = select.select([source], [], [], 30.0)
        if not ready:
            yield None
            return
        part = os.read(source, 1 << 16)
        if not part:
            return
        *lines, rest = (rest + part).split(b"\n")
        yield from (json.loads(line) for line in lines)


def _take(found: Storm, said: Mapping[str, Any]) -> None:
    ended = Ended(**said["ended"])
    found.outcomes[ended.what] += 1
    found.seconds = max(found.seconds, ended.seconds)
    if ended.what == "fault":
        found.faults.append(f"{found.kind} {said['number']}: {ended.said}")
    elif ended.what != "refused":
        found.counted += said["rows"] is not None
        if said["rows"] not in {None, ended.arrived} or ended.arrived != ended.kept + ended.rejected:
            counts = f"{said['rows']} records, {ended.arrived} arrived, {ended.kept} + {ended.rejected} written"
            found.faults.append(f"{found.kind} {said['number']}: {counts}")


def _work(into: int, kind: str, known: Sequence[bytes], seed: int, numbers: range) -> None:
    code = 1
    place = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp") / f"lazaretto-storm-{os.getpid()}"  # noqa: S108  in memory, where there is such a place
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        place.mkdir()
        limit(MEMORY)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
        enter([], [place])
        with os.fdopen(into, "wb", buffering=0) as out:
            for number in numbers:
                said = _one(kind, made(kind, known, seed, number), place)
                out.write(json.dumps({"number": number, **said}).encode() + b"\n")
        code = 0
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os._exit(code)


def _one(kind: str, content: bytes, place: Path) -> dict[str, Any]:
    from lazaretto.pipelines.snapshot import snapshot

    folder = kind == "images"
    files = {"p/0.png": content, "q/1.png": b"\x89PNG"} if folder else {f"d.{_SUFFIX[kind]}": content}
    for name, data in files.items():
        path = place / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    began = time.perf_counter()
    try:
        batch = snapshot([place / "in" if folder else path], "d", place / "snapshot")
    except LazarettoError as error:
        ended = Ended("refused", error.message)
    else:
        contract = contract_for("images" if kind == "parquet" and b"picture" in content else kind, folder=folder)
        ended = parsed(batch, contract, place / "out")
    seconds = time.perf_counter() - began
    shutil.rmtree(place / "snapshot", ignore_errors=True)
    counts = None if ended.what in {"refused", "fault"} else records(files, folder=folder)
    return {"ended": {**ended.__dict__, "seconds": seconds}, "rows": counts}
