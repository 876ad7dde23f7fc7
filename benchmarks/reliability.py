"""Is anything lost, there twice, let in unscored or taken back when processes are killed, disks fill and clocks jump?

    make bench-reliability
    python -m benchmarks.reliability [--short] [--seed 0] [--minutes M] [--batches 250]
        [--only kills,faults,unsynced,writers,clocks]

- *kills*: SIGKILL before every call that changes a file, of an ingest, a first ingest, a held one, one judged for real,
  releases, discards and a recall; in the midst of writes; and again while a killed command is being repeated
  (`benchmarks.kills`);
- *faults*: every such call of an ingest refused once each with ENOSPC, EIO and EINTR (`benchmarks.faults`);
- *unsynced*: what a power cut could take away behind the back of what vouches for it, in whole runs and in runs that
  finish a killed one (`benchmarks.unsynced`);
- *writers*: eight processes, 250 batches each, each sent twice, on SQLite and on PostgreSQL (`benchmarks.writers`);
- *clocks*: a clock that jumps by up to 400 days at every step (`benchmarks.clocks`).

Each figure is printed beside its target; a target that is missed is printed as missed, and the exit code is 1. Linux, a
C compiler and strace are needed; what cannot be tried for want of one is printed as not measured, which counts as
missed. The batches are small and judged by one detector; `benchmarks.journeys` says how.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import boundaries, forked, syscalls
from benchmarks.clocks import jumped
from benchmarks.detection_report import table
from benchmarks.faults import refused
from benchmarks.invariants import KINDS
from benchmarks.journeys import JOURNEYS
from benchmarks.kills import caches, killed, prepare
from benchmarks.machine import code, machine
from benchmarks.unsynced import searched
from benchmarks.writers import postgres, postgres_missing, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTS = ("kills", "faults", "unsynced", "writers", "clocks")
_MODULE = "benchmarks.reliability"
_TOLD = 40
"""Violations that are printed of each part."""


@dataclass(frozen=True)
class Sizes:
    """How much of each is done."""

    runs: int = 2_000
    every_fault: int = 1
    every_sync: int = 4
    batches: int = 250
    jumping: int = 60
    """Batches sent while the clock jumps."""
    minutes: float = math.inf
    """Of every part but the writers: after so many nothing new is begun."""
    journeys: tuple[str, ...] = tuple(JOURNEYS)


SHORT = Sizes(runs=16, every_fault=40, every_sync=40, batches=2, jumping=2, journeys=("ingest", "recall"))
"""Seconds instead of an hour; it shows that everything runs, not that nothing is lost."""


@dataclass(frozen=True)
class Figure:
    """One line of the report."""

    what: str
    target: str
    value: str
    met: bool


def kills(folder: Path, sizes: Sizes, seed: int) -> tuple[list[Figure], list[str]]:
    """The figures of the kills."""
    done = killed(folder, sizes.runs, seed, sizes.journeys, sizes.minutes)
    figures = [
        Figure("runs that were killed", f">= {sizes.runs:,}", f"{done.runs:,}", done.runs >= sizes.runs),
        Figure("distinct points", ">= 40", f"{len(done.points):,}", len(done.points) >= 40),  # noqa: PLR2004  the target
        *(Figure(f"runs after which something is {kind}", "0", str(done.wrong[kind]), not done.wrong[kind])
          for kind in KINDS),
    ]  # fmt: skip
    print(
        f"kills: {done.single:,} once, of which {done.torn:,} half-way through a write; {done.during_recovery:,} again"
        f" in the recovery; at {len(done.points):,} calls of {len(sizes.journeys)} commands ({len(done.places):,} calls"
        f" on different files); {done.seconds:,.0f} s"
    )
    return figures, done.said


def faults(folder: Path, sizes: Sizes, seed: int) -> tuple[list[Figure], list[str]]:
    """The figures of the refused calls."""
    one = prepare(JOURNEYS["ingest"], folder / "ingest")
    done = refused(one, folder / "log", seed, sizes.every_fault, sizes.minutes)
    wrong = sum(done.wrong.values())
    print(
        f"faults: {done.occurrences:,} calls change a file in an ingest; {done.runs:,} refusals, {done.by_strace:,} of"
        f" them by strace; ended in a sentence: {dict(done.refused)}, came to its end all the same: {dict(done.done)};"
        f" {done.seconds:,.0f} s"
    )
    return [
        Figure("calls refused", "every one, 3 errors", f"{done.runs:,} of {3 * done.occurrences:,}",
               done.runs >= 3 * done.occurrences),
        Figure("violations after the command was given again", "0", str(wrong), not wrong),
        Figure("false successes", "0", str(done.false_successes), not done.false_successes),
        Figure("errors without a sentence", "0", str(done.tracebacks), not done.tracebacks),
    ], done.said  # fmt: skip


def unsynced(folder: Path, sizes: Sizes, seed: int) -> tuple[list[Figure], list[str]]:
    """The figures of what was not synced in time."""
    names = [name for name in sizes.journeys if not JOURNEYS[name].judged]
    prepared = [prepare(JOURNEYS[name], folder / name.replace(" ", "-").replace(",", "")) for name in names]
    done = searched(prepared, folder / "log", seed, sizes.every_sync, sizes.minutes)
    traced = done.whole + done.repeated
    print(
        f"unsynced: something vouched for what was written before it {done.vouched:,} times, in {done.whole} whole"
        f" commands and {done.repeated} that finish a killed one"
    )
    return [
        Figure("commands traced", f"{done.wanted:,}", f"{traced:,}", traced >= done.wanted),
        Figure("files or names not synced behind what vouches for them", "0", str(len(done.said)), not done.said),
        Figure("calls that strace sees and the library that kills does not", "0", f"{done.unseen} of {done.calls:,}",
               not done.unseen and done.calls > 0),
    ], done.said  # fmt: skip


def writers(folder: Path, sizes: Sizes, _seed: int) -> tuple[list[Figure], list[str]]:
    """The figures of many writers."""
    figures, said = [], []
    for database in ("SQLite", "PostgreSQL"):
        caches(folder / database)
        why = postgres_missing() if database == "PostgreSQL" else ""
        if why:
            figures.append(Figure(f"8 writers, {database}", "each in once", f"not measured: {why}", met=False))
            continue
        if database == "SQLite":
            done = written(folder / database, 8, sizes.batches)
        else:
            with postgres() as url:
                done = written(folder / database, 8, sizes.batches, url)
        bad = done.missing + done.twice + done.unanswered + len(done.said)
        figures.append(
            Figure(
                f"8 writers, {done.batches:,} batches sent twice, {database}",
                f"{8 * Sizes.batches:,} batches twice, each in once",
                f"{done.sent:,} sent; {done.missing} missing, {done.twice} twice, {done.unanswered} wrong answers",
                not bad and done.sent >= 2 * 8 * Sizes.batches,
            )
        )
        said += done.said
        print(f"writers, {database}: {done.seconds:,.0f} s, {done.waited:,} times another was at work on the data set")
    return figures, said


def clocks(folder: Path, sizes: Sizes, seed: int) -> tuple[list[Figure], list[str]]:
    """The figures of a clock that jumps."""
    done = jumped(folder, sizes.jumping, seed, sizes.minutes)
    print(f"clocks: {done.commands} ingests through {done.jumps} jumps, {done.back} of them back")
    return [
        Figure("ingests while the clock jumps", f">= {2 * sizes.jumping}", str(done.commands),
               done.commands >= 2 * sizes.jumping),
        Figure("records lost or twice when the clock jumps", "0", f"{done.lost} + {done.twice}",
               not done.lost + done.twice),
        Figure("audit log in order and whole", "yes", "no" if done.said else "yes", not done.said),
        Figure("publications from the future that --max-age lets through", "0", f"{done.let_through} of {done.asked}",
               not done.let_through),
    ], done.said  # fmt: skip


_RUN: dict[str, Callable[[Path, Sizes, int], tuple[list[Figure], list[str]]]] = {
    "kills": kills, "faults": faults, "unsynced": unsynced, "writers": writers, "clocks": clocks,
}  # fmt: skip
_STRACE = {"faults", "unsynced"}


def measured(folder: Path, parts: tuple[str, ...], sizes: Sizes, seed: int) -> Iterator[tuple[list[Figure], list[str]]]:
    """Each part's figures and what was wrong; of a part that cannot be tried here, why."""
    for part in parts:
        why = syscalls.missing() if part in _STRACE else ""
        if why:
            yield [Figure(part, "0 violations", f"not measured: {why}", met=False)], []
            continue
        here = folder / part
        here.mkdir()
        caches(here)
        yield _RUN[part](here, sizes, seed)


