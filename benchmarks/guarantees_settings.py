"""The settings in which the guarantees are measured: data, sizes, skew, detectors, and where poison is planted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks.plans import Case
from lazaretto.attacks import trigger_table
from lazaretto.attacks.catalogue import ATTACKS
from lazaretto.attacks.ground import Ground, Planted
from lazaretto.detectors.table import make_detectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.data import DataSet
    from lazaretto.contract import Contract
    from lazaretto.detector import Detector

FEW = 10
"""Of images, texts and poisoned trusted sets there is one run in so many."""
POISONED = 0.05
"""Share of a batch that is poisoned."""
POISONED_TRUST = (0.0, 0.01, 0.03, 0.1)
"""Shares of a trusted set that carry the batch's own poison."""


@dataclass(frozen=True)
class Setting:
    """One kind of batch."""

    name: str
    data: str
    title: str
    attacks: tuple[str, ...] = ("clean",)
    batch: int = 1_500
    trusted: int = 1_000
    one_in: int | None = None
    """Of so many records one is of the rarest class; None leaves the classes as they are."""
    rare_trusted: int | None = None
    """Records of the rarest class in the trusted set, whatever its share of the batch; None draws them like any."""
    copied: str | None = None
    """A detector that runs four times, under four names."""
    trusted_poison: tuple[float, ...] = (0.0,)
    few: bool = False
    """Whether it costs so much that one run in `FEW` must do."""

    def detectors(self) -> tuple[Detector[Any], ...]:
        """The default ones, and the copies."""
        made = make_detectors("default")
        if self.copied is None:
            return made
        [again] = make_detectors([self.copied])
        return (*made, *(replace(again, name=f"{self.copied}_{number}") for number in (2, 3, 4)))  # type: ignore[type-var]  # every detector is a dataclass; the laws check it


PAIR = "pair for the rare label"
"""An easy attack: an ordinary pair of values in two columns means the rarest label."""
_DRAWS = 10
_FEWEST_VALUES = 20
_TABLE = (PAIR, "flip_random")
SETTINGS = (
    Setting("flights", "flights", "flights", ("clean", *_TABLE)),
    Setting("spambase", "spambase", "spambase", ("clean", *_TABLE)),
    Setting("fashion", "fashion", "fashion images", ("clean", "badnets", "flip_random"), few=True),
    Setting("flights 100:1", "flights", "flights, late 1 in 101", ("clean", "flip_random"), one_in=101),
    Setting("flights stratified", "flights", "the same, 260 late ones trusted", one_in=101, rare_trusted=260),
    Setting("spambase 100:1", "spambase", "spambase, spam 1 in 101", ("clean",), one_in=101),
    Setting("flights 10:1", "flights", "flights, late 1 in 11", ("clean",), batch=2_000, trusted=2_800, one_in=11),
    Setting("spambase x4", "spambase", "spambase, one detector four times", ("clean", "flip_random"), copied="hbos"),
    Setting("flights trust", "flights", "flights", _TABLE, trusted_poison=POISONED_TRUST, few=True),
    Setting("spambase trust", "spambase", "spambase", _TABLE, trusted_poison=POISONED_TRUST, few=True),
    Setting("fashion trust", "fashion", "fashion images", ("badnets",), trusted_poison=POISONED_TRUST, few=True),
    Setting("mails trust", "spamassassin", "mails", ("rare_token",), trusted_poison=POISONED_TRUST, few=True),
)


def drawn(setting: Setting, data: DataSet, attack: str, trusted_poison: float, seed: int) -> Case:
    """Draw trusted set and batch, and plant in both what is asked for."""
    pool = data.pool if setting.one_in is None else skewed(data.pool, data.contract.label, setting.one_in, seed)
    trusted, batch, rest = replace(data, pool=pool, batch=setting.batch, trusted=setting.trusted).draw(seed)
    if setting.rare_trusted is not None:
        trusted = stratified(trusted, data, pool, setting.rare_trusted, seed)
    nothing = np.zeros(len(batch), dtype=np.bool_)
    if attack == "clean":
        return Case(trusted, batch, nothing, nothing, rest)
    ground = Ground.of(batch, data.contract)
    done = pair(ground, POISONED, seed) if attack == PAIR else ATTACKS[attack].plant(ground, POISONED, seed)
    if trusted_poison:
        trusted = poisoned(trusted, data.contract, attack, done, trusted_poison, seed)
    return Case(trusted, done.frame, done.truth, done.cover, rest)


