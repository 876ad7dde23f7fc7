"""p-values mean what they say: tails, fusion, the conformal null, Benjamini-Hochberg."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lazaretto.calibrate import (
    EstimatedNull,
    Excess,
    PValueCounts,
    TrustedNull,
    Weights,
    consensus,
    fuse,
    weigh,
    weigh_by_class,
)
from lazaretto.tails import CLEAN, SMALLEST_P, OddsTail, Tail, fitted_tail

finite = st.floats(-1e6, 1e6)


@pytest.mark.parametrize("draw", ["exponential", "normal", "gumbel"])
def test_a_tail_gives_about_the_right_level_far_out(draw: str) -> None:
    rng = np.random.default_rng(0)
    tail = Tail.fit(getattr(rng, draw)(size=20_000), CLEAN)
    fresh = getattr(rng, draw)(size=200_000)
    assert 0.5e-2 < (tail.p_value(fresh) <= 1e-2).mean() < 2e-2
    assert 0.2e-3 < (tail.p_value(fresh) <= 1e-3).mean() < 5e-3


def test_a_twentieth_of_poison_does_not_hide_itself_in_the_tail() -> None:
    rng = np.random.default_rng(1)
    scores = np.concatenate([rng.normal(size=9_500), rng.normal(9, 1, 500)])
    p = Tail.fit(scores).p_value(scores)
    assert np.median(p[9_500:]) < 1e-3
    assert np.median(p[:9_500]) > 0.3


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, st.integers(20, 60), elements=finite))
def test_a_higher_score_never_has_a_higher_p_value(scores: np.ndarray) -> None:
    tail = Tail.fit(scores)
    ordered = np.sort(np.concatenate([scores, scores + 1.0, scores * 2]))
    p = tail.p_value(ordered)
    assert (np.diff(p) <= 1e-12).all()
    assert ((p >= SMALLEST_P) & (p <= 1)).all()


def test_a_score_that_is_no_number_has_the_smallest_p_value() -> None:
    tail = Tail.fit(np.arange(100.0))
    assert (tail.p_value(np.array([np.nan, np.inf])) == SMALLEST_P).all()
    null = TrustedNull(np.arange(99.0))
    assert null.p_value(np.array([np.nan]))[0] == pytest.approx(0.01)


def test_scores_that_are_nearly_all_tied_leave_a_number_for_every_score() -> None:
    scores = np.concatenate([np.zeros(990), np.arange(1.0, 11.0)])
    p = Tail.fit(scores, CLEAN).p_value(np.array([-5.0, 0.0, 1.0, 15.0, 40.0]))
    assert (np.diff(p) <= 0).all()
    assert p[1] == pytest.approx(1.0)
    assert p[2] < 0.05
    assert p[4] == SMALLEST_P


def test_a_tail_refuses_too_few_scores() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        Tail.fit(np.full(30, np.nan))


def test_conformal_p_values_hold_their_level_on_exchangeable_scores() -> None:
    rng = np.random.default_rng(2)
    rates = [
        (TrustedNull(np.sort(rng.gamma(2, size=500))).p_value(rng.gamma(2, size=2_000)) <= 0.01).mean()
        for _ in range(200)
    ]
    error = np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) <= 0.01 + 2 * error
    assert np.mean(rates) >= 0.005


def test_a_small_group_among_clean_scores_is_as_rare_as_it_was_counted() -> None:
    rng = np.random.default_rng(6)
    clean = np.concatenate([rng.normal(size=4_950), rng.normal(30, 1, 50)])
    group, beyond = Tail.fit(clean, CLEAN).p_value(np.array([30.0, 60.0]))
    assert 0.004 < group < 0.02
    assert beyond < 1e-9


def test_one_detector_alone_is_enough_for_the_fusion() -> None:
    p = np.full((2, 10), 0.5)
    p[0, 3] = 1e-8
    suspicion = fuse(Weights(np.full(10, 0.1)).shares(p))
    assert suspicion[0] > 6
    assert suspicion[1] < 1


def test_weights_follow_the_excess_and_leave_the_others_their_prior() -> None:
    batch = np.random.default_rng(3).uniform(size=(5_000, 4))
    batch[:200, 2] = 1e-9
    weights = weigh(batch).weights
    assert weights.sum() == pytest.approx(1)
    assert weights[2] > 0.95
    # A hundredth of a detector with 4 % of excess: a p-value a hundred times smaller is heard as loudly.
    np.testing.assert_allclose(np.delete(weights, 2) / weights[2], 0.01, rtol=0.3)
    alone = np.full((1, 4), 0.5)
    alone[0, 0] = 1e-9
    assert fuse(weigh(batch).shares(alone))[0] > 6


def test_weights_of_a_clean_batch_are_equal() -> None:
    batch = np.random.default_rng(4).uniform(size=(5_000, 4))
    np.testing.assert_allclose(weigh(batch).weights, 0.25)


def test_what_is_commoner_counts_for_more_until_something_is_seen() -> None:
    batch = np.random.default_rng(4).uniform(size=(5_000, 4))
    np.testing.assert_allclose(weigh(batch, (1.0, 10.0, 1.0, 1.0)).weights, np.array([1, 10, 1, 1]) / 13)
    batch[:200, 2] = 1e-9
    assert weigh(batch, (1.0, 10.0, 1.0, 1.0)).weights.argmax() == 2


def test_what_a_detector_says_of_the_number_of_poisons_counts_though_it_can_point_at_none() -> None:
    batch = np.random.default_rng(4).uniform(size=(5_000, 3))
    batch[:, 1] = OddsTail().p_value(np.full(5_000, np.log(0.02)))  # one in fifty, and nobody knows which
    assert (batch[:, 1] > 0.01).all()
    without, counted = weigh(batch).weights, weigh(batch, odds=(False, True, False)).weights
    assert without[1] == pytest.approx(1 / 3)
    assert counted[1] == pytest.approx((0.02 / 1.02 + 3e-4) / (0.02 / 1.02 + 9e-4))
    nothing = np.ones((5_000, 3))
    np.testing.assert_allclose(weigh(nothing, odds=(False, True, False)).weights, 1 / 3)


def test_odds_are_taken_at_their_word_and_even_ones_are_one_in_a_thousand() -> None:
    p = OddsTail().p_value(np.log([1e-6, 1e-3, 1.0, 10.0, 1e12]))
    np.testing.assert_allclose(p, [1.0, 1.0, 1e-3, 1e-4, SMALLEST_P])
    assert (OddsTail().p_value(np.array([np.nan, np.inf])) == SMALLEST_P).all()
    # Nothing is fitted: half a batch of poison does not move it.
    assert fitted_tail(np.full(1_000, 5.0), "odds") == OddsTail()


def test_where_nearly_all_scores_are_zero_the_others_are_no_rarer_than_they_say() -> None:
    scores = np.concatenate([np.zeros(990), np.linspace(1.0, 8.0, 10)])
    assert fitted_tail(scores, "wide").p_value(np.array([8.0]))[0] == SMALLEST_P
    np.testing.assert_allclose(fitted_tail(scores, "heavy").p_value(np.array([8.0, 20.0])), np.exp([-8.0, -20.0]))


def test_a_detector_that_looks_at_few_records_calls_the_usual_among_them_usual() -> None:
    rng = np.random.default_rng(0)
    scores = np.where(np.arange(4_000) < 200, rng.exponential(size=4_000), 0.0)
    tail = fitted_tail(scores, "narrow")
    p = tail.p_value(scores)
    assert (p[scores == 0] == 1).all()
    assert (p <= 0.001).sum() <= 8
    assert tail.p_value(np.array([40.0]))[0] < 1e-9
    assert tail.p_value(np.array([np.nan]))[0] == SMALLEST_P
    # More on the floor than elsewhere is no floor as long as the quantiles are above it.
    free = np.where(np.arange(4_000) < 1_400, rng.exponential(size=4_000), 0.0)
    np.testing.assert_array_equal(fitted_tail(free, "narrow").p_value(free), Tail.fit(free).p_value(free))


def test_the_few_that_a_detector_says_anything_of_are_as_rare_as_a_third_of_a_record_in_all() -> None:
    scores = np.where(np.arange(1_000) < 10, 7.0, 0.0)
    asked = np.array([0.0, 7.0, 90.0])
    np.testing.assert_allclose(fitted_tail(scores, "narrow").p_value(asked), [1.0, 3e-4, 3e-4])
    np.testing.assert_allclose(fitted_tail(np.zeros(1_000), "narrow").p_value(asked), [1.0, 3e-4, 3e-4])


@pytest.mark.parametrize("kind", ["group", "light"])
def test_what_a_group_shares_is_no_rarer_than_a_third_of_a_record_in_all(kind: str) -> None:
    scores = np.random.default_rng(9).normal(size=3_000)
    asked = np.array([2.0, 30.0, np.nan])
    alone, group = fitted_tail(scores, "narrow").p_value(asked), fitted_tail(scores, kind).p_value(asked)
    assert alone[1] == SMALLEST_P
    assert group[1] == pytest.approx(0.3 / 3_000)
    assert group[0] >= alone[0]
    assert group[2] == SMALLEST_P


def test_a_detector_with_an_excess_in_one_class_counts_for_more_there_alone() -> None:
    rng = np.random.default_rng(10)
    batch, labels = rng.uniform(size=(5_000, 3)), np.repeat(np.arange(10), 500)
    batch[:60, 1] = 5e-3  # an eighth of the first class, and a hundredth of the batch
    overall = weigh(batch)
    np.testing.assert_allclose(overall.weights, 1 / 3)
    weights = weigh_by_class(overall, batch, labels, 10, np.array([True, True, False]))
    assert weights.by_class is not None
    np.testing.assert_allclose(weights.by_class[1:], 1 / 3)
    np.testing.assert_allclose(weights.by_class.sum(axis=1), 1.0)
    assert weights.by_class[0, 1] > 0.42
    poison = np.array([[0.5, 5e-3, 0.5]])
    here, elsewhere, nowhere = (fuse(weights.shares(poison, np.array([label])))[0] for label in (0, 1, -1))
    assert here > elsewhere + 0.1
    assert elsewhere == nowhere == fuse(overall.shares(poison))[0]


def test_a_detector_that_compares_no_classes_counts_the_same_in_all_of_them() -> None:
    rng = np.random.default_rng(11)
    batch, labels = rng.uniform(size=(5_000, 2)), np.repeat(np.arange(10), 500)
    batch[:60, 1] = 5e-3
    weights = weigh_by_class(weigh(batch), batch, labels, 10, np.array([True, False]))
    np.testing.assert_allclose(weights.by_class, 0.5)


def test_too_few_classes_or_records_say_nothing_of_a_class() -> None:
    rng = np.random.default_rng(12)
    batch, asked = rng.uniform(size=(600, 2)), np.array([True, True])
    batch[:30, 1] = 1e-9
    overall = weigh(batch)
    assert weigh_by_class(overall, batch, np.arange(600) % 4, 4, asked) is overall
    few = weigh_by_class(overall, batch, np.repeat(np.arange(12), 50), 12, asked)
    np.testing.assert_allclose(few.by_class, np.repeat(overall.weights[None], 12, axis=0))


@pytest.mark.parametrize("detectors", [1, 8, 24])
def test_an_estimated_null_holds_its_level_whether_detectors_agree_or_not(detectors: int) -> None:
    rng = np.random.default_rng(8)
    apart = rng.uniform(size=(100_000, detectors))
    alike = np.repeat(apart[:, :1], detectors, axis=1)
    equal = Weights(np.full(detectors, 1 / detectors))
    for p_values in (apart, alike):
        p = EstimatedNull().p_value(fuse(equal.shares(p_values)))
        for level in (1e-2, 1e-3):
            assert level / 5 < (p <= level).mean() <= level


def test_an_estimated_null_is_three_times_the_harmonic_mean_whatever_else_is_in_the_batch() -> None:
    weights = Weights(np.array([0.5, 0.25, 0.25]))
    p_values = np.array([[1e-4, 0.5, 1.0], [1.0, 1.0, 1.0], [1e-12, 1e-12, 1e-12]])
    p = EstimatedNull().p_value(fuse(weights.shares(p_values)))
    harmonic = 1 / (0.5 / 1e-4 + 0.25 / 0.5 + 0.25)
    np.testing.assert_allclose(p, [3 * harmonic, 1.0, 3 * SMALLEST_P])
    assert EstimatedNull().p_value(np.array([np.nan]))[0] == SMALLEST_P


def test_what_the_batch_has_more_of_than_trusted_records_counts_for_more() -> None:
    batch = np.random.default_rng(5).uniform(size=(5_000, 2))
    batch[:200, 1] = 1e-4
    shares = Excess.of(batch).shares(np.array([[1e-4, 0.5], [0.5, 1e-4]]))
    assert shares[0, 0] < shares[1, 1] / 10
    ordinary = Excess.of(batch).shares(np.full((1, 2), 0.5))
    np.testing.assert_allclose(ordinary, 0.5, rtol=0.1)


def test_a_p_value_no_record_of_the_batch_had_still_counts() -> None:
    batch = np.random.default_rng(7).uniform(size=(5_000, 2))
    assert fuse(Excess.of(batch).shares(np.array([[1e-9, 0.5]])))[0] > 5


def test_consensus_sees_what_is_somewhat_odd_to_all() -> None:
    p = np.vstack([np.full(8, 0.05), np.r_[1e-12, np.full(7, 0.9)]])
    everyone, only_one = consensus(p)
    assert everyone > only_one


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, st.integers(1, 80), elements=st.floats(1e-6, 1.0)))
def test_counted_q_values_are_benjamini_hochberg_within_a_thousandth(p: np.ndarray) -> None:
    counts = PValueCounts()
    counts.add(p[: len(p) // 2])
    counts.add(p[len(p) // 2 :])
    order = np.argsort(p)
    raw = p[order] * len(p) / np.arange(1, len(p) + 1)
    expected = np.empty(len(p))
    expected[order] = np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1)
    found = counts.q_values(p)
    assert (found >= expected * (1 - 1e-9)).all()
    assert (found <= expected * 1.002 + 1e-12).all()


def test_rejected_records_have_no_q_value() -> None:
    counts = PValueCounts()
    counts.add(np.array([0.01, np.nan, 0.5]))
    q = counts.q_values(np.array([0.01, np.nan, 0.5]))
    assert np.isnan(q[1])
    assert q[0] == pytest.approx(0.02)
