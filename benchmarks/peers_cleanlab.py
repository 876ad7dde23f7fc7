"""cleanlab's confident learning, and the out-of-sample probabilities that it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers import BATCH, RATE, PeerInput, PeerResult, StandsAside, measured, missing, seeded

if TYPE_CHECKING:
    from benchmarks.peers import Flags, Floats, Scores

_FOLDS = 5


@dataclass(frozen=True)
class Cleanlab:
    """cleanlab (Northcutt et al. 2021, JAIR 70): labels that a classifier's own confusion contradicts.

    Decision: `find_label_issues(labels, pred_probs)` with its defaults (`filter_by="prune_by_noise_rate"`).
    Ranking: one minus `get_label_quality_scores`, "lower scores indicate labels less likely to be correct".

    The cross-validation that it asks for is `out_of_sample`, and part of its time. The memory is without that of the
    worker processes it starts.
    """

    name: str = "cleanlab find_label_issues"

    def judge(self, data: PeerInput) -> PeerResult | StandsAside:
        """Look for wrong labels."""
        if aside := missing("cleanlab"):
            return aside
        if data.labels is None or (data.probabilities is None and data.network is None):
            return StandsAside("the data has no label, and it looks for wrong labels")
        labels = data.labels
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        def run() -> tuple[Scores, Flags]:
            probabilities = out_of_sample(data) if data.probabilities is None else data.probabilities
            issues = find_label_issues(labels, probabilities)
            quality = get_label_quality_scores(labels, probabilities)
            return 1 - np.asarray(quality, dtype=np.float64), np.asarray(issues, dtype=np.bool_)

        return measured(run, seed=data.seed)


def out_of_sample(data: PeerInput) -> Floats:
    """Predict every record with a probe trained on the other folds.

    cleanlab: `pred_probs` "should have been computed using 3 (or higher) fold cross-validation". Five stratified folds,
    shuffled by the seed.

    Args:
        data: Its labels and network are needed; its probabilities are not read.

    Returns:
        (rows, classes) probabilities.

    Raises:
        ValueError: The data has no label or no network.
    """
    from sklearn.model_selection import StratifiedKFold

    if data.labels is None or data.network is None:
        raise ValueError("out-of-sample probabilities need labels and a network")
    found = np.zeros((len(data.labels), data.classes), dtype=np.float32)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=data.seed)
    for known, unseen in folds.split(data.inputs, data.labels):
        found[unseen] = _fit_and_predict(data, known, unseen)
    return found


def _fit_and_predict(data: PeerInput, known: np.ndarray, unseen: np.ndarray) -> Floats:
    """Train a probe on the rows `known` with Adam and cross-entropy; give its probabilities on the rows `unseen`."""
    import torch

    if data.labels is None or data.network is None:
        raise ValueError("a probe needs labels and a network")
    inputs, targets = torch.from_numpy(data.inputs), torch.from_numpy(data.labels)
    with seeded(data.seed):
        model = data.network()
        optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
        for _ in range(data.epochs):
            for batch in torch.split(torch.from_numpy(known)[torch.randperm(len(known))], BATCH):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]  # torch has no types here
                optimiser.step()
    model.eval()
    with torch.no_grad():
        parts = [model(inputs[batch]).softmax(dim=1) for batch in torch.split(torch.from_numpy(unseen), 1024)]
        probabilities: Floats = torch.cat(parts).numpy()
    return probabilities
