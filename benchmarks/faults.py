"""The system refuses one call that changes a file, as on a full or broken disk; then the same command again.

Every call of the command's own thread is refused once with each error, by strace, which finds it by its name, its path
and how many of those came before. Those that a library makes in threads of its own, or on a path that is another in
every run, are refused by ``boundaries.c`` instead, which counts over all threads.
"""

from __future__ import annotations

import errno
import math
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import boundaries, forked, syscalls
from benchmarks.boundaries import FAIL
from benchmarks.invariants import faults
from benchmarks.kills import Prepared, caches, finished
from lazaretto.config import load_workspace

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.syscalls import Call

ERRORS = ("ENOSPC", "EIO", "EINTR")
_TOLD = 100


@dataclass
class Faults:
    """What came of the refused calls."""

    runs: int = 0
    by_strace: int = 0
    occurrences: int = 0
    """Calls that change a file in one whole run."""
    refused: Counter[str] = field(default_factory=Counter)
    """Error -> runs in which the command answered with a sentence."""
    done: Counter[str] = field(default_factory=Counter)
    """Error -> runs in which it came to its end all the same."""
    wrong: Counter[str] = field(default_factory=Counter)
    """Kind of violation -> runs, after the command was given again."""
    false_successes: int = 0
    tracebacks: int = 0
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Occurrence:
    """One call of a whole run that changes a file of the workspace."""

    call: Call
    place: int
    """Its number among all of them, of every thread."""
    own: bool
    """Made by the command's own thread."""


def occurrences(one: Prepared, log: Path) -> list[Occurrence]:
    """Every call that can be refused, found by tracing a whole run."""
    one.again()
    syscalls.traced(one.go, log)
    calls = syscalls.read(log)
    mine = [call for call in calls if call.path.startswith(f"{one.root}/") and call.changes]
    return [Occurrence(call, place, call.thread == calls[0].thread) for place, call in enumerate(mine, start=1)]


def refuse(one: Prepared, found: Faults, which: Occurrence, error: str, log: Path) -> None:
    """Refuse a call, see what the command says, give it again, and look at everything."""
    one.again()
    call, hit = which.call, False
    if which.own:
        ended = syscalls.traced(one.go, log, refuse=(call, error))
        hit = any(other.injected for other in syscalls.read(log))
    if not hit:
        one.again()
        code = int(getattr(errno, error))
        ended = forked.work(one.go, before=partial(boundaries.arm, one.root, which.place, FAIL, code))
    found.runs += 1
    found.by_strace += hit
    where = f"{one.journey.name}, {error} for {call.name} {call.path.removeprefix(str(one.root))}"
    _judge(one, found, ended, (where, error))


def refused(one: Prepared, log: Path, seed: int, each: int = 1, minutes: float = math.inf) -> Faults:
    """Refuse every call of a journey, or every so manieth, with every error; in any order, for the time there is."""
    found, began = Faults(), time.monotonic()
    caches(one.folder / "run")
    every = occurrences(one, log)
    found.occurrences = len(every)
    wanted = [(which, error) for which in every[::each] for error in ERRORS]
    random.Random(seed).shuffle(wanted)  # noqa: S311  which comes first is no secret
    for which, error in wanted:
        if time.monotonic() - began > 60 * minutes:
            break
        refuse(one, found, which, error, log)
        if found.runs % _TOLD == 0:
            told = f"{found.runs:,} of {len(wanted):,} calls refused, {len(found.said)} wrong"
            print(told, file=sys.stderr, flush=True)
    found.seconds = time.monotonic() - began
    return found


def _judge(one: Prepared, found: Faults, ended: forked.Ended, told: tuple[str, str]) -> None:
    where, error = told
    if ended.crashed or ended.status:
        found.tracebacks += 1
        found.said.append(f"{where}: no sentence: {ended.crashed.strip()[-300:] or ended.status}")
    elif ended.refused:
        found.refused[error] += 1
    else:
        found.done[error] += 1
        looked = forked.work(lambda: faults(load_workspace(one.root), one.expected, one.before))
        if looked.value != []:
            found.false_successes += 1
            said = str(looked.value or looked.refused or looked.crashed)[:300]
            found.said.append(f"{where}: said it was done: {said}")
    again = forked.work(partial(finished, one))
    wrong = again.value["wrong"] if again.value else [["otherwise another end", again.refused or again.crashed[-300:]]]
    found.wrong.update({kind for kind, _ in wrong})
    found.said += [f"{where}: {kind}: {sentence}" for kind, sentence in wrong]
