"""Is a changed store ever read? Mutations of an admitted store, false alarms on a clean one, and what verifying costs.

    make bench-security
    python -m benchmarks.security [--short] [--mutations 5000] [--loads 1000] [--seed 0]

A store of four batches and a recall is published for real, under a contract that was signed twice. Then, one at a
time, on a fresh copy each without private keys, it is mutated (`benchmarks.mutations`) and read as a training job
reads it: the gate, then every byte through the loader. A mutation is *refused* when that raises one of our errors,
*without effect* when what is read is, record for record, what was admitted (a bit in a place that nothing depends on),
and *read* when anything else comes out: that must not happen. An error that is not ours counts as a crash, which must
not happen either. Clean loads are of such a copy, too: one that is refused is a false alarm.

Then the audit log is tampered with (`benchmarks.audit_tampering`), and each way is looked for by `verify`, with the
anchor and without.

Overhead: one million records in 20 files through the loader, against `polars.read_parquet` of the same files; the
median of five, in turn. The gate is asked once, whatever is read then, and stands for itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks.audit_tampering import WAYS, Ground, Noticed, ground, noticed
from benchmarks.detection_report import table
from benchmarks.gate import DATASET, publish
from benchmarks.machine import code, machine
from benchmarks.mutations import MUTATIONS, NEWER
from lazaretto.config import load_workspace
from lazaretto.errors import LazarettoError
from lazaretto.loader import open_admitted
from lazaretto.pipelines.recall import recall
from lazaretto.pipelines.review import word
from lazaretto.pipelines.selection import Selection
from lazaretto.pipelines.sign_contract import sign_contract
from lazaretto.pipelines.verify import verify

if TYPE_CHECKING:
    from lazaretto.config import Workspace

_BATCHES, _ROWS = 4, 300
_LARGE = 20, 50_000
_REPEATS = 5
_TOLD = 500
"""Mutations between two lines of progress."""


@dataclass
class Outcomes:
    """What became of the mutations of one kind."""

    refused: int = 0
    without_effect: int = 0
    read: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Mutations tried."""
        return self.refused + self.without_effect + len(self.read) + len(self.crashed)


def read_all(workspace: Workspace) -> pl.DataFrame:
    """What a training job would get."""
    return pl.concat(list(open_admitted(DATASET, workspace=workspace).frames()))


def copied(original: Path, into: Path) -> Workspace:
    """A copy of a workspace without its private keys."""
    shutil.copytree(original, into)
    for secret in (into / "keys").glob("*.key"):
        secret.unlink()
    return load_workspace(into)


def tried(original: Path, what: str, rng: np.random.Generator, expected: pl.DataFrame, found: Outcomes) -> None:
    """Mutate a copy and read it."""
    with tempfile.TemporaryDirectory() as scratch:
        workspace = copied(original, Path(scratch) / "workspace")
        done = MUTATIONS[what](workspace, rng)
        try:
            came = read_all(workspace)
        except LazarettoError:
            found.refused += 1
        except Exception as error:  # noqa: BLE001  whatever else it is, it is no refusal
            found.crashed.append(f"{done}: {type(error).__name__}: {error}")
        else:
            if came.equals(expected):
                found.without_effect += 1
            else:
                found.read.append(done)


def made(folder: Path) -> Workspace:
    """A workspace with four batches, three of them under a signed contract, of which some records were recalled."""
    workspace = publish(folder, 1, _ROWS)
    sign_contract(workspace, DATASET)
    publish(folder, _BATCHES, _ROWS)  # the first is known already
    with workspace.contract(DATASET).open("a", encoding="utf-8") as contract:
        contract.write(NEWER)
    sign_contract(workspace, DATASET)
    first = pl.read_parquet(next(workspace.store(DATASET).glob("b-*/*.parquet")))
    gone = Selection("records", "0" * 64, frozenset(first["_record_id"].head(3)))
    recall(workspace, DATASET, gone, word("a benchmark"))
    return workspace


