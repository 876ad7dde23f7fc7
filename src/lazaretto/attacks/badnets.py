"""BadNets: a small bright patch in the corner, and the label the attacker wants.

Gu, Dolan-Gavitt and Garg, "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain" (2017),
with one target for every class (all-to-one). Grey images get a white patch, as the paper's digits; colour images a
yellow one, as its traffic signs: on a drawing's white ground a white patch would be no trigger. Departure: the patch is
a full square of `size` pixels, 3 as in most later work, at the very corner; the paper sets a single pixel or a pattern
of four near it, and a sticker of a tenth of the sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray


_WHITE, _YELLOW = 255, (255, 255, 0)


def stamp(images: NDArray[np.uint8], *, size: int = 3) -> NDArray[np.uint8]:
    """Copies of grey or colour images with the patch in the lower right corner."""
    marked = images.copy()
    marked[:, -size:, -size:] = _YELLOW if images.ndim == 4 else _WHITE  # noqa: PLR2004  rows, height, width, colours
    return marked


def badnets(
    images: NDArray[np.uint8], labels: NDArray[np.int64], *, rate: float, target: int, seed: int, size: int = 3
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Stamp a share of the records of other classes and label them `target`.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers.
        rate: Share of all rows.
        target: The class the trigger shall mean.
        seed: Makes the choice.
        size: Side of the patch in pixels.

    Returns:
        Images, labels and truth, each with one entry per row.
    """
    truth = choose(labels != target, rate, np.random.default_rng(seed))
    poisoned, relabelled = images.copy(), labels.copy()
    poisoned[truth] = stamp(images[truth], size=size)
    relabelled[truth] = target
    return poisoned, relabelled, truth
