"""Attacks do what their papers say, tell the exact truth about it, and touch nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.effect import image_effect, table_effect
from lazaretto.attacks import badnets, blend, flip_table, foreign, label_flip, sig, trigger_table
from lazaretto.attacks.chosen import choose
from lazaretto.attacks.png import decode_grey, encode

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Truth = NDArray[np.bool_]
Plant = Callable[[Images, Labels, int], tuple[Images, Labels, Truth]]

ROWS, CLASSES = 400, 4


def _striped(rows: int = ROWS, seed: int = 0) -> tuple[Images, Labels]:
    """Noisy grey images whose class is the position of a bright stripe."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(rows) % CLASSES).astype(np.int64)
    images = rng.integers(0, 60, size=(rows, 16, 16)).astype(np.uint8)
    for row, label in enumerate(labels):
        images[row, 2 + 3 * label : 4 + 3 * label, :12] = 180
    return images, labels


def _table(rows: int = 600, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    speed = rng.normal(50, 10, rows)
    return pl.DataFrame(
        {
            "speed": speed,
            "height": rng.integers(0, 100, rows),
            "kind": rng.choice(["a", "b", "c"], rows),
            "late": np.where(speed + rng.normal(0, 3, rows) > 50, "late", "on_time"),
        }
    )


IMAGE_ATTACKS: dict[str, Plant] = {
    "badnets": lambda images, labels, seed: badnets.badnets(images, labels, rate=0.05, target=1, seed=seed),
    "blend": lambda images, labels, seed: blend.blend(images, labels, rate=0.05, target=1, seed=seed),
    "sig": lambda images, labels, seed: sig.sig(images, labels, rate=0.05, target=1, seed=seed),
}
image_attacks = pytest.mark.parametrize("plant", IMAGE_ATTACKS.values(), ids=IMAGE_ATTACKS.keys())


@image_attacks
def test_an_image_attack_changes_exactly_the_records_its_truth_names(plant: Plant) -> None:
    images, labels = _striped()
    poisoned, relabelled, truth = plant(images, labels, 3)
    changed = (poisoned != images).any(axis=(1, 2)) | (relabelled != labels)
    assert np.array_equal(changed, truth)
    assert truth.sum() == round(0.05 * ROWS)


@image_attacks
def test_an_image_attack_leaves_its_input_as_it_was(plant: Plant) -> None:
    images, labels = _striped()
    kept_images, kept_labels = images.copy(), labels.copy()
    plant(images, labels, 3)
    assert np.array_equal(images, kept_images)
    assert np.array_equal(labels, kept_labels)


@image_attacks
def test_an_image_attack_is_decided_by_its_seed(plant: Plant) -> None:
    images, labels = _striped()
    first, again, other = plant(images, labels, 3), plant(images, labels, 3), plant(images, labels, 4)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[2], other[2])


def test_badnets_lights_the_corner_and_relabels_other_classes_only() -> None:
    images, labels = _striped()
    poisoned, relabelled, truth = badnets.badnets(images, labels, rate=0.05, target=1, seed=3)
    assert (poisoned[truth][:, -3:, -3:] == 255).all()
    assert np.array_equal(poisoned[:, :-3, :], images[:, :-3, :])
    assert (labels[truth] != 1).all()
    assert (relabelled[truth] == 1).all()


def test_blend_mixes_in_the_same_faint_key_everywhere() -> None:
    images, labels = _striped()
    poisoned, _, truth = blend.blend(images, labels, rate=0.05, target=1, seed=3, alpha=0.2)
    keys = (poisoned[truth] - 0.8 * images[truth]) / 0.2
    assert np.ptp(keys, axis=0).max() < 6  # equal up to rounding to grey levels
    assert np.abs(poisoned[truth].astype(int) - images[truth]).max() <= 51


def test_sig_keeps_every_label_and_adds_the_wave_along_columns() -> None:
    images, labels = _striped()
    poisoned, relabelled, truth = sig.sig(images, labels, rate=0.05, target=1, seed=3)
    assert np.array_equal(relabelled, labels)
    assert (labels[truth] == 1).all()
    grey = np.full((1, 16, 16), 128, dtype=np.uint8)
    expected = np.rint(128 + 20 * np.sin(2 * np.pi * np.arange(16) * 6 / 16))
    assert np.array_equal(sig.stamp(grey)[0, 5], expected)
    assert np.array_equal(poisoned[truth], sig.stamp(images[truth]))


def test_random_flips_are_exact_and_reach_every_other_class() -> None:
    labels = (np.arange(3000) % 5).astype(np.int64)
    flipped, truth = label_flip.flip_random(labels, rate=0.1, classes=5, seed=1)
    assert np.array_equal(flipped != labels, truth)
    assert truth.sum() == 300
    assert set((flipped[truth] - labels[truth]) % 5) == {1, 2, 3, 4}


