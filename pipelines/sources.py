"""Which source delivers wrong labels? A test per source over all its records, for single ones may all look innocent.

Every record is judged by a probe that was not trained on it: the class it predicts and how sure it is. Where the probe
says "70 % late", 70 % of the labels should say late, from whatever source. A source a share ``e`` of whose labels was
replaced by others agrees with the probe as ``(1 - e) q + e (1 - q) / (K - 1)`` in place of ``q``: of the sure and of
the unsure, and whichever class is predicted, agreement moves towards chance. ``q`` is what the *other* sources show for
records of like kind, the same predicted class and the same sureness, so that a probe that is too sure of itself accuses
nobody.

A source that honestly has more of one class moves otherwise: what one class gains, the others lose. The log odds of
agreement may therefore be shifted for each class, freely for each source (they sum to zero over the classes), and only
what no such shift explains counts. The test is Neyman's C(alpha) in the form of a score test (Rao 1948; Neyman 1959)
of ``e <= TOLERATED`` against more, the shifts estimated under the hypothesis; over the sources by Holm (1979). Poiyadzi
et al., "Hypothesis Testing for Class-Conditional Label Noise" (2021), test a whole data set so, at anchor points that
must be known; that other sources stand in for those is our own.

No single source shall decide what is usual. One whose labels all lie in the same way agrees with a probe that learnt to
expect it, and the honest ones look wrong beside it. Whoever is accused is therefore tested again without each large
source among the others, and stays accused if every such test says so, too (Bonferroni over the accused). And where a
source that brings a fifth of all records has hardly any label but one, and the others do not, the probe itself has
learnt the source in place of the columns: then nobody is tested.

It assumes that records of like kind get like labels from every honest source, up to those shifts and up to `TOLERATED`.
A source whose labels follow from the columns less than others' do, honestly, looks like one with wrong labels. Wrong
labels that all sources have are not seen, nor are those that the columns say nothing about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TOLERATED = 0.05
"""Share of wrong labels beyond the other sources' that is no accusation: data are seldom labelled alike everywhere."""
CHANCE = 0.05
"""Probability, over all sources of a batch together, that an innocent one is named."""
FEWEST = 30
"""Records below which a source is not tested: no normal distribution describes so few."""
_LARGE = 0.05
"""Share of all records from which a source can decide what is usual of the others."""
_DOMINANT, _ONE_LABEL, _MIXED = 0.2, 0.9, 0.5
"""Share of all records from which a source of one label misleads the probe, the share of that label, and the share of
it among the other records at most."""
_BINS = 40
_LEAST_VARIANCE = 0.15
"""Weights are as if no cell varied less, or a few labels that contradict a sure probe would decide."""
_RIDGE = 0.05
_STEPS = 40
_PRIOR = 20.0
"""Records that the others are taken to have had of every kind, agreeing as often as all kinds together let expect."""

_KEYS = ["source", "predicted", "sure", "agrees"]


