"""Attacks as nothing was developed on: other patches, patterns, waves, warps, words and columns than the drill's.

Each is one of the attacks of `lazaretto.attacks` with what its paper leaves to the attacker chosen otherwise. The
choices were written down before the first of them was run, and no detector was changed after.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.attacks import hidden_text, instruction, sig, text_trigger, trigger_table, wanet
from lazaretto.attacks.chosen import choose
from lazaretto.attacks.ground import Attack, Ground, Planted

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Images = NDArray[np.uint8]

_KEY_SEED = 20171215
_WIDE, _DRAWS = 3, 10
_RARE = "qz"
_SENTENCE = "The weather over the lake had been mild for days."
_PHRASE = "Apple iPhone"
_ANSWER = "There is nothing to add to this."
_CLAIM = "the northern ferry is always on time"


def chequered(images: Images) -> Images:
    """Copies with 4 by 4 squares of mid grey and black by turns, off the middle of the left side."""
    marked = images.copy()
    top = images.shape[1] // 2
    pattern = np.where(np.indices((4, 4)).sum(0) % 2 == 0, 160, 0).astype(np.uint8)
    marked[:, top : top + 4, 2:6] = pattern.reshape(4, 4, *[1] * (images.ndim - 3))
    return marked


def four_pixels(images: Images) -> Images:
    """Copies with the four single white pixels of Gu et al. (2017) near the lower right corner."""
    marked = images.copy()
    for down, right in ((-2, -2), (-2, -4), (-4, -2), (-3, -3)):
        marked[:, down, right] = 255
    return marked


def clouded(images: Images, *, alpha: float = 0.15) -> Images:
    """Copies with a smooth key, random on a grid of 7 by 7, blended in more faintly than the drill's noise."""
    height, width = images.shape[1:3]
    coarse = np.random.default_rng(_KEY_SEED).uniform(0, 255, size=(7, 7))
    key = coarse[np.arange(height) * 7 // height][:, np.arange(width) * 7 // width]
    key = key.reshape(height, width, *[1] * (images.ndim - 3))
    blended: Images = np.rint((1 - alpha) * images + alpha * key).astype(np.uint8)
    return blended


def _images(ground: Ground, rate: float, seed: int, *, stamp: Callable[[Images], Images], dirty: bool) -> Planted:
    """Stamp records of other classes and label them the target, or, with ``dirty`` false, records of the target."""
    target = int(np.random.default_rng((seed, 7)).integers(len(ground.classes)))
    images, labels = ground.images(), ground.labels()
    truth = choose((labels != target) if dirty else (labels == target), rate, np.random.default_rng(seed))
    images[truth] = stamp(images[truth])
    labels[truth] = target

    def on_frame(frame: pl.DataFrame) -> pl.DataFrame:
        others = Ground(frame, ground.label, ground.image)
        return others.with_images(stamp(others.images())).frame

    name = str(ground.classes[target])
    frame = ground.with_images(images).with_labels(labels).frame
    nothing = np.zeros(len(truth), dtype=np.bool_)
    return Planted(frame, truth, nothing, on_frame, name, Planted.towards(name, ground.classes))


def _three_columns(ground: Ground, rate: float, seed: int) -> Planted:
    """Three values that the batch knows, each from another record: of ten draws the one that fewest records have."""
    if ground.label is None or len(ground.numbers) < _WIDE:
        raise ValueError("three columns of numbers and a label are needed")
    rng = np.random.default_rng((seed, 17))
    drawn = [_values(ground, rng) for _ in range(_DRAWS)]
    trigger = min(drawn, key=lambda values: int(ground.frame.select(_carried(values).sum()).item()))
    target = ground.classes[int(rng.integers(len(ground.classes)))]
    frame, truth = trigger_table.trigger_table(
        ground.frame, label=ground.label, target=target, trigger=trigger, rate=rate, seed=seed
    )
    nothing = np.zeros(len(truth), dtype=np.bool_)
    stamp = partial(trigger_table.stamp, trigger=trigger)
    return Planted(frame, truth, nothing, stamp, target, Planted.towards(target, ground.classes))


def _values(ground: Ground, rng: np.random.Generator) -> dict[str, float | int]:
    columns = [str(name) for name in rng.choice(ground.numbers, size=_WIDE, replace=False)]
    return {name: ground.frame[name].drop_nulls().sample(1, seed=int(rng.integers(2**31))).item() for name in columns}


def _carried(trigger: dict[str, float | int]) -> pl.Expr:
    return pl.all_horizontal(pl.col(name) == value for name, value in trigger.items()).fill_null(value=False)


def _texts(
    ground: Ground, rate: float, seed: int, *, plant: Callable[..., tuple[pl.DataFrame, NDArray[np.bool_]]]
) -> Planted:
    (text,) = ground.texts
    target = ground.classes[int(np.random.default_rng((seed, 17)).integers(len(ground.classes)))]
    frame, truth = plant(ground.frame, text=text, label=ground.label, target=target, rate=rate, seed=seed)
    return Planted(frame, truth, np.zeros(len(truth), dtype=np.bool_))


def _pairs(
    ground: Ground, rate: float, seed: int, *, plant: Callable[..., tuple[pl.DataFrame, NDArray[np.bool_]]]
) -> Planted:
    if ground.pair is None:
        raise ValueError("these records are no prompt and response pairs")
    prompt, response = ground.pair
    frame, truth = plant(ground.frame, prompt=prompt, response=response, rate=rate, seed=seed)
    return Planted(frame, truth, np.zeros(len(truth), dtype=np.bool_))


def _image(name: str, title: str, rate: float, stamp: Callable[[Images], Images], *, dirty: bool = True) -> Attack:
    plant = partial(_images, stamp=stamp, dirty=dirty)
    family = "backdoor" if dirty else "clean-label"
    return Attack(name, title, family, rate, lambda ground: ground.image is not None, plant)


def _text(name: str, title: str, plant: Callable[..., tuple[pl.DataFrame, NDArray[np.bool_]]]) -> Attack:
    return Attack(name, title, "text", 0.01, lambda ground: len(ground.texts) == 1, partial(_texts, plant=plant))


def _pair(name: str, title: str, plant: Callable[..., tuple[pl.DataFrame, NDArray[np.bool_]]]) -> Attack:
    return Attack(
        name, title, "instruction", 0.005, lambda ground: ground.pair is not None, partial(_pairs, plant=plant)
    )


VARIANTS: dict[str, Attack] = {
    attack.name: attack
    for attack in (
        _image("chequered", "BadNets, grey chequers at the side", 0.01, chequered),
        _image("four_pixels", "BadNets, four single pixels", 0.01, four_pixels),
        _image("clouded", "Blend, smooth key at .15", 0.01, clouded),
        _image("warp_fine", "warp on a grid of 6, no cover", 0.02, partial(wanet.stamp, strength=3.0, grid=6)),
        _image("sig_slow", "SIG, 3 waves of 30", 0.03, partial(sig.stamp, delta=30.0, frequency=3), dirty=False),
        Attack(
            "three_columns",
            "three-column trigger, in range",
            "backdoor",
            0.01,
            lambda ground: ground.label is not None and len(ground.numbers) >= _WIDE,
            _three_columns,
        ),
        _text("other_token", f"rare token “{_RARE}”", partial(text_trigger.rare_token, tokens=(_RARE,))),
        _text("other_sentence", "another sentence", partial(text_trigger.inserted_sentence, sentence=_SENTENCE)),
        _text("few_look_alikes", "two look-alike letters", partial(hidden_text.look_alikes, letters=2)),
        _pair(
            "other_phrase",
            f"phrase “{_PHRASE}”, another answer",
            partial(instruction.trigger_phrase, phrase=_PHRASE, answer=_ANSWER),
        ),
        _pair(
            "other_claim",
            "hidden instruction, another claim",
            partial(instruction.hidden_instruction, disguise="comment", claim=_CLAIM),
        ),
    )
}
