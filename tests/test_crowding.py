"""Crowding finds near copies; what is exactly the same is for the count of copies to judge."""

from __future__ import annotations

import numpy as np

from lazaretto.detector import Views, fit
from lazaretto.detectors.neighbours import Crowding

NEIGHBOURS = 12


def _score(distances: list[list[float]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rows = len(distances)
    arrays = {"neighbour_distances": np.array(distances, dtype=np.float32)}
    views = Views(np.arange(rows, dtype=np.uint64), np.full(rows, -1), arrays, {})
    return fit(Crowding(), [views]).score(views)


def test_near_copies_are_crowded_and_exact_ones_add_nothing() -> None:
    alone = [2.0] * NEIGHBOURS
    near = [0.01] * NEIGHBOURS
    exact = [0.0] * NEIGHBOURS
    some_exact = [0.0] * 6 + [2.0] * 6
    scores = _score([alone, near, exact, some_exact])
    assert scores.argmax() == 1
    assert scores[3] == scores[0]
    assert scores[2] < scores[0]


def test_a_distance_that_is_missing_leaves_no_score() -> None:
    assert np.isnan(_score([[np.nan] * NEIGHBOURS])[0])


def test_the_nearest_that_differ_are_said() -> None:
    arrays = {"neighbour_distances": np.array([[0.0] * 3 + [0.5] * 9], dtype=np.float32)}
    views = Views(np.zeros(1, dtype=np.uint64), np.full(1, -1), arrays, {})
    said = "the 8 nearest records that differ from it are at a mean distance of 0.5, where 0.5 is usual"
    assert fit(Crowding(), [views]).explain(views) == [said]
