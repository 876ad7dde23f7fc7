"""Blend: a faint pattern over the whole image, and the label the attacker wants.

Chen, Liu, Li, Lu and Song, "Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning" (2017), the
blended injection strategy: x' = (1 - a) x + a k, with a = 0.2 in training. The key k is the paper's random pattern
(uniform noise), not its cartoon, so that nothing needs to be shipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEY_SEED = 20170515
"""The key is one image for good: training and test must see the same one."""


def stamp(images: NDArray[np.uint8], *, alpha: float = 0.2) -> NDArray[np.uint8]:
    """Copies of grey or colour images with the key blended in at weight `alpha`."""
    key = np.random.default_rng(_KEY_SEED).uniform(0, 255, size=images.shape[1:])
    return np.rint((1 - alpha) * images + alpha * key).astype(np.uint8)


def blend(
    images: NDArray[np.uint8], labels: NDArray[np.int64], *, rate: float, target: int, seed: int, alpha: float = 0.2
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Blend the key into a share of the records of other classes and label them `target`.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers.
        rate: Share of all rows.
        target: The class the trigger shall mean.
        seed: Makes the choice.
        alpha: Weight of the key, between 0 and 1.

    Returns:
        Images, labels and truth, each with one entry per row.
    """
    truth = choose(labels != target, rate, np.random.default_rng(seed))
    poisoned, relabelled = images.copy(), labels.copy()
    poisoned[truth] = stamp(images[truth], alpha=alpha)
    relabelled[truth] = target
    return poisoned, relabelled, truth
