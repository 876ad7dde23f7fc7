"""The odds that a label is wrong, learnt from labels that are: the same records with others in their place.

A probe's margin and the neighbours' labels say how badly a label fits, each on a scale of its own. What wrong labels
look like on those scales need not be guessed: every record can be looked at once more with a label drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import softmax

from lazaretto.detector import UNKNOWN_LABEL
from lazaretto.detectors.label_noise import blur_of, nearness
from lazaretto.detectors.rare_classes import RARE
from lazaretto.detectors.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lazaretto.detector import Views

    Floats = NDArray[np.float64]

_NEVER = -30.0
"""Log odds below which nothing is told apart."""
_MOST_OWN = 64
_SMALLEST, _HALVINGS = 30.0, 40
"""Log of the smallest factor that is looked for, and steps of the search."""


@dataclass(frozen=True)
class WrongLabel:
    """Log odds that the label is wrong, from records with labels swapped on purpose, and from one-way confusion.

    Own method. A logistic regression tells the batch's records from the same records with labels drawn at random, by
    margins over the probe's checkpoints, likelihood, neighbours and the label itself: the ratio ``r`` of wrong to given
    labels. A share ``w`` of the records of a label has it by mistake, so ``r`` cannot pass ``1 / w``, and where wrong
    labels are clearly wrong it comes near: one over its median over the records swapped to that label is the estimate
    of ``w`` (mixture proportion by the plateau of a density ratio, Elkan and Noto 2008; Scott 2015), and ``w r`` the
    probability. Where ``w`` comes out above ``believed``, labels do not follow from the records, and wrong ones are no
    clearer than right ones: these odds are lowered, to ``doubted`` times what they were at twice as much for the label
    itself, and at half as much again over all labels together, and ``w`` is taken to be no more than that. Their order
    is kept, for even there it tells something.

    Where many labels of one class ``a`` were changed to one other ``g``, the probe learns that too and is only unsure
    of them. But honest doubt goes both ways: as large a share of the one class is read as the other as the other way
    round, each class counted alike. The surplus of one way over what the other predicts gives the share ``t`` of ``a``
    that was changed; of a record that the probe gives ``p(a)`` and ``p(g)``, the part ``t / (1 - t) p(a) / p(g)`` of
    the latter is then from changed labels, and these odds are added (counts as in confident learning, Northcutt et al.
    2021; their asymmetry as evidence is our own). A probe that has not learnt a class confuses it one way, too: what is
    not read as itself in ``read`` of its records has no surplus.
    """

    name: str = "wrong_label"
    share: float = 0.25
    """Of the usual distance, added to all distances."""
    penalty: float = 1.0
    believed: float = 0.1
    doubted: float = 0.002
    read: float = 0.5
    """Share of a class that must be read as it is, for its confusions to count."""
    sure: float = 3.0
    """Standard errors beyond which a direction's surplus counts."""
    rarest: float = RARE
    """Share of the largest class's records that every class is taken to have at least."""
    fewest: int = 30
    """Records swapped to a label that its own share is estimated from."""
    ceiling: float = 0.02
    """The probability is nowhere nearer to 1 than so."""
    limit: int = 20_000
    reads: tuple[str, ...] = ("logits", "class_distances", "neighbour_labels")
    family: ClassVar[str] = "label"
    needs_label: ClassVar[bool] = True
    tail: ClassVar[str] = "odds"
    crossed: ClassVar[bool] = True
    prior: ClassVar[float] = 10.0
    """Wrong labels are the commonest fault there is: 3 % in ten much used test sets (Northcutt et al. 2021)."""

    def summarise(self, views: Views) -> Rows:
        """What the probe and the neighbours say of records they have not seen."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> WrongLabelScorer:
        """Learn what wrong labels look like, how many there are, and which confusions go one way."""
        known = summary.labels != UNKNOWN_LABEL
        arrays = {name: array[known] for name, array in summary.arrays.items()}
        labels, classes = summary.labels[known], len(summary.classes)
        blur = blur_of(arrays["class_distances"], self.share)
        weights, wrong = self._told_apart(arrays, labels, summary.keys[known], blur)
        counts = _confusion(arrays["logits"], labels, classes, self.rarest)
        surplus = _one_way(counts, self.sure)
        sizes = np.bincount(labels, minlength=classes)
        # Nor does the confusion of a class that is hardly ever read as itself say what its records are.
        surplus[counts.diagonal() < self.read * np.maximum(counts.sum(axis=1), 1.0)] = 0.0
        # A class rarer than it is taken to be is read less than it is, which is no change of labels.
        surplus[sizes < self.rarest * sizes.max(initial=0)] = 0.0
        changed = surplus / np.maximum(counts.sum(axis=1), 1.0)  # over the records that were left: t / (1 - t)
        # Few records of a label say little of its own share: where labels follow from nothing, some seem sound.
        everywhere = float(wrong @ sizes) / max(len(labels), 1)
        trust = np.minimum(2.0 - wrong / self.believed, 3.0 - 2.0 * everywhere / self.believed)
        trust = np.clip(trust, self.doubted, 1.0)
        wrong = np.minimum(wrong, 2.0 * self.believed)
        draft = WrongLabelScorer(
            summary.classes, blur, weights, wrong, trust, self.ceiling, changed, counts.astype(np.int64)
        )
        # The probabilities of the fitted records must not add up to more wrong labels than there seem to be.
        random, oneway, beside = draft.estimates(arrays, labels)
        wrong, changed = wrong.copy(), changed.copy()
        for label in range(classes):
            mine = labels == label
            wrong[label] *= _scale(random[mine], wrong[label] * mine.sum())
            for other in np.flatnonzero(surplus[label]):
                changed[label, other] *= _scale(oneway[mine & (beside == other)], surplus[label, other])
        return replace(draft, wrong=wrong, changed=changed)

    def _told_apart(
        self,
        arrays: Mapping[str, NDArray[np.float32]],
        labels: NDArray[np.int64],
        keys: NDArray[np.uint64],
        blur: float,
    ) -> tuple[Floats, Floats]:
        """(features + 1,) weights of the logistic regression, and (classes,) the share of wrong labels."""
        from sklearn.linear_model import LogisticRegression

        classes = arrays["logits"].shape[2]
        # Drawn by the records' keys: the same in whatever order they come.
        steps = 1 + ((keys >> np.uint64(20)) % np.uint64(max(classes - 1, 1))).astype(np.int64)
        instead = (labels + steps) % max(classes, 1)
        together = np.concatenate([_features(arrays, labels, blur), _features(arrays, instead, blur)])
        if len(labels) == 0:
            return np.zeros(together.shape[1] + 1), np.ones(classes)
        centre, spread = together.mean(axis=0), together.std(axis=0) + 1e-9
        target = np.repeat([0, 1], len(labels))
        model = LogisticRegression(C=self.penalty, max_iter=300).fit((together - centre) / spread, target)
        slope = model.coef_[0] / spread
        weights = np.append(slope, model.intercept_[0] - slope @ centre)
        ratio = together[len(labels) :] @ slope + weights[-1]
        plateaus = np.full(classes, float(np.median(ratio)))
        for label in range(classes):
            if (members := instead == label).sum() >= self.fewest:
                plateaus[label] = np.median(ratio[members])
        return weights, np.exp(-np.maximum(plateaus, 0.0))


@dataclass(frozen=True)
class WrongLabelScorer:
    """Adds the odds of a random and of a one-way confusion."""

    classes: tuple[str, ...]
    blur: float
    weights: Floats
    """(features + 1,) of the log ratio, the constant last."""
    wrong: Floats
    """(classes,) estimated share of the records of a label that have it by mistake."""
    trust: Floats
    """(classes,) how far that is believed."""
    ceiling: float
    changed: Floats
    """(classes, classes) records of another class that have a label by mistake, over those that kept their own."""
    counts: NDArray[np.int64]
    """(classes, classes) fitted records of a label that are read as a class."""

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) natural logarithm of the odds; NaN for an unknown label."""
        scores = np.full(len(views), np.nan)
        rows = np.flatnonzero(views.labels != UNKNOWN_LABEL)
        if not len(rows):
            return scores
        labels = views.labels[rows]
        arrays = {name: views[name][rows] for name in ("logits", "class_distances", "neighbour_labels")}
        random, oneway, _ = self.estimates(arrays, labels)
        odds = self.trust[labels] * self._odds(random) + self._odds(oneway)
        scores[rows] = np.log(np.maximum(odds, np.exp(_NEVER)))
        return scores

    def estimates(
        self, arrays: Mapping[str, NDArray[np.float32]], labels: NDArray[np.int64]
    ) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """(rows,) each: probability of a random and of a one-way mistake, both may pass 1, and the class beside."""
        ratio = _features(arrays, labels, self.blur) @ self.weights[:-1] + self.weights[-1]
        random = self.wrong[labels] * np.exp(np.clip(ratio, _NEVER, -_NEVER))
        shares = _shares(arrays["logits"])
        beside, every = _beside(shares, labels), np.arange(len(labels))
        oneway = self.changed[labels, beside] * shares[every, beside] / (shares[every, labels] + 1e-6)
        return random, oneway, beside

    def _read_as(self, label: int, other: int) -> float:
        """Share of a label's fitted records that are read as another class, were all classes equally frequent."""
        return float(self.counts[label, other] / max(int(self.counts[label].sum()), 1))

    def _odds(self, probability: Floats) -> Floats:
        """Of estimates that may pass 1, ever larger."""
        return np.asarray(probability / (np.maximum(1.0 - probability, 0.0) + self.ceiling), dtype=np.float64)

    def explain(self, views: Views) -> list[str]:
        """What the probe and the neighbours say instead, and whether many of its label look so."""
        shares = _shares(views["logits"])
        beside = _beside(shares, views.labels)
        said = []
        for row, (other, label) in enumerate(zip(beside, views.labels, strict=True)):
            if label == UNKNOWN_LABEL:
                said.append("its label is not known here")
                continue
            nearest, given, instead = views["neighbour_labels"][row], self.classes[label], self.classes[other]
            words = (
                f"the probe gives its label {given!r} {shares[row, label]:.0%} and {instead!r} "
                f"{shares[row, other]:.0%}; {int((nearest == label).sum())} of its {len(nearest)} nearest records have "
                "its label"
            )
            if self.changed[label, other] > 0:
                # In shares: of a class that is more frequent more records are unsure, and that is no sign of anything.
                away, back = self._read_as(label, other), self._read_as(other, label)
                words += (
                    f"; {away:.0%} of the records labelled {given!r} look more like {instead!r}, and only {back:.0%}"
                    " the other way round"
                )
            said.append(words)
        return said


