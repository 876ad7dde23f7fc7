"""Views are pure functions of a record and the fitted state; fast paths equal plain loops."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.detectors.panel import fold_of
from lazaretto.detectors.views.columns import Category, Number
from lazaretto.detectors.views.images import pattern_tokens, tones
from lazaretto.detectors.views.neighbours import Neighbours
from lazaretto.detectors.views.probe import Probe, Recipe, train
from lazaretto.detectors.views.sample import Sample, key_seed, record_keys
from lazaretto.records import DIGEST

CPU = torch.device("cpu")


def _frame(rows: int) -> pl.DataFrame:
    digests = [f"{i * 2654435761 % 2**64:016x}" for i in range(rows)]
    return pl.DataFrame({"x": range(rows), DIGEST: digests})


def test_a_sample_is_the_same_for_any_partitioning_and_order() -> None:
    frame = _frame(500)
    whole = Sample.of(frame, 50, seed=3)
    parts = [Sample.of(frame[i : i + 90], 50, seed=3) for i in range(0, 500, 90)]
    merged = parts[3]
    for part in (*parts[:3], *parts[4:]):
        merged = merged.merge(part)
    assert merged.frame.equals(whole.frame)
    assert merged.arrived == 500


def test_a_seed_changes_who_is_sampled() -> None:
    frame = _frame(500)
    assert not np.array_equal(np.argsort(record_keys(frame, 0)), np.argsort(record_keys(frame, 1)))


@pytest.mark.parametrize("labels", [4, 1])
def test_neighbours_equal_a_plain_search(labels: int) -> None:
    rng = np.random.default_rng(0)
    points, keys = rng.normal(size=(300, 6)).astype(np.float32), np.arange(300, dtype=np.uint64)
    classes = rng.integers(0, labels, 300)
    seen = Neighbours.of(points, keys, classes, labels, 7, 300, CPU).views(points[:40], keys[:40])
    apart = np.linalg.norm(points[:40, None] - points[None], axis=2)
    apart[np.arange(40), np.arange(40)] = np.inf
    order = np.argsort(apart, axis=1)[:, :7]
    np.testing.assert_allclose(seen["neighbour_distances"], np.take_along_axis(apart, order, axis=1), atol=1e-3)
    np.testing.assert_array_equal(np.sort(seen["neighbour_labels"]), np.sort(classes[order]))
    own = [np.sort(apart[i, classes == classes[i]])[:5].mean() for i in range(40)]
    np.testing.assert_allclose(seen["class_distances"][np.arange(40), classes[:40]], own, atol=1e-3)


def _trained() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 240)
    features = (np.eye(3)[labels] @ rng.normal(size=(3, 5)) + 0.3 * rng.normal(size=(240, 5))).astype(np.float32)
    return features, labels, np.arange(240) % 2 != np.arange(2)[:, None]


def test_closed_form_gradient_norms_equal_autograd() -> None:
    features, labels, shown = _trained()
    probe = train(features, labels, shown, 3, Recipe(epochs=2), CPU)
    norms = probe.views(0, features[:5], labels[:5])["gradient_norms"][:, -1]
    for row in range(5):
        weight, bias = probe.second[-1, 0].clone().requires_grad_(), probe.second_bias[-1, 0].clone().requires_grad_()
        hidden = torch.relu(torch.as_tensor(features[row]) @ probe.first[-1, 0] + probe.first_bias[-1, 0])
        loss = torch.nn.functional.cross_entropy(hidden @ weight + bias, torch.tensor(labels[row]))
        gradients = torch.autograd.grad(loss, (weight, bias))
        expected = sum(float(g.square().sum()) for g in gradients) ** 0.5
        assert norms[row] == pytest.approx(expected, rel=1e-4)


def test_kronecker_projections_equal_projected_full_gradients() -> None:
    features, labels, shown = _trained()
    probe = train(features, labels, shown, 3, Recipe(epochs=2), CPU)
    seen = probe.views(1, features[:4], labels[:4])["gradients"]
    for row in range(4):
        first = probe.first[-1, 1].clone().requires_grad_()
        hidden = torch.relu(torch.as_tensor(features[row]) @ first + probe.first_bias[-1, 1])
        out = hidden @ probe.second[-1, 1] + probe.second_bias[-1, 1]
        (full,) = torch.autograd.grad(torch.nn.functional.cross_entropy(out, torch.tensor(labels[row])), first)
        expected = (probe.project["hidden_out"].T @ full.T @ probe.project["features"]).flatten()
        np.testing.assert_allclose(seen[row, 64:], expected.numpy(), atol=1e-5)


def test_the_probe_of_a_fold_is_blind_to_that_fold() -> None:
    features, labels, shown = _trained()
    changed = features.copy()
    changed[~shown[0]] = 99.0
    before = train(features, labels, shown, 3, Recipe(epochs=2), CPU)
    after = train(changed, labels, shown, 3, Recipe(epochs=2), CPU)
    torch.testing.assert_close(before.first[:, 0], after.first[:, 0])
    assert not torch.equal(before.first[:, 1], after.first[:, 1])


def _in_a_row(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six classes that are stretches of one sum of columns, and a share of labels drawn anew."""
    rng = np.random.default_rng(7)
    features = rng.normal(size=(600, 4)).astype(np.float32)
    total = features @ np.array([1.0, 0.8, 0.5, 0.3])
    labels = np.digitize(total, np.quantile(total, np.arange(1, 6) / 6))
    labels = np.where(rng.random(600) < noise, rng.integers(0, 6, 600), labels)
    return features, labels, np.arange(600) % 3 != np.arange(3)[:, None]


