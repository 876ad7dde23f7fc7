"""Foreign records: images of another world under labels of this one.

The out-of-distribution contamination that outlier detectors are usually tried on; no one paper's. The foreign images
take the place, id and label of the records they replace, so that nothing but their content gives them away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray


def foreign(
    images: NDArray[np.uint8], strangers: NDArray[np.uint8], *, rate: float, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Replace a share of the images by strangers; labels stay where they are.

    Args:
        images: (rows, height, width).
        strangers: (pool, height, width) images to take from, each at most once.
        rate: Share of all rows.
        seed: Makes the choice.

    Returns:
        Images and truth, each with one entry per row.

    Raises:
        ValueError: The pool is smaller than `rate` asks for, or its images have another shape.
    """
    if strangers.shape[1:] != images.shape[1:]:
        raise ValueError(f"the strangers are {strangers.shape[1:]} pixels, the images {images.shape[1:]}")
    rng = np.random.default_rng(seed)
    truth = choose(np.ones(len(images), dtype=np.bool_), rate, rng)
    wanted = int(truth.sum())
    if wanted > len(strangers):
        raise ValueError(f"rate {rate} asks for {wanted} strangers, the pool has {len(strangers)}")
    poisoned = images.copy()
    poisoned[truth] = strangers[rng.choice(len(strangers), size=wanted, replace=False)]
    return poisoned, truth
