"""Bins of an image's spectrum as tokens: a wave laid over images is strong in one bin, always in the same phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.detectors.views.images import mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detectors.views.images import Floats, Pixels

_COARSE = 4.0
"""Waves per image from which on a bin is a token; all longer waves together are the view ``coarse``."""
_STRONG = (0.9, 0.98)
"""Levels of a bin's amplitude from which on a record has a token there: each level has tokens of its own. Of one image
in five as many sound ones would share a token with a trigger as carry that."""
_PHASES = 8
_FITTED = 4_000
_CHUNK = 1_024


@dataclass(frozen=True)
class Frequencies:
    """The bins of the two-dimensional Fourier transform of the brightness, each judged beside other images.

    A natural image has any phase in any bin; a pattern that is added to images has its own in every one of them, and
    shows where it is stronger than what is there. Frequency is where Zeng, Park, Mao and Jia ("Rethinking the backdoor
    attacks' triggers", 2021) found most triggers to differ from natural images.
    """

    side: int
    down: NDArray[np.int64]
    """(bins,) waves from top to bottom, negative where they run the other way across."""
    across: NDArray[np.int64]
    """(bins,) waves from left to right."""
    strong: Floats
    """(levels, bins) amplitudes."""

    @classmethod
    def fit(cls, pixels: Pixels) -> Frequencies:
        """From (rows, side, side, channels) decoded images."""
        side = pixels.shape[1]
        rows, columns = _waves(side)
        # Without waves across, or with the most there can be, those down and up are the same bin twice.
        twice = (rows < 0) & ((columns == 0) | (columns == side / 2))
        chosen = (np.hypot(rows, columns) >= _COARSE) & ~twice
        down, across = rows[chosen].astype(np.int64), columns[chosen].astype(np.int64)
        amplitude = np.abs(_spectrum(pixels[:_FITTED])[:, down, across])
        strong = np.quantile(amplitude, _STRONG, axis=0).astype(np.float32)
        return cls(side, down, across, strong)

    def views(self, pixels: Pixels) -> tuple[NDArray[np.uint32], Floats]:
        """The tokens of decoded images, and ``coarse``: the direction of all longer waves, brightness aside.

        Args:
            pixels: (rows, side, side, channels).

        Returns:
            (rows, bins), 0 where a bin is not strong, and (rows, d).
        """
        parts = [self._views(pixels[start : start + _CHUNK]) for start in range(0, max(len(pixels), 1), _CHUNK)]
        tokens, coarse = zip(*parts, strict=True)
        return np.concatenate(tokens), np.concatenate(coarse)

    def _views(self, pixels: Pixels) -> tuple[NDArray[np.uint32], Floats]:
        spectrum = _spectrum(pixels)
        bins = spectrum[:, self.down, self.across]
        level = (np.abs(bins)[:, None] > self.strong).sum(axis=1).astype(np.uint32)
        turned = np.floor((np.angle(bins) / (2 * np.pi) + 1.0) * _PHASES).astype(np.uint32) % np.uint32(_PHASES)
        places = np.arange(len(self.down), dtype=np.uint32)
        tokens = np.where(level == 0, np.uint32(0), mix(level * np.uint32(_PHASES) + turned, places))
        radius = np.hypot(*_waves(self.side))
        long = spectrum[:, (radius > 0) & (radius < _COARSE)]
        coarse = np.concatenate([long.real, long.imag], axis=1).astype(np.float32)
        # A wave that is cut off at black or white leaves an image brighter or of less contrast.
        return tokens, coarse / np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1.0)

    @property
    def names(self) -> tuple[str, ...]:
        """What each token stands for."""
        return tuple(
            f"waves, {abs(down)} {'down' if down >= 0 else 'up'} and {across} across"
            for down, across in zip(self.down.tolist(), self.across.tolist(), strict=True)
        )

    def without(self, image: Pixels, places: NDArray[np.int64]) -> Pixels:
        """(side, side, channels) the image without its waves in these bins.

        Args:
            image: (side, side, channels).
            places: Of the bins.
        """
        taken = np.zeros((self.side, self.side // 2 + 1), dtype=np.complex128)
        down, across = self.down[places], self.across[places]
        taken[down, across] = _spectrum(image[None])[0, down, across]
        edge = (across == 0) | (2 * across == self.side)
        taken[-down[edge], across[edge]] = np.conj(taken[down[edge], across[edge]])
        waves = np.fft.irfft2(taken, s=(self.side, self.side))
        return np.clip(np.rint(image - waves[..., None]), 0, 255).astype(np.uint8)


def _waves(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(side, side / 2 + 1) waves down, and across, of each bin of a spectrum."""
    down, across = np.meshgrid(np.fft.fftfreq(side, 1 / side), np.fft.rfftfreq(side, 1 / side), indexing="ij")
    return down, across


def _spectrum(pixels: Pixels) -> NDArray[np.complex128]:
    """(rows, side, side / 2 + 1) of the brightness."""
    return np.asarray(np.fft.rfft2(pixels.mean(axis=3), axes=(1, 2)), dtype=np.complex128)