def overhead(folder: Path, files: int, rows: int) -> tuple[float, float, float]:
    """Median seconds of reading plainly, of asking the gate, and of reading through the loader."""
    workspace = publish(folder, files, rows)
    paths = sorted(workspace.store(DATASET).glob("b-*/*.parquet"))
    plain, asked, verified = [], [], []
    for _ in range(_REPEATS + 1):
        began = time.perf_counter()
        for path in paths:
            pl.read_parquet(path)
        between = time.perf_counter()
        admitted = open_admitted(DATASET, workspace=workspace)
        opened = time.perf_counter()
        for frame in admitted.frames():
            del frame
        plain.append(between - began)
        asked.append(opened - between)
        verified.append(time.perf_counter() - opened)
    return statistics.median(plain[1:]), statistics.median(asked[1:]), statistics.median(verified[1:])


def report(found: dict[str, Outcomes], alarms: int, loads: int, seconds: tuple[float, float, float]) -> str:
    """The figures as text."""
    rows = [
        (what, str(one.count), str(one.refused), str(one.without_effect), str(len(one.read)), str(len(one.crashed)))
        for what, one in found.items()
    ]
    every = Counter[str]()
    for one in found.values():
        every.update(
            mutations=one.count,
            refused=one.refused,
            same=one.without_effect,
            read=len(one.read),
            crash=len(one.crashed),
        )
    plain, asked, verified = seconds
    bad = [f"- {what}: {said}" for what, one in found.items() for said in (*one.read, *one.crashed)]
    said = (
        f"{every['mutations']:,} mutations of {len(found)} kinds: {every['refused']:,} refused, {every['same']:,}"
        f" without effect, {every['read']} read, {every['crash']} crashed."
        f" False alarms: {alarms} in {loads:,} clean loads."
        f" Reading through the loader: {verified:.2f} s beside {plain:.2f} s plainly, {verified / plain - 1:+.0%};"
        f" the gate before it, once: {asked:.2f} s."
    )
    kinds = table(("mutation", "tried", "refused", "without effect", "read", "crashed"), rows)
    return "\n\n".join([f"{machine()}. Code {code()}.", said, kinds, *(["\n".join(bad)] if bad else [])])


def copied_whole(base: Ground) -> Workspace:
    """A copy with which nobody tampered."""
    return base.copied(base.now.parent / "untouched").workspace


def audit_report(audit: list[Noticed], *, sound: bool) -> str:
    """What was noticed of the ways to tamper with the audit log, as text."""
    rows = [(one.way, *("found" if said else "not found" for said in (one.with_anchor, one.without))) for one in audit]
    found, without = sum(bool(one.with_anchor) for one in audit), sum(bool(one.without) for one in audit)
    said = (
        f"{len(audit)} ways to tamper with the audit log: {found} found with the anchor, {without} without."
        f" A copy that nobody touched is found {'sound' if sound else 'ALTERED'}."
    )
    return "\n\n".join([said, table(("audit log", "with the anchor", "without"), rows)])


def main() -> None:
    """Mutate, load, time, tamper, print; exit code 1 when anything came out as it must not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="each mutation twice, 20 loads, a tenth of the records")
    parser.add_argument("--mutations", type=int, default=5_000)
    parser.add_argument("--loads", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    kinds = list(MUTATIONS)
    count, loads = (2 * len(kinds), 20) if given.short else (given.mutations, given.loads)
    rng = np.random.default_rng(given.seed)
    found = {what: Outcomes() for what in kinds}
    alarms = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        workspace = made(folder / "small")
        expected = read_all(workspace)
        for number in range(count):
            tried(workspace.root, kinds[number % len(kinds)], rng, expected, found[kinds[number % len(kinds)]])
            if (number + 1) % _TOLD == 0:
                print(f"{number + 1:,} of {count:,} mutations", file=sys.stderr, flush=True)
        clean = copied(workspace.root, folder / "clean")
        for _ in range(loads):
            try:
                alarms += not read_all(clean).equals(expected)
            except LazarettoError as error:
                print(f"false alarm: {error}", file=sys.stderr)
                alarms += 1
        files, rows = (4, 5_000) if given.short else _LARGE
        print(report(found, alarms, loads, overhead(folder / "large", files, rows)))
        base = ground(folder / "audit")
        sound = not verify(copied_whole(base)).findings
        audit = [noticed(base, way) for way in WAYS]
        print(f"\n{audit_report(audit, sound=sound)}")
    if not sound or any(not one.with_anchor for one in audit):
        sys.exit(1)
    if alarms or any(one.read or one.crashed for one in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
