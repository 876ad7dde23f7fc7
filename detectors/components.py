"""Hidden components: a group within a class that is shifted by one pattern, too faint for any single record to show.

A fixed pattern added to some records of a class (a blended key, a sinusoid, an adversarial perturbation) is small
beside what varies from image to image, but it is the same in every one of them. Along the one direction that carries
it, in units of what *other classes* vary there, such a group lies many standard deviations apart from the rest.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL
from lazaretto.detectors.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lazaretto.detector import Views

    Floats = NDArray[np.float64]

_ROUNDS, _SETTLED = 60, 1e-3
"""Iterations of the unmixing, and how little the last may change to end it; more of either found no more poison."""


@dataclass(frozen=True)
class Group:
    """One class: where it lies, its independent components, and how far apart their smaller sides are.

    Attributes:
        centre: (dimensions,).
        axes: (dimensions, components) to independent components of unit variance.
        far: (components,) signed mean of the smaller side along the component.
        strength: (components,) how clearly the smaller side is a group of its own.
        sizes: (components,) records on the smaller side.
    """

    centre: Floats
    axes: Floats
    far: Floats
    strength: Floats
    sizes: NDArray[np.int64]

    def along(self, values: Floats) -> Floats:
        """(rows, components): strength times the squared share of the way to the smaller side's mean."""
        way = np.clip((values - self.centre) @ self.axes / self.far, 0.0, 1.0)
        return np.asarray(self.strength * way**2, dtype=np.float64)


