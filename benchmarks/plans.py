"""Which attacks are measured on which data, at which rates, and the poisoned batches, planted once and kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks.data import strangers
from benchmarks.goals import Goal
from benchmarks.variants import VARIANTS
from lazaretto.attacks.catalogue import ATTACKS
from lazaretto.attacks.ground import Attack, Ground
from lazaretto.attacks.on_tables import foreign_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.data import DataSet

_TRUTH, _COVER = "_truth", "_cover"
_UNSEEN = 4_000
"""Records that models are tested on, at most."""
_LABELS = ("flip_random", "flip_pair", "flip_boundary")
_IMAGES = (
    "badnets",
    "badnets 0.003",
    "badnets 0.001",
    "blend",
    "wanet",
    "all_to_all",
    "sig",
    "narcissus",
    "tact",
    "adaptive_blend",
    *_LABELS,
    "feature_collision",
    "foreign",
    "flood",
)
PLANS: dict[str, tuple[str, ...]] = {
    "fashion": _IMAGES,
    "mnist": _IMAGES,
    # A tenth of a percent of this small set is one record, and a surrogate for it takes minutes.
    "openclipart": ("badnets", "blend", "wanet", "all_to_all", "sig", *_LABELS, "foreign", "flood"),
    "flights": ("trigger_inside", "trigger_outside", *_LABELS, "flood", "source"),
    "spambase": ("trigger_inside", "trigger_outside", *_LABELS, "flood"),
    "spamassassin": ("rare_token", "sentence", "hidden_text", "style", *_LABELS, "flood"),
    "chitchat": ("phrase", "instruction", "flood"),
}
"""Data set -> attacks, each by its name and, where it is not the attack's own, its rate."""
_OTHER_IMAGES = (
    "chequered",
    "four_pixels",
    "clouded",
    "warp_fine",
    "sig_slow",
    "badnets 0.005",
    "all_to_all 0.02",
    "flip_random 0.02",
    "flip_random 0.1",
    "flip_pair 0.15",
)
_OTHER_LABELS = ("flip_random 0.02", "flip_random 0.1", "flip_pair 0.15")
HELD_OUT: dict[str, tuple[str, ...]] = {
    # A hundred doodles of a thing: 3 % of the batch is more than most classes have.
    "doodles": (
        "badnets",
        "blend",
        "wanet",
        "all_to_all",
        "sig 0.01",
        "tact",
        "adaptive_blend",
        *_LABELS,
        "foreign",
        "flood",
    ),
    "satellite": ("trigger_inside", "trigger_outside", *_LABELS, "flood"),
    "shuttle": ("trigger_inside", "trigger_outside", *_LABELS, "flood"),
    "letters": (*_LABELS, "flood"),
    "reviews": ("rare_token", "sentence", "hidden_text", "style", *_LABELS, "flood"),
    "fashion": _OTHER_IMAGES,
    "mnist": _OTHER_IMAGES,
    "flights": ("three_columns", "trigger_outside 0.005", *_OTHER_LABELS),
    "spambase": ("three_columns", "trigger_outside 0.005", *_OTHER_LABELS),
    "spamassassin": ("other_token", "other_sentence", "few_look_alikes", *_OTHER_LABELS),
    "chitchat": ("other_phrase", "other_claim"),
}
"""What nothing was developed on: other data sets, and on the known ones other attacks and rates."""


@dataclass(frozen=True)
class Plan:
    """One attack at one rate."""

    attack: Attack
    rate: float

    @classmethod
    def named(cls, text: str, data: DataSet) -> Plan:
        """From an entry of `PLANS`."""
        name, _, rate = text.partition(" ")
        if name == "foreign":
            side = Ground.of(data.pool.head(50), data.contract).images().shape[1]
            attack = foreign_images(strangers(data.name, side))
        else:
            attack = ATTACKS[name] if name in ATTACKS else VARIANTS[name]
        return cls(attack, float(rate) if rate else attack.rate)

    @property
    def title(self) -> str:
        """For the tables."""
        return f"{self.attack.title}, {self.rate:.2g}" if self.rate < 1e-3 else f"{self.attack.title}, {self.rate:.1%}"  # noqa: PLR2004  a tenth of a percent


