"""An attacker who knows how Lazaretto decides: what he gets past it, and what that is worth to him.

    make bench-adaptive DATA=FOLDER
    python -m benchmarks.adaptive [--short] [--data DIR] [--seeds 2] [--first-seed 0] [--dataset NAME] [--record FILE]

He knows the batch, the contract, every detector with its parameters and the threshold (0.01), and can judge his own
copy of the batch. What he does not know is the workspace's secret, which draws who judges whom, and the trusted set.

- Each move of `benchmarks.adaptive_moves` changes one thing of a known attack: two columns of a table beyond their
  range, a sentence in a mail, labels that lie.
- The best response: he judges every trigger move on his own copy (with a secret of his own, without a trusted set),
  trains a model on what is admitted there, and values a move at the poisons admitted times the attack success beyond a
  clean model's. From the most valuable on he adds the others in the order of their value, and keeps what adds.

Then the batch arrives, and is judged as `lazaretto scan` does, with the workspace's secret, without and with a trusted
set. Models (`benchmarks.learners`) are trained on the batch as it arrived, on what was admitted, and on the batch
before it was poisoned. Attack success: the share of unseen records of other labels, with the trigger, that a model
calls what the attacker wants; where labels alone lie, of such records as they are.

Batches are of 2,000 records at most, for a search takes some sixty scans. Development used seeds 100 and up; what is
reported uses 0, 1, ... With --record everything measured is appended to a file, and what is in it already is not
measured again. Remove the file after a change to the code.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks import asked
from benchmarks.adaptive_moves import MOVES, Attacker, Variant, moves_of
from benchmarks.goals import Goal
from benchmarks.learners import learn
from benchmarks.machine import machine
from lazaretto.attacks.ground import Ground
from lazaretto.pipelines.scan import Options, judge

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from benchmarks.data import DataSet
    from benchmarks.learners import Predict
    from lazaretto.attacks.ground import Planted

RATE = 0.01
BATTLEFIELDS = ("flights", "spambase", "spamassassin")
BEST = "best response"
KNOWN = "as known"
_BATCH, _SHORT_BATCH = 2_000, 600
_UNSEEN = 2_000
_TRIES = 3
"""Moves that the attacker tries to add to his best."""
_SECRET, _HIS = b"the workspace's", b"the attacker's"


@dataclass(frozen=True)
class Judged:
    """What a scan said of a batch."""

    suspicion: NDArray[np.float64]
    """(rows,)."""
    flagged: NDArray[np.bool_]
    """(rows,) not admitted."""


@dataclass(frozen=True)
class Met:
    """One variant against the workspace."""

    data: str
    move: str
    seed: int
    variant: dict[str, object]
    target: str
    poisons: int
    covers: int
    caught: float
    """Share of the poisons not admitted, without a trusted set."""
    caught_trusted: float
    held: float
    """Share of the clean records not admitted, without a trusted set."""
    held_trusted: float
    clean: float
    """Attack success of a model of the clean batch."""
    poisoned: float
    """Of one of the batch as it arrived."""
    after: float
    """Of one of what was admitted, without a trusted set."""
    after_trusted: float
    expected: float
    """What the attacker values it at, on his own copy; negative where he did not ask."""
    seconds: float

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes it another."""
        return self.data, self.move, self.seed


class Measured:
    """All that was measured, in memory and, where a file is named, appended to it."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.found: dict[tuple[str, str, int], Met] = {}
        for line in path.read_text().splitlines() if path is not None and path.exists() else ():
            one = Met(**json.loads(line))
            self.found[one.key] = one

    def add(self, one: Met) -> None:
        """Print it, keep it, and append it to the file."""
        print(
            f"{one.data}: {one.move}, seed {one.seed}: {one.poisons} poisons, caught {one.caught:.2f} /"
            f" {one.caught_trusted:.2f}; attack success {one.clean:.2f} clean, {one.poisoned:.2f} unguarded,"
            f" {one.after:.2f} / {one.after_trusted:.2f} after; {one.seconds:.0f} s",
            flush=True,
        )
        self.found[one.key] = one
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(one)) + "\n")


def judged(data: DataSet, batch: pl.DataFrame, seed: int, secret: bytes, trusted: pl.DataFrame | None = None) -> Judged:
    """Judge a batch as `lazaretto scan` does, by a secret."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        batch.write_parquet(here / "batch.parquet")
        known: tuple[str, ...] = ()
        if trusted is not None:
            trusted.write_parquet(here / "known.parquet")
            known = (str(here / "known.parquet"),)
        contract = data.contract.model_copy(update={"trusted": None})
        options = Options(seed=seed, secret=secret, trusted=known)
        judge([here / "batch.parquet"], contract, here / "out", options)
        verdicts = pl.read_parquet(here / "out" / "verdicts.parquet")
    rejected = (verdicts["decision"] == "reject").to_numpy()
    flagged = (verdicts["p_value"] <= RATE).fill_null(value=True).to_numpy() | rejected
    return Judged(np.where(rejected, np.inf, verdicts["suspicion"].fill_null(np.inf).to_numpy()), flagged)


