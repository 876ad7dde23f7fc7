"""Records that carry a trigger are found as a second group in their class; without an attack no class is two groups."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.attacks.catalogue import ATTACKS
from lazaretto.attacks.ground import Ground
from lazaretto.contract import load_contract
from lazaretto.detector import Views, fit
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.table import make_detectors
from lazaretto.detectors.two_components import TwoComponents, TwoComponentsScorer
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.contract import Contract

SAMPLES = Path(__file__).parents[2] / "sample_data"
CLASSES, EACH = 6, 250


@pytest.fixture(scope="module")
def fashion() -> tuple[pl.DataFrame, Contract]:
    parts = [pl.read_parquet(SAMPLES / "fashion" / f"{part}.parquet") for part in ("incoming", "partner")]
    return pl.concat(parts), load_contract(SAMPLES / "contracts" / "fashion.yaml")


def _odds(frame: pl.DataFrame, contract: Contract) -> NDArray[np.float64]:
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    frame = frame.with_columns(pl.Series(DIGEST, digests))
    panel = fit_panel(frame, None, contract, make_detectors(["scan_two_component"]), 0, torch.device("cpu"))
    return panel.score(frame).raw[:, 0]


@pytest.mark.parametrize(("name", "bound"), [("adaptive_blend", 0.6)])
def test_poisons_that_look_like_their_class_to_a_person_are_a_group_apart_to_the_probe(
    fashion: tuple[pl.DataFrame, Contract], name: str, bound: float
) -> None:
    frame, contract = fashion
    planted = ATTACKS[name].plant(Ground.of(frame, contract), ATTACKS[name].rate, 204)
    odds = _odds(planted.frame, contract)
    assert (odds[planted.truth] > np.quantile(odds[planted.clean], 0.99)).mean() >= bound
    assert (odds[planted.clean] > 0).mean() < 0.01


def test_clean_classes_have_odds_against_a_second_group(fashion: tuple[pl.DataFrame, Contract]) -> None:
    assert (_odds(*fashion) > 0).mean() < 0.01


def _views(seed: int = 204, group: int = 0, classes: int = CLASSES) -> Views:
    """Round classes; the first ``group`` records are labelled 0 and lie aside of that class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), EACH)
    values = rng.normal(size=(classes, 24))[labels] * 4 + rng.normal(size=(len(labels), 24)) + 12
    values[:group, :6] += 3
    keys = rng.permutation(np.arange(1, len(labels) + 1)).astype(np.uint64)
    names = tuple(f"c{number}" for number in range(classes))
    return Views(keys, labels, {"hidden": values.astype(np.float32)}, {}, names)


def _fitted(views: Views) -> TwoComponentsScorer:
    scorer = fit(TwoComponents(), [views])
    assert isinstance(scorer, TwoComponentsScorer)
    return scorer


def test_the_smaller_group_is_counted_and_its_records_are_told_from_the_rest_of_the_class() -> None:
    views = _views(group=20)
    scorer = _fitted(views)
    scores = scorer.score(views)
    assert (scores[:20] > 0).all()
    assert (scores[20:] < 0).all()
    assert scorer.splits[0].size == pytest.approx(20, abs=2)
    why = scorer.explain(views.take(np.arange(1)))[0]
    assert "20 of the records labelled 'c0' are a group apart" in why


def test_round_classes_are_one_group() -> None:
    assert (_fitted(views := _views()).score(views) < 0).all()


def test_with_too_few_classes_to_say_what_is_usual_nothing_is_suspicious() -> None:
    views = _views(group=20, classes=4)
    scorer = _fitted(views)
    assert (scorer.score(views) <= -30).all()
    assert "too few" in scorer.explain(views.take(np.arange(1)))[0]


def test_a_class_that_is_two_halves_by_nature_is_less_clear_than_a_small_tight_group() -> None:
    views = _views(group=EACH // 2)
    halves = _fitted(views).clear[0]
    assert halves < _fitted(_views(group=20)).clear[0] * 2
