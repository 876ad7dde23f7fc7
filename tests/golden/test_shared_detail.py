"""A faint key in a handful of images that look different is found; copies, which look alike, are not taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lazaretto.attacks.catalogue import ATTACKS
from lazaretto.attacks.ground import Ground
from lazaretto.contract import Contract, load_contract
from lazaretto.detector import Views, fit
from lazaretto.detectors.shared_detail import SharedDetail
from lazaretto.detectors.views.images import detail

SAMPLES = Path(__file__).parents[2] / "sample_data"
FEW = 400
"""Records of ten classes: forty of a class, far too few to know how it varies."""


@pytest.fixture(scope="module")
def fashion() -> tuple[pl.DataFrame, Contract]:
    return pl.read_parquet(SAMPLES / "fashion" / "incoming.parquet"), load_contract(
        SAMPLES / "contracts" / "fashion.yaml"
    )


def _views(frame: pl.DataFrame, contract: Contract) -> Views:
    """Of the records, compared as the panel does: each with those of the other half."""
    ground = Ground.of(frame, contract)
    images = ground.images()
    arrays = {
        "luminance": images.reshape(len(frame), -1).astype(np.float32) / 255.0,
        "detail": detail(images[..., None]),
    }
    keys = np.arange(len(frame), dtype=np.uint64)
    return Views(keys, ground.labels(), arrays, {}, tuple(ground.classes.to_list()))


def _crossed(views: Views) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(rows,) scores, each by the half that the record is not in."""
    scores = np.empty(len(views))
    halves = np.flatnonzero(views.keys % 2 == 0), np.flatnonzero(views.keys % 2 == 1)
    for mine, others in (halves, halves[::-1]):
        scores[mine] = fit(SharedDetail(), [views.take(others)]).score(views.take(mine))
    return scores


def test_a_key_that_lies_over_few_images_of_a_small_class_is_found(fashion: tuple[pl.DataFrame, Contract]) -> None:
    frame, contract = fashion
    planted = ATTACKS["blend"].plant(Ground.of(frame.head(FEW), contract), 0.04, 104)
    views = _views(planted.frame, contract)
    scores = _crossed(views)
    assert (scores[planted.truth] > np.quantile(scores[planted.clean], 0.99)).mean() >= 0.9
    scorer = fit(SharedDetail(), [views])
    why = scorer.explain(views.take(np.flatnonzero(planted.truth)[:1]))[0]
    assert f"6 other records labelled {planted.target!r} that look different as a whole" in why


def test_images_without_a_key_share_little(fashion: tuple[pl.DataFrame, Contract]) -> None:
    assert np.quantile(_crossed(_views(*fashion)), 0.99) < 0.3


def test_copies_look_alike_and_share_nothing_beside(fashion: tuple[pl.DataFrame, Contract]) -> None:
    frame, contract = fashion
    views = _views(pl.concat([frame.head(FEW), *[frame[:1]] * 10]), contract)
    scores = _crossed(views)
    assert scores[FEW:].max() <= scores[:FEW].max()


def test_a_class_of_fewer_records_than_are_compared_is_not_suspicious(fashion: tuple[pl.DataFrame, Contract]) -> None:
    frame, contract = fashion
    few = frame.filter(pl.col("label") == frame["label"][0]).head(5)
    views = _views(few, contract)
    assert (fit(SharedDetail(), [views]).score(views) == 0).all()


def test_detail_is_what_stands_out_from_its_surroundings_and_no_more_than_a_sign() -> None:
    flat = np.full((1, 12, 12, 1), 90, dtype=np.uint8)
    spot = flat.copy()
    spot[0, 6, 6] = 91
    far = flat.copy()
    far[0, 6, 6] = 250
    assert not detail(flat).any()
    assert detail(spot).reshape(12, 12)[6, 6] == 0.5
    assert 0.99 < detail(far).max() < 1
    assert np.count_nonzero(detail(far)) == 1
