"""Two values that always meet are found in columns that hardly hang together; what nature brings together is not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from lazaretto.detector import Views, fit
from lazaretto.detectors.pairs import Pairs, PairsScorer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Codes = NDArray[np.uint32]
    Floats = NDArray[np.float64]

ROWS = 3_000
NAMES = ("place", "distance", "temp", "wind", "humid", "seat", "fuel", "crew")
PLACE, DISTANCE, _, _, HUMID, SEAT, FUEL, CREW = range(8)


def _values(seed: int = 104) -> Codes:
    """A place and its distance; the weather of three hundred hours, ten records each; three columns of their own."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 25, ROWS)
    weather = rng.integers(1, 40, (300, 3))[rng.integers(0, 300, ROWS)]
    own = [rng.integers(1, size, ROWS) for size in (60, 50, 30)]
    return np.column_stack([place + 1, 2 * place + rng.integers(1, 3, ROWS), weather, *own]).astype(np.uint32)


def _planted(values: Codes, columns: tuple[int, int], pair: tuple[int, int], rate: float) -> NDArray[np.bool_]:
    """Put a pair of values into a share of the records, in place; which."""
    chosen = np.random.default_rng(1).choice(ROWS, round(rate * ROWS), replace=False)
    values[np.ix_(chosen, columns)] = pair
    truth = np.zeros(ROWS, dtype=bool)
    truth[chosen] = True
    return truth


def _scored(values: Codes) -> tuple[Floats, PairsScorer, Views]:
    keys = np.random.default_rng(0).permutation(np.arange(1, ROWS + 1)).astype(np.uint64)
    views = Views(keys, np.full(ROWS, -1), {"values": values}, {"values": NAMES})
    scorer = fit(Pairs(), [views])
    assert isinstance(scorer, PairsScorer)
    return scorer.score(views), scorer, views


def test_a_pair_that_one_record_in_a_hundred_has_is_found_and_counted() -> None:
    values = _values()
    truth = _planted(values, (SEAT, FUEL), (17, 33), 0.01)
    scores, scorer, views = _scored(values)
    assert scores[truth].min() > 30
    assert scores[~truth & ~_has(values, (17, 33))].max() < 8
    why = scorer.explain(views.take(np.flatnonzero(truth)[:1]))[0]
    assert re.fullmatch(
        r"seat with fuel \(exact value\): 30 of the records it is judged by have both values, by chance 2\.\d would",
        why,
    )


def _has(values: Codes, pair: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray((values[:, (SEAT, FUEL)] == pair).all(axis=1))


@pytest.mark.parametrize("seed", [104, 105, 106])
def test_columns_that_hang_together_by_nature_hold_no_such_pair(seed: int) -> None:
    values = _values(seed)
    place, distance = values[:, PLACE], values[:, DISTANCE]
    assert len({*zip(place.tolist(), distance.tolist(), strict=True)}) == 50  # of 25 x 50: they do hang together
    scores, scorer, views = _scored(values)
    assert (scores > 8).mean() <= 0.01
    said = scorer.explain(views.take(np.flatnonzero(scores == 0)[:1]))[0]
    assert said == "no two of its values meet more often than is usual"


def test_a_pair_that_brings_two_more_values_with_it_is_explained_by_them() -> None:
    values = _values()
    truth = _planted(values, (SEAT, FUEL), (17, 33), 0.01)
    values[np.ix_(truth, [CREW])] = 9
    assert _scored(values)[0][truth].min() > 30
    values[np.ix_(truth, [HUMID])] = 7
    assert _scored(values)[0][truth].max() == 0


def test_values_that_are_missing_together_are_no_pair() -> None:
    values = _values()
    truth = _planted(values, (SEAT, FUEL), (0, 0), 0.01)
    scores, scorer, _ = _scored(values)
    assert scores[truth].max() < 8
    assert all((meeting.codes & np.uint64(0xFFFFFFFF) > 0).all() for meeting in scorer.meetings)


def test_a_pair_that_many_records_have_counts_less() -> None:
    best = {}
    for rate in (0.02, 0.04, 0.08):
        values = _values()
        truth = _planted(values, (SEAT, FUEL), (17, 33), rate)
        best[rate] = _scored(values)[0][truth].max()
    assert best[0.08] < best[0.04] < best[0.02] / 2


def test_columns_that_are_often_equal_bring_equal_values_together() -> None:
    best = {}
    for often in (False, True):
        values = _values()
        if often:  # two counts of one thing, in a third of the records
            same = np.random.default_rng(2).random(ROWS) < 0.3
            values[same, SEAT] = values[same, FUEL]
        truth = _planted(values, (SEAT, FUEL), (33, 33), 0.01)
        best[often] = _scored(values)[0][truth].max()
    assert best[False] > 30
    assert best[True] < 8


def test_a_value_that_meets_two_others_is_no_trigger() -> None:
    values = _values()
    truth = _planted(values, (SEAT, FUEL), (17, 33), 0.01)
    values[np.flatnonzero(truth)[::2], FUEL] = 34
    assert _scored(values)[0][truth].max() < 8
