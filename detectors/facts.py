"""Facts about records that a person can check by looking: what a rule that describes suspects is made of.

Every fact is of columns as they came, never of a view that was learnt. Columns that hold personal data give none.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from itertools import chain, pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.detectors.views.characters import ODDITIES, oddities
from lazaretto.detectors.views.images import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from lazaretto.contract import Contract

    Flags = NDArray[np.bool_]
    Floats = NDArray[np.float64]

_LONGEST_VALUE = 60
_MOST_VALUES = 8
_MOST_WORDS = 40
_CHARACTERS = 20_000
"""Only this much of a text is looked at, as by the detectors."""
_COMMON = 0.1
"""A value, or a word, that a smaller share of the members have describes none of them."""
_LOWER = (0.0, 0.02, 0.05, 0.1, 0.25)
"""Quantiles of the members at which a range may begin; it may end at the others of them from above."""
_DIGITS = 3
_FINEST = 300
"""Decimal places from which on a number is said as it is: ten to that power is hardly a number any more."""
_EFFORT = 0.015
_MINED = -0.001
"""Effort of a phrase that was mined: less than of any other that tells as much."""
_WINDOWS = (3, 6)
_CELLS = 4


@dataclass(frozen=True)
class Fact:
    """Something that holds of a record or does not.

    Attributes:
        subject: What it is about; a rule says one thing of it.
        words: The fact, exactly as it was computed.
        holds: (rows,).
        effort: What checking it costs a person, in agreement: a range with two ends more than one value.
    """

    subject: str
    words: str
    holds: Flags
    effort: float = 0.0

    def where(self, rows: Flags) -> Fact:
        """The fact of some of the records."""
        return replace(self, holds=self.holds[rows])


def facts(
    frame: pl.DataFrame,
    members: Flags,
    contract: Contract,
    pixels: Mapping[str, NDArray[np.uint8]],
    mined: str = "",
) -> list[Fact]:
    """What may be said of the members, in the order of the contract's columns.

    Args:
        frame: Canonical records.
        members: (rows,) those to describe.
        contract: Names the columns; the id says nothing, and what is personal is not said.
        pixels: Column -> (rows, side, side, channels), as `looked_at` gives them.
        mined: Words that detectors found in them, which are said rather than others that tell as much.
    """
    found: list[Fact] = []
    for name, column in contract.all_columns.items():
        if column.pii or name == contract.id:
            continue
        if name in pixels:
            found += _of_image(name, pixels[name].mean(axis=3), members)
        elif column.type in {"category", "boolean"} or name in {contract.label, contract.source}:
            found += _of_category(name, frame[name], members)
        elif column.type in {"integer", "number"}:
            found += _missing(name, frame[name], members)
            found += _of_number(name, frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy(), members)
        elif column.type == "timestamp":
            seconds = frame[name].dt.epoch("s").cast(pl.Float64).fill_null(float("nan")).to_numpy()
            found += _missing(name, frame[name], members)
            found += _of_number(name, seconds, members, (_moment, _whole))
        elif column.type == "text":
            found += _of_text(name, frame[name], members, mined)
    return found


def looked_at(
    frame: pl.DataFrame, contract: Contract, sizes: Mapping[str, tuple[int, int]]
) -> dict[str, NDArray[np.uint8]]:
    """Image columns decoded at the size the detectors see them, so that places are called the same.

    Args:
        frame: Canonical records.
        contract: Says which columns are personal; those are not decoded.
        sizes: Column -> side and channels.
    """
    names = [name for name in sizes if not contract.all_columns[name].pii and frame[name].null_count() == 0]
    return {name: decode(frame[name], *sizes[name]) for name in names}


def _of_category(name: str, values: pl.Series, members: Flags) -> Iterator[Fact]:
    text = values.cast(pl.String)
    counts = text.filter(pl.Series(members)).rename("value").value_counts(name="records")
    for value, count in counts.sort("records", "value", descending=[True, False]).head(_MOST_VALUES).iter_rows():
        if count < _fewest(members):
            continue
        if value is None:
            yield Fact(name, f"{name} is missing", values.is_null().to_numpy())
        elif len(value) <= _LONGEST_VALUE:
            yield Fact(name, f"{name} is {value!r}", (text == value).fill_null(value=False).to_numpy())


def _missing(name: str, values: pl.Series, members: Flags) -> Iterator[Fact]:
    absent = values.is_null().to_numpy()
    if absent[members].sum() >= _fewest(members):
        yield Fact(name, f"{name} is missing", absent)


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))  # noqa: PLR2004  exact


def _moment(value: float) -> str:
    import datetime as dt

    return str(dt.datetime.fromtimestamp(value, tz=dt.UTC).replace(tzinfo=None))


def _whole(value: float, *, up: bool) -> float:
    return math.ceil(value) if up else math.floor(value)


def _rounded(value: float, *, up: bool) -> float:
    """Outwards to three digits, so that the words are the condition and the condition still holds."""
    if value == 0 or not math.isfinite(value):
        return value
    places = _DIGITS - 1 - math.floor(math.log10(abs(value)))
    if places > _FINEST or (places <= 0 and value == int(value)):
        return value
    unit = 10.0 ** max(places, 0)
    moved = (math.ceil(value * unit) if up else math.floor(value * unit)) / unit
    return moved if math.isfinite(moved) else value


_PLAINLY: tuple[Callable[[float], str], Callable[..., float]] = (_plain, _rounded)


def _of_number(
    name: str,
    values: Floats,
    members: Flags,
    shown: tuple[Callable[[float], str], Callable[..., float]] = _PLAINLY,
) -> Iterator[Fact]:
    """Values that members share, and ranges that most of them lie in."""
    said, rounded = shown
    inside = np.sort(values[members & ~np.isnan(values)])
    if len(inside) < _fewest(members):
        return
    distinct, counts = np.unique(inside, return_counts=True)
    for place in np.lexsort((distinct, -counts))[:_MOST_VALUES]:
        if counts[place] >= _fewest(members):
            yield Fact(name, f"{name} = {said(float(distinct[place]))}", values == distinct[place])
    ends: dict[tuple[float, float], None] = {}
    for share in _LOWER:
        low, high = (float(inside[round(q * (len(inside) - 1))]) for q in (share, 1 - share))
        low, high = rounded(low, up=False), rounded(high, up=True)
        ends |= dict.fromkeys([(low, math.inf), (-math.inf, high), (low, high)])
    with np.errstate(invalid="ignore"):
        for low, high in ends:
            if low < high:
                open_ended = math.inf in (-low, high)
                held = (values >= low) & (values <= high)
                yield Fact(name, _range(name, low, high, said), held, _EFFORT if open_ended else 2 * _EFFORT)


def _range(name: str, low: float, high: float, said: Callable[[float], str]) -> str:
    if high == math.inf:
        return f"{name} >= {said(low)}"
    if low == -math.inf:
        return f"{name} <= {said(high)}"
    return f"{said(low)} <= {name} <= {said(high)}"


def _of_text(name: str, values: pl.Series, members: Flags, mined: str = "") -> Iterator[Fact]:
    yield from _missing(name, values, members)
    for kind, count in zip(ODDITIES, oddities(values).T, strict=True):
        if (count[members] > 0).sum() >= _fewest(members):
            yield Fact(f"{name}: {kind}", f"{name} has {kind}", count > 0)
    length = values.str.len_chars().cast(pl.Float64).fill_null(float("nan")).to_numpy()
    yield from _of_number(f"length of {name}", length, members)
    plain = values.fill_null("").str.slice(0, _CHARACTERS).str.to_lowercase().str.replace_all(r"\s+", " ")
    for phrase in dict.fromkeys([mined.lower(), *_phrases(plain, members)]):
        holds = _spoken(plain, phrase) if phrase else np.zeros(len(plain), dtype=np.bool_)
        if holds[members].sum() >= _fewest(members):
            what = "words" if " " in phrase else "word"
            yield Fact(
                f"{name}: {phrase}", f"{name} has the {what} {phrase!r}", holds, _MINED * (phrase == mined.lower())
            )


def _spoken(plain: pl.Series, phrase: str) -> Flags:
    """(rows,) which texts have these words, whole and one after the other."""
    words = phrase.split(" ")
    held = np.array(plain.str.contains(words[0], literal=True).to_numpy())
    pattern = r"\b" + r"\W+".join(map(re.escape, words)) + r"\b"
    held[held] = plain.filter(pl.Series(held)).str.contains(pattern).to_numpy()
    return held


def _phrases(plain: pl.Series, members: Flags) -> list[str]:
    """Words and pairs of words that more of the members have than of the others, the most telling first."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(n_features=1 << 20, ngram_range=(1, 2), alternate_sign=False, norm=None, binary=True)
    counts: Any = hashing.transform(plain.to_list())
    have = np.asarray(counts[np.flatnonzero(members)].sum(axis=0)).ravel() / max(int(members.sum()), 1)
    others = np.asarray(counts[np.flatnonzero(~members)].sum(axis=0)).ravel() / max(int((~members).sum()), 1)
    # What few of the others have tells more than what many of the members have.
    telling = np.where(have * members.sum() >= _fewest(members), have * np.log((have + 1e-9) / (others + 1e-3)), 0.0)
    places = np.argsort(-telling, kind="stable")[:_MOST_WORDS]
    wanted = set(places[telling[places] > 0].tolist())
    analyse = hashing.build_analyzer()
    grams = sorted(set(chain.from_iterable(analyse(text) for text in plain.filter(pl.Series(members)).head(200))))
    if not grams or not wanted:
        return []
    single = HashingVectorizer(n_features=1 << 20, analyzer=_as_it_is, alternate_sign=False, norm=None)
    hashes = single.transform([[gram] for gram in grams]).indices.tolist()
    # Of what tells as much, two words before one: they say what the one stands in.
    named = [
        (-float(telling[place]), -gram.count(" "), gram)
        for gram, place in zip(grams, hashes, strict=True)
        if place in wanted
    ]
    return [gram for _, _, gram in sorted(named) if len(gram) <= _LONGEST_VALUE][:_MOST_WORDS]