def _scale(estimates: Floats, total: float) -> float:
    """What to multiply estimates with, at most 1, so that the probabilities they stand for add up to no more."""
    low, high = -_SMALLEST, 0.0
    if np.minimum(estimates, 1.0).sum() <= total:
        return 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if np.minimum(estimates * np.exp(middle), 1.0).sum() > total:
            high = middle
        else:
            low = middle
    return float(np.exp(low))


def _features(arrays: Mapping[str, NDArray[np.float32]], labels: NDArray[np.int64], blur: float) -> Floats:
    """(rows, 7) how well labels fit: margins (mean, last, first), likelihoods, what is near; and which they are."""
    logits = arrays["logits"].astype(np.float64)
    rows = np.arange(len(labels))
    own = logits[rows, :, labels]
    logits[rows, :, labels] = -np.inf
    margins = own - logits.max(axis=2)
    shares = _shares(arrays["logits"])
    return np.column_stack(
        [
            margins.mean(axis=1),
            margins[:, -1],
            margins[:, 0],
            np.log(shares[rows, labels] + 1e-6),
            np.log(shares.max(axis=1)),
            nearness(arrays["class_distances"], labels, blur),
            (arrays["neighbour_labels"] == labels[:, None]).mean(axis=1),
            # Of very many labels none has the records to speak for itself.
            np.eye(classes)[labels] if (classes := logits.shape[2]) <= _MOST_OWN else np.zeros((len(labels), 0)),
        ]
    )