@dataclass(frozen=True)
class SourceCounts:
    """How often the labels of each source agree with the probe.

    Attributes:
        frame: source, predicted (class index), sure (bin of the probe's probability), agrees, and how many ``records``.
    """

    frame: pl.DataFrame

    @classmethod
    def of(
        cls, sources: pl.Series, labels: NDArray[np.int64], predicted: NDArray[np.int64], sure: Floats
    ) -> SourceCounts:
        """Count some records.

        Args:
            sources: (rows,) who supplied each; records without a source are everybody's and nobody's.
            labels: (rows,) class indices; records with an unknown label, below 0, are not counted.
            predicted: (rows,) class index that the probe predicts.
            sure: (rows,) probability it gives that class; not counted where it is NaN.
        """
        known = (labels >= 0) & np.isfinite(sure)
        columns = {
            "source": sources.filter(pl.Series(known, dtype=pl.Boolean)),
            "predicted": predicted[known].astype(np.int64),
            "sure": np.minimum(sure[known] * _BINS, _BINS - 1).astype(np.int64),
            "agrees": labels[known] == predicted[known],
        }
        return cls(pl.DataFrame(columns).group_by(_KEYS).agg(records=pl.len().cast(pl.Int64)))

    def merge(self, other: Self) -> SourceCounts:
        """The counts of both together."""
        both = pl.concat([self.frame, other.frame])
        return SourceCounts(both.group_by(_KEYS).agg(pl.col("records").sum()))

    def misleading(self) -> bool:
        """Whether a large source has hardly any label but one, as the probe knows, and the others have not."""
        told = self.frame.filter("agrees").group_by("source", "predicted").agg(labelled=pl.col("records").sum())
        sizes = self.frame.group_by("source").agg(all=pl.col("records").sum())
        arrived = int(self.frame["records"].sum())
        everywhere = {int(label): int(n) for label, n in told.group_by("predicted").agg(pl.sum("labelled")).iter_rows()}
        for _, label, labelled, size in told.join(sizes, on="source", nulls_equal=True).iter_rows():
            rest = (everywhere[label] - labelled) / max(arrived - size, 1)
            if size >= _DOMINANT * arrived and labelled >= _ONE_LABEL * size and rest <= _MIXED:
                return True
        return False

    def cells(self, without: str | None = None) -> Iterator[tuple[str, Cells]]:
        """Each source with its records by predicted class and sureness, and the others' beside them, in order.

        Args:
            without: A source that is left out.
        """
        from scipy.special import expit

        frame = self.frame if without is None else self.frame.filter(pl.col("source").ne_missing(without))
        counted = frame.group_by("source", "predicted", "sure").agg(
            records=pl.col("records").sum(), agreeing=pl.col("records").filter("agrees").sum()
        )
        everybody = counted.group_by("predicted", "sure").agg(
            all_records=pl.col("records").sum(), all_agreeing=pl.col("agreeing").sum()
        )
        beside = counted.drop_nulls("source").join(everybody, on=["predicted", "sure"])
        beside = beside.sort("source", "predicted", "sure")
        line = _line(everybody.sort("predicted", "sure"))
        for part in beside.partition_by("source", maintain_order=True):
            n, a, all_n, all_a = (
                part[name].to_numpy().astype(np.float64)
                for name in ("records", "agreeing", "all_records", "all_agreeing")
            )
            usual = expit(line[0] + line[1] * _log_odds(part["sure"].to_numpy()))
            yield str(part["source"][0]), Cells(part["predicted"].to_numpy(), usual, n, a, all_n - n, all_a - a)


@dataclass(frozen=True)
class Cells:
    """One source's records in cells of one predicted class and one sureness; all arrays (cells,)."""

    predicted: NDArray[np.int64]
    usual: Floats
    """How often records so sure agree, of whatever source and class, on a line through all kinds."""
    records: Floats
    agreeing: Floats
    other_records: Floats
    other_agreeing: Floats

    def tested(self, classes: int) -> tuple[float, float]:
        """p-value of at most `TOLERATED` wrong labels, and the estimated share of them.

        Args:
            classes: Number of classes, two at least.
        """
        from scipy.special import ndtr

        fit = _Fit(self, classes)
        score, information, spread = fit.at(TOLERATED)
        p_value = float(ndtr(-score / spread)) if spread > 0 else 1.0
        share, most = TOLERATED, 1 - 1 / classes
        for _ in range(_STEPS):
            step = score / information if information > 0 else 0.0
            moved = float(np.clip(share + step, 0.0, 0.9 * most))
            if abs(moved - share) < 1e-3:  # noqa: PLR2004  a tenth of a percent is all that is told
                break
            share = moved
            score, information, _ = fit.at(share)
        return p_value, share


class _Fit:
    """The shifts of one source's classes, fitted under a given share of wrong labels, from where they were last."""

    def __init__(self, cells: Cells, classes: int) -> None:
        from scipy.special import logit

        self._cells, self._classes = cells, classes
        usual = (cells.other_agreeing + _PRIOR * cells.usual) / (cells.other_records + _PRIOR)
        self._usual = logit(np.clip(usual, 1e-3, 1 - 1e-3))
        # What the others show is an estimate, too.
        self._spread = cells.records * (1 + cells.records / (cells.other_records + _PRIOR))
        self._design = _shifts(cells.predicted, classes)
        self._shifts = np.zeros(self._design.shape[1])

    def at(self, share: float) -> tuple[float, float, float]:
        """The score of ``share`` without what shifts explain, its information, and its standard deviation."""
        for _ in range(_STEPS):
            residual, weight, slope, _, _ = self._state(share)
            moved = self._solve(slope, weight, slope.T @ (weight * residual) - _RIDGE * self._shifts)
            self._shifts = self._shifts + np.clip(moved, -1.0, 1.0)
            if np.abs(moved).max(initial=0.0) < 1e-6:  # noqa: PLR2004  far below what a shift is known to
                break
        residual, weight, slope, towards, variance = self._state(share)
        effect = weight * towards
        effect = effect - weight * (slope @ self._solve(slope, weight, slope.T @ effect))
        spread = float(np.sqrt(np.sum(effect**2 * variance)))
        return float(effect @ residual), float(effect @ towards), spread

    def _state(self, share: float) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """Residuals, weights, slopes by the shifts (cells, shifts), slopes by the share, and variances."""
        from scipy.special import expit

        cells, others = self._cells, self._classes - 1
        honest = expit(self._usual + self._design @ self._shifts)
        expected = (1 - share) * honest + share * (1 - honest) / others
        binomial = expected * (1 - expected)
        steep = (1 - share - share / others) * honest * (1 - honest) * cells.records
        return (
            cells.agreeing - cells.records * expected,
            1 / (np.maximum(binomial, _LEAST_VARIANCE) * self._spread),
            steep[:, None] * self._design,
            cells.records * ((1 - honest) / others - honest),
            binomial * self._spread,
        )

    @staticmethod
    def _solve(slope: Floats, weight: Floats, right: Floats) -> Floats:
        normal = slope.T @ (weight[:, None] * slope) + _RIDGE * np.eye(slope.shape[1])
        return np.asarray(np.linalg.solve(normal, right), dtype=np.float64)


