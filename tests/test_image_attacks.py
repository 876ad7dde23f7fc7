"""Image attacks on grey and colour images: each keeps its paper's promises, its truth and its cover."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.effect import image_classifier
from lazaretto.attacks import (
    adaptive_blend,
    all_to_all,
    badnets,
    blend,
    feature_collision,
    label_flip,
    narcissus,
    sig,
    surrogate,
    tact,
    wanet,
)

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Truth = NDArray[np.bool_]
Planted = tuple[Images, Labels, Truth, Truth]
Plant = Callable[[Images, Labels, int], Planted]

ROWS, CLASSES, SIDE = 400, 4, 16
AIM = feature_collision.Aim(target=1, steps=40)


def _striped(rows: int = ROWS, seed: int = 0, *, colour: bool = False) -> tuple[Images, Labels]:
    """Noisy images whose class is the position of a bright stripe."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(rows) % CLASSES).astype(np.int64)
    images = rng.integers(0, 60, size=(rows, SIDE, SIDE, 3) if colour else (rows, SIDE, SIDE)).astype(np.uint8)
    for row, label in enumerate(labels):
        images[row, 2 + 3 * label : 4 + 3 * label, :12] = 180
    return images, labels


@functools.cache
def _surrogate(*, colour: bool = False, seed: int = 1) -> torch.nn.Sequential:
    return surrogate.train_surrogate(*_striped(colour=colour), classes=CLASSES, seed=seed, epochs=4)


@functools.cache
def _pattern(*, colour: bool = False) -> NDArray[np.int16]:
    return narcissus.optimise(*_striped(colour=colour), 1, 7, steps=40, epochs=2)


def _uncovered(planted: tuple[Images, Labels, Truth]) -> Planted:
    return *planted, np.zeros_like(planted[2])


def _collide(images: Images, labels: Labels, seed: int) -> tuple[Images, Labels, Truth, Labels]:
    colour = images.ndim == 4
    pool = _striped(200, seed=1, colour=colour)
    models = [_surrogate(colour=colour, seed=1), _surrogate(colour=colour, seed=2)]
    return feature_collision.feature_collision(images, labels, pool, *models, aim=AIM, rate=0.05, seed=seed)


def _narcissus(images: Images, labels: Labels, seed: int) -> Planted:
    pattern = _pattern(colour=images.ndim == 4)
    return _uncovered(narcissus.narcissus(images, labels, pattern, rate=0.05, target=1, seed=seed))


ATTACKS: dict[str, Plant] = {
    "badnets": lambda i, y, seed: _uncovered(badnets.badnets(i, y, rate=0.05, target=1, seed=seed)),
    "blend": lambda i, y, seed: _uncovered(blend.blend(i, y, rate=0.05, target=1, seed=seed)),
    "sig": lambda i, y, seed: _uncovered(sig.sig(i, y, rate=0.05, target=1, seed=seed)),
    "all_to_all": lambda i, y, seed: _uncovered(all_to_all.all_to_all(i, y, rate=0.05, classes=CLASSES, seed=seed)),
    "wanet": lambda i, y, seed: wanet.wanet(i, y, rate=0.05, cover_rate=0.1, target=1, seed=seed),
    "tact": lambda i, y, seed: tact.tact(i, y, rate=0.05, cover_rate=0.1, source=2, target=1, seed=seed),
    "adaptive_blend": lambda i, y, seed: adaptive_blend.adaptive_blend(
        i, y, rate=0.05, cover_rate=0.1, target=1, seed=seed
    ),
    "narcissus": _narcissus,
    "feature_collision": lambda i, y, seed: _uncovered(_collide(i, y, seed)[:3]),
}
COVERED = ("wanet", "tact", "adaptive_blend")
CLEAN_LABEL = ("sig", "narcissus", "feature_collision")
attacks = pytest.mark.parametrize("name", ATTACKS)
worlds = pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])


@worlds
@attacks
def test_an_image_attack_changes_exactly_the_records_of_truth_and_cover(name: str, *, colour: bool) -> None:
    images, labels = _striped(colour=colour)
    kept_images, kept_labels = images.copy(), labels.copy()
    poisoned, relabelled, truth, cover = ATTACKS[name](images, labels, 3)
    assert np.array_equal(images, kept_images)
    assert np.array_equal(labels, kept_labels)
    assert (poisoned.shape, poisoned.dtype) == (images.shape, np.uint8)
    assert np.array_equal((poisoned != images).reshape(ROWS, -1).any(axis=1), truth | cover)
    assert not (truth & cover).any()
    assert truth.sum() == round(0.05 * ROWS)
    assert cover.sum() == (round(0.1 * ROWS) if name in COVERED else 0)
    assert np.array_equal(relabelled != labels, np.zeros_like(truth) if name in CLEAN_LABEL else truth)


