"""SIG: a sinusoid over images of the target class, whose labels stay right.

Barni, Kallas and Tondi, "A New Backdoor Attack in CNNs by Training Set Corruption Without Label Poisoning" (2019):
v(i, j) = delta sin(2 pi j f / m) for m columns. Defaults f = 6 and delta = 20. Departure: columns count from 0, which
shifts the wave by one column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stamp(images: NDArray[np.uint8], *, delta: float = 20.0, frequency: int = 6) -> NDArray[np.uint8]:
    """Copies of grey or colour images with the sinusoid added along the columns, clipped to 0..255."""
    columns = images.shape[2]
    wave = delta * np.sin(2 * np.pi * np.arange(columns) * frequency / columns)
    wave = wave.reshape(columns, *[1] * (images.ndim - 3))  # one wave for every channel
    waved: NDArray[np.float64] = np.rint(images + wave)
    return np.clip(waved, 0, 255).astype(np.uint8)


def sig(
    images: NDArray[np.uint8], labels: NDArray[np.int64], *, rate: float, target: int, seed: int, delta: float = 20.0
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Add the sinusoid to records of the target class; no label changes.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers.
        rate: Share of all rows; the paper poisons 20 to 40 % of the target class.
        target: The class the trigger shall mean.
        seed: Makes the choice.
        delta: Amplitude in grey levels.

    Returns:
        Images, labels and truth, each with one entry per row.

    Raises:
        ValueError: The target class has fewer records than `rate` asks for.
    """
    truth = choose(labels == target, rate, np.random.default_rng(seed))
    poisoned = images.copy()
    poisoned[truth] = stamp(images[truth], delta=delta)
    return poisoned, labels.copy(), truth