def report(figures: list[Figure], said: list[str], seed: int) -> str:
    """The figures as text."""
    rows = [(one.what, one.target, one.value, "met" if one.met else "MISSED") for one in figures]
    missed = sum(not one.met for one in figures)
    head = f"{machine()}. Code {code()}, seed {seed}."
    end = f"{len(figures) - missed} of {len(figures)} targets met."
    wrong = "\n".join(f"- {one}" for one in said[:_TOLD])
    return "\n\n".join([head, table(("what", "target", "measured", ""), rows), end, *([wrong] if wrong else [])])


def main() -> None:
    """Do everything, print it; exit code 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="seconds; shows that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end every part but the writers after so long")
    parser.add_argument("--batches", type=int, help="of each writer")
    given = parser.parse_args()
    parts = tuple(part for part in PARTS if part in given.only.split(","))
    if boundaries.missing():
        sys.exit(f"not measured: {boundaries.missing()}")
    with tempfile.TemporaryDirectory() as scratch:
        if not boundaries.loaded():
            boundaries.run(boundaries.build(Path(scratch)), _MODULE, sys.argv[1:])
        forked.warm()
        sizes = replace(SHORT if given.short else Sizes(), minutes=given.minutes)
        sizes = replace(sizes, batches=given.batches or sizes.batches)
        figures: list[Figure] = []
        said: list[str] = []
        for found, wrong in measured(Path(scratch), parts, sizes, given.seed):
            figures += found
            said += wrong
        print(report(figures, said, given.seed))
    if not all(one.met for one in figures) and not given.short:
        sys.exit(1)


if __name__ == "__main__":
    main()