def _as_it_is(grams: list[str]) -> list[str]:
    return grams


def _of_image(name: str, grey: Floats, members: Flags) -> Iterator[Fact]:
    """How bright and how mixed the whole, the cells of a grid, and the most telling windows are, from 0 to 255."""
    side = grey.shape[1]
    edges = np.linspace(0, side, _CELLS + 1).round().astype(int).tolist()
    cells = [(*rows, *columns) for rows, columns in product(list(pairwise(edges)), repeat=2)]
    for top, bottom, left, right in dict.fromkeys([(0, side, 0, side), *_windows(grey, members), *cells]):
        whole = bottom - top == side
        place = f"pixels in rows {top}-{bottom - 1}, columns {left}-{right - 1} of {side} x {side}"
        where = f"{name}" if whole else f"{name}, {place}"
        part = grey[:, top:bottom, left:right].reshape(len(grey), -1)
        for kind, values in (("brightness", part.mean(axis=1)), ("contrast", part.std(axis=1))):
            if np.ptp(values) > 0:
                yield from _of_number(f"{kind} of {where}", values, members, (_plain, _whole))


def _windows(grey: Floats, members: Flags) -> Iterator[tuple[int, int, int, int]]:
    """The places where members are most alike and most unlike the others."""
    inside, outside = grey[members], grey[~members]
    if not len(outside):
        return
    apart = np.abs(inside.mean(axis=0) - outside.mean(axis=0)) / (inside.std(axis=0) + 4.0)
    for size in _WINDOWS:
        if size < len(apart):
            means = np.lib.stride_tricks.sliding_window_view(apart, (size, size)).mean(axis=(2, 3))
            top, left = np.unravel_index(int(means.argmax()), means.shape)
            yield int(top), int(top) + size, int(left), int(left) + size


def _fewest(members: Flags) -> int:
    return max(2, math.ceil(_COMMON * int(members.sum())))