@dataclass(frozen=True)
class HiddenComponents:
    """Two-sided independent components of a class, whitened by the other classes.

    Own method, after SCAn's test for two groups in a class (Tang et al. 2021) and projection pursuit by independent
    component analysis (Hyvarinen 1999). A class is whitened by the covariance of all *other* classes, which an attack
    on one target class does not touch; in its leading directions there, independent components are sought, and every
    component is cut in two where the two sides explain it best. The clarity of the smaller side is
    ``(D - 3) sqrt(m)``: D the distance of the sides' means in standard deviations within them (a normal variable cut
    anywhere has about 3), m the number of records on it. A record scores the clearest side it lies on.
    """

    name: str = "components"
    view: str = "luminance"
    limit: int = 10_000
    counts: tuple[int, ...] = (5, 10, 20)
    """How many components are sought; few are found more surely, many reach directions of less weight."""
    per_component: int = 12
    """Records of the class for each component that is sought."""
    smallest: int = 6
    """Fewer records than this on a side are odd, but no group."""
    least: int = 60
    ridge: float = 1e-4
    family: ClassVar[str] = "representation"
    needs_label: ClassVar[bool] = True
    tail: ClassVar[str] = "narrow"

    @property
    def reads(self) -> tuple[str, ...]:
        """The one view it looks at."""
        return (self.view,)

    def summarise(self, views: Views) -> Rows:
        """The records of every class."""
        return Rows.of(views, self.reads, self.limit)

    def finish(self, summary: Rows) -> ComponentsScorer:
        """Whiten every class by the others and look for groups in it."""
        values = summary.arrays[self.view].astype(np.float64)
        known = np.flatnonzero(summary.labels != UNKNOWN_LABEL)
        centres, members = {}, {}
        for label in np.unique(summary.labels[known]):
            members[int(label)] = rows = known[summary.labels[known] == label]
            centres[int(label)] = values[rows].mean(axis=0)
            values[rows] -= centres[int(label)]
        scatter = values[known].T @ values[known]
        groups = {}
        for label, rows in members.items():
            others = len(known) - len(rows)
            if len(rows) >= self.least and others >= self.least:
                spread = (scatter - values[rows].T @ values[rows]) / others
                groups[label] = self._group(values[rows], centres[label], spread, others)
        return ComponentsScorer(self.view, groups, summary.names.get(self.view, ()), summary.classes)

    def _group(self, centred: Floats, centre: Floats, spread: Floats, others: int) -> Group:
        from scipy.linalg import solve_triangular

        size = len(spread)
        # With hardly more records than dimensions the covariance says nothing of many directions.
        ridge = self.ridge + (0.02 * float(np.trace(spread)) / size if others < 2 * size else 0.0)
        lower = np.linalg.cholesky(spread + ridge * np.eye(size))
        white = solve_triangular(lower, centred.T, lower=True).T
        counts = sorted({max(2, min(count, len(centred) // self.per_component)) for count in self.counts})
        left, lengths, right = _leading(white, counts[-1])
        # From centred values to components: whiten, project on the leading directions, unmix.
        turned = []
        for count in counts:
            unmix = _independent(left[:, :count] * np.sqrt(len(centred)))
            turned.append(right[:count].T / lengths[:count] * np.sqrt(len(centred)) @ unmix.T)
        axes = solve_triangular(lower.T, np.concatenate(turned, axis=1), lower=False)
        cuts = [_cut(component, self.smallest) for component in (centred @ axes).T]
        far, strength, sizes = (np.array([cut[i] for cut in cuts]) for i in range(3))
        return Group(centre, axes, far, strength, sizes.astype(np.int64))


@dataclass(frozen=True)
class ComponentsScorer:
    """Projects records on the components of their label's class."""

    view: str
    groups: Mapping[int, Group]
    names: tuple[str, ...]
    classes: tuple[str, ...]

    def score(self, views: Views) -> Floats:
        """(rows,) clearest group that the record lies in; 0 in a class too small to look at, NaN without a label."""
        scores = np.where(views.labels == UNKNOWN_LABEL, np.nan, 0.0)
        for label, group in self.groups.items():
            rows = np.flatnonzero(views.labels == label)
            if len(rows):
                scores[rows] = group.along(views[self.view][rows].astype(np.float64)).max(axis=1)
        return scores

    def explain(self, views: Views) -> list[str]:
        """How many records share the pattern, and where it is strongest."""
        said = []
        for values, label in zip(views[self.view].astype(np.float64), views.labels, strict=True):
            group = self.groups.get(int(label))
            if group is None:
                said.append("its class is too small to look for groups in it")
                continue
            which = int(group.along(values[None]).argmax())
            said.append(
                f"it shares a faint pattern with about {group.sizes[which]} of the records labelled"
                f" {self.classes[label]!r}, one that other labels hardly have; it may be too faint to see in a"
                " single record"
            )
        return said


def _leading(white: Floats, count: int) -> tuple[Floats, Floats, Floats]:
    """The ``count`` largest singular values of (rows, dimensions), with their vectors on either side.

    By the smaller of the two Gram matrices: of many directions only the first are wanted, and those are well apart.
    """
    from scipy.linalg import eigh

    wide = len(white) <= white.shape[1]
    gram = white @ white.T if wide else white.T @ white
    squares, vectors = eigh(gram, subset_by_index=(max(len(gram) - count, 0), len(gram) - 1))
    lengths, vectors = np.sqrt(np.maximum(squares[::-1], 1e-12)), vectors[:, ::-1]
    if wide:
        return vectors, lengths, (vectors / lengths).T @ white
    return white @ (vectors / lengths), lengths, vectors.T


def _independent(white: Floats) -> Floats:
    """(components, components) unmixing of (rows, components) of unit variance: FastICA with the Gaussian contrast."""
    from sklearn.decomposition import FastICA

    count = white.shape[1]
    model = FastICA(count, fun="exp", whiten="unit-variance", max_iter=_ROUNDS, tol=_SETTLED, random_state=0)
    with warnings.catch_warnings():
        # A component that has not settled is a direction like any other: the cut tells whether it shows a group.
        warnings.simplefilter("ignore")
        model.fit(white)
    return np.asarray(model.components_, dtype=np.float64)


def _cut(component: Floats, smallest: int) -> tuple[float, float, int]:
    """Cut (rows,) values where two normal sides of one width explain them best.

    Returns:
        Mean of the smaller side, its clarity, and its size.
    """
    ordered = np.sort(component)
    rows = len(ordered)
    sums, squares = np.cumsum(ordered), np.cumsum(ordered**2)
    below = np.arange(smallest, rows - smallest + 1)
    low, high = sums[below - 1] / below, (sums[-1] - sums[below - 1]) / (rows - below)
    within = (squares[-1] - below * low**2 - (rows - below) * high**2) / rows
    share = below / rows
    within = np.maximum(within, 1e-9)
    gain = -0.5 * np.log(within) + share * np.log(share) + (1 - share) * np.log(1 - share)
    best = int(gain.argmax())
    apart = (high[best] - low[best]) / np.sqrt(within[best])
    size, far = (below[best], low[best]) if 2 * below[best] <= rows else (rows - below[best], high[best])
    far = far if abs(far) > 1e-6 else 1e-6  # noqa: PLR2004  a constant has no sides
    return float(far), float(max(apart - 3.0, 0.0) * np.sqrt(size)), int(size)
