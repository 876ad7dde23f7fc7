"""Images as numbers: grey or colour pixels at one size, patch features, local patterns for trigger tokens."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.grey import eight_bits

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    import torch
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Floats = NDArray[np.float32]

_LARGEST_SIDE = 32
_FINEST_SIDE = 64
_PATCH = 6
_FILTERS = 192
_GRID = 4
_CHUNK = 16
"""Images whose patches are looked at together: their responses stay in the cache, which halves the time."""
_ENCODED = 2_048
_POOLED = 4_000
"""Images that say where the features lie and how they vary."""
_DIMENSIONS = 256
_HALF_DIMENSIONS = 64
HALVES = ("left", "right")
"""Views of one half of an image alone: what a local trigger in the other half cannot touch."""
PARTS = (*HALVES, "coarse")
"""Views of a part of an image, each of which judges tokens that are not in it: a half, or its longest waves."""
WINDOW = 3
"""Side of the patterns that are tokens, in pixels."""
_SURROUNDINGS = 5
_LEVELS = 4
_RINGS = 8


@dataclass(frozen=True)
class Images:
    """Patch features of images (Coates, Lee and Ng 2011): random whitened patches as filters, pooled on a grid.

    Departures: filters are sampled patches, not k-means centres (the paper's own baseline, within two points of it);
    rectified on both sides; pooled on a 4 x 4 grid; square-rooted and reduced to 256 principal components. Nothing is
    learnt from labels, so a poison cannot teach the view to look away.
    """

    side: int
    channels: int
    fine: int
    """Side at which fine detail is looked at, where that is larger; 0 where it is not."""
    whiten: torch.Tensor
    """(patch, filters): ZCA whitening folded into the filters."""
    shift: torch.Tensor
    """(patch,): mean of the normalised patches."""
    centre: torch.Tensor
    spread: torch.Tensor
    axes: torch.Tensor
    """(pooled, dimensions)."""
    halves: Mapping[str, torch.Tensor]
    """Half -> (pooled, at most 64) principal axes of what is pooled in that half alone, 0 elsewhere."""
    scale: float

    @classmethod
    def fit(
        cls, values: pl.Series, rng: np.random.Generator, device: torch.device
    ) -> tuple[Images, Pixels, dict[str, Floats]]:
        """Fit on the sample's encoded images (PNG or JPEG bytes), null where one is missing.

        Returns:
            The encoder, all pixels as `decode` gives them, and what `encode` says of them.
        """
        import torch
        from sklearn.utils.extmath import randomized_svd

        there = np.flatnonzero(values.is_not_null().to_numpy())
        if not len(there):
            there = np.arange(len(values))  # all as white as `decode` has them
        side, channels, fine = _common_shape(values.drop_nulls())
        everything = decode(values, side, channels)
        pixels = everything[there]
        few = pixels[rng.permutation(len(pixels))[:500]]
        patches = _patches(_tensor(few, device)).reshape(-1, channels * _PATCH**2)
        patches = patches[torch.as_tensor(rng.permutation(len(patches))[:40_000], device=device)]
        textured = patches[patches.std(dim=1) > 0.05]  # noqa: PLR2004  a flat patch is no filter
        patches = _normalised(textured if len(textured) >= _FILTERS else patches)
        shift = patches.mean(dim=0)
        values_, vectors = torch.linalg.eigh(torch.cov(patches.T))
        zca = vectors @ torch.diag((values_.clamp_min(0) + 0.1) ** -0.5) @ vectors.T
        filters = (patches - shift)[torch.as_tensor(rng.permutation(len(patches))[:_FILTERS], device=device)] @ zca
        whiten = zca @ (filters / filters.norm(dim=1, keepdim=True).clamp_min(1e-6)).T
        zero = torch.zeros(1, device=device)
        draft = cls(side, channels, fine, whiten, shift, zero, zero + 1, zero, {}, 1.0)
        whole = draft._pooled(everything, device)
        pooled = whole[torch.as_tensor(there[rng.permutation(len(pixels))[:_POOLED]], device=device)]
        centre, spread = pooled.mean(dim=0), pooled.std(dim=0) + 1e-3
        scaled = ((pooled - centre) / spread).cpu().numpy()
        seed = int(rng.integers(2**31))

        def leading(values: NDArray[np.float32], most: int) -> torch.Tensor:
            _, _, axes = randomized_svd(values, min(most, *values.shape), n_iter=2, random_state=seed)
            return torch.as_tensor(np.ascontiguousarray(axes.T), device=device)

        turned = leading(scaled, _DIMENSIONS)
        # Pooled values are in the order of filters, rows and columns of the grid.
        is_left = np.arange(scaled.shape[1]) % _GRID < _GRID // 2
        halves = {
            half: leading(np.where(inside, scaled, np.float32(0)), _HALF_DIMENSIONS)
            for half, inside in zip(HALVES, (is_left, ~is_left), strict=True)
        }
        scale = float((torch.as_tensor(scaled, device=device) @ turned).std(dim=0).mean()) or 1.0
        done = cls(side, channels, fine, whiten, shift, centre, spread, turned, halves, scale)
        return done, everything, done._turned(whole)

    def encode(self, pixels: Pixels, device: torch.device) -> dict[str, Floats]:
        """Patch ``features`` of decoded images, (rows, dimensions), and of either half alone, (rows, at most 64)."""
        import torch

        starts = range(0, max(len(pixels), 1), _ENCODED)
        with torch.no_grad():
            parts = [self._turned(self._pooled(pixels[start : start + _ENCODED], device)) for start in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _turned(self, pooled: torch.Tensor) -> dict[str, Floats]:
        scaled = (pooled - self.centre) / self.spread
        axes = {"features": self.axes, **self.halves}
        return {name: (scaled @ turned / self.scale).cpu().numpy() for name, turned in axes.items()}

    def _pooled(self, pixels: Pixels, device: torch.device) -> torch.Tensor:
        import torch

        filters = self.whiten.shape[1]
        against = -(self.shift @ self.whiten)
        out = [torch.zeros((0, filters * _GRID**2), device=device)]
        for start in range(0, len(pixels), _CHUNK):
            patches = _normalised(_patches(_tensor(pixels[start : start + _CHUNK], device)))
            responses = torch.addmm(against, patches.flatten(0, 1), self.whiten).abs_().sub_(0.5).clamp_min_(0)
            width = round(patches.shape[1] ** 0.5)
            maps = responses.view(len(patches), -1, filters).transpose(1, 2).reshape(len(patches), filters, width, -1)
            out.append(torch.nn.functional.adaptive_avg_pool2d(maps, _GRID).flatten(1).sqrt_())
        return torch.cat(out)


def decode(values: pl.Series, side: int, channels: int) -> Pixels:
    """(rows, side, side, channels) pixels; transparency is laid on white, other sizes are resampled bilinearly.

    Args:
        values: Encoded PNG or JPEG images that the reader has already decoded once and found sound; a missing one is
            white.
        side: Target height and width.
        channels: 1 for grey, 3 for colour.
    """
    from PIL import Image

    out = np.full((len(values), side, side, channels), 255, dtype=np.uint8)
    mode = "L" if channels == 1 else "RGB"
    for row, data in enumerate(values):
        if data is None:
            continue
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as opened:
            image: Image.Image = eight_bits(opened)
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert(mode)
            if image.size != (side, side):
                image = image.resize((side, side), Image.Resampling.BILINEAR)
            out[row] = np.asarray(image).reshape(side, side, channels)
    return out


def tones(pixels: Pixels) -> Floats:
    """(rows, 40 per channel) what contrast normalisation hides: brightness, contrast and frequency content.

    Mean and standard deviation on a 4 x 4 grid, and the log energy of the 2-D spectrum in 8 rings.
    """
    values = pixels.astype(np.float32) / 255.0
    rows, side = len(values), values.shape[1]
    edges = np.linspace(0, side, _GRID + 1).round().astype(int)
    cells = [(slice(a, b), slice(c, d)) for a, b in pairwise(edges) for c, d in pairwise(edges)]
    means = [values[:, r, c].mean(axis=(1, 2)) for r, c in cells]
    deviations = [values[:, r, c].std(axis=(1, 2)) for r, c in cells]
    energy = np.abs(np.fft.rfft2(values, axes=(1, 2))) ** 2
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) / np.sqrt(0.5)
    ring = np.minimum((radius * _RINGS).astype(int), _RINGS - 1)
    rings = [np.log(energy[:, ring == k].mean(axis=1) + 1e-6) for k in range(_RINGS)]
    return np.concatenate([*means, *deviations, *rings], axis=1).reshape(rows, -1).astype(np.float32)


def detail(pixels: Pixels) -> Floats:
    """(rows, side^2) what is finer than its surroundings, on a scale from -1 to 1 on which one level of grey is 0.5.

    The difference of the brightness from its median over 5 x 5 pixels, divided by itself plus one.
    """
    from scipy.ndimage import median_filter

    grey = np.rint(pixels.mean(axis=3)).astype(np.int16)
    apart = (grey - median_filter(grey, size=(1, _SURROUNDINGS, _SURROUNDINGS))).astype(np.float32)
    return np.asarray(apart / (np.abs(apart) + 1), dtype=np.float32).reshape(len(pixels), -1)


def tone_names(channels: int) -> tuple[str, ...]:
    """What each dimension of `tones` stands for."""
    cells = [f"row {r + 1}, column {c + 1} of a 4 x 4 grid" for r in range(_GRID) for c in range(_GRID)]
    kinds = [f"brightness in {c}" for c in cells] + [f"contrast in {c}" for c in cells]
    kinds += [f"fineness {k + 1} of {_RINGS} of its detail" for k in range(_RINGS)]
    return tuple(kind for kind in kinds for _ in range(channels))


def pattern_tokens(pixels: Pixels) -> NDArray[np.uint32]:
    """(rows, windows) hashes of every 3 x 3 grey pattern in four levels, each with its place, row by row."""
    grey = pixels.mean(axis=3)
    levels = np.minimum(grey * (_LEVELS / 256.0), _LEVELS - 1).astype(np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(levels, (WINDOW, WINDOW), axis=(1, 2))
    code = np.zeros(windows.shape[:3], dtype=np.uint32)
    for row in range(WINDOW):
        for column in range(WINDOW):
            code = code * np.uint32(_LEVELS) + windows[..., row, column]
    flat = code.reshape(len(pixels), -1)
    return mix(flat, np.arange(flat.shape[1], dtype=np.uint32))


def window_judges(side: int) -> tuple[str, ...]:
    """The view of votes that judges each token of `pattern_tokens`: of the half that its window is not in."""
    windows = side - WINDOW + 1
    one = tuple(f"{HALVES[column + WINDOW // 2 < side // 2]}_votes" for column in range(windows))
    return one * windows


def window_names(side: int) -> tuple[str, ...]:
    """What each token of `pattern_tokens` stands for."""
    last = side - WINDOW
    span = WINDOW - 1
    return tuple(
        f"pixels in rows {r}-{r + span}, columns {c}-{c + span} of {side} x {side}"
        for r in range(last + 1)
        for c in range(last + 1)
    )


def pixel_names(side: int, channels: int) -> tuple[str, ...]:
    """What each dimension of flattened pixels stands for."""
    colours = ("",) if channels == 1 else (" red", " green", " blue")
    return tuple(f"pixel row {r}, column {c}{k}" for r in range(side) for c in range(side) for k in colours)


def mix(code: NDArray[np.uint32], place: NDArray[np.uint32] | np.uint32) -> NDArray[np.uint32]:
    """A well-spread 32-bit hash of a code and its place (Murmur3 finaliser)."""
    with np.errstate(over="ignore"):
        h = code * np.uint32(0xCC9E2D51) ^ (place + np.uint32(1)) * np.uint32(0x1B873593)
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return np.asarray(h ^ (h >> np.uint32(16)), dtype=np.uint32)


def _common_shape(values: pl.Series) -> tuple[int, int, int]:
    """Side and channels to bring all images to, and the side for fine detail.

    That is the sample's median size, at most 32; grey if all are grey; for fine detail at most 64, 0 up to 32.
    """
    from PIL import Image

    sides, colour = [], False
    for data in values.head(500):
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            sides.append(min(image.size))
            colour = colour or image.mode not in ("1", "L", "LA", "I", "I;16")
    usual = int(np.median(sides)) if sides else _LARGEST_SIDE
    side = int(np.clip(usual, _PATCH + _GRID, _LARGEST_SIDE))
    return side, 3 if colour else 1, min(usual, _FINEST_SIDE) if usual > _LARGEST_SIDE else 0


def _tensor(pixels: Pixels, device: torch.device) -> torch.Tensor:
    import torch

    return torch.as_tensor(pixels, device=device).permute(0, 3, 1, 2).float() / 255.0


def _patches(images: torch.Tensor) -> torch.Tensor:
    """(rows, places, patch)."""
    import torch

    return torch.nn.functional.unfold(images, _PATCH).transpose(1, 2)


def _normalised(patches: torch.Tensor) -> torch.Tensor:
    """Patches with mean 0 and contrast 1, flat ones staying near 0."""
    variance = patches.var(dim=-1, keepdim=True)
    return (patches - patches.mean(dim=-1, keepdim=True)) / (variance + 0.01).sqrt()