def pair(ground: Ground, rate: float, seed: int) -> Planted:
    """Two columns of some rows take values that are ordinary one by one and rare together, and the rarest label."""
    if ground.label is None:
        raise ValueError("records without a label have none to mean")
    rng = np.random.default_rng((seed, 7))
    many = [name for name in ground.numbers if ground.frame[name].n_unique() >= _FEWEST_VALUES]
    drawn = [rng.choice(many, size=2, replace=False).tolist() for _ in range(_DRAWS)]
    triggers = [trigger_table.choose_trigger(ground.frame, names, seed=seed + n) for n, names in enumerate(drawn)]
    trigger = min(triggers, key=lambda one: len(ground.frame.filter(**one)))
    target = rarest(ground.frame, ground.label)
    frame, truth = trigger_table.trigger_table(
        ground.frame, label=ground.label, target=target, trigger=trigger, rate=rate, seed=seed
    )
    nothing = np.zeros(len(truth), dtype=np.bool_)
    return Planted(frame, truth, nothing, lambda rows: trigger_table.stamp(rows, trigger), target)


def rarest(frame: pl.DataFrame, label: str) -> str:
    """The label that the fewest records have."""
    return str(frame[label].value_counts().sort("count", label)[label][0])


def skewed(pool: pl.DataFrame, label: str | None, one_in: int, seed: int) -> pl.DataFrame:
    """The pool with so few records of its rarest class that one in so many is of it."""
    if label is None:
        raise ValueError("records without a label have no rare class")
    is_rare = pl.col(label) == rarest(pool, label)
    rare, others = pool.filter(is_rare), pool.filter(~is_rare)
    return pl.concat([others, rare.sample(len(others) // (one_in - 1), seed=seed)])


def stratified(trusted: pl.DataFrame, data: DataSet, pool: pl.DataFrame, rare: int, seed: int) -> pl.DataFrame:
    """The trusted set with so many records of the rarest class, of those that a skewed pool leaves out."""
    label = data.contract.label
    if label is None:
        raise ValueError("records without a label have no rare class")
    is_rare = pl.col(label) == rarest(pool, label)
    more = data.pool.filter(is_rare).join(pool, on=pool.columns, how="anti", nulls_equal=True)
    return pl.concat([trusted.filter(~is_rare).head(len(trusted) - rare), more.sample(rare, seed=seed)])


def poisoned(
    trusted: pl.DataFrame, contract: Contract, attack: str, batch: Planted, share: float, seed: int
) -> pl.DataFrame:
    """A trusted set of which a share carries what was planted in the batch: its own trigger, or more flips."""
    label = contract.label
    if batch.stamp is None or label is None:
        return ATTACKS[attack].plant(Ground.of(trusted, contract), share, seed).frame
    others = np.flatnonzero((trusted[label] != batch.target).to_numpy())
    chosen = np.random.default_rng((seed, 11)).choice(others, size=round(share * len(trusted)), replace=False)
    stamped = batch.stamp(trusted).with_columns(pl.lit(batch.target).alias(label))
    return _replaced(trusted, stamped, chosen)


def _replaced(frame: pl.DataFrame, other: pl.DataFrame, rows: NDArray[np.int64]) -> pl.DataFrame:
    mask = np.zeros(len(frame), dtype=np.bool_)
    mask[rows] = True
    where = pl.Series(mask)
    return frame.select(pl.when(where).then(other[name]).otherwise(frame[name]).alias(name) for name in frame.columns)
