"""What the long benchmarks are asked on the command line, in the same words, and the data sets they are asked about."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.data import DATA_SETS, HELD_OUT_SETS, DataSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DOCS = Path(__file__).resolve().parent.parent / "docs"
DEVELOPMENT = 100
"""Seeds from here on are for development."""


def parser(about: str | None, short: str) -> argparse.ArgumentParser:
    """Of a benchmark that judges data sets of its choice, keeps a record, and writes a page into ``docs/``.

    Args:
        about: What ``--help`` says first.
        short: What ``--short`` does.
    """
    asked = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--short", action="store_true", help=f"{short}, and nothing is written")
    asked.add_argument("--data", type=Path, help="folder with the data sets; the small samples by default")
    asked.add_argument("--record", type=Path, help="append everything here, and do not repeat what is in it")
    asked.add_argument("--report", action="store_true", help="run nothing: write the report from the record")
    asked.add_argument("--out", type=Path, default=DOCS)
    return asked


def add_batches(asked: argparse.ArgumentParser, names: Iterable[str] = tuple(DATA_SETS), seeds: int = 5) -> None:
    """Ask which batches too: of which data sets, and of which seeds."""
    asked.add_argument("--seeds", type=int, default=seeds)
    asked.add_argument("--first-seed", type=int, default=0, help=f"{DEVELOPMENT} or more while developing")
    asked.add_argument("--dataset", action="append", choices=list(names), help="only this one; may be repeated")


def add_plans(asked: argparse.ArgumentParser) -> None:
    """Ask which attacks too, and where the batches they are planted in are kept."""
    asked.add_argument("--attack", action="append", help="only this entry of PLANS, or clean; may be repeated")
    add_kept(asked)


def add_kept(asked: argparse.ArgumentParser) -> None:
    """Ask where poisoned batches are kept."""
    asked.add_argument("--kept", type=Path, help="folder for the poisoned batches, which are then planted once")


def seeds(given: argparse.Namespace) -> range:
    """The seeds that are asked for: with ``--short`` the first."""
    return range(given.first_seed, given.first_seed + (1 if given.short else given.seeds))


def opened(names: Iterable[str], folder: Path | None) -> Iterator[DataSet]:
    """These data sets; one whose file is not there is left out, with a line that says so."""
    for name in names:
        try:
            data = {**DATA_SETS, **HELD_OUT_SETS}[name](folder)
        except FileNotFoundError as missing:
            print(f"{name} is left out: {missing}")
            continue
        yield data


def nothing_measured() -> SystemExit:
    """To raise where no report can be written."""
    return SystemExit("nothing was measured, and nothing is written: name a folder with the data sets by --data")
