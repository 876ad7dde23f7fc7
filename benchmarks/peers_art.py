"""The Adversarial Robustness Toolbox's two filters of poisoned training data.

Both read the last hidden layer of a classifier trained on the suspected data. Of a `torch.nn.Sequential` the toolbox
takes the last module, which is the output layer; its own warning speaks of "activations in last hidden layer". So the
probe is handed over with its output layer registered first: the last layer is then the last hidden one, what both
papers use. It is trained once on each batch, for all of them; the time that took counts for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers import BATCH, RATE, PeerInput, PeerResult, StandsAside, made_once, measured, missing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.peers import Flags, Floats, Scores

_CLUSTERS, _DIMENSIONS = 2, 10  # ActivationDefence's documented defaults

NO_LABEL = StandsAside("the data has no label, and its classifier is trained on labels")


class HiddenLast(nn.Module):
    """The probe as it is, with its last hidden layer in the place where the toolbox looks for it."""

    def __init__(self, probe: nn.Sequential) -> None:
        super().__init__()
        self.output = probe[-1]
        self.hidden = probe[:-1]

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Give the (rows, classes) logits."""
        logits: torch.Tensor = self.output(self.hidden(rows))
        return logits


@dataclass(frozen=True)
class ActivationClustering:
    """ART `ActivationDefence` (Chen et al. 2018, arXiv:1811.03728): two clusters of activations in every class.

    Decision: `detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA", cluster_analysis=...)`, its documented defaults.
    "smaller", the default, flags the smaller cluster of every class; "silhouette-scores" flags it where it holds less
    than 35 % of the class and the clusters' mean silhouette is above 0.1.

    Departure: with "silhouette-scores" the decision is read from the report, which is as documented. Of a suspicious
    class, `is_clean` (1.20.1) leaves the records of the larger cluster uninitialised, which as a rule flags them too.

    Ranking: the toolbox gives none. Derived from its clusters: flagged records before others; then by the share of
    its class that is *not* in the record's cluster; within a cluster, by how much nearer the record lies to the centre
    of the smaller cluster than to the other's, in the space the toolbox clustered in.
    """

    analysis: str

    @property
    def name(self) -> str:
        """The method with its cluster analysis."""
        return f"ART Activation Clustering, {self.analysis}"

    def judge(self, data: PeerInput) -> PeerResult | StandsAside:
        """Train the classifier, cluster, decide."""
        if aside := missing("art"):
            return aside
        if data.labels is None or data.network is None:
            return NO_LABEL
        labels = data.labels
        fewest = int(np.bincount(labels, minlength=data.classes).min())
        if fewest < _DIMENSIONS:
            return StandsAside(f"its PCA needs {_DIMENSIONS} records of every class; one class has {fewest}")
        from art.defences.detector.poison import ActivationDefence

        trained = made_once(data, "art classifier", lambda: _classifier(data))

        def run() -> tuple[Scores, Flags]:
            defence = ActivationDefence(trained.thing, data.inputs, _one_hot(labels, data.classes))
            report, is_clean = defence.detect_poison(
                nb_clusters=_CLUSTERS, nb_dims=_DIMENSIONS, reduce="PCA", cluster_analysis=self.analysis
            )
            flagged = np.asarray(is_clean) == 0
            if self.analysis == "silhouette-scores":
                flagged = _reported(report, defence.clusters_by_class, labels)
            return _cluster_ranking(defence, labels, flagged), flagged

        return measured(run, seed=data.seed, shared=trained)


