"""A class of a few records is judged beside itself where the probe knows too little of it."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.contract import parse_contract
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.rare_classes import RareClasses
from lazaretto.detectors.table import make_detectors
from lazaretto.records import DIGEST

COMMON, RARE, WIDTH = 1_500, 18, 12
COLUMNS = [f"x{number}" for number in range(WIDTH)]
NUMBERS = ", ".join(f"{name}: {{type: number}}" for name in COLUMNS)
CONTRACT = parse_contract(f"dataset: d\nlabel: y\ncolumns: {{y: {{type: category}}, {NUMBERS}}}\n", "c")


@pytest.mark.parametrize("seed", [104, 105])
def test_one_record_in_eighty_is_not_held_for_its_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(COMMON + RARE, WIDTH))
    values[COMMON:, :3] += 2.0
    labels = np.repeat(["common", "rare"], [COMMON, RARE])
    frame = pl.DataFrame(values, schema=COLUMNS).with_columns(y=pl.Series(labels))
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    frame = frame.with_columns(pl.Series(DIGEST, digests))
    panel = fit_panel(
        frame, None, CONTRACT, make_detectors(["margin", "knn_label", "wrong_label"]), 0, torch.device("cpu")
    )
    held = panel.score(frame).p_value <= 0.01
    assert held[labels == "rare"].mean() <= 0.1
    assert held[labels == "common"].mean() <= 0.01


def test_a_rare_class_has_a_floor_from_its_own_scores_and_the_others_have_none() -> None:
    detectors = make_detectors(["margin", "iforest"])
    labels = np.repeat([0, 1, -1], [1_000, 9, 5])
    raw = np.column_stack([np.arange(1_014.0), np.arange(1_014.0)])
    rare = RareClasses.of(detectors, raw, labels, 2)
    names = [one.name for one in detectors]
    asked = np.column_stack([[1e9, 1_004.0, np.nan, 1_004.0, 1_004.0]] * 2)
    least = rare.least(names, asked, np.array([1, 1, 1, 0, -1]))
    np.testing.assert_allclose(least[:, names.index("margin")], [0.01, 0.36, 0.0, 0.0, 0.0])
    assert (least[:, names.index("iforest")] == 0).all()


def test_without_classes_nothing_is_rare() -> None:
    detectors = make_detectors(["margin"])
    rare = RareClasses.of(detectors, np.zeros((5, 1)), np.full(5, -1), 0)
    assert rare.least(["margin"], np.zeros((5, 1)), np.full(5, -1)).tolist() == [[0.0]] * 5
