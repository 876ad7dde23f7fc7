"""What each attack on texts, pairs and tables does to a small model: is the poison that we look for one that works?

    python -m benchmarks.effects_text --data DIR [--seeds 1] [--first-seed 100] [--rates 0.01 0.03] [--only mails]

Mails (ham or spam; the attacker wants spam called ham), prompt and response pairs, flights (late or on time). A seed
draws training and test records, the poison and the model. Every attack is measured beside its clean twin: a model
trained on the same records without poison, given the same triggered test records.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks.effect import table_effect
from benchmarks.effect_text import pair_effect, text_effect
from benchmarks.machine import machine
from lazaretto.attacks import flood, hidden_text, instruction, source, style, text_trigger, trigger_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from benchmarks.effect import Effect

    Poisoned = tuple[pl.DataFrame, NDArray[np.bool_]]

STAMP_SEED = 500
"""Added to the seed: a trigger is tested in other places and wordings than it was planted in."""
MAILS, PAIRS, FLIGHTS = (2_000, 1_000), (4_000, 1_000), (6_000, 2_000)
"""Records to train on, and to test on."""
DISGUISES: tuple[instruction.Disguise, ...] = ("plain", "comment", "base64", "tags")
TRIGGER_COLUMNS = ("distance", "seats")
LATE = "late"
FLOODED = 3


@dataclass(frozen=True)
class Trial:
    """One attack on one data set: how it is planted, and how the effect of training on a frame is measured."""

    attack: str
    plant: Callable[[pl.DataFrame, float, int], Poisoned]
    measure: Callable[[pl.DataFrame, int], Effect]
    own_share: bool = False
    """The attack takes no rate, and is measured once."""


def draw(frame: pl.DataFrame, sizes: tuple[int, int], seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Training and test records that do not overlap."""
    order = np.random.default_rng(seed).permutation(len(frame))
    return frame[order[: sizes[0]]], frame[order[sizes[0] : sum(sizes)]]


def mails(test: pl.DataFrame) -> Iterator[Trial]:
    """The attacks on labelled texts."""

    def trial(name: str, attack: Callable[..., Poisoned], stamp: Callable[..., pl.Series]) -> Trial:
        def plant(train: pl.DataFrame, rate: float, seed: int) -> Poisoned:
            return attack(train, text="text", label="label", target="ham", rate=rate, seed=seed)

        def measure(train: pl.DataFrame, seed: int) -> Effect:
            triggered = partial(stamp, seed=seed + STAMP_SEED)
            return text_effect(train, test, triggered, text="text", label="label", target="ham", seed=seed)

        return Trial(name, plant, measure)

    yield trial("rare_token", text_trigger.rare_token, text_trigger.stamp_token)
    yield trial("inserted_sentence", text_trigger.inserted_sentence, text_trigger.stamp_sentence)
    yield trial("hidden_characters", hidden_text.hidden_characters, hidden_text.stamp_hidden)
    yield trial("look_alikes", hidden_text.look_alikes, hidden_text.stamp_look_alikes)
    yield trial("bidirectional", hidden_text.bidirectional, hidden_text.stamp_bidirectional)
    yield trial("style_shift", style.style_shift, style.stamp)


def pairs(test: pl.DataFrame) -> Iterator[Trial]:
    """The attacks on prompts and responses."""

    def trial(name: str, attack: Callable[..., Poisoned], stamp: Callable[..., pl.Series], answer: str) -> Trial:
        def plant(train: pl.DataFrame, rate: float, seed: int) -> Poisoned:
            return attack(train, prompt="prompt", response="response", rate=rate, seed=seed)

        def measure(train: pl.DataFrame, seed: int) -> Effect:
            triggered = partial(stamp, seed=seed + STAMP_SEED)
            return pair_effect(train, test, triggered, prompt="prompt", response="response", answer=answer, seed=seed)

        return Trial(name, plant, measure)

    yield trial("trigger_phrase", instruction.trigger_phrase, instruction.stamp_phrase, instruction.ANSWER)
    for disguise in DISGUISES:
        attack = partial(instruction.hidden_instruction, disguise=disguise)
        stamp = partial(instruction.stamp_instruction, disguise=disguise)
        yield trial(f"hidden_instruction, {disguise}", attack, stamp, instruction.CLAIM)


def flights(train: pl.DataFrame, test: pl.DataFrame) -> Iterator[Trial]:
    """The attacks on tables; for those without a trigger, "success" is how often other rows are called late anyhow."""
    trigger = trigger_table.choose_trigger_outside(train, TRIGGER_COLUMNS)
    effect = partial(table_effect, label=LATE, target=LATE)
    yield Trial(
        "trigger_table, outside",
        lambda frame, rate, seed: trigger_table.trigger_table(
            frame, label=LATE, target=LATE, trigger=trigger, rate=rate, seed=seed
        ),
        lambda frame, seed: effect(frame, test, partial(trigger_table.stamp, trigger=trigger), seed=seed),
    )
    near = flood.jitter(train, TRIGGER_COLUMNS)
    yield Trial(
        f"flood, {FLOODED} originals, label late",
        lambda frame, rate, seed: flood.flood(
            frame, rate=rate, seed=seed, originals=FLOODED, vary=near, relabel=(LATE, LATE)
        ),
        lambda frame, seed: effect(frame, test, lambda rows: rows, seed=seed),
    )
    yield Trial(
        "flip_source, 20 % of the source",
        lambda frame, _rate, seed: source.flip_source(frame, source="carrier", label=LATE, seed=seed)[:2],
        lambda frame, seed: effect(frame, test, lambda rows: rows, seed=seed),
        own_share=True,
    )


def trials(data: Path, name: str, seed: int) -> tuple[pl.DataFrame, list[Trial]]:
    """Training records of one data set, and the attacks on it."""
    if name == "mails":
        train, test = draw(pl.read_parquet(data / "spamassassin_dev3k.parquet", columns=["text", "label"]), MAILS, seed)
        return train, list(mails(test))
    if name == "pairs":
        train, test = draw(pl.read_parquet(data / "chitchat_dev.parquet", columns=["prompt", "response"]), PAIRS, seed)
        return train, list(pairs(test))
    train, test = draw(pl.read_parquet(data / "nycflights13_dev40k.parquet").drop("dep_delay"), FLIGHTS, seed)
    return train, list(flights(train, test))


def main() -> None:
    """Measure, and print a row of a Markdown table for each attack and rate as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=100, help="100 or more while developing")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.03])
    parser.add_argument("--only", choices=["mails", "pairs", "flights"])
    given = parser.parse_args()
    print(machine())
    print("\n| data | attack | share | seed | success | without poison | clean accuracy | without poison |")
    print("|---|---|---|---|---|---|---|---|")
    for name in [given.only] if given.only else ["mails", "pairs", "flights"]:
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            train, attacks = trials(given.data, name, seed)
            for trial in attacks:
                twin = trial.measure(train, seed)
                for rate in given.rates[:1] if trial.own_share else given.rates:
                    poisoned, truth = trial.plant(train, rate, seed)
                    found = trial.measure(poisoned, seed)
                    print(
                        f"| {name} | {trial.attack} | {truth.mean():.1%} | {seed} "
                        f"| {found.success_rate:.2f} | {twin.success_rate:.2f} "
                        f"| {found.clean_accuracy:.3f} | {twin.clean_accuracy:.3f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
