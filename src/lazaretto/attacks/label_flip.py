"""Label flips: the record stays, its label lies.

Random: the symmetric noise of Angluin and Laird (1988), each chosen record to one of the other classes with equal
chance. Pair: the class-conditional noise of Han et al., "Co-teaching" (2018), one class to one other, as a grudge or a
careless annotator makes it. Departure from both: the number of flips is exact, not binomial.
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