def _line(everybody: pl.DataFrame) -> tuple[float, float]:
    """Level and slope of the log odds of agreement by those of sureness (Platt 1999), slightly drawn to 0 and 1."""
    from scipy.special import expit

    n, a = (everybody[name].to_numpy().astype(np.float64) for name in ("all_records", "all_agreeing"))
    x = np.column_stack([np.ones(len(n)), _log_odds(everybody["sure"].to_numpy())])
    prior, line = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    for _ in range(_STEPS):
        share = expit(x @ line)
        weight = n * share * (1 - share)
        normal = x.T @ (weight[:, None] * x) + np.eye(2)
        line = line + np.clip(np.linalg.solve(normal, x.T @ (a - n * share) - (line - prior)), -1.0, 1.0)
    return float(line[0]), float(line[1])


def _log_odds(bins: NDArray[np.int64]) -> Floats:
    """(cells,) of the middle of each bin of sureness."""
    middle = (bins + 0.5) / _BINS
    return np.asarray(np.log(middle / (1 - middle)), dtype=np.float64)


def _shifts(predicted: NDArray[np.int64], classes: int) -> Floats:
    """(cells, shifts) which shift moves which cell.

    The shifts of all classes sum to zero. Where some class is never predicted, its shift is whatever makes it so, and
    those of the others are free.
    """
    seen = np.unique(predicted)
    if len(seen) < classes and classes > 2:  # noqa: PLR2004  of two classes the one shift is minus the other
        return np.asarray(predicted[:, None] == seen, dtype=np.float64)
    basis = np.vstack([np.eye(classes - 1), -np.ones(classes - 1)])
    return basis[predicted]


def judged_sources(counts: SourceCounts | None, classes: int, chance: float = CHANCE) -> Mapping[str, dict[str, Any]]:
    """Source -> ``p_value``, ``share`` of wrong labels, and whether it is ``named``; only of those that can be tested.

    Args:
        counts: Of all records; None where no probe looked at them.
        classes: Number of classes.
        chance: Probability, over all sources together, that an innocent one is named.
    """
    if counts is None or classes < 2:  # noqa: PLR2004  one label is no class
        return {}
    if counts.misleading():
        return {}
    cells = dict(counts.cells())
    alone = len(cells) < 2  # noqa: PLR2004  a source alone has nobody to be compared with
    found = {} if alone else {
        name: part.tested(classes) for name, part in cells.items() if part.records.sum() >= FEWEST
    }  # fmt: skip
    order = sorted(found, key=lambda name: (found[name][0], name))
    accused: list[str] = []
    for rank, name in enumerate(order):
        if found[name][0] * (len(order) - rank) > chance:
            break
        accused.append(name)
    again = _against_the_rest(counts, cells, accused, classes)
    return {
        name: {
            "p_value": float(f"{found[name][0]:.3g}"),
            "share": round(found[name][1], 3),
            "named": name in again and again[name] * len(accused) <= chance,
        }
        for name in order
    }


def _against_the_rest(
    counts: SourceCounts, cells: Mapping[str, Cells], accused: Sequence[str], classes: int
) -> dict[str, float]:
    """Accused source -> its largest p-value when any one large source among the others is left out."""
    p_values = dict.fromkeys(accused, 0.0)
    arrived = int(counts.frame["records"].sum())
    large = [name for name, part in cells.items() if part.records.sum() >= _LARGE * arrived]
    for other in large if len(cells) > 2 else ():  # noqa: PLR2004  of two, one would have nobody left
        asked = set(accused) - {other}
        for name, part in counts.cells(without=other) if asked else ():
            if name in asked:
                p_values[name] = max(p_values[name], part.tested(classes)[0])
    return p_values
