"""What an attack achieves, before and after quarantine: models trained on the batch, and on what each method admits.

Three kinds of models on each case, all with the same seed: on the batch as it arrived, on the batch before it was
poisoned, and for each method on what that admits. Each is tested on records that are in no batch: how many clean ones
it calls what they are, and how many of those that the attacker cares about (`benchmarks.goals`) it calls what he
wants. Where an attack aims at victims in the batch, no model is trained on those.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.learners import labels_of, learn
from benchmarks.plans import Plan, case, goal
from benchmarks.record import Trained

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from benchmarks.data import DataSet
    from benchmarks.goals import Goal
    from benchmarks.learners import Predict
    from benchmarks.plans import Case

POISONED, CLEAN = "poisoned", "clean"
"""What the two models beside those of the methods are trained on."""


def references(data: DataSet, entry: str) -> list[str]:
    """The models that need no method, on an entry of `PLANS` or ``clean``; none where nothing can be learnt."""
    if data.contract.label is None and entry not in ("phrase", "instruction"):
        return []  # a flood of pairs, and clean pairs, give a stand-in nothing to tell apart
    return [CLEAN] if entry == "clean" else [CLEAN, POISONED]


class Lessons:
    """Trains the models of one seed; the model of the clean batch is trained once for all attacks."""

    def __init__(self, data: DataSet, seed: int, kept: Path) -> None:
        """Draw nothing yet.

        Args:
            data: Where batches come from.
            seed: Of the batch and of the models.
            kept: Folder of the poisoned batches.
        """
        self.data, self.seed, self.kept = data, seed, kept
        self._clean: dict[tuple[object, ...], Predict] = {}

    def trained(self, entry: str, on: str, flagged: list[int] | None = None) -> Trained | None:
        """Train and test one model; None where nothing is left to train on.

        Args:
            entry: Of `PLANS`, or ``clean``.
            on: `POISONED`, `CLEAN`, or the name of a method.
            flagged: Rows of the batch that the method does not admit.
        """
        found = case(self.data, entry, self.seed, self.kept)
        wanted = None if entry == "clean" else goal(self.data, entry, self.seed, self.kept)
        admitted = np.ones(len(found.batch), dtype=np.bool_)
        admitted[flagged or []] = False
        if wanted is not None:
            admitted[wanted.rows] = False
        if not admitted.any():
            return None
        answer = _answer(self.data, wanted)
        began = time.perf_counter()
        predict = self._model(found, on, admitted, answer)
        plan = None if entry == "clean" else Plan.named(entry, self.data)
        triggered = 0 if wanted is None else len(wanted.records)
        return Trained(
            self.data.name,
            entry,
            plan.title if plan else "clean",
            plan.attack.family if plan else "clean",
            on,
            self.seed,
            int(admitted.sum()),
            accuracy=_agreeing(predict(found.unseen), labels_of(self.data, found.unseen, answer)),
            triggered=triggered,
            success=_agreeing(predict(wanted.records), wanted.wanted) if wanted is not None and triggered else None,
            seconds=time.perf_counter() - began,
        )

    def _model(self, found: Case, on: str, admitted: NDArray[np.bool_], answer: str | None) -> Predict:
        if on != CLEAN:
            return learn(self.data, found.batch.filter(admitted), answer, self.seed)
        key = (answer, *np.flatnonzero(~admitted).tolist())
        if key not in self._clean:
            batch = case(self.data, "clean", self.seed, self.kept).batch
            self._clean[key] = learn(self.data, batch.filter(admitted), answer, self.seed)
        return self._clean[key]


def _answer(data: DataSet, wanted: Goal | None) -> str | None:
    if data.contract.label is not None or wanted is None or wanted.wanted.is_empty():
        return None
    return str(wanted.wanted[0])


def _agreeing(called: pl.Series, truth: pl.Series) -> float:
    return float((called == truth).to_numpy().mean())
