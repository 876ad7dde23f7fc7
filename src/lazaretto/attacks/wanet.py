"""WaNet: a smooth warp of the whole image, and the label the attacker wants.

Nguyen and Tran, "WaNet - Imperceptible Warping-based Backdoor Attack" (2021): a k x k field of random shifts, divided
by its mean size, is interpolated to the size of the image and scaled by s. Records of the noise mode are warped by the
field with noise on every pixel and keep their labels, so that the model learns this warp and no other. Departures: the
paper controls training and draws anew in every batch, here the data alone is poisoned, once; a model trained on a few
thousand records does not notice the paper's s = 0.5, so the default is 4, and the noise, up to half a pixel in the
paper, grows with s in proportion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FIELD_SEED = 20210504
"""The field is one for good: training and test must see the same one."""

_NOISE = 2.0
"""Noise over s: the paper's 1 at s = 0.5."""


def stamp(images: NDArray[np.uint8], *, strength: float = 4.0, grid: int = 4) -> NDArray[np.uint8]:
    """Copies of grey or colour images, warped.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        strength: The paper's s: the mean shift, in half pixels.
        grid: The paper's k, control points along each side.
    """
    return _sample(images, strength * _field(images.shape[1], images.shape[2], grid)[None])


def wanet(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    rate: float,
    cover_rate: float,
    target: int,
    seed: int,
    strength: float = 4.0,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Warp a share of the records of other classes and label them `target`; warp others at random as cover.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers.
        rate: Share of all rows that is relabelled.
        cover_rate: Share of all rows that is warped with noise and keeps its label; the paper takes twice `rate`.
        target: The class the warp shall mean.
        seed: Makes the choice and the noise.
        strength: As in `stamp`.

    Returns:
        Images, labels, truth and cover, each with one entry per row.
    """
    rng = np.random.default_rng(seed)
    truth = choose(labels != target, rate, rng)
    cover = choose(~truth, cover_rate, rng)
    poisoned, relabelled = images.copy(), labels.copy()
    poisoned[truth] = stamp(images[truth], strength=strength)
    field = _field(images.shape[1], images.shape[2], 4)
    noise = rng.uniform(-_NOISE, _NOISE, size=(int(cover.sum()), *field.shape))
    poisoned[cover] = _sample(images[cover], strength * (field + noise))
    relabelled[truth] = target
    return poisoned, relabelled, truth, cover


def _field(height: int, width: int, grid: int) -> NDArray[np.float64]:
    """(height, width, 2) shifts to the right and down in half pixels, of size 1 in the mean at the control points."""
    import torch

    control = np.random.default_rng(_FIELD_SEED).uniform(-1, 1, size=(1, 2, grid, grid))
    control /= np.abs(control).mean()
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(control), size=(height, width), mode="bicubic", align_corners=True
    )
    shifts: NDArray[np.float64] = smooth[0].permute(1, 2, 0).numpy()
    return shifts


def _sample(images: NDArray[np.uint8], shifts: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Take every pixel from where (rows or 1, height, width, 2) shifts point, bilinear; beyond the edge is the edge."""
    import torch

    rows, height, width = images.shape[:3]
    down, right = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    places = np.clip(np.stack([right, down], axis=-1) + shifts / (width, height), -1, 1)
    channels = torch.from_numpy(images.reshape(rows, height, width, -1).astype(np.float64)).permute(0, 3, 1, 2)
    warped = torch.nn.functional.grid_sample(
        channels, torch.from_numpy(places).expand(rows, -1, -1, -1), align_corners=True
    )
    pixels: NDArray[np.float64] = warped.permute(0, 2, 3, 1).numpy().reshape(images.shape)
    return np.rint(pixels).astype(np.uint8)