def test_the_probe_is_trained_for_longer_where_that_reads_unseen_records_better() -> None:
    features, labels, shown = _in_a_row(noise=0.0)
    short = train(features, labels, shown, 6, Recipe(epochs=15), CPU)
    long = train(features, labels, shown, 6, Recipe(epochs=15, longest=240), CPU)
    assert long.first.shape == short.first.shape

    def right(probe: Probe) -> float:
        logits = [probe.views(fold, features[~seen], labels[~seen])["logits"][:, -1] for fold, seen in enumerate(shown)]
        return float(
            np.mean([(out.argmax(axis=1) == labels[~seen]).mean() for out, seen in zip(logits, shown, strict=True)])
        )

    assert right(long) > right(short) + 0.2


def test_the_probe_does_not_go_on_to_learn_noise() -> None:
    features, labels, shown = _in_a_row(noise=1.0)
    short = train(features, labels, shown, 6, Recipe(epochs=15), CPU)
    long = train(features, labels, shown, 6, Recipe(epochs=15, longest=240), CPU)
    # Nor does having tried change the projections.
    torch.testing.assert_close(short.first, long.first)
    torch.testing.assert_close(short.project["features"], long.project["features"])


def test_a_value_far_outside_the_sample_stays_visible() -> None:
    column = Number.fit("x", pl.Series(np.linspace(0, 1, 200)))
    inside, outside = column.encode(pl.Series([1.0, 50.0]))[:, 0]
    assert outside > inside + 2


def test_missing_numbers_are_marked_and_finite() -> None:
    column = Number.fit("x", pl.Series([1.0, None, 3.0, 4.0]))
    encoded = column.encode(pl.Series([None, 2.0], dtype=pl.Float64))
    assert np.isfinite(encoded).all()
    assert encoded[0, 1] == 1
    assert column.names == ("x", "x missing")


def test_a_category_never_seen_is_rarer_than_any_seen() -> None:
    column = Category.fit("c", pl.Series(["a"] * 90 + ["b"] * 9 + ["c"]))
    encoded = column.encode(pl.Series(["a", "c", "new", None], dtype=pl.String))
    assert encoded[2, -1] > encoded[1, -1] > encoded[0, -1]
    assert encoded[3, -1] == encoded[2, -1]


def test_equal_patterns_at_equal_places_share_a_token_and_others_do_not() -> None:
    pixels = np.zeros((2, 10, 10, 1), dtype=np.uint8)
    pixels[:, 4:7, 4:7] = 255
    pixels[1, 0, 0] = 255
    tokens = pattern_tokens(pixels)
    assert tokens.shape == (2, 64)
    same = tokens[0] == tokens[1]
    assert not same[0]
    assert same[1:].all()
    assert len(np.unique(tokens[0])) == 64


def test_tones_see_the_brightness_that_contrast_normalisation_hides() -> None:
    dark, bright = np.zeros((1, 28, 28, 1), np.uint8), np.full((1, 28, 28, 1), 255, np.uint8)
    assert tones(bright)[0, :16] == pytest.approx(1)
    assert tones(dark)[0, :16] == pytest.approx(0)


def test_nobody_can_choose_his_records_folds_by_their_ids() -> None:
    digests = [hashlib.blake2b(str(number).encode(), digest_size=16).hexdigest() for number in range(2_000)]
    frame = pl.DataFrame({DIGEST: digests})
    chosen = frame.filter(pl.Series(fold_of(record_keys(frame, 0), 5) == 0))
    one = fold_of(record_keys(chosen, key_seed(0, b"", "b-1")), 5)
    assert np.bincount(one, minlength=5).min() > 0.1 * len(chosen)
    for other in (key_seed(1, b"", "b-1"), key_seed(0, b"x", "b-1"), key_seed(0, b"", "b-2")):
        assert (fold_of(record_keys(chosen, other), 5) == one).mean() < 0.4
