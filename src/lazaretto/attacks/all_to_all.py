"""All-to-all BadNets: one patch, and every class becomes the next.

Gu, Dolan-Gavitt and Garg, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain" (2017),
the all-to-all attack. No class gains records, so counts of labels show nothing. Departure: the patch is that of
`badnets`, whose `stamp` puts it on test records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.badnets import stamp
from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray


def next_class(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """What the attacker wants records of these (rows,) classes to be called."""
    return (labels + 1) % classes


def all_to_all(
    images: NDArray[np.uint8], labels: NDArray[np.int64], *, rate: float, classes: int, seed: int, size: int = 3
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Stamp a share of the records of all classes and give each the next label.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers from 0.
        rate: Share of all rows.
        classes: How many classes there are, two at least.
        seed: Makes the choice.
        size: Side of the patch in pixels.

    Returns:
        Images, labels and truth, each with one entry per row.
    """
    truth = choose(np.ones(len(labels), dtype=np.bool_), rate, np.random.default_rng(seed))
    poisoned, relabelled = images.copy(), labels.copy()
    poisoned[truth] = stamp(images[truth], size=size)
    relabelled[truth] = next_class(labels[truth], classes)
    return poisoned, relabelled, truth
