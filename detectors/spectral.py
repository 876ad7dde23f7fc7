"""Spectral detectors: a group of poisons tilts the covariance of the class it hides in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL
from lazaretto.detectors.outliers import furthest
from lazaretto.detectors.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from lazaretto.detector import Views

_SEEN = {
    "compact": "in all its columns together",
    "tones": "in brightness and contrast",
    "hidden": "as a small model sees them",
    "gradients": "in what a small model would learn from it",
}
"""View -> what it is in plain words."""
_ALL = -2
"""Index of the state fitted on all classes together, for classes too small to have their own."""


@dataclass(frozen=True)
class Frame:
    """One class's centre, axes and what is usual along them.

    Attributes:
        centre: (dimensions,).
        axes: (dimensions, rank), orthonormal.
        scale: (rank,) standard deviation along each axis.
        form: (rank, rank) quadratic form applied to the whitened coordinates.
        rest: Usual squared length outside the axes; 0 where that is not used.
    """

    centre: NDArray[np.float64]
    axes: NDArray[np.float64]
    scale: NDArray[np.float64]
    form: NDArray[np.float64]
    rest: float = 0.0

    def score(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows,) quadratic form of the whitened coordinates, plus the relative squared length outside the axes."""
        centred = values - self.centre
        along = centred @ self.axes
        white = along / self.scale
        scores: NDArray[np.float64] = np.einsum("ni,ij,nj->n", white, self.form, white, optimize=True)
        if self.rest > 0:
            scores += np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0) / self.rest
        # Squared lengths have heavy tails; their logarithm has a tail that can be extrapolated.
        return np.log(scores + 1e-9)

    def outward(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows, dimensions) half the gradient of what `score` takes the logarithm of."""
        centred = values - self.centre
        along = centred @ self.axes
        slope: NDArray[np.float64] = ((along / self.scale) @ self.form / self.scale) @ self.axes.T
        if self.rest > 0:
            slope = slope + (centred - along @ self.axes.T) / self.rest
        return slope

    def contributions(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows, dimensions) signed deviation from the centre, in units of the usual deviation per dimension."""
        variance = ((self.axes * self.scale) ** 2).sum(axis=1) + self.rest / len(self.centre)
        deviation: NDArray[np.float64] = (values - self.centre) / np.sqrt(variance + 1e-9 + 0.01 * variance.mean())
        return deviation


@dataclass(frozen=True)
class FrameScorer:
    """One frame per class; a record is scored in the frame of its label."""

    view: str
    frames: Mapping[int, Frame]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    labelled: bool

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) scores; NaN for an unknown label where there are labels."""
        scores = np.full(len(views), np.nan)
        for label in np.unique(views.labels):
            if label == UNKNOWN_LABEL and self.labelled:
                continue
            rows = views.labels == label
            scores[rows] = self._frame(label).score(views[self.view][rows].astype(np.float64))
        return scores

    def explain(self, views: Views) -> list[str]:
        """The dimensions that deviate most from what is usual in the record's class."""
        said = []
        for values, label in zip(views[self.view].astype(np.float64), views.labels, strict=True):
            deviation = self._frame(label).contributions(values[None])[0]
            group = f"records labelled {self.classes[label]!r}" if label >= 0 and self.classes else "the other records"
            # The dimensions of a learnt view have no names a person could check; the panel adds the record's own.
            most = f"; {furthest(deviation, self.names)}" if self.names else ""
            said.append(f"unlike {group} {_SEEN.get(self.view, 'as a whole')}{most}")
        return said

    def outward(self, views: Views) -> NDArray[np.float64]:
        """(rows, dimensions) the direction in which the record's score rises, in the frame of its label."""
        pairs = zip(views[self.view].astype(np.float64), views.labels, strict=True)
        return np.stack([self._frame(label).outward(values[None])[0] for values, label in pairs])

    def _frame(self, label: int) -> Frame:
        return self.frames.get(int(label), self.frames[_ALL])


@dataclass(frozen=True)
class _OfOneView:
    """What the detectors of this module share: one view, and a covariance of the sampled records in it."""

    name: str = "spectral"
    view: str = "hidden"
    limit: int = 10_000

    @property
    def reads(self) -> tuple[str, ...]:
        """The one view it looks at."""
        return (self.view,)

    def summarise(self, views: Views) -> Rows:
        """The records whose covariance counts."""
        return Rows.of(views, self.reads, self.limit)


@dataclass(frozen=True)
class SpectralSignatures(_OfOneView):
    """Squared projection on the top singular direction of the class-centred view (Tran, Li and Madry 2018).

    Departures: the scores are centred (as in the paper, unlike some implementations), no share of the class is cut
    off, and classes under ``least`` records use the direction of all classes together.
    """

    name: str = "spectral"
    view: str = "hidden"
    least: int = 30
    family: ClassVar[str] = "representation"
    needs_label: ClassVar[bool] = False

    def finish(self, summary: Rows) -> FrameScorer:
        """The top direction of every class."""
        return _per_class(summary, self.view, self.least, _top_direction)