def _shares(logits: NDArray[np.float32]) -> Floats:
    """(rows, classes) probabilities, averaged over (rows, checkpoints, classes) logits."""
    return np.asarray(softmax(logits.astype(np.float64), axis=2).mean(axis=1), dtype=np.float64)


def _beside(shares: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(rows,) the likeliest class but the label."""
    others = shares.copy()
    known = np.flatnonzero(labels != UNKNOWN_LABEL)
    others[known, labels[known]] = -1.0
    return np.asarray(others.argmax(axis=1), dtype=np.int64)


def _confusion(logits: NDArray[np.float32], labels: NDArray[np.int64], classes: int, rarest: float) -> Floats:
    """(classes, classes) records by label and by what the probe reads, were all classes equally frequent.

    Args:
        logits: (rows, checkpoints, classes).
        labels: (rows,).
        classes: How many.
        rarest: A class is taken to have at least this share of the largest one's records: what makes a hundredth as
            many alike reads a class into records that the probe is only not quite sure of.
    """
    counts = np.zeros((classes, classes))
    if len(labels):
        sizes = np.bincount(labels, minlength=classes)
        shares = _shares(logits) / np.maximum(sizes, rarest * sizes.max())
        np.add.at(counts, (labels, shares.argmax(axis=1)), 1.0)
    return counts


def _one_way(counts: Floats, sure: float) -> Floats:
    """(classes, classes) by how many records a confusion passes what the other direction predicts; 0 where it may not.

    Args:
        counts: (classes, classes) records by label and reading.
        sure: Standard errors that a surplus must have.
    """
    sizes = np.maximum(counts.sum(axis=1), 1.0)
    times = sizes[:, None] / sizes
    predicted = counts.T * times
    error = np.sqrt(counts + (counts.T + 1.0) * times**2)
    found = counts - predicted
    found[(found <= sure * error) | np.eye(len(counts), dtype=bool)] = 0.0
    return np.asarray(found, dtype=np.float64)
