"""One column of a table as numbers: robustly scaled values, categories, missingness, and codes for trigger tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Codes = NDArray[np.uint32]

_LEVELS = 129
_REACH = 4.0
"""Most that is added to the normal score of a value beyond the last percent."""
_LAST = 3
"""Levels of the grid from either end at which the continuation starts."""
_TOP_CATEGORIES = 32
_RARE_SHARE = 0.002
_BINS = 16


class Column(Protocol):
    """A fitted column encoder."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each encoded dimension stands for."""
        ...

    def encode(self, values: pl.Series) -> Floats:
        """(rows, dimensions), finite."""
        ...

    def codes(self, values: pl.Series) -> tuple[Codes, Codes]:
        """A coarse and a fine code per record, (rows,) each, for trigger tokens."""
        ...

    def coarsely(self, values: pl.Series) -> str:
        """What the coarse code of the first of ``values`` stands for, to follow the column's name."""
        ...

    def usual_but(self, value: object) -> float | str | None:
        """The most usual value but this one; None where there is none, or it is that none is there."""
        ...


@dataclass(frozen=True)
class Number:
    """Normal scores of a number by the sample's quantiles, continued beyond its last percent, plus missingness.

    Ranks make heavy tails and zero-inflated columns comparable; the continuation keeps a value far outside visible.
    """

    names: tuple[str, ...]
    grid: NDArray[np.float64]
    """(129,) quantiles of the sample."""
    spread: float
    """Robust width of the sample, the unit outside its range."""
    missing: bool

    @classmethod
    def fit(cls, name: str, values: pl.Series) -> Number:
        """Fit on the sample's values; an all-null column encodes as constant."""
        known = values.drop_nulls().cast(pl.Float64).to_numpy()
        grid = np.quantile(known, np.linspace(0, 1, _LEVELS)) if len(known) else np.zeros(_LEVELS)
        spread = float(grid[96] - grid[32]) or float(grid[-1] - grid[0]) or 1.0
        missing = values.null_count() > 0
        return cls((name, f"{name} missing") if missing else (name,), grid, spread, missing)

    def encode(self, values: pl.Series) -> Floats:
        """(rows, 1 or 2): normal score, and 1 where the value is missing."""
        raw = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        absent = np.isnan(raw)
        raw = np.where(absent, self.grid[_LEVELS // 2], raw)
        # The middle of all levels a tied value spans: a column that is mostly zero puts zero at its true rank.
        low = np.interp(raw, self.grid, np.linspace(0, 1, _LEVELS))
        left = np.searchsorted(self.grid, raw, side="left") / (_LEVELS - 1)
        right = (np.searchsorted(self.grid, raw, side="right") - 1) / (_LEVELS - 1)
        rank = np.where(right > left, (left + right) / 2, low)
        score = _normal_quantile(np.clip(rank, 1e-3, 1 - 1e-3))
        # From the last percent on, not from the largest value: a poison's own value may be the largest.
        beyond = np.maximum(raw - self.grid[-_LAST], 0) - np.maximum(self.grid[_LAST - 1] - raw, 0)
        score = score + np.clip(np.sign(beyond) * np.log1p(np.abs(beyond) / self.spread), -_REACH, _REACH)
        score[absent] = 0.0
        columns = [score, absent.astype(np.float64)] if self.missing else [score + 8.0 * absent]
        return np.stack(columns, axis=1).astype(np.float32)

    def codes(self, values: pl.Series) -> tuple[Codes, Codes]:
        """The sixteenth of the sample it falls into, and a hash of the exact value."""
        raw = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        coarse = np.where(np.isnan(raw), 255, np.searchsorted(self._edges, raw, side="right")).astype(np.uint32)
        bits = np.where(np.isnan(raw), np.nan, raw + 0.0).view(np.uint64)  # + 0.0 makes -0.0 and 0.0 one value
        return coarse, ((bits * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)).astype(np.uint32)

    def coarsely(self, values: pl.Series) -> str:
        """The sixteenth of the sample, by its ends."""
        value = values.cast(pl.Float64)[0]
        if value is None or np.isnan(value):
            return "missing"
        place, edges = int(np.searchsorted(self._edges, value, side="right")), [f"{edge:.6g}" for edge in self._edges]
        if place == 0:
            return f"under {edges[0]}"
        return f"from {edges[place - 1]}" if place == len(edges) else f"from {edges[place - 1]} to under {edges[place]}"

    def usual_but(self, value: object) -> float | None:
        """The quantile nearest to the median that is another value."""
        for level in sorted(range(_LEVELS), key=lambda level: abs(level - _LEVELS // 2)):
            if self.grid[level] != value:
                return float(self.grid[level])
        return None

    @property
    def _edges(self) -> NDArray[np.float64]:
        """(edges,) ascending, between stretches that hold a sixteenth of the sample each where values do not tie."""
        return np.unique(self.grid[:: (_LEVELS - 1) // _BINS])


@dataclass(frozen=True)
class Category:
    """One-hot of the frequent values, and how rare the value is; unseen values are the rarest."""

    names: tuple[str, ...]
    frequent: tuple[str, ...]
    rarity: Mapping[str, float]
    """Value -> standardised minus log frequency in the sample."""
    unseen: float

    @classmethod
    def fit(cls, name: str, values: pl.Series) -> Category:
        """Fit on the sample; null is a value of its own."""
        counts = values.rename("value").cast(pl.String).fill_null("\0null").value_counts(sort=True, name="records")
        labels, numbers = counts["value"].to_list(), counts["records"].to_numpy()
        order = sorted(range(len(labels)), key=lambda i: (-int(numbers[i]), labels[i]))
        total = max(int(numbers.sum()), 1)
        frequent = tuple(labels[i] for i in order[:_TOP_CATEGORIES] if numbers[i] >= _RARE_SHARE * total)
        surprise = -np.log(numbers / total)
        mean = float((surprise * numbers).sum() / total)
        deviation = float(np.sqrt(((surprise - mean) ** 2 * numbers).sum() / total)) or 1.0
        rarity = {label: float((s - mean) / deviation) for label, s in zip(labels, surprise, strict=True)}
        unseen = float((np.log(total + 1.0) + 1.0 - mean) / deviation)
        shown = tuple(f"{name} = {_shown(value)}" for value in frequent)
        return cls((*shown, f"rarity of {name}"), frequent, rarity, unseen)

    def encode(self, values: pl.Series) -> Floats:
        """(rows, frequent values + 1)."""
        text = values.cast(pl.String).fill_null("\0null")
        hot = np.zeros((len(text), len(self.frequent) + 1), dtype=np.float32)
        index = text.replace_strict(self.frequent, list(range(len(self.frequent))), default=-1, return_dtype=pl.Int64)
        positions = index.to_numpy()
        rows = np.flatnonzero(positions >= 0)
        hot[rows, positions[rows]] = 1.0
        rarity = text.replace_strict(self.rarity, default=self.unseen, return_dtype=pl.Float64)
        hot[:, -1] = np.clip(rarity.to_numpy(), -8.0, 8.0)
        return hot

    def codes(self, values: pl.Series) -> tuple[Codes, Codes]:
        """The value's place among the frequent ones, and a hash of the value (stable across runs)."""
        text = values.cast(pl.String).fill_null("\0null")
        distinct = text.unique().to_list()
        stable = {value: _text_hash(value) for value in distinct}
        fine = text.replace_strict(stable, return_dtype=pl.UInt32).to_numpy()
        index = text.replace_strict(self.frequent, list(range(len(self.frequent))), default=255, return_dtype=pl.UInt32)
        return index.to_numpy(), fine

    def coarsely(self, values: pl.Series) -> str:
        """The value, or that it is none of the frequent ones."""
        value = values.cast(pl.String).fill_null("\0null")[0]
        if value not in self.frequent:
            return "a rare value"
        return "missing" if value == "\0null" else f"= {_shown(value)!r}"

    def usual_but(self, value: object) -> str | None:
        """The most frequent of the other values."""
        others = (known for known in self.frequent if known not in {value, "\0null"})
        return next(others, None)


def _text_hash(text: str) -> int:
    import zlib

    return zlib.crc32(text.encode())


def _shown(value: str) -> str:
    return "missing" if value == "\0null" else value[:40]


def _normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import ndtri

    return np.asarray(ndtri(p), dtype=np.float64)
