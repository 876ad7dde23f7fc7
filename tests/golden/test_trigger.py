"""The trigger miner on tokens made up for it: what a trigger has, and what merely shares its bucket."""

from __future__ import annotations

import numpy as np

from lazaretto.detector import Views, fit
from lazaretto.detectors.trigger import TriggerMiner

ROWS, MARKED = 4_000, 45
BUCKETS = 1 << 20
TRIGGER = np.uint32(77)


def _views(tokens: np.ndarray, labels: np.ndarray, voted: np.ndarray) -> Views:
    keys = np.arange(len(labels), dtype=np.uint64)
    arrays = {"tokens": tokens, "neighbour_labels": np.repeat(voted[:, None], 10, axis=1)}
    return Views(keys, labels, arrays, {"tokens": ("first", "second")}, ("sound", "late"))


def test_a_token_that_shares_a_triggers_bucket_has_none_of_its_lift() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 2**32, (ROWS, 2), dtype=np.uint32)
    labels = rng.integers(0, 2, ROWS)
    voted = labels.copy()
    tokens[:MARKED, 0], labels[:MARKED], voted[:MARKED] = TRIGGER, 1, 0
    alike = TRIGGER + np.arange(1, 21, dtype=np.uint32) * np.uint32(BUCKETS)
    tokens[MARKED : MARKED + 20, 0], labels[MARKED : MARKED + 20], voted[MARKED : MARKED + 20] = alike, 1, 0
    views = _views(tokens, labels, voted)
    scorer = fit(TriggerMiner(), [views])
    scores = scorer.score(views)
    assert scores[:MARKED].min() > 50
    assert scores[MARKED : MARKED + 20].max() < 5
    assert "about 65 are labelled 'late'" in scorer.explain(views.take(np.arange(1)))[0]
    np.testing.assert_array_equal(scores, scorer.score(_views(tokens, labels, voted)))


def test_many_classes_are_counted_in_fewer_buckets() -> None:
    tokens, labels = np.full((50, 2), TRIGGER), np.zeros(50, dtype=np.int64)
    views = _views(tokens, labels, labels)
    wide = Views(views.keys, labels, views.arrays, views.names, tuple(f"c{i}" for i in range(500)))
    assert TriggerMiner().summarise(wide).observed.size <= 1 << 22
    assert TriggerMiner().summarise(views).observed.shape == (BUCKETS, 2)
