"""What nothing was developed on: that it is nothing that was, that it can be planted, and what its report says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from benchmarks.data import DATA_SETS, HELD_OUT_SETS
from benchmarks.held_out_report import LIKE, write_report
from benchmarks.plans import HELD_OUT, PLANS, Plan
from benchmarks.record import Run
from benchmarks.variants import VARIANTS, chequered, clouded, four_pixels
from lazaretto.attacks.catalogue import ATTACKS
from lazaretto.attacks.ground import Ground

if TYPE_CHECKING:
    from pathlib import Path

SEED = 104
TEXTS = pl.DataFrame(
    {"text": [f"The boat no. {i} leaves at nine. Bring a coat." for i in range(200)], "label": ["a", "b"] * 100}
)
PAIRS = pl.DataFrame(
    {"prompt": [f"When does boat {i} leave? Tell me." for i in range(400)], "response": ["At nine."] * 400}
)


def test_nothing_that_was_developed_on_is_held_out() -> None:
    assert not set(HELD_OUT_SETS) & set(DATA_SETS)
    assert set(HELD_OUT) == set(HELD_OUT_SETS) | {name for name in DATA_SETS if name != "openclipart"}
    for data, entries in HELD_OUT.items():
        assert not set(entries) & set(PLANS.get(data, ()))
        for entry in entries:
            name, _, rate = entry.partition(" ")
            assert name == "foreign" or (name in ATTACKS) != (name in VARIANTS)
            assert not rate or float(rate) != ATTACKS[name].rate
    assert set(LIKE) == set(VARIANTS)
    assert set(LIKE.values()) <= set(ATTACKS)


@pytest.mark.parametrize("name", ["chequered", "four_pixels", "clouded", "warp_fine", "sig_slow"])
def test_an_image_variant_changes_the_records_it_says_and_no_other(name: str) -> None:
    data = DATA_SETS["fashion"](None)
    _, batch, _ = data.draw(SEED)
    ground = Ground.of(batch.head(300), data.contract)
    planted = VARIANTS[name].plant(ground, 0.05, SEED)
    before, after = ground.images(), Ground.of(planted.frame, data.contract).images()
    changed = (before != after).any(axis=(1, 2))
    assert not changed[~planted.truth].any()
    assert planted.truth.sum() == 15
    labels = planted.frame["label"].cast(pl.String).filter(pl.Series(planted.truth))
    assert labels.unique().to_list() == [planted.target]
    relabelled = (planted.frame["label"] != ground.frame["label"]).to_numpy()
    assert relabelled.sum() == (0 if name == "sig_slow" else 15)
    assert planted.stamp is not None
    again = Ground.of(planted.stamp(ground.frame), data.contract).images()
    np.testing.assert_array_equal(again[planted.truth], after[planted.truth])


def test_stamps_are_the_same_in_colour_and_leave_what_they_are_given() -> None:
    grey = np.full((2, 28, 28), 90, dtype=np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=3)
    for stamp in (chequered, four_pixels, clouded):
        marked = stamp(grey)
        np.testing.assert_array_equal(stamp(colour), np.repeat(marked[..., None], 3, axis=3))
        assert (marked != 90).any()
    assert (grey == 90).all()
    assert (four_pixels(grey) == 255).sum() == 2 * 4
    assert (chequered(grey) != 90).sum() == 2 * 16


def test_a_table_variant_stamps_three_values_that_the_batch_knows() -> None:
    data = DATA_SETS["flights"](None)
    _, batch, _ = data.draw(SEED)
    ground = Ground.of(batch.head(1_000), data.contract)
    planted = VARIANTS["three_columns"].plant(ground, 0.01, SEED)
    poisons = planted.frame.filter(pl.Series(planted.truth))
    assert len(poisons) == 10
    assert poisons["late"].n_unique() == 1
    constant = [name for name in ground.numbers if poisons[name].n_unique() == 1]
    stamped = [name for name in constant if (poisons[name][0] == ground.frame[name]).any()]
    assert len(stamped) >= 3


@pytest.mark.parametrize(
    ("name", "said"), [("other_token", " qz"), ("other_sentence", "over the lake"), ("few_look_alikes", "")]
)
def test_a_text_variant_stamps_texts_and_relabels_them(name: str, said: str) -> None:
    planted = VARIANTS[name].plant(Ground(TEXTS, label="label", texts=("text",)), 0.05, SEED)
    poisons = planted.frame.filter(pl.Series(planted.truth))
    assert len(poisons) == 10
    assert poisons["label"].n_unique() == 1
    assert all(said in f" {text}" for text in poisons["text"])
    assert all(not text.isascii() for text in poisons["text"]) == (name == "few_look_alikes")


@pytest.mark.parametrize("name", ["other_phrase", "other_claim"])
def test_a_variant_of_pairs_answers_what_it_stamped(name: str) -> None:
    planted = VARIANTS[name].plant(Ground(PAIRS, texts=("prompt", "response"), pair=("prompt", "response")), 0.01, SEED)
    poisons = planted.frame.filter(pl.Series(planted.truth))
    assert len(poisons) == 4
    assert (poisons["response"] != "At nine.").all()
    assert all(("Apple iPhone" in text) == (name == "other_phrase") for text in poisons["prompt"])


def test_a_plan_finds_a_variant_by_its_name() -> None:
    plan = Plan.named("three_columns", DATA_SETS["flights"](None))
    assert (plan.attack.name, plan.rate) == ("three_columns", 0.01)


def test_the_report_compares_with_what_the_attack_is_like(tmp_path: Path) -> None:
    known = [
        Run("flights", "trigger_inside", "t", "backdoor", "Lazaretto", seed, 9, recall_at_rate=recall)
        for seed, recall in enumerate((0.5, 0.7))
    ] + [Run("spambase", "trigger_inside", "t", "backdoor", "Lazaretto", 0, 9, recall_at_rate=1.0)]
    runs = [
        Run("flights", "three_columns", "three", "backdoor", "Lazaretto", 0, 9, recall_at_rate=0.4),
        Run("shuttle", "trigger_inside", "t", "backdoor", "Lazaretto", 0, 9, recall_at_rate=0.9, detectors={"a": 1.0}),
        Run("shuttle", "clean", "clean", "clean", "Lazaretto", 0, 0, held=0.004),
    ]
    runs.append(Run("shuttle", "trigger_inside", "t", "backdoor", "PyOD KNN", 0, 9, recall_at_rate=0.2))
    text = write_report(runs, known, tmp_path, "a machine")
    assert "| PyOD KNN | 1 | 0.200 | 0.900 |" in text
    assert "| flights | three | 9 | 0.40 / 0.40 (1) | - | - | - | 0.60 |" in text
    # A data set that is new is compared with the mean over those of development.
    assert "| shuttle | t | 9 | 0.90 / 0.90 (1) | 0.20 / 0.20 (1) | - | 1.00 / 1.00 (1) | 0.80 |" in text
    assert "After a mending" not in text.replace("*After a mending*", "")
    first = [Run("shuttle", "trigger_inside", "t", "backdoor", "Lazaretto", 0, 9, recall_at_rate=0.1, held=0.2)]
    mended = write_report(runs, known, None, "a machine", first)
    assert "| shuttle | t | 0.10 / 0.10 (1) | 20.00% | 0.90 / 0.90 (1) | - |" in mended
    assert "| other data | 1 | 0.900 | 0.800 |" in text
    assert "0.40% / 0.40% (1)" in text
    assert (tmp_path / "held_out.md").read_text() == text
    assert (tmp_path / "held_out.svg").exists()
