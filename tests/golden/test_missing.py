"""Values left out together on purpose are found, with and without a label; what is missing by nature is not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.contract import parse_contract
from lazaretto.detector import UNKNOWN_LABEL, Views, fit
from lazaretto.detectors.missing import Missingness, Tree
from lazaretto.detectors.views.encode import Encoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]

ROWS = 4_000
NAMES = ("temp", "wind", "gust", "year", "seats", "visib")


def _absent(seed: int = 104) -> Flags:
    """Of one record in ten the weather is missing together, of one in seven what is known of the plane."""
    rng = np.random.default_rng(seed)
    weather, plane = rng.random((2, ROWS, 1)) < np.array([0.1, 0.15])[:, None, None]
    absent = np.concatenate([np.repeat(weather, 3, axis=1), np.repeat(plane, 2, axis=1)], axis=1)
    return np.column_stack([absent, rng.random(ROWS) < 0.01]) & (rng.random((ROWS, 6)) < 0.98)


def _views(absent: Flags, labels: NDArray[np.int64] | None = None) -> Views:
    keys = np.random.default_rng(0).permutation(np.arange(1, ROWS + 1)).astype(np.uint64)
    given = np.full(ROWS, UNKNOWN_LABEL) if labels is None else labels
    classes = () if labels is None else ("late", "on_time")
    return Views(keys, given, {"missing": absent}, {"missing": NAMES}, classes)


def _planted() -> Flags:
    return np.random.default_rng(1).permutation(np.arange(ROWS) < ROWS // 100)


def test_two_values_that_are_never_missing_together_are_found_without_a_label() -> None:
    absent, truth = _absent(), _planted()
    absent[truth] = np.array([0, 0, 1, 1, 0, 0], dtype=bool)
    scores = fit(Missingness(), [views := _views(absent)]).score(views)
    limit = np.quantile(scores[~truth], 0.99)
    assert (scores[truth] > limit).all()


def test_a_pattern_that_means_a_label_is_found_by_the_label_though_it_is_not_rare() -> None:
    absent, truth = _absent(), _planted()
    labels = (np.random.default_rng(2).random(ROWS) < 0.75).astype(np.int64)
    absent[truth], labels[truth] = np.array([0, 0, 0, 0, 0, 1], dtype=bool), 0
    same = (absent == absent[truth][0]).all(axis=1)
    views = _views(absent, labels)
    scores, unlabelled = (fit(Missingness(), [v]).score(v) for v in (views, _views(absent)))
    assert scores[truth].min() > scores[same & ~truth & (labels == 1)].max()
    assert (scores - unlabelled)[truth].min() > 0.5
    why = fit(Missingness(), [views]).explain(views.take(np.flatnonzero(truth)[:1]))[0]
    assert re.search(r"missing: visib, .*; \d+ of \d+ such records are labelled 'late', 2\d% of all", why)


def test_the_clean_twin_raises_nothing_above_what_its_rarest_patterns_are() -> None:
    absent = _absent()
    labels = (np.random.default_rng(2).random(ROWS) < 0.75).astype(np.int64)
    scores, unlabelled = (fit(Missingness(), [v]).score(v) for v in (_views(absent, labels), _views(absent)))
    assert np.quantile(scores, 0.9) < 6
    assert ((scores - unlabelled) > 1).mean() < 0.01


def test_a_pattern_that_is_how_the_data_are_made_hardly_counts_whatever_it_means() -> None:
    absent = _absent()
    absent[:, 5] = np.arange(ROWS) % 2 == 0
    labels = (np.arange(ROWS) % 2).astype(np.int64)  # who was not examined is of class 0, always
    views = _views(absent, labels)
    scores = fit(Missingness(), [views]).score(views)
    assert np.median(scores) < 2


def test_the_tree_gives_every_pattern_of_few_columns_its_frequency_where_they_hang_in_a_chain() -> None:
    absent = _absent()[:, [0, 3]]
    tree = Tree.fit(absent, smoothing=1e-9)
    chance = np.exp(-tree.surprises(absent).sum(axis=1))
    for pattern in np.unique(absent, axis=0):
        same = (absent == pattern).all(axis=1)
        assert chance[same] == pytest.approx(same.mean())


def test_the_view_is_of_all_columns_and_there_only_where_two_have_gaps() -> None:
    columns = "".join(f"  {name}: {{type: number, nullable: true}}\n" for name in "abc")
    contract = parse_contract(f"dataset: d\ncolumns:\n{columns}", "d.yaml")
    frame = pl.DataFrame({"a": [1.0, None] * 20, "b": [None, *range(39)], "c": list(range(40))}).cast(pl.Float64)
    _, arrays, names = Encoder.fit(frame, contract, 0, torch.device("cpu"))
    assert names["missing"] == ("a", "b", "c")
    assert np.array_equal(arrays["missing"], frame.select(pl.all().is_null()).to_numpy())
    _, arrays, _ = Encoder.fit(frame.with_columns(b=pl.col("c")), contract, 0, torch.device("cpu"))
    assert "missing" not in arrays
