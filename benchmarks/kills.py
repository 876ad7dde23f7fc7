"""SIGKILL before every call that changes a file, or half-way through a write; then the same command again.

Some recoveries are killed as well, at any of their own calls. After the command has come to its end, the workspace must
be as if nothing had happened: `benchmarks.invariants`.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import re
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import boundaries, forked
from benchmarks.boundaries import KILL, TEAR, WRITES, Boundary
from benchmarks.invariants import account, faults, gate_fault
from benchmarks.journeys import JOURNEYS, Journey
from lazaretto.config import load_workspace
from lazaretto.errors import LazarettoError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TOLD = 200
"""Runs between two lines of progress."""
_JUDGED = 24
"""Points of a judging for real that are tried: it takes seconds, and what it writes is scratch."""


@dataclass
class Prepared:
    """A journey with its start, its end, and every boundary on the way."""

    journey: Journey
    folder: Path
    """Holds ``start`` and ``run``."""
    points: list[Boundary]
    before: dict[str, Any]
    expected: dict[str, Any]
    recoveries: dict[int, int] = field(default_factory=dict)
    """Boundary of a kill -> how many boundaries the recovery from it has."""

    @property
    def root(self) -> Path:
        """The workspace that is killed; always at the same path, so that runs can be compared."""
        return self.folder / "run" / "workspace"

    def again(self) -> None:
        """Put the workspace, and what readers remember of it, back to the start."""
        shutil.rmtree(self.folder / "run", ignore_errors=True)
        shutil.copytree(self.folder / "start", self.folder / "run", copy_function=shutil.copy2)

    def go(self) -> Any:  # noqa: ANN401  whatever the command answers
        """The command."""
        return self.journey.go(self.root, recordings(self.folder, self.journey))


@dataclass
class Kills:
    """What came of them."""

    runs: int = 0
    single: int = 0
    torn: int = 0
    during_recovery: int = 0
    points: set[tuple[str, int]] = field(default_factory=set)
    """Journey and number of each boundary a process was killed at."""
    places: set[tuple[str, str, str]] = field(default_factory=set)
    """Journey, call and path of each, names of random or process numbers left out."""
    wrong: Counter[str] = field(default_factory=Counter)
    """`invariants.KINDS` -> runs in which it happened."""
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def note(self, where: str, found: list[list[str]]) -> None:
        """Count a run."""
        self.runs += 1
        self.wrong.update({kind for kind, _ in found})
        self.said += [f"{where}: {kind}: {sentence}" for kind, sentence in found]


def prepare(journey: Journey, folder: Path) -> Prepared:
    """Make the start, do the work once whole, and note where it could have been killed.

    Raises:
        RuntimeError: The work itself fails.
    """
    start, recorded = folder / "start", recordings(folder, journey)
    caches(start)
    one = Prepared(journey, folder, [], {}, {})
    _must(forked.work(partial(journey.prepare, start, recorded)))
    shutil.copytree(start, folder / "recording")
    _must(forked.work(partial(journey.record, folder / "recording", recorded)))
    caches(folder / "run")
    one.again()
    one.before = _must(forked.work(lambda: account(load_workspace(one.root))))
    one.again()
    log = folder / "log"
    _must(forked.work(one.go, before=partial(boundaries.arm, one.root, log=log)))
    one.points = boundaries.read(log)
    one.expected = _must(forked.work(lambda: account(load_workspace(one.root))))
    return one


def recordings(folder: Path, journey: Journey) -> Path:
    """Where judgings by the journey's contract are kept, for all journeys that have the same."""
    where = folder.parent / f"recorded-{hashlib.sha256(journey.contract.encode()).hexdigest()[:8]}"
    where.mkdir(parents=True, exist_ok=True)
    return where


