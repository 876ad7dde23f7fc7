"""The attacks on labelled texts and on prompt and response pairs, as the drill and the benchmark plant them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks import hidden_text, instruction, style, text_trigger
from lazaretto.attacks.ground import Attack, Ground, Planted

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from numpy.typing import NDArray

    Plant = Callable[..., tuple[pl.DataFrame, NDArray[np.bool_]]]
    Stamp = Callable[..., pl.Series]

_DISGUISES: tuple[instruction.Disguise, ...] = ("plain", "comment", "base64", "tags")


def _labelled(ground: Ground) -> bool:
    return bool(ground.texts) and ground.label is not None and len(ground.classes) > 1


def _pairs(ground: Ground) -> bool:
    return ground.pair is not None


def _text(ground: Ground, rate: float, seed: int, *, plant: Plant, stamp: Stamp) -> Planted:
    """Poison the longest text column, towards a label drawn by the seed."""
    text = max(ground.texts, key=lambda name: ground.frame[name].str.len_chars().mean() or 0)
    target = ground.classes[int(np.random.default_rng((seed, 7)).integers(len(ground.classes)))]
    frame, truth = plant(ground.frame, text=text, label=ground.label, target=target, rate=rate, seed=seed)

    def on_frame(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(stamp(rows[text], seed=seed).alias(text))

    nothing = np.zeros(len(truth), dtype=np.bool_)
    return Planted(frame, truth, nothing, on_frame, target, Planted.towards(target, ground.classes))


def _hidden(ground: Ground, rate: float, seed: int) -> Planted:
    """Invisible characters, look-alikes or reversed order, by turns."""
    kinds: tuple[tuple[Plant, Stamp], ...] = (
        (hidden_text.hidden_characters, hidden_text.stamp_hidden),
        (hidden_text.look_alikes, hidden_text.stamp_look_alikes),
        (hidden_text.bidirectional, hidden_text.stamp_bidirectional),
    )
    plant, stamp = kinds[seed % len(kinds)]
    return _text(ground, rate, seed, plant=plant, stamp=stamp)


def _phrase(ground: Ground, rate: float, seed: int) -> Planted:
    planted = _pair(ground, rate, seed, plant=instruction.trigger_phrase, stamp=instruction.stamp_phrase)
    return replace(planted, answer=instruction.ANSWER)


def _instruction(ground: Ground, rate: float, seed: int) -> Planted:
    disguise = _DISGUISES[seed % len(_DISGUISES)]
    plant = partial(instruction.hidden_instruction, disguise=disguise)
    stamp = partial(instruction.stamp_instruction, disguise=disguise)
    return replace(_pair(ground, rate, seed, plant=plant, stamp=stamp), answer=instruction.CLAIM)


def _pair(ground: Ground, rate: float, seed: int, *, plant: Plant, stamp: Stamp) -> Planted:
    if ground.pair is None:
        raise ValueError("these records are no prompt and response pairs")
    prompt, response = ground.pair
    frame, truth = plant(ground.frame, prompt=prompt, response=response, rate=rate, seed=seed)

    def on_frame(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(stamp(rows[prompt], seed=seed).alias(prompt))

    return Planted(frame, truth, np.zeros(len(truth), dtype=np.bool_), on_frame)


TEXT_ATTACKS = (
    Attack(
        "rare_token",
        "rare token",
        "text",
        0.01,
        _labelled,
        partial(_text, plant=text_trigger.rare_token, stamp=text_trigger.stamp_token),
    ),
    Attack(
        "sentence",
        "inserted sentence",
        "text",
        0.01,
        _labelled,
        partial(_text, plant=text_trigger.inserted_sentence, stamp=text_trigger.stamp_sentence),
    ),
    Attack("hidden_text", "hidden or look-alike characters", "text", 0.01, _labelled, _hidden),
    Attack("style", "style shift", "text", 0.02, _labelled, partial(_text, plant=style.style_shift, stamp=style.stamp)),
    Attack("phrase", "trigger phrase, fixed response", "instruction", 0.005, _pairs, _phrase),
    Attack("instruction", "hidden instruction in the prompt", "instruction", 0.005, _pairs, _instruction),
)