@dataclass(frozen=True)
class Case:
    """One poisoned batch with its truth."""

    trusted: pl.DataFrame
    batch: pl.DataFrame
    truth: NDArray[np.bool_]
    cover: NDArray[np.bool_]
    rest: pl.DataFrame
    """Clean records that are neither in the batch nor trusted."""

    @property
    def unseen(self) -> pl.DataFrame:
        """Clean records that are not in the batch, trusted ones too: no model is trained on those."""
        return pl.concat([self.trusted, self.rest]).head(_UNSEEN)

    @property
    def clean(self) -> NDArray[np.bool_]:
        """(rows,) records the attacker did not touch."""
        return ~(self.truth | self.cover)


class Unplantable(Exception):  # noqa: N818  reads as what it is
    """A batch has too few records of the kind that the attack takes: a class drawn by the seed may be small."""


def planted(data: DataSet, plan: Plan, seed: int) -> tuple[Case, Goal]:
    """Draw a batch, plant in it, and put the trigger on records outside it.

    Raises:
        Unplantable: The batch is no ground for it.
    """
    trusted, batch, rest = data.draw(seed)
    ground = Ground.of(batch, data.contract)
    try:
        done = plan.attack.plant(ground, plan.rate, seed)
    except ValueError as error:
        raise Unplantable(str(error)) from error
    found = Case(trusted, done.frame, done.truth, done.cover, rest)
    return found, Goal.of(done, ground, found.unseen)


def case(data: DataSet, entry: str, seed: int, kept: Path) -> Case:
    """The poisoned batch of an entry of `PLANS`, or the clean one of ``clean``; planted once, then read from ``kept``.

    Clean images are encoded again like poisoned ones, so that both are measured on the same files.
    """
    trusted, batch, rest = data.draw(seed)
    if entry == "clean":
        ground = Ground.of(batch, data.contract)
        frame = ground.with_images(ground.images()).frame if ground.image else batch
        nothing = np.zeros(len(batch), dtype=np.bool_)
        return Case(trusted, frame, nothing, nothing, rest)
    file = kept / f"{_name(data, entry, seed)}.parquet"
    if not file.exists():
        _keep(data, entry, seed, kept)
    marked = pl.read_parquet(file)
    truth, cover = (marked[name].to_numpy() for name in (_TRUTH, _COVER))
    return Case(trusted, marked.drop(_TRUTH, _COVER), truth, cover, rest)


def goal(data: DataSet, entry: str, seed: int, kept: Path) -> Goal:
    """What the attacker of an entry of `PLANS` wants; from ``kept``, or from planting once more what was kept.

    Raises:
        ValueError: What is kept was planted otherwise than the attack plants now.
    """
    file = kept / f"{_name(data, entry, seed)}.goal.parquet"
    if not file.exists():
        _keep(data, entry, seed, kept)
    return Goal.read(file)


def _keep(data: DataSet, entry: str, seed: int, kept: Path) -> None:
    found, wanted = planted(data, Plan.named(entry, data), seed)
    kept.mkdir(parents=True, exist_ok=True)
    marked = found.batch.with_columns(pl.Series(_TRUTH, found.truth), pl.Series(_COVER, found.cover))
    file = kept / f"{_name(data, entry, seed)}.parquet"
    if file.exists() and not pl.read_parquet(file).equals(marked):
        raise ValueError(f"{file} was planted by another version of the attack: remove it")
    _write(file, marked.write_parquet)
    _write(file.with_suffix(".goal.parquet"), wanted.write)


def _name(data: DataSet, entry: str, seed: int) -> str:
    return f"{data.name}-{entry.replace(' ', '-')}-{seed}"


def _write(file: Path, write: Callable[[Path], object]) -> None:
    """Two processes may plant the same at once: each writes its own, and the last to be done stays."""
    part = file.with_suffix(f".{os.getpid()}.part")
    write(part)
    part.replace(file)