def caches(folder: Path) -> None:
    """Let readers remember what they saw beside the workspace of this folder."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")


def _must(ended: forked.Ended) -> Any:  # noqa: ANN401  whatever the work gave
    if ended.status or ended.refused or ended.crashed:
        raise RuntimeError(ended.refused or ended.crashed or f"it ended with {ended.status}")
    return ended.value


def finished(one: Prepared) -> dict[str, Any]:
    """Give the command again and look at everything: what is wrong, and how many boundaries the recovery had."""
    boundaries.arm(one.root)
    wrong: list[tuple[str, str]] = []
    try:
        one.go()
    except LazarettoError as error:
        if not re.search(one.journey.said_again, error.message):
            wrong.append(("otherwise another end", f"the command again: {error.message}"))
    count = boundaries.passed()
    boundaries.arm(one.folder / "nowhere")
    workspace = load_workspace(one.root)
    wrong += faults(workspace, one.expected, one.before) + gate_fault(workspace, one.expected)
    return {"wrong": wrong, "boundaries": count}


def once(one: Prepared, kills: Kills, at: int, how: int, second: int = 0) -> None:
    """Kill at a boundary, perhaps again in the recovery, then finish and look."""
    one.again()
    point = one.points[at - 1]
    where = f"{one.journey.name}, {'torn in' if how == TEAR else 'killed before'} {at} {point.call} {point.path}"
    first = forked.work(one.go, before=partial(boundaries.arm, one.root, at, how))
    if not first.killed:
        kills.note(where, [["otherwise another end", f"was not reached: {first.refused or first.crashed or 'done'}"]])
        return
    if second:
        forked.work(one.go, before=partial(boundaries.arm, one.root, second, KILL))
        where += f", then before call {second} of the recovery"
    ended = forked.work(partial(finished, one))
    kills.points.add((one.journey.name, at))
    kills.places.add((one.journey.name, point.call, re.sub(r"[0-9a-f]{20,}|\d{3,}", "*", point.path)))
    kills.single += not second
    kills.torn += how == TEAR
    kills.during_recovery += bool(second)
    if ended.value is None:
        said = ended.refused or ended.crashed or f"it ended with {ended.status}"
        kills.note(where, [["otherwise another end", f"looking at it failed: {said}"]])
        return
    one.recoveries.setdefault(at, ended.value["boundaries"])
    kills.note(where, ended.value["wrong"])


def chosen(prepared: list[Prepared], runs: int, rng: random.Random) -> Iterator[tuple[Prepared, int, int, int]]:
    """Boundaries, and writes to be torn, each once, in any order; and for every two of them a recovery to be killed."""
    first = [
        (one, point.number, how, 0)
        for one in prepared
        for point in (rng.sample(one.points, min(_JUDGED, len(one.points))) if one.journey.judged else one.points)
        for how in ((KILL, TEAR) if point.call in WRITES else (KILL,))
    ]
    rng.shuffle(first)  # so that a run that is ended early has something of everything
    # A third of the runs are kept for recoveries that are killed, as soon as there is one that can be.
    for number in range(runs):
        ready = [one for one in prepared if any(one.recoveries.values())]
        if ready and (number % 3 == 2 or not first):  # noqa: PLR2004  a third
            one = rng.choice(ready)
            at = rng.choice([at for at, count in one.recoveries.items() if count])
            yield one, at, KILL, rng.randint(1, one.recoveries[at])
        elif first:
            yield first.pop()


def killed(
    folder: Path, runs: int, seed: int, names: tuple[str, ...] = tuple(JOURNEYS), minutes: float = math.inf
) -> Kills:
    """Kill so many times in all, or until so many minutes have passed."""
    began, kills, rng = time.monotonic(), Kills(), random.Random(seed)  # noqa: S311  where to kill is no secret
    prepared = [prepare(JOURNEYS[name], folder / name.replace(" ", "-").replace(",", "")) for name in names]
    for one, at, how, second in chosen(prepared, runs, rng):
        if time.monotonic() - began > 60 * minutes:
            break
        caches(one.folder / "run")
        once(one, kills, at, how, second)
        if kills.runs % _TOLD == 0:
            print(f"{kills.runs:,} of {runs:,} kills, {sum(kills.wrong.values())} wrong", file=sys.stderr, flush=True)
    kills.seconds = time.monotonic() - began
    return kills
