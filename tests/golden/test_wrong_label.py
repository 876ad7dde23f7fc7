"""Wrong labels are found by what wrong labels look like, many of one kind too; where labels mean nothing none is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.attacks.label_flip import flip_pair, flip_random
from lazaretto.contract import parse_contract
from lazaretto.detector import Views, fit
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.table import make_detectors
from lazaretto.detectors.wrong_label import WrongLabel, WrongLabelScorer
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]

ROWS, CLASSES, WIDTH = 2_000, 4, 6
COLUMNS = [f"x{number}" for number in range(WIDTH)]
NUMBERS = ", ".join(f"{name}: {{type: number}}" for name in COLUMNS)
CONTRACT = parse_contract(f"dataset: d\nlabel: y\ncolumns: {{y: {{type: category}}, {NUMBERS}}}\n", "c")
CENTRES = 4.0 * np.eye(CLASSES, WIDTH)


@pytest.fixture(scope="module")
def clouds() -> tuple[Floats, Labels]:
    """Records of four classes that hardly touch."""
    rng = np.random.default_rng(104)
    labels = rng.integers(0, CLASSES, ROWS)
    return CENTRES[labels] + rng.normal(size=(ROWS, WIDTH)), labels


def _odds(values: Floats, labels: Labels) -> tuple[Floats, list[WrongLabelScorer]]:
    """(rows,) log odds from a panel of this one detector, and its folds' scorers."""
    frame = pl.DataFrame(values, schema=COLUMNS).with_columns(y=pl.Series([f"c{label}" for label in labels]))
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    frame = frame.with_columns(pl.Series(DIGEST, digests))
    panel = fit_panel(frame, None, CONTRACT, make_detectors(["wrong_label"]), 0, torch.device("cpu"))
    found = [fold.scorers["wrong_label"] for fold in panel.folds]
    return panel.score(frame).raw[:, 0], [scorer for scorer in found if isinstance(scorer, WrongLabelScorer)]


def _recall(odds: Floats, truth: NDArray[np.bool_]) -> float:
    return float((odds[truth] > np.quantile(odds[~truth], 0.99)).mean())


def test_random_flips_have_higher_odds_than_all_but_a_hundredth_of_the_clean(clouds: tuple[Floats, Labels]) -> None:
    values, labels = clouds
    flipped, truth = flip_random(labels, rate=0.05, classes=CLASSES, seed=104)
    odds, scorers = _odds(values, flipped)
    assert _recall(odds, truth) >= 0.9
    assert (odds[truth] > 0).mean() >= 0.6
    assert (odds[~truth] > 0).mean() < 0.01
    for scorer in scorers:
        assert (scorer.wrong > 0.02).all()
        assert (scorer.wrong < 0.1).all()


def test_a_third_of_a_class_under_another_label_is_found_by_its_one_way(clouds: tuple[Floats, Labels]) -> None:
    values, labels = clouds
    rate = 0.3 * (labels == 0).mean()
    flipped, truth = flip_pair(labels, rate=rate, victim=0, target=1, seed=104)
    odds, scorers = _odds(values, flipped)
    assert _recall(odds, truth) >= 0.9
    assert (odds[~truth] > 0).mean() < 0.01
    for scorer in scorers:
        assert scorer.changed[1, 0] > 0.2
        assert np.count_nonzero(scorer.changed) == 1


def test_clean_labels_have_odds_against_their_being_wrong(clouds: tuple[Floats, Labels]) -> None:
    odds, scorers = _odds(*clouds)
    assert (odds > 0).mean() < 0.01
    assert all((scorer.changed == 0).all() for scorer in scorers)


def test_where_labels_do_not_follow_from_the_records_none_is_said_to_be_wrong(clouds: tuple[Floats, Labels]) -> None:
    values, _ = clouds
    odds, scorers = _odds(values, np.random.default_rng(105).integers(0, CLASSES, ROWS))
    assert (odds > 0).mean() < 0.01
    assert np.median(odds) < np.log(2e-3)
    assert all((scorer.trust < 0.01).all() for scorer in scorers)


def _sure_views(flipped: Labels, values: Floats, share: float) -> Views:
    """What a probe says that has learnt the flips perfectly: of class 0 it expects a share under the label 1."""
    apart = ((values[:, None] - CENTRES) ** 2).sum(axis=2)
    true = np.exp(-apart / 2)
    true /= true.sum(axis=1, keepdims=True)
    given = true.copy()
    given[:, 1] += share * true[:, 0]
    given[:, 0] *= 1 - share
    arrays = {
        "logits": np.log(given + 1e-9).astype(np.float32)[:, None],
        "class_distances": np.sqrt(apart).astype(np.float32),
        "neighbour_labels": np.repeat(apart.argmin(axis=1)[:, None], 5, axis=1),
    }
    keys = np.random.default_rng(0).integers(0, 2**63, len(values)).astype(np.uint64)
    return Views(keys, flipped, arrays, {}, tuple(f"c{number}" for number in range(CLASSES)))


def test_the_share_of_a_class_that_was_changed_is_read_off_the_surplus_of_one_way(
    clouds: tuple[Floats, Labels],
) -> None:
    values, labels = clouds
    flipped, truth = flip_pair(labels, rate=0.3 * (labels == 0).mean(), victim=0, target=1, seed=104)
    views = _sure_views(flipped, values, 0.3)
    scorer = fit(WrongLabel(), [views])
    assert isinstance(scorer, WrongLabelScorer)
    assert scorer.changed[1, 0] == pytest.approx(0.3 / 0.7, abs=0.03)
    assert _recall(scorer.score(views), truth) >= 0.95
    said = scorer.explain(views.take(np.flatnonzero(truth)[:1]))[0]
    assert "records labelled 'c1' look more like 'c0', and only" in said


def test_as_much_doubt_both_ways_is_no_evidence(clouds: tuple[Floats, Labels]) -> None:
    values, labels = clouds
    rng = np.random.default_rng(104)
    mixed = np.where((labels < 2) & (rng.random(ROWS) < 0.3), 1 - labels, labels)
    scorer = fit(WrongLabel(), [_sure_views(mixed, values, 0.0)])
    assert isinstance(scorer, WrongLabelScorer)
    assert (scorer.changed == 0).all()


def test_a_class_that_is_read_less_than_it_is_for_being_rare_was_not_changed() -> None:
    """Of a class one in ten, where records hardly tell the classes apart, a probe reads the other class everywhere."""
    rng = np.random.default_rng(104)
    labels = (rng.random(ROWS) < 0.1).astype(np.int64)
    values = 0.3 * CENTRES[labels] + rng.normal(size=(ROWS, WIDTH))
    odds, scorers = _odds(values, labels)
    assert all((scorer.changed == 0).all() for scorer in scorers)
    assert (odds[labels == 1] > 0).mean() < 0.02


@pytest.mark.parametrize("seed", [104, 105])
def test_classes_in_a_row_are_not_taken_for_one_another_s_mistakes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, 900)
    values = rng.normal(size=(900, WIDTH))
    values[:, 0] += 6.0 * labels
    odds, _ = _odds(values, labels)
    assert (odds > np.log(0.1)).mean() <= 0.02


def test_labels_that_follow_from_nothing_are_confused_no_way() -> None:
    rng = np.random.default_rng(106)
    odds, _ = _odds(rng.normal(size=(1_500, WIDTH)), rng.integers(0, CLASSES, 1_500))
    assert (odds > np.log(0.1)).mean() <= 0.01
