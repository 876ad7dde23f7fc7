"""What is caught of what nothing was developed on: other data sets, other attacks, other rates.

    make bench-held-out DATA=FOLDER
    python -m benchmarks.held_out [--short] [--data DIR] [--seeds 3] [--methods ours|peers|all] [--record FILE]

The data sets of `HELD_OUT_SETS` with the attacks of the drill, and the data sets of `benchmarks.detection` with other
attacks and rates (`HELD_OUT`, `benchmarks.variants`). Each batch is judged as there, with the same figures. Both lists
were written before the first run. Where that showed a defect and it was mended, on other records, the batches were
judged again, and --first names the record of the first runs: the page tells both.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import asked
from benchmarks.data import HELD_OUT_SETS
from benchmarks.detection import measured, methods_of
from benchmarks.machine import machine
from benchmarks.plans import HELD_OUT, Unplantable
from benchmarks.record import Record

if TYPE_CHECKING:
    import argparse

    from benchmarks.data import DataSet


def measure(found: Record, data: DataSet, seed: int, given: argparse.Namespace) -> None:
    """Everything of one data set and seed that is not in the record yet."""
    clean = ("clean",) if data.name in HELD_OUT_SETS else ()
    every = (*clean, *HELD_OUT[data.name])
    for entry in every[:2] if given.short else [entry for entry in every if not given.attack or entry in given.attack]:
        left = [name for name in methods_of(given.methods) if (data.name, entry, name, seed) not in found.runs]
        try:
            for run in measured(data, entry, seed, left, given.kept):
                found.add(run)
        except Unplantable as error:
            print(f"{data.name}: {entry}, seed {seed} is left out: {error}")


def _arguments() -> argparse.Namespace:
    parser = asked.parser(__doc__, "one seed of two attacks on flights")
    asked.add_batches(parser, HELD_OUT, seeds=3)
    asked.add_plans(parser)
    parser.add_argument("--methods", default="Lazaretto", help="all, ours, peers, or the name of one")
    parser.add_argument("--also", type=Path, action="append", default=[], help="an earlier record, read beside it")
    parser.add_argument("--detection", type=Path, action="append", default=[], help="its record, to compare with")
    parser.add_argument("--first", type=Path, action="append", default=[], help="first runs, of code mended since")
    return parser.parse_args()


def main() -> None:
    """Run, print, and write `held_out.md` with its plot."""
    given = _arguments()
    found = Record(given.record, given.also)
    names = [] if given.report else given.dataset or (["flights"] if given.short else list(HELD_OUT))
    with tempfile.TemporaryDirectory() as scratch:
        given.kept = given.kept or Path(scratch)
        for data in asked.opened(names, given.data):
            for seed in asked.seeds(given):
                measure(found, data, seed, given)
    if not found.runs:
        raise asked.nothing_measured()
    from benchmarks.held_out_report import write_report

    known = Record(None, given.detection).runs.values()
    first, out = list(Record(None, given.first).runs.values()), None if given.short else given.out
    print(write_report(list(found.runs.values()), known, out, machine(), first))


if __name__ == "__main__":
    main()
