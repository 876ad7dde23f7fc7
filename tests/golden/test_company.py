"""Records that are each a little odd are found where they lie together; odd ones that lie apart are no company."""

from __future__ import annotations

import numpy as np
import pytest

from lazaretto.detector import Views, fit
from lazaretto.detectors.class_scale import ClassScale
from lazaretto.detectors.company import Company

RECORDS, GROUP = 500, 25
Rows = np.ndarray[tuple[int], np.dtype[np.intp]]


def _views(*, together: bool) -> tuple[Views, Rows]:
    """Two classes, the second harder; some records of the first, a little odder, in one place or anywhere in it."""
    rng = np.random.default_rng(104)
    labels = np.repeat([0, 1], RECORDS)
    hidden = np.abs(rng.normal(size=(2 * RECORDS, 16))) + 3 * np.eye(2)[labels] @ rng.random((2, 16))
    oddity = rng.gamma(2.0, np.where(labels == 1, 0.3, 0.15))
    mine = rng.choice(RECORDS, GROUP, replace=False)
    oddity[mine] += 0.4
    if together:
        hidden[mine] += 4 * (np.arange(16) < 4)
    views = Views(rng.permutation(2 * RECORDS).astype(np.uint64), labels, {"hidden": hidden, "oddity": oddity})
    return views, mine


def _scores(views: Views) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(rows,) beside what is usual of the class, each by the half that the record is not in."""
    raw = np.empty(len(views))
    for half in (0, 1):
        inside = views.keys % 2 == half
        raw[inside] = fit(Company(nearest=10, classes=2), [views.take(~inside)]).score(views.take(inside))
    return ClassScale.of(raw, views.labels, 2)(raw, views.labels)


def test_records_a_little_odd_are_found_where_they_lie_together() -> None:
    views, group = _views(together=True)
    scores = _scores(views)
    others = np.setdiff1d(np.arange(2 * RECORDS), group)
    limit = np.quantile(scores[others], 0.99)
    assert (scores[group] > limit).mean() >= 0.95
    # One by one they are within what is usual of all.
    assert (views["oddity"][group] > np.quantile(views["oddity"][others], 0.99)).mean() < 0.2
    # The harder class has not more of the odd company than its share.
    assert (scores[others] > limit)[views.labels[others] == 1].mean() < 0.02


def test_the_same_records_apart_from_each_other_are_no_company() -> None:
    views, group = _views(together=False)
    scores = _scores(views)
    others = np.setdiff1d(np.arange(2 * RECORDS), group)
    assert (scores[group] > np.quantile(scores[others], 0.99)).mean() < 0.2


def test_a_record_is_not_its_own_company() -> None:
    views, _ = _views(together=False)
    scorer = fit(Company(classes=2), [views])
    before = scorer.score(views)
    louder = Views(views.keys, views.labels, {**views.arrays, "oddity": np.full(2 * RECORDS, 9.0)})
    np.testing.assert_array_equal(scorer.score(louder), before)


def test_a_class_too_small_to_compare_says_nothing_and_says_so() -> None:
    views, _ = _views(together=True)
    few = views.take(np.arange(RECORDS - 5, 2 * RECORDS))
    scorer = fit(Company(classes=1), [Views(few.keys, few.labels, few.arrays, {}, ("a", "b"))])
    assert (scorer.score(few)[:5] == 0).all()
    assert scorer.explain(few.take(np.arange(1))) == [
        "there are too few labels, or records of its own, to compare it with"
    ]
    assert scorer.explain(few.take(np.array([9])))[0].startswith("of the 20 records labelled 'b' that a small model")


def test_of_few_classes_nobody_can_say_what_company_is_usual() -> None:
    views, _ = _views(together=True)
    assert (fit(Company(), [views]).score(views) == 0).all()


def test_poisons_of_less_than_half_a_class_do_not_move_what_is_usual_of_it() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2, 3], [200, 200, 200, 5])
    scores = rng.normal(np.array([0.0, 1.0, 2.0, 0.0])[labels], 0.1)
    clean = ClassScale.of(scores, labels, 5)
    poisoned = scores.copy()
    poisoned[:60] += 5
    moved = ClassScale.of(poisoned, labels, 5)
    np.testing.assert_allclose(clean.usual[:3], [0, 1, 2], atol=0.03)
    np.testing.assert_allclose(moved.usual[1:3], clean.usual[1:3])
    assert moved.usual[0] < 0.1
    # Classes with next to no records have what the others have.
    assert clean.usual[3] == clean.usual[4] == pytest.approx(1, abs=0.03)
    assert (moved(poisoned, labels)[:60] > 20).all()
    unknown = clean(np.array([np.nan, 1.0]), np.array([-1, 1]))
    assert np.isnan(unknown[0])
    assert abs(unknown[1]) < 1
    assert (ClassScale.of(np.full(10, np.nan), labels[:10], 2).spread == 1).all()