@dataclass(frozen=True)
class SpectralSignatures:
    """ART `SpectralSignatureDefense` (Tran et al. 2018, arXiv:1811.00636), told the true share of poisons.

    Decision: `detect_poison()` with `expected_pp_poison` and the documented `eps_multiplier=1.5`: of every class, the
    records at or above the 1 - 1.5 * expected_pp_poison quantile of its scores.

    Ranking: its scores. Its report holds those of flagged records only, so all are asked of its public
    `spectral_signature_scores`, class by class as it does. They are compared across classes as they are.
    """

    name: str = "ART Spectral Signatures (told the true rate)"

    def judge(self, data: PeerInput) -> PeerResult | StandsAside:
        """Train the classifier, score, decide."""
        if aside := missing("art"):
            return aside
        if data.labels is None or data.network is None:
            return NO_LABEL
        labels = data.labels
        from art.defences.detector.poison import SpectralSignatureDefense

        trained = made_once(data, "art classifier", lambda: _classifier(data))
        classifier = trained.thing

        def run() -> tuple[Scores, Flags]:
            defence = SpectralSignatureDefense(
                classifier,
                data.inputs,
                _one_hot(labels, data.classes),
                expected_pp_poison=data.poison_rate,
                batch_size=128,
                eps_multiplier=1.5,
            )
            _, is_clean = defence.detect_poison()
            activations = classifier.get_activations(data.inputs, layer=len(classifier.layer_names) - 1, batch_size=128)
            scores = np.zeros(len(labels))
            for label in np.unique(labels):
                here = labels == label
                scores[here] = defence.spectral_signature_scores(activations[here])[:, 0]
            return scores, np.asarray(is_clean) == 0

        return measured(run, seed=data.seed, shared=trained)


def _classifier(data: PeerInput) -> Any:  # noqa: ANN401  the toolbox has no types
    """The toolbox's wrapper of the probe, trained by its own `fit` on the suspected data."""
    from art.estimators.classification import PyTorchClassifier

    if data.network is None or data.labels is None:
        raise ValueError("a classifier needs a network and labels")
    model = HiddenLast(data.network())
    classifier = PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=RATE),
        input_shape=data.inputs.shape[1:],
        nb_classes=data.classes,
        device_type="cpu",
    )
    classifier.fit(data.inputs, _one_hot(data.labels, data.classes), batch_size=BATCH, nb_epochs=data.epochs)
    return classifier


def _one_hot(labels: NDArray[np.int64], classes: int) -> Floats:
    """The (rows, classes) labels that the toolbox's examples use."""
    return np.eye(classes, dtype=np.float32)[labels]


def _reported(report: dict[str, Any], clusters_by_class: list[NDArray[np.int32]], labels: NDArray[np.int64]) -> Flags:
    """Flag the clusters below the size threshold in the classes that the report of the silhouettes calls suspicious."""
    flagged = np.zeros(len(labels), dtype=np.bool_)
    for label, clusters in enumerate(clusters_by_class):
        if report[f"class_{label}"]["suspicious"]:
            shares = np.round(np.bincount(clusters) / len(clusters), 2)  # the toolbox compares rounded shares
            flagged[labels == label] = (shares < float(report["size_threshold"]))[clusters]
    return flagged


def _cluster_ranking(defence: Any, labels: NDArray[np.int64], flagged: Flags) -> Scores:  # noqa: ANN401  no types
    """Rank records by what `ActivationDefence` keeps of its clusters; equal records get equal ranks.

    `clusters_by_class[c]` is the (rows of c,) cluster of each record of class c, in the order of the data, and
    `red_activations_by_class[c]` their (rows of c, 10) reduced activations.
    """
    keys = np.zeros((len(labels), 3))
    keys[:, 0] = flagged
    for label in np.unique(labels):
        here = labels == label
        clusters, reduced = defence.clusters_by_class[label], defence.red_activations_by_class[label]
        sizes = np.bincount(clusters, minlength=_CLUSTERS)
        if not sizes.all():
            continue  # every record has the same activations: one cluster, nothing to rank
        small = int(np.argmin(sizes))
        distance = [np.linalg.norm(reduced - reduced[clusters == one].mean(axis=0), axis=1) for one in range(_CLUSTERS)]
        keys[here, 1] = 1 - sizes[clusters] / sizes.sum()
        keys[here, 2] = distance[1 - small] - distance[small]
    _, ranks = np.unique(keys, axis=0, return_inverse=True)
    return ranks.reshape(-1).astype(np.float64)
