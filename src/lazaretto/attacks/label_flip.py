"""Label flips: the record stays, its label lies.

Random: the symmetric noise of Angluin and Laird (1988), each chosen record to one of the other classes with equal
chance. Pair: the class-conditional noise of Han et al., "Co-teaching" (2018), one class to one other, as a grudge or a
careless annotator makes it. Departure from both: the number of flips is exact, not binomial. Boundary: flips where a
model is in doubt, as careful annotators err; after the noise of Menon, van Rooyen and Natarajan, "Learning from Binary
Labels with Instance-Dependent Noise" (2018), which grows towards the boundary. Departure: more than two classes, and
only the nearest records are flipped, all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray


def flip_random(
    labels: NDArray[np.int64], *, rate: float, classes: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give a share of the records another class at random.

    Args:
        labels: (rows,) class numbers from 0.
        rate: Share of all rows.
        classes: How many classes there are, two at least.
        seed: Makes the choice.

    Returns:
        Labels and truth, each with one entry per row.
    """
    rng = np.random.default_rng(seed)
    truth = choose(np.ones(len(labels), dtype=np.bool_), rate, rng)
    flipped = labels.copy()
    flipped[truth] = (labels[truth] + rng.integers(1, classes, size=int(truth.sum()))) % classes
    return flipped, truth


def flip_pair(
    labels: NDArray[np.int64], *, rate: float, victim: int, target: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Label records of class `victim` as `target`.

    Args:
        labels: (rows,) class numbers.
        rate: Share of all rows.
        victim: The class that loses records.
        target: The class that gains them.
        seed: Makes the choice.

    Returns:
        Labels and truth, each with one entry per row.

    Raises:
        ValueError: The victim class has fewer records than `rate` asks for.
    """
    truth = choose(labels == victim, rate, np.random.default_rng(seed))
    flipped = labels.copy()
    flipped[truth] = target
    return flipped, truth


def flip_boundary(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], *, rate: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give the records nearest the decision boundary the runner-up class; nothing is left to chance.

    A record that the model takes for another class than its label is not chosen: its label may be wrong already, and
    a flip could mend it.

    Args:
        labels: (rows,) class numbers from 0.
        probabilities: (rows, classes) of a model that knows the classes.
        rate: Share of all rows.

    Returns:
        Labels and truth, each with one entry per row.

    Raises:
        ValueError: The model is right on fewer records than `rate` asks for.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    first, second = order[:, 0], order[:, 1]
    right = first == labels
    wanted = int(choose(right, rate, np.random.default_rng(0)).sum())  # how many and whether; which, the gap says
    rows = np.arange(len(labels))
    gap = np.where(right, probabilities[rows, first] - probabilities[rows, second], np.inf)
    truth = np.zeros(len(labels), dtype=np.bool_)
    truth[np.argsort(gap, kind="stable")[:wanted]] = True
    flipped = labels.copy()
    flipped[truth] = second[truth]
    return flipped, truth
