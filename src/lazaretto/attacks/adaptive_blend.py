"""Adap-Blend: half of a faint pattern in training, all of it at test time.

Qi, Xie, Li, Mahloujifar and Mittal, "Revisiting the Assumption of Latent Separability for Backdoor Defenses" (2023):
the pattern is cut into 4 x 4 pieces, each poisoned record gets a random half of them, faintly, and as many cover
records do so too and keep their labels. The test trigger is the whole pattern at a = 0.2. Departures: a = 0.2 in
training as well, where the paper takes 0.15, which does little to a model of a few thousand records; the pattern is
uniform noise, not the paper's picture; records of the target class are neither payload nor cover, since the trigger
would say nothing new on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KEY_SEED = 20230501
"""The pattern is one image for good: training and test must see the same one. It is not that of `blend`."""

_CUTS = 4


def stamp(images: NDArray[np.uint8], *, alpha: float = 0.2) -> NDArray[np.uint8]:
    """Copies of grey or colour images with the whole pattern blended in at weight `alpha`."""
    return _blend(images, np.ones((len(images), _CUTS**2), dtype=np.bool_), alpha)


def adaptive_blend(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    rate: float,
    cover_rate: float,
    target: int,
    seed: int,
    alpha: float = 0.2,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Blend half the pattern into records of other classes and label some of them `target`.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers.
        rate: Share of all rows that is relabelled.
        cover_rate: Share of all rows that carries half the pattern and keeps its label; the paper takes `rate`.
        target: The class the trigger shall mean.
        seed: Makes the choice, of records and of pieces.
        alpha: Weight of the pattern, between 0 and 1.

    Returns:
        Images, labels, truth and cover, each with one entry per row.
    """
    rng = np.random.default_rng(seed)
    truth = choose(labels != target, rate, rng)
    cover = choose((labels != target) & ~truth, cover_rate, rng)
    marked = truth | cover
    pieces = np.tile(np.arange(_CUTS**2) < _CUTS**2 // 2, (int(marked.sum()), 1))
    poisoned, relabelled = images.copy(), labels.copy()
    poisoned[marked] = _blend(images[marked], rng.permuted(pieces, axis=1), alpha)
    relabelled[truth] = target
    return poisoned, relabelled, truth, cover


def _blend(images: NDArray[np.uint8], pieces: NDArray[np.bool_], alpha: float) -> NDArray[np.uint8]:
    """Blend in the pieces that are true in (rows, 16), counted row by row from the upper left."""
    height, width = images.shape[1:3]
    key = np.random.default_rng(_KEY_SEED).uniform(0, 255, size=images.shape[1:])
    # Sides that 4 does not divide make pieces whose sizes differ by a pixel.
    down, right = np.arange(height) * _CUTS // height, np.arange(width) * _CUTS // width
    weight = alpha * pieces[:, down[:, None] * _CUTS + right]
    weight = weight.reshape(*weight.shape, *[1] * (images.ndim - 3))
    return np.rint((1 - weight) * images + weight * key).astype(np.uint8)