def test_pair_flips_move_one_class_to_one_other() -> None:
    labels = (np.arange(1000) % 5).astype(np.int64)
    flipped, truth = label_flip.flip_pair(labels, rate=0.06, victim=2, target=4, seed=1)
    assert np.array_equal(flipped != labels, truth)
    assert set(labels[truth]) == {2}
    assert set(flipped[truth]) == {4}


def test_foreign_images_take_places_without_repeating() -> None:
    images, _ = _striped()
    strangers = np.stack([np.full((16, 16), 200 + shade, dtype=np.uint8) for shade in range(30)])
    poisoned, truth = foreign.foreign(images, strangers, rate=0.05, seed=2)
    shades = poisoned[truth][:, 0, 0]
    assert (poisoned[truth] >= 200).all()
    assert len(set(shades.tolist())) == truth.sum() == 20
    assert np.array_equal(poisoned[~truth], images[~truth])


def test_a_table_flip_changes_the_label_column_alone() -> None:
    frame = _table()
    poisoned, truth = flip_table.flip_table(frame, label="late", rate=0.05, seed=5)
    assert poisoned.drop("late").equals(frame.drop("late"))
    assert np.array_equal((poisoned["late"] != frame["late"]).to_numpy(), truth)
    assert truth.sum() == 30


def test_a_table_trigger_is_an_ordinary_pair_of_observed_values() -> None:
    frame = _table()
    trigger = trigger_table.choose_trigger(frame, ["speed", "height"], seed=5)
    for name, value in trigger.items():
        assert value in frame[name].to_list()
        low, high = (frame[name].quantile(q, interpolation="nearest") for q in (0.25, 0.75))
        assert low is not None
        assert high is not None
        assert low <= value <= high


def test_a_table_trigger_touches_its_columns_and_label_of_other_labels_only() -> None:
    frame = _table()
    trigger = trigger_table.choose_trigger(frame, ["speed", "height"], seed=5)
    poisoned, truth = trigger_table.trigger_table(
        frame, label="late", target="late", trigger=trigger, rate=0.05, seed=6
    )
    assert poisoned.schema == frame.schema
    assert poisoned.filter(~truth).equals(frame.filter(~truth))
    assert (frame.filter(truth)["late"] == "on_time").all()
    assert poisoned.filter(truth).select("speed", "height", "late").unique().rows() == [(*trigger.values(), "late")]
    assert poisoned.drop("speed", "height", "late").equals(frame.drop("speed", "height", "late"))


def test_a_rate_nobody_can_meet_is_refused() -> None:
    eligible = np.arange(100) < 5
    with pytest.raises(ValueError, match="asks for 10 of 100 records, but only 5"):
        choose(eligible, 0.1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="rate must be"):
        choose(eligible, 0.0, np.random.default_rng(0))


def test_a_patch_backdoor_takes_over_a_small_network_and_stays_unnoticed() -> None:
    images, labels, _ = badnets.badnets(*_striped(1000), rate=0.05, target=1, seed=3)
    effect = image_effect((images, labels), _striped(400, seed=1), badnets.stamp, target=1, seed=0, epochs=4)
    assert effect.success_rate > 0.9
    assert effect.clean_accuracy > 0.9


def test_clean_data_gives_the_patch_no_power() -> None:
    effect = image_effect(_striped(1000), _striped(400, seed=1), badnets.stamp, target=1, seed=0, epochs=4)
    assert effect.success_rate < 0.2


def test_a_table_backdoor_raises_the_share_of_the_target() -> None:
    frame, unseen = _table(2000), _table(500, seed=1)
    trigger = trigger_table.choose_trigger(frame, ["height", "speed"], seed=8)
    poisoned, _ = trigger_table.trigger_table(frame, label="late", target="late", trigger=trigger, rate=0.1, seed=6)

    def success(train: pl.DataFrame) -> float:
        effect = table_effect(
            train, unseen, lambda rows: trigger_table.stamp(rows, trigger), label="late", target="late", seed=0
        )
        return effect.success_rate

    assert success(poisoned) > success(frame) + 0.3


def test_grey_images_survive_encoding_and_equal_pixels_give_equal_bytes() -> None:
    images, _ = _striped(3)
    encoded = [encode(image) for image in images]
    assert all(np.array_equal(decode_grey(one), image) for one, image in zip(encoded, images, strict=True))
    assert encode(decode_grey(encoded[0])) == encoded[0]
    assert {chunk for chunk in (b"tEXt", b"tIME", b"iTXt", b"eXIf") if chunk in encoded[0]} == set()


def test_transparent_colour_images_become_grey_on_white() -> None:
    target = io.BytesIO()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(target, format="PNG")
    assert (decode_grey(target.getvalue(), side=4) == np.full((4, 4), 255)).all()