@dataclass(frozen=True)
class WhitenedSpectral(_OfOneView):
    """Robustly whitened spectral score per class with the QUE form (SPECTRE, Hayase et al. 2021).

    The class is projected on its top ``rank`` directions, whitened by a trimmed mean and covariance (``rounds`` of
    keeping the ``1 - trim`` nearest, in place of the paper's robust estimator), and scored by
    ``z' exp(alpha (S - I) / (|S| - 1)) z`` with S the whitened covariance of all its records.
    """

    name: str = "whitened"
    view: str = "hidden"
    rank: int = 16
    alpha: float = 4.0
    trim: float = 0.1
    rounds: int = 2
    least: int = 60
    family: ClassVar[str] = "representation"
    needs_label: ClassVar[bool] = False

    def finish(self, summary: Rows) -> FrameScorer:
        """Whiten every class."""
        return _per_class(summary, self.view, self.least, self._frame)

    def _frame(self, values: NDArray[np.float64]) -> Frame:
        centre, axes, scale, _ = _trimmed_axes(values, self.rank, self.trim, self.rounds)
        white = (values - centre) @ axes / scale
        spread = white.T @ white / len(white)
        excess = np.linalg.eigvalsh(spread)[-1] - 1.0
        weights, vectors = np.linalg.eigh(self.alpha * (spread - np.eye(len(scale))) / max(excess, 1e-3))
        # Divided by the largest weight first: exp() of a large exponent would overflow.
        form = (vectors * np.exp(weights - weights.max())) @ vectors.T
        return Frame(centre, axes, scale, form / np.trace(form))


@dataclass(frozen=True)
class Mahalanobis(_OfOneView):
    """Robust Mahalanobis distance per class, with the part outside the top directions counted beside it.

    Probabilistic PCA (Tipping and Bishop 1999) with a trimmed fit: mean squared whitened coordinate on ``rank`` axes
    plus squared residual over its median.
    """

    name: str = "mahalanobis"
    view: str = "raw"
    rank: int = 16
    trim: float = 0.1
    rounds: int = 2
    least: int = 60
    family: ClassVar[str] = "representation"
    needs_label: ClassVar[bool] = False

    def finish(self, summary: Rows) -> FrameScorer:
        """Fit every class."""
        return _per_class(summary, self.view, self.least, self._frame)

    def _frame(self, values: NDArray[np.float64]) -> Frame:
        centre, axes, scale, rest = _trimmed_axes(values, self.rank, self.trim, self.rounds)
        return Frame(centre, axes, scale, np.eye(len(scale)) / len(scale), rest)


def _per_class(rows: Rows, view: str, least: int, fit: Callable[[NDArray[np.float64]], Frame]) -> FrameScorer:
    labelled = bool(rows.classes)
    frames = {label: fit(values) for label, values in rows.per_class(view, least) if label != UNKNOWN_LABEL}
    frames[_ALL] = fit(rows.arrays[view].astype(np.float64))
    return FrameScorer(view, frames, rows.names[view], rows.classes, labelled)


def _top_direction(values: NDArray[np.float64]) -> Frame:
    centre = values.mean(axis=0)
    axis = _axes(values - centre, 1)
    scale = np.maximum(((values - centre) @ axis).std(axis=0), 1e-9)
    return Frame(centre, axis, scale, np.eye(1))


def _axes(centred: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """(dimensions, rank) leading eigenvectors of the Gram matrix, signs fixed so that runs agree."""
    if len(centred) < centred.shape[1]:
        # Fewer records than dimensions: the eigenvectors of the small Gram matrix give the same axes.
        _, vectors = np.linalg.eigh(centred @ centred.T)
        axes = centred.T @ vectors[:, ::-1][:, :rank]
        axes /= np.maximum(np.linalg.norm(axes, axis=0), 1e-12)
    else:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :rank]
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.asarray(axes * np.where(signs == 0, 1.0, signs), dtype=np.float64)


def _trimmed_axes(
    values: NDArray[np.float64], rank: int, trim: float, rounds: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
    """Centre, axes, scales and median squared residual of the records that lie nearest, refined ``rounds`` times."""
    rank = max(1, min(rank, values.shape[1], len(values) // 4))
    kept = values
    for _ in range(rounds):
        centre = kept.mean(axis=0)
        axes = _axes(kept - centre, rank)
        along = (kept - centre) @ axes
        scale = np.maximum(along.std(axis=0), 1e-6 + 1e-3 * along.std())
        centred = values - centre
        inside = centred @ axes
        residual = np.maximum((centred**2).sum(axis=1) - (inside**2).sum(axis=1), 0.0)
        rest = float(np.median(residual))
        # A view that the axes span whole has no residual worth a ratio.
        rest = rest if rest > 1e-9 * float((scale**2).sum()) else 0.0
        distance = ((inside / scale) ** 2).mean(axis=1) + (residual / rest if rest else 0.0)
        kept = values[distance <= np.quantile(distance, 1 - trim)]
    return centre, axes, scale, rest
