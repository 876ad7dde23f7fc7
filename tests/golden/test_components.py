"""A faint pattern in a share of a class is found, though no image shows it; without one there is no such group."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from lazaretto.attacks.catalogue import ATTACKS
from lazaretto.attacks.ground import Ground
from lazaretto.contract import load_contract
from lazaretto.detector import Views, fit
from lazaretto.detectors.components import HiddenComponents

if TYPE_CHECKING:
    from lazaretto.contract import Contract

SAMPLES = Path(__file__).parents[2] / "sample_data"


@pytest.fixture(scope="module")
def fashion() -> tuple[pl.DataFrame, Contract]:
    parts = [pl.read_parquet(SAMPLES / "fashion" / f"{part}.parquet") for part in ("incoming", "partner")]
    return pl.concat(parts), load_contract(SAMPLES / "contracts" / "fashion.yaml")


def _views(frame: pl.DataFrame, contract: Contract) -> Views:
    ground = Ground.of(frame, contract)
    flat = ground.images().reshape(len(frame), -1).astype(np.float32) / 255.0
    keys = np.arange(len(frame), dtype=np.uint64)
    return Views(keys, ground.labels(), {"luminance": flat}, {}, tuple(ground.classes.to_list()))


@pytest.mark.parametrize("name", ["sig", "blend"])
def test_a_pattern_too_faint_for_any_single_image_is_found_in_its_class(
    fashion: tuple[pl.DataFrame, Contract], name: str
) -> None:
    frame, contract = fashion
    planted = ATTACKS[name].plant(Ground.of(frame, contract), ATTACKS[name].rate, 104)
    views = _views(planted.frame, contract)
    scorer = fit(HiddenComponents(), [views])
    scores = scorer.score(views)
    assert (scores[planted.truth] > np.quantile(scores[planted.clean], 0.99)).mean() >= 0.9
    why = scorer.explain(views.take(np.flatnonzero(planted.truth)[:1]))[0]
    assert f"labelled {planted.target!r}" in why


def test_clean_classes_hold_no_group_as_clear(fashion: tuple[pl.DataFrame, Contract]) -> None:
    views = _views(*fashion)
    scores = fit(HiddenComponents(), [views]).score(views)
    assert np.quantile(scores, 0.99) < 20
    assert scores.max() < 40
