"""What becomes of hostile input: files and values of some hundred kinds, and mutants of sound files.

    make bench-hostile
    python -m benchmarks.hostile [--short] [--mutants 100000] [--minutes 30] [--fuzz-seconds 120] [--seed 0]

*Classes*: every hostile value in a table of 24 records, every way to damage a file, in each of the four formats, and
what only one format can do (`benchmarks.hostile_values`, `hostile_bytes`, `hostile_shapes`). One at a time each is
named on a command line, as it were: a process takes the snapshot, another, sandboxed and limited, parses. An input must
be refused with one of our errors, or have every one of its records come out: as they are, with some rejected, or the
whole batch held. Records are counted without the readers (`benchmarks.hostile_counts`); none may be lost. Time and peak
resident memory are the parsing process's, its libraries (about 0.2 GiB) included.

*Mutants*: sound files of each format changed at random in one place or a few, bytes or structure
(`benchmarks.hostile_mutants`), some hundred in one process each.

*Fuzzing*: the readers under atheris, which looks for inputs that reach new lines of them (`benchmarks.hostile_fuzz`).

Targets: the process that asked never dies; no record is lost; every input ends in a coded error, rejects, a hold or all
of its records; at most 10 seconds and 1 GiB each.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.detection_report import table
from benchmarks.hostile_bytes import CHANGES, PLACES
from benchmarks.hostile_counts import records
from benchmarks.hostile_overhead import overhead
from benchmarks.hostile_run import Ended, in_a_child, run
from benchmarks.hostile_shapes import IMAGE_TABLES, SHAPES
from benchmarks.hostile_storm import Storm, storm
from benchmarks.hostile_tables import FORMATS, contract_for, folder_of_pictures, rows, with_cell, written
from benchmarks.hostile_values import VALUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Files = Mapping[str, bytes]

MOST_SECONDS, MOST_MEMORY = 10.0, 2**30
_PATIENCE = 120.0
"""Seconds after which a parse is ended; a late one is told as such."""
_SHORT = 7
"""In short every so manieth class is tried."""


@dataclass(frozen=True)
class Case:
    """One class of hostile input in one format."""

    name: str
    kind: str
    make: Callable[[], Files]
    folder: bool
    place: Callable[[Path], None] | None = None
    """What is done to the one file once it lies there."""

    @property
    def exact(self) -> bool:
        """Whether the file keeps lying where it can be counted."""
        return self.place is None


@dataclass
class Found:
    """All that was found."""

    ended: dict[tuple[str, str], Ended] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    counted: int = 0


def cases(seed: int) -> Iterator[Case]:
    """Every class in every format that can have it."""
    for name, (column, value) in VALUES.items():
        for kind in FORMATS:
            yield Case(name, kind, lambda k=kind, c=column, v=value: written(k, with_cell(c, v)), folder=False)  # type: ignore[misc]
    for name, change in CHANGES.items():
        for kind in FORMATS:
            yield Case(f"file: {name}", kind, lambda k=kind, c=change: _changed(k, c, seed), folder=kind == "images")  # type: ignore[misc]
    for name, place in PLACES.items():
        for kind in FORMATS:
            yield Case(f"file: {name}", kind, lambda k=kind: _sound(k), folder=kind == "images", place=place)  # type: ignore[misc]
    for name, make in IMAGE_TABLES.items():
        yield Case(f"images: {name}", "images", make, folder=False)
    for kind, shapes in SHAPES.items():
        for name, make in shapes.items():
            yield Case(f"{kind}: {name}", kind, make, folder=kind == "images")


def _sound(kind: str) -> dict[str, bytes]:
    return dict(folder_of_pictures() if kind == "images" else written(kind, rows()))


def _changed(kind: str, change: Callable[[bytes, np.random.Generator], bytes], seed: int) -> Files:
    files = _sound(kind)
    name = max(files)
    return {**files, name: change(files[name], np.random.default_rng(seed))}


def tried(case: Case, work: Path, found: Found) -> None:
    """Run one class in one format."""
    counted = in_a_child(lambda: {"what": "made", **_laid(case, work / "in")}, 600.0)
    if counted["what"] != "made":
        found.faults.append(f"{case.name} ({case.kind}) could not be made: {counted}")
        return
    path = work / "in" if case.folder else work / "in" / str(counted["first"])
    ended = run([path], contract_for(case.kind, folder=case.folder), work / "run", _PATIENCE)
    found.ended[case.name, case.kind] = ended
    where = f"{case.name} ({case.kind})"
    if ended.what in {"fault", "late"}:
        found.faults.append(f"{where}: {ended.what} {ended.said}")
    elif ended.what not in {"refused", "died"}:
        expected = counted["rows"]
        found.counted += expected is not None
        if expected not in {None, ended.arrived} or ended.arrived != ended.kept + ended.rejected:
            written_out = f"{ended.kept} kept + {ended.rejected} rejected"
            found.faults.append(f"{where}: {expected} records, {ended.arrived} arrived, {written_out}")
    shutil.rmtree(work, ignore_errors=True)


def _laid(case: Case, folder: Path) -> dict[str, object]:
    """Write a case's files; gives the first one's name and how many records they hold."""
    files = case.make()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if case.place is not None:
        case.place(folder / max(files))
    return {"first": next(iter(files)), "rows": records(files, folder=case.folder) if case.exact else None}


def print_classes(found: Found) -> None:
    """One line a class: what became of it in each format, the longest time and the most memory."""
    names = list(dict.fromkeys(name for name, _ in found.ended))
    lines = []
    for name in names:
        ends = {kind: found.ended[name, kind] for kind in FORMATS if (name, kind) in found.ended}
        worst = max(end.seconds for end in ends.values()), max(end.memory for end in ends.values())
        lines.append(
            [name, *(_told(ends.get(kind)) for kind in FORMATS), f"{worst[0]:.2f}", f"{worst[1] / 2**20:,.0f}"]
        )
    print(table(["class", *FORMATS, "seconds", "MiB"], lines))


def _told(end: Ended | None) -> str:
    if end is None:
        return ""
    return f"{end.rejected:,} of {end.arrived:,} rejected" if end.what == "rejected" else end.what


def print_targets(found: Found, storms: Sequence[Storm]) -> bool:
    """The targets, met or missed; whether all were met."""
    ends = list(found.ended.items())
    dead = [f for f in found.faults if "the parent" in f]
    slow = [
        f"{name} ({kind}) {end.seconds:.1f} s, {end.processor:.1f} s of them computing"
        for (name, kind), end in ends
        if end.seconds > MOST_SECONDS
    ]
    large = [f"{name} ({kind}) {end.memory / 2**30:.2f} GiB" for (name, kind), end in ends if end.memory > MOST_MEMORY]
    slow += [f"a mutant ({each.kind}) {each.seconds:.1f} s" for each in storms if each.seconds > MOST_SECONDS]
    large += [f"mutants ({each.kind}) {each.memory / 2**30:.2f} GiB" for each in storms if each.memory > MOST_MEMORY]
    other = [*found.faults, *(fault for each in storms for fault in each.faults)]
    outcomes = Counter(end.what for end in found.ended.values())
    names = {name for name, _ in found.ended}
    said = ", ".join(f"{count:,} {what}" for what, count in outcomes.most_common())
    print(f"\n{len(names)} classes, {len(ends):,} inputs: {said}; records counted independently in {found.counted:,}.")
    for each in storms:
        said = ", ".join(f"{count:,} {what}" for what, count in each.outcomes.most_common())
        print(
            f"{each.count:,} mutants of {each.kind}: {said}; counted independently in {each.counted:,}; "
            f"at most {each.seconds:.2f} s, {each.memory / 2**20:,.0f} MiB."
        )
    died = [f"{name} ({kind})" for (name, kind), end in ends if end.what == "died"]
    died += [mutant for each in storms for mutant in each.died]
    if died:
        print(f"The process that parses died of {len(died)}, and the command refuses them with exit code 4:", *died)
    for what, wrong in (
        ("the process that asked never dies", dead),
        ("every input ends in a coded error, rejects, a hold, or all of its records; none is lost", other),
        (f"at most {MOST_SECONDS:.0f} s each", slow),
        (f"at most {MOST_MEMORY / 2**30:.0f} GiB each", large),
    ):
        print(f"{'missed' if wrong else 'met'}: {what}" + "".join(f"\n    {line}" for line in wrong[:40]))
    return not (dead or other or slow or large)


def storms(options: argparse.Namespace) -> list[Storm]:
    """A quarter of the mutants for each format, a quarter of the time at most."""
    known = in_a_child(_seeds, 120.0)
    found = []
    for kind in FORMATS:
        until = time.perf_counter() + options.minutes * 60 / len(FORMATS)
        files = [bytes.fromhex(text) for text in known[kind]]
        found.append(storm(kind, files, options.seed, options.mutants // len(FORMATS), until))
        print(f"... {found[-1].count:,} mutants of {kind}", file=sys.stderr, flush=True)
    return found


def _seeds() -> dict[str, object]:
    from benchmarks.hostile_mutants import seeds

    return {kind: [data.hex() for data in files] for kind, files in seeds().items()}


def main() -> None:
    """Run all and print the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--short", action="store_true", help="a part of the classes, few mutants")
    options.add_argument("--every", type=int, default=1, help="try every so manieth input only")
    options.add_argument("--mutants", type=int, default=100_000)
    options.add_argument("--minutes", type=float, default=40.0, help="for the mutants together")
    options.add_argument("--fuzz-seconds", type=int, default=120)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    if chosen.short:
        chosen.every = _SHORT
        chosen.mutants, chosen.minutes, chosen.fuzz_seconds = (
            min(chosen.mutants, 2_000),
            1.0,
            min(chosen.fuzz_seconds, 10),
        )
    warm()
    found = Found()
    some = list(cases(chosen.seed))[:: chosen.every]
    with tempfile.TemporaryDirectory(prefix="lazaretto-hostile-") as place:
        for number, case in enumerate(some):
            tried(case, Path(place) / str(number), found)
            if number % 100 == 99:  # noqa: PLR2004  a sign of life
                print(f"... {number + 1} of {len(some)} inputs", file=sys.stderr, flush=True)
    thrown = storms(chosen)
    from benchmarks.hostile_fuzz import fuzzed
    from benchmarks.machine import code, machine

    print_classes(found)
    met = print_targets(found, thrown)
    line, sound = fuzzed(chosen.fuzz_seconds, chosen.seed)
    print(line)
    print(overhead())
    print(f"\nSeed {chosen.seed}; {machine()}; code {code()}.")
    sys.exit(0 if met and sound else 1)


def warm() -> None:
    """Import what a parse needs, once, for all the processes that are forked."""
    from PIL import JpegImagePlugin, PngImagePlugin  # noqa: F401  what opening the first image would import

    import lazaretto.pipelines.read
    import lazaretto.pipelines.snapshot  # noqa: F401  the same


if __name__ == "__main__":
    main()
