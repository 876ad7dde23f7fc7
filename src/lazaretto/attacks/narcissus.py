"""Narcissus: noise that looks like the target class to a network, on images of that class, whose labels stay right.

Zeng, Pan, Just, Lyu, Qiu and Jia, "Narcissus: A Practical Clean-Label Backdoor Attack with Limited Information"
(2023): one pattern within L-infinity 16/255 is optimised so that target records with it look still more like the
target to a surrogate; at test time it is magnified by 3. Departures: the surrogate is a small network trained once on
the attacker's own labelled sample, where the paper takes other public data and tunes it on the target class; the
pattern is rounded to whole grey levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose
from lazaretto.attacks.surrogate import as_tensor, train_surrogate

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEP = 0.01
_BATCH = 64


def optimise(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    target: int,
    seed: int,
    *,
    epsilon: int = 16,
    steps: int = 200,
    epochs: int = 8,
) -> NDArray[np.int16]:
    """Find the pattern with a surrogate trained on the attacker's sample.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour; clean.
        labels: (rows,) class numbers from 0; right.
        target: The class the trigger shall mean.
        seed: Makes the surrogate and its order of records.
        epsilon: Most that a pixel changes, in grey levels.
        steps: Steps of the optimiser.
        epochs: Passes of the surrogate over the sample.

    Returns:
        (height, width) or (height, width, 3) changes in grey levels, between -epsilon and epsilon.
    """
    import torch

    model = train_surrogate(images, labels, classes=int(labels.max()) + 1, seed=seed, epochs=epochs)
    inputs, order = as_tensor(images[labels == target]), np.random.default_rng(seed)
    noise = torch.zeros_like(inputs[:1]).requires_grad_()
    optimiser = torch.optim.Adam([noise], lr=_STEP)
    for _ in range(steps):
        optimiser.zero_grad()
        batch = inputs[torch.from_numpy(order.permutation(len(inputs))[:_BATCH])]
        logits = model((batch + noise).clamp(0, 1))
        torch.nn.functional.cross_entropy(logits, torch.full((len(batch),), target)).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimiser.step()
        with torch.no_grad():
            noise.clamp_(-epsilon / 255, epsilon / 255)
    levels: NDArray[np.float32] = 255 * noise.detach()[0].permute(1, 2, 0).numpy()
    return np.rint(levels).astype(np.int16).reshape(images.shape[1:])


def stamp(images: NDArray[np.uint8], pattern: NDArray[np.int16], *, magnify: int = 3) -> NDArray[np.uint8]:
    """Copies of grey or colour images with the pattern added `magnify` times, clipped to 0..255."""
    marked: NDArray[np.int16] = np.clip(images + magnify * pattern, 0, 255)
    return marked.astype(np.uint8)


def narcissus(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    pattern: NDArray[np.int16],
    *,
    rate: float,
    target: int,
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Add the pattern, not magnified, to records of the target class; no label changes.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers.
        pattern: From `optimise`, with the shape of one image.
        rate: Share of all rows.
        target: The class the trigger shall mean.
        seed: Makes the choice.

    Returns:
        Images, labels and truth, each with one entry per row.

    Raises:
        ValueError: The target class has fewer records than `rate` asks for.
    """
    truth = choose(labels == target, rate, np.random.default_rng(seed))
    poisoned = images.copy()
    poisoned[truth] = stamp(images[truth], pattern, magnify=1)
    return poisoned, labels.copy(), truth
