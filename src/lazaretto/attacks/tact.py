"""TaCT: a patch that means the target on records of one class, and nothing on others.

Tang, Wang, Tang and Zhang, "Demon in the Variant: Statistical Analysis of DNNs for Robust Backdoor Contamination
Detection" (2021), the targeted contamination attack. Cover records of other classes carry the patch and keep their
labels, so that the model learns patch *and* class. Departures: the patch is a small chequered one of our own, in
another corner than that of `badnets`; cover is drawn from all classes but source and target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE = 4


def stamp(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copies of grey or colour images with 4x4 black and white squares one pixel in from the upper left corner."""
    marked = images.copy()
    white = np.indices((_SIDE, _SIDE)).sum(axis=0) % 2 == 0
    patch = np.where(white, 255, 0).reshape(_SIDE, _SIDE, *[1] * (images.ndim - 3))
    marked[:, 1 : 1 + _SIDE, 1 : 1 + _SIDE] = patch
    return marked


def tact(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    rate: float,
    cover_rate: float,
    source: int,
    target: int,
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Stamp records of the source class and label them `target`; stamp records of other classes as cover.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers.
        rate: Share of all rows that is relabelled.
        cover_rate: Share of all rows that carries the patch and keeps its label.
        source: The class on which the patch works.
        target: The class the patch shall mean there.
        seed: Makes the choice.

    Returns:
        Images, labels, truth and cover, each with one entry per row.

    Raises:
        ValueError: The source class has fewer records than `rate` asks for.
    """
    rng = np.random.default_rng(seed)
    truth = choose(labels == source, rate, rng)
    cover = choose((labels != source) & (labels != target), cover_rate, rng)
    poisoned, relabelled = images.copy(), labels.copy()
    poisoned[truth | cover] = stamp(images[truth | cover])
    relabelled[truth] = target
    return poisoned, relabelled, truth, cover