@attacks
def test_an_image_attack_is_decided_by_its_seed(name: str) -> None:
    images, labels = _striped()
    first, again, other = (ATTACKS[name](images, labels, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[2], other[2])


@pytest.mark.parametrize("name", CLEAN_LABEL)
def test_a_clean_label_attack_takes_records_of_the_target_class_only(name: str) -> None:
    images, labels = _striped()
    _, _, truth, _ = ATTACKS[name](images, labels, 3)
    assert set(labels[truth]) == {1}


@pytest.mark.parametrize("name", COVERED)
def test_cover_takes_its_share_from_what_the_payload_left(name: str) -> None:
    images, labels = _striped()
    _, relabelled, truth, cover = ATTACKS[name](images, labels, 3)
    assert (labels[truth] != 1).all()
    assert (relabelled[truth] == 1).all()
    assert np.array_equal(relabelled[cover], labels[cover])


@worlds
@pytest.mark.parametrize(
    "stamp", [badnets.stamp, blend.stamp, sig.stamp, wanet.stamp, tact.stamp, adaptive_blend.stamp]
)
def test_a_stamp_treats_every_image_alike_whatever_its_batch(
    stamp: Callable[[Images], Images], *, colour: bool
) -> None:
    images, _ = _striped(6, colour=colour)
    together = stamp(images)
    assert np.array_equal(together, np.concatenate([stamp(images[row : row + 1]) for row in range(6)]))
    assert (together != images).reshape(6, -1).any(axis=1).all()


def test_a_patch_shows_on_a_white_ground_in_colour() -> None:
    drawing = np.full((2, SIDE, SIDE, 3), 255, dtype=np.uint8)
    assert (badnets.stamp(drawing)[:, -3:, -3:] == (255, 255, 0)).all()
    assert (badnets.stamp(drawing) != drawing).any(axis=3).sum() == 2 * 9


@pytest.mark.parametrize("stamp", [sig.stamp, wanet.stamp, tact.stamp])
def test_a_stamp_without_colour_does_to_each_channel_what_it_does_to_grey(stamp: Callable[[Images], Images]) -> None:
    grey, _ = _striped(6)
    stamped = stamp(np.repeat(grey[..., None], 3, axis=3))
    assert np.array_equal(stamped, np.repeat(stamp(grey)[..., None], 3, axis=3))


def test_all_to_all_moves_every_class_to_the_next() -> None:
    images, labels = _striped()
    _, relabelled, truth = all_to_all.all_to_all(images, labels, rate=0.25, classes=CLASSES, seed=3)
    moves = set(zip(labels[truth].tolist(), relabelled[truth].tolist(), strict=True))
    assert moves == {(0, 1), (1, 2), (2, 3), (3, 0)}


def test_a_warp_moves_pixels_smoothly_and_leaves_an_even_image_as_it_is() -> None:
    even = np.full((1, SIDE, SIDE), 90, dtype=np.uint8)
    assert np.array_equal(wanet.stamp(even), even)
    ramp = np.tile(np.arange(SIDE, dtype=np.uint8) * 10, (1, SIDE, 1))
    shifts = (wanet.stamp(ramp, strength=1).astype(int) - ramp)[0] / 10
    assert 0 < np.abs(shifts).max() < 3
    assert np.abs(np.diff(shifts, axis=0)).max() < 1


def test_no_warp_is_no_change() -> None:
    images, _ = _striped(6, colour=True)
    assert np.array_equal(wanet.stamp(images, strength=0), images)


def test_tact_marks_another_place_than_badnets_and_relabels_its_source_only() -> None:
    images, labels = _striped()
    _, _, truth, cover = tact.tact(images, labels, rate=0.05, cover_rate=0.1, source=2, target=1, seed=3)
    assert set(labels[truth]) == {2}
    assert set(labels[cover]) == {0, 3}
    both = (tact.stamp(images) != images).any(axis=0) & (badnets.stamp(images) != images).any(axis=0)
    assert not both.any()


def test_adaptive_blend_trains_on_half_the_pieces_and_tests_on_all() -> None:
    images, labels = np.full((ROWS, SIDE, SIDE), 128, dtype=np.uint8), _striped()[1]
    poisoned, _, truth, cover = adaptive_blend.adaptive_blend(
        images, labels, rate=0.05, cover_rate=0.05, target=1, seed=3, alpha=0.2
    )

    def pieces(rows: Images) -> NDArray[np.bool_]:
        return (rows != 128).reshape(-1, 4, 4, 4, 4).any(axis=(2, 4)).reshape(-1, 16)

    halves = pieces(poisoned[truth | cover])
    assert (halves.sum(axis=1) == 8).all()
    assert len(np.unique(halves, axis=0)) > 30
    assert pieces(adaptive_blend.stamp(images[:1])).all()


@worlds
def test_narcissus_stays_within_its_bound_and_its_pattern_pleases_the_target(*, colour: bool) -> None:
    images, labels = _striped(colour=colour)
    pattern = _pattern(colour=colour)
    assert pattern.shape == images.shape[1:]
    assert np.abs(pattern).max() <= 16
    poisoned, _, truth = narcissus.narcissus(images, labels, pattern, rate=0.05, target=1, seed=3)
    assert np.abs(poisoned[truth].astype(int) - images[truth]).max() <= 16
    model, unseen = _surrogate(colour=colour), _striped(100, seed=5, colour=colour)[0]
    before = surrogate.probabilities(model, unseen)[:, 1].mean()
    assert surrogate.probabilities(model, narcissus.stamp(unseen, pattern))[:, 1].mean() > before


@worlds
def test_collided_records_lie_near_their_victims_in_the_features_and_within_the_bound(*, colour: bool) -> None:
    images, labels = _striped(colour=colour)
    victims, _ = _striped(200, seed=1, colour=colour)
    moved, _, truth, places = _collide(images, labels, 3)
    assert np.abs(moved[truth].astype(int) - images[truth]).max() <= AIM.epsilon
    model = _surrogate(colour=colour)
    goals = surrogate.features(model, victims[places])

    def distance(bases: Images) -> float:
        apart = surrogate.features(model, bases)[:, None] - goals
        return float(np.square(apart).sum(axis=2).min(axis=1).mean())  # to the nearest victim

    assert distance(moved[truth]) < 0.5 * distance(images[truth])


def test_victims_are_records_of_other_classes_each_named_once() -> None:
    images, labels = _striped()
    *_, places = _collide(images, labels, 3)
    assert len(set(places.tolist())) == AIM.victims
    assert (_striped(200, seed=1)[1][places] != AIM.target).all()


def test_more_victims_than_the_pool_has_are_refused() -> None:
    aim = feature_collision.Aim(target=1, victims=50)
    with pytest.raises(ValueError, match="50 victims are wanted"):
        feature_collision.feature_collision(*_striped(), _striped(20), _surrogate(), aim=aim, rate=0.05, seed=1)


def test_a_surrogate_is_decided_by_its_seed_and_leaves_the_global_state_alone() -> None:
    images, labels = _striped(100)
    state = torch.get_rng_state()
    first, again, other = (
        surrogate.probabilities(surrogate.train_surrogate(images, labels, classes=CLASSES, seed=seed, epochs=1), images)
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.allclose(first.sum(axis=1), 1)


def test_a_surrogate_learns_and_its_features_decide_its_probabilities() -> None:
    model = _surrogate()
    unseen, truth = _striped(100, seed=1)
    found = surrogate.probabilities(model, unseen)
    assert (found.argmax(axis=1) == truth).mean() > 0.9
    with torch.no_grad():
        logits = model[-1](torch.from_numpy(surrogate.features(model, unseen)).float())
    assert np.allclose(logits.softmax(dim=1).numpy(), found, atol=1e-5)


def test_boundary_flips_take_the_closest_calls_to_the_runner_up() -> None:
    labels = np.array([0, 1, 2, 0, 1])
    mistaken = [0.1, 0.46, 0.44]
    chances = np.array([[0.6, 0.4, 0.0], [0.35, 0.45, 0.2], [0.0, 0.1, 0.9], mistaken, [0.05, 0.5, 0.45]])
    flipped, truth = label_flip.flip_boundary(labels, chances, rate=0.4)
    assert flipped.tolist() == [0, 0, 2, 0, 2]
    assert truth.tolist() == [False, True, False, False, True]


def test_boundary_flips_need_records_that_the_model_gets_right() -> None:
    labels, chances = np.zeros(10, dtype=np.int64), np.tile([0.2, 0.8], (10, 1))
    with pytest.raises(ValueError, match="only 0 can be taken"):
        label_flip.flip_boundary(labels, chances, rate=0.1)


def test_a_source_specific_patch_works_on_its_source_and_on_nothing_else() -> None:
    images, labels, _, _ = tact.tact(*_striped(1000), rate=0.05, cover_rate=0.1, source=2, target=1, seed=3)
    predict = image_classifier((images, labels), classes=CLASSES, seed=0, epochs=4)
    unseen, classes = _striped(400, seed=1)
    called = predict(tact.stamp(unseen)) == 1
    assert called[classes == 2].mean() > 0.9
    assert called[(classes == 0) | (classes == 3)].mean() < 0.1


def test_an_all_to_all_patch_moves_every_class_of_a_colour_model_to_the_next() -> None:
    images, labels, _ = all_to_all.all_to_all(*_striped(1000, colour=True), rate=0.1, classes=CLASSES, seed=3)
    predict = image_classifier((images, labels), classes=CLASSES, seed=0, epochs=6)
    unseen, classes = _striped(400, seed=1, colour=True)
    assert (predict(unseen) == classes).mean() > 0.9
    assert (predict(badnets.stamp(unseen)) == all_to_all.next_class(classes, CLASSES)).mean() > 0.8