class Battle:
    """One batch, its attacker, and the workspace that it arrives in."""

    def __init__(self, data: DataSet, seed: int) -> None:
        """Draw the batch."""
        self.data, self.seed = data, seed
        self.trusted, self.batch, rest = data.draw(seed)
        self.unseen = rest.head(_UNSEEN)
        self.ground = Ground.of(self.batch, data.contract)
        ranges = {name: column.max for name, column in data.contract.all_columns.items()}
        limits = {name: float(most) for name, most in ranges.items() if isinstance(most, int | float)}
        self.attacker = Attacker(self.ground, seed, lambda frame: self._own_copy(frame).suspicion, limits)
        self._clean: Predict | None = None

    def _own_copy(self, frame: pl.DataFrame) -> Judged:
        return judged(self.data, frame, self.seed + 1, _HIS)

    def _goal(self, planted: Planted, variant: Variant) -> Goal:
        if variant.trigger:
            return Goal.of(planted, self.ground, self.unseen)
        label = str(self.ground.label)
        records = self.unseen.filter(pl.col(label).cast(pl.String).is_in(list(planted.aims)))
        wanted = records[label].cast(pl.String).replace_strict(planted.aims, return_dtype=pl.String)
        return Goal(records, wanted, np.empty(0, dtype=np.int64))

    def _success(self, goal: Goal, predict: Predict) -> float:
        return float((predict(goal.records) == goal.wanted).to_numpy().mean())

    def _after(self, goal: Goal, frame: pl.DataFrame, flagged: NDArray[np.bool_]) -> float:
        admitted = frame.filter(pl.Series(~flagged))
        return self._success(goal, learn(self.data, admitted, None, self.seed))

    def _before(self, goal: Goal) -> float:
        if self._clean is None:
            self._clean = learn(self.data, self.batch, None, self.seed)
        return self._success(goal, self._clean)

    def value(self, variant: Variant) -> float:
        """What the attacker values a variant at: poisons admitted times attack success beyond a clean model's."""
        planted = self.attacker.planted(variant)
        goal = self._goal(planted, variant)
        own = self._own_copy(planted.frame)
        gained = self._after(goal, planted.frame, own.flagged) - self._before(goal)
        return int((planted.truth & ~own.flagged).sum()) * max(0.0, gained)

    def met(self, move: str, variant: Variant, expected: float = -1.0) -> Met:
        """Let a variant arrive at the workspace.

        Raises:
            ValueError: The batch has too few records to take.
        """
        began = time.perf_counter()
        planted = self.attacker.planted(variant)
        goal, frame = self._goal(planted, variant), planted.frame
        without, given = (judged(self.data, frame, self.seed, _SECRET, trusted) for trusted in (None, self.trusted))
        nothing = np.zeros(len(frame), dtype=np.bool_)
        return Met(
            self.data.name,
            move,
            self.seed,
            asdict(variant),
            str(planted.target),
            int(planted.truth.sum()),
            int(planted.cover.sum()),
            caught=float(without.flagged[planted.truth].mean()),
            caught_trusted=float(given.flagged[planted.truth].mean()),
            held=float(without.flagged[planted.clean].mean()),
            held_trusted=float(given.flagged[planted.clean].mean()),
            clean=self._before(goal),
            poisoned=self._after(goal, frame, nothing),
            after=self._after(goal, frame, without.flagged),
            after_trusted=self._after(goal, frame, given.flagged),
            expected=expected,
            seconds=round(time.perf_counter() - began, 1),
        )

    def best_response(self, moves: Sequence[str]) -> tuple[Variant, float]:
        """The most valuable variant that the attacker finds on his own copy, and its value there."""
        singles = {name: variant for name, variant in moves_of(self.data.kind).items() if name in moves}
        values = {name: self._value_or_nothing(variant) for name, variant in singles.items()}
        order = sorted(values, key=lambda name: -values[name])
        best, value = singles[order[0]], values[order[0]]
        for name in order[1 : 1 + _TRIES]:
            more = replace(best, **MOVES[name])  # type: ignore[arg-type]  # fields of a variant
            if more == best:
                continue
            found = self._value_or_nothing(more)
            if found > value:
                best, value = more, found
        return best, value

    def _value_or_nothing(self, variant: Variant) -> float:
        try:
            return self.value(variant)
        except ValueError:  # the batch has too few such records
            return -1.0


def measure(found: Measured, battle: Battle, moves: Sequence[str] | None = None) -> Iterator[str]:
    """Measure one move of a battle at a time that is not in the record, the best response last; give its name."""
    every = moves_of(battle.data.kind)
    for name, variant in every.items():
        if (moves is not None and name not in moves) or (battle.data.name, name, battle.seed) in found.found:
            continue
        try:
            found.add(battle.met(name, variant))
        except ValueError as error:
            print(f"{battle.data.name}: {name}, seed {battle.seed} is left out: {error}")
        yield name
    if (moves is None or BEST in moves) and (battle.data.name, BEST, battle.seed) not in found.found:
        tried = [name for name in every if name in MOVES and (moves is None or name in moves or moves == [BEST])]
        found.add(battle.met(BEST, *battle.best_response(tried)))
        yield BEST


def _arguments() -> argparse.Namespace:
    parser = asked.parser(__doc__, "three moves on few flights")
    asked.add_batches(parser, BATTLEFIELDS, seeds=2)
    parser.add_argument("--move", action="append", help=f"only this move, or {BEST}; may be repeated")
    return parser.parse_args()


def _opened(given: argparse.Namespace) -> Iterator[DataSet]:
    for data in asked.opened(given.dataset or (BATTLEFIELDS[:1] if given.short else BATTLEFIELDS), given.data):
        yield replace(data, batch=min(data.batch, _SHORT_BATCH if given.short else _BATCH))


def main() -> None:
    """Run, print, and write `adaptive.md` with its plot."""
    given = _arguments()
    found = Measured(given.record)
    moves = given.move or ([KNOWN, "weaker: rare values in range", "in pieces"] if given.short else None)
    battles = [] if given.report else [Battle(data, seed) for seed in asked.seeds(given) for data in _opened(given)]
    for battle in battles:
        for _ in measure(found, battle, moves):
            pass
    if not found.found:
        raise asked.nothing_measured()
    from benchmarks.adaptive_report import write_report

    print(write_report(list(found.found.values()), None if given.short else given.out, machine()))


if __name__ == "__main__":
    main()
