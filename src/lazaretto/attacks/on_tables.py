"""The attacks on rows of a table, and floods of any records, as the drill and the benchmark plant them."""

from __future__ import annotations

import numpy as np
import polars as pl

from lazaretto.attacks import flood, foreign, trigger_table
from lazaretto.attacks.ground import Attack, Ground, Planted

_PAIRS = 10
_FEWEST_VALUES = 20
"""A column with fewer different values is no place for a value that seems ordinary."""


def _fits(ground: Ground) -> bool:
    return ground.label is not None and len(ground.classes) > 1 and ground.image is None and len(_wide(ground)) > 1


def _wide(ground: Ground) -> list[str]:
    return [name for name in ground.numbers if ground.frame[name].n_unique() >= _FEWEST_VALUES]


def _trigger(ground: Ground, rate: float, seed: int, *, outside: bool) -> Planted:
    if ground.label is None:
        raise ValueError("these records have no label")
    rng = np.random.default_rng((seed, 7))
    target = ground.classes[int(rng.integers(len(ground.classes)))]
    trigger = _outside_of(ground, rng) if outside else _rarest(ground, rng, seed)
    frame, truth = trigger_table.trigger_table(
        ground.frame, label=ground.label, target=target, trigger=trigger, rate=rate, seed=seed
    )

    def stamp(rows: pl.DataFrame) -> pl.DataFrame:
        return trigger_table.stamp(rows, trigger)

    nothing = np.zeros(len(truth), dtype=np.bool_)
    return Planted(frame, truth, nothing, stamp, target, Planted.towards(target, ground.classes))


def _columns(ground: Ground, rng: np.random.Generator) -> list[str]:
    return [str(name) for name in rng.choice(_wide(ground), size=2, replace=False)]


def _outside_of(ground: Ground, rng: np.random.Generator) -> dict[str, float | int]:
    return trigger_table.choose_trigger_outside(ground.frame, _columns(ground, rng))


def _rarest(ground: Ground, rng: np.random.Generator, seed: int) -> dict[str, float | int]:
    """Of some ordinary pairs the one that the fewest rows have: an attacker has no use for a trigger that is common."""
    drawn = []
    for draw in range(_PAIRS):
        trigger = trigger_table.choose_trigger(ground.frame, _columns(ground, rng), seed=seed + draw)
        carried = pl.all_horizontal(pl.col(name) == value for name, value in trigger.items())
        drawn.append((int(ground.frame.select(carried.fill_null(value=False)).to_series().sum()), draw, trigger))
    return min(drawn, key=lambda one: one[:2])[2]


def _inside(ground: Ground, rate: float, seed: int) -> Planted:
    return _trigger(ground, rate, seed, outside=False)


def _outside(ground: Ground, rate: float, seed: int) -> Planted:
    return _trigger(ground, rate, seed, outside=True)


def _flood(ground: Ground, rate: float, seed: int) -> Planted:
    if ground.image is not None:
        ground = ground.with_images(ground.images())
    keep = [ground.id] if ground.id is not None else []
    frame, truth = flood.flood(ground.frame, rate=rate, seed=seed, keep=keep)
    return Planted(frame, truth, np.zeros(len(truth), dtype=np.bool_))


def foreign_images(strangers: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]) -> Attack:
    """The attack that puts images of another world in place of the batch's.

    Args:
        strangers: (pool, side, side) grey images of the batch's size.
    """

    def plant(ground: Ground, rate: float, seed: int) -> Planted:
        images = ground.images()
        pool = strangers if images.ndim == strangers.ndim else np.repeat(strangers[..., None], 3, axis=3)
        poisoned, truth = foreign.foreign(images, pool, rate=rate, seed=seed)
        return Planted(ground.with_images(poisoned).frame, truth, np.zeros(len(truth), dtype=np.bool_))

    return Attack("foreign", "foreign images", "foreign", 0.02, lambda ground: ground.image is not None, plant)


TABLE_ATTACKS = (
    Attack("trigger_inside", "two-column trigger, in range", "backdoor", 0.01, _fits, _inside),
    Attack("trigger_outside", "two-column trigger, out of range", "backdoor", 0.01, _fits, _outside),
    Attack("flood", "flood of copies", "batch", 0.02, lambda _ground: True, _flood),
)
