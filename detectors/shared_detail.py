"""Shared detail: the same fine pattern in images that are otherwise not alike, as a blended key leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL
from lazaretto.detectors.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lazaretto.detector import Views

    Singles = NDArray[np.float32]

_CHUNK = 2_048
"""Records compared at once: with ten thousand others they fill 80 MiB."""


@dataclass(frozen=True)
class SharedDetail:
    """How much of its fine detail a record shares with records of its label that look different as a whole.

    Own method. What differs from the median of its surroundings is reduced to little more than its sign (the view
    ``detail``), for a faint key is in every pixel while edges are strong and few; this is how a camera is known by its
    sensor's pattern (Lukas, Fridrich and Goljan 2006), and how watermarks are. Two honest images have nothing of it in
    common, unless they are one image twice: so the cosine of the details is lowered by that of the images themselves,
    ``c (1 - max(0, s))^2``. The mean over the ``nearest`` most alike is the score.

    It finds keys that are faint and everywhere (blend, a sinusoid, strong perturbations), in sets far too small or too
    mixed for `lazaretto.detectors.components`, which needs hundreds of records of the class. A patch is too small for
    it, and a warp has no pattern of its own.

    Large images are looked at twice: as small as the other views see them, where a wave of a few pixels is detail, and
    as they came (the view ``fine``), where a key in every pixel is not blurred by scaling and honest drawings of one
    series have less in common. In development on drawings blended keys were found there alone (recall at 1 %: 1.0, and
    .5 to .9 in small), and sinusoids hardly (.5 to .9, and .7 to 1.0).
    """

    name: str = "shared_detail"
    nearest: int = 6
    limit: int = 10_000
    reads: tuple[str, ...] = ("detail", "luminance")
    tail: str = "group"
    family: ClassVar[str] = "representation"
    needs_label: ClassVar[bool] = True

    def summarise(self, views: Views) -> Rows:
        """The records that others are compared with."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> SharedDetailScorer:
        """Directions from what is usual, by class."""
        centres = {name: summary.arrays[name].mean(axis=0, dtype=np.float64).astype(np.float32) for name in self.reads}
        known: dict[int, tuple[Singles, Singles]] = {}
        for label in np.unique(summary.labels[summary.labels != UNKNOWN_LABEL]).tolist():
            mine = np.flatnonzero(summary.labels == label)
            if len(mine) >= self.nearest:
                detail, luminance = (_directions(summary.arrays[name][mine], centres[name]) for name in self.reads)
                known[label] = detail, luminance
        return SharedDetailScorer(centres, known, self.nearest, summary.classes)


@dataclass(frozen=True)
class SharedDetailScorer:
    """Compares records with the fitted ones of their label."""

    centres: Mapping[str, Singles]
    """View -> (pixels,) its mean."""
    known: Mapping[int, tuple[Singles, Singles]]
    """Class -> (records, pixels) directions of its details, and of its images."""
    nearest: int
    classes: tuple[str, ...]

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) from 0 to 1; 0 in a class of fewer records than are compared, NaN for an unknown label."""
        scores = np.where(views.labels == UNKNOWN_LABEL, np.nan, 0.0)
        for label, fitted in self.known.items():
            rows = np.flatnonzero(views.labels == label)
            for start in range(0, len(rows), _CHUNK):
                chunk = rows[start : start + _CHUNK]
                detail, luminance = (
                    _directions(views[name][chunk], centre) @ others.T
                    for (name, centre), others in zip(self.centres.items(), fitted, strict=True)
                )
                shared = detail * (1 - np.maximum(luminance, 0)) ** 2
                most = np.partition(shared, -self.nearest, axis=1)[:, -self.nearest :]
                # Sums of another order differ in the last digits of a float32.
                scores[chunk] = np.maximum(most.mean(axis=1, dtype=np.float64).round(5), 0.0)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How much detail is shared."""
        return [
            "its label is not known here"
            if label == UNKNOWN_LABEL
            else f"its fine detail goes together by {share:.0%} with that of {self.nearest} other records labelled"
            f" {self.classes[label]!r} that look different as a whole, as if one pattern lay over all of them"
            for label, share in zip(views.labels, self.score(views), strict=True)
        ]


def _directions(values: NDArray[np.floating], centre: Singles) -> Singles:
    """(rows, pixels) of length 1 from the centre; no direction where there is nothing but the centre."""
    apart = values.astype(np.float32) - centre
    lengths = np.linalg.norm(apart, axis=1, keepdims=True)
    return np.asarray(apart / np.maximum(lengths, 1e-6), dtype=np.float32)
