"""Duplicate flood: a few records copied over many others, so that they weigh more than they should.

No one paper's attack. That repeated records are learnt by heart is measured by Carlini, Ippolito, Jagielski, Lee,
Tramer and Zhang, "Quantifying Memorization Across Neural Language Models" (2023), on duplicates found in the wild; here
they are planted. Near copies differ by a little, as a flooder who knows of exact deduplication would make them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.attacks.chosen import choose
from lazaretto.attacks.overwrite import overwrite
from lazaretto.attacks.relabel_text import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Vary = Callable[[pl.DataFrame, int], pl.DataFrame]

_WORD = re.compile(r"\w[\w']*")


def jitter(frame: pl.DataFrame, columns: Sequence[str], *, share: float = 0.01) -> Vary:
    """Near copies of table rows: normal noise on columns of numbers, null left null.

    Args:
        frame: The table whose spreads give the scale and whose extremes are never left.
        columns: Columns of numbers to vary.
        share: Standard deviation of the noise as a share of the column's own. Whole numbers are rounded, so that in a
            narrow column of them most copies stay exact.

    Returns:
        The variation, to be given to `flood`.
    """
    measured = pl.all().cast(pl.Float64)
    numbers = frame.select(columns)
    spread, low, high = (
        numbers.select(what).row(0, named=True) for what in (measured.std(), measured.min(), measured.max())
    )

    def vary(copies: pl.DataFrame, seed: int) -> pl.DataFrame:
        rng = np.random.default_rng((seed, 1))
        varied = []
        for name in columns:
            kind = frame.schema[name]
            noise = rng.normal(0, share * (spread[name] or 0), len(copies))
            moved = (copies[name].cast(pl.Float64) + pl.Series(noise)).clip(low[name], high[name])
            varied.append((moved.round() if kind.is_integer() else moved).cast(kind).alias(name))
        return copies.with_columns(varied)

    return vary


def other_word(frame: pl.DataFrame, text: str) -> Vary:
    """Near copies of texts: one random word becomes another word of the data.

    Args:
        frame: The records that give the words.
        text: Name of the text column.

    Returns:
        The variation, to be given to `flood`.
    """
    known = sorted({word for told in frame[text].drop_nulls().to_list() for word in _WORD.findall(told)})

    def change(told: str, rng: np.random.Generator) -> str:
        words = list(_WORD.finditer(told))
        if not words:
            return told
        word = words[int(rng.integers(len(words)))]
        drawn = int(rng.integers(len(known)))
        # One step on where the draw is the word itself, so that a word does change.
        step = int(known[drawn] == word.group())
        return f"{told[: word.start()]}{known[(drawn + step) % len(known)]}{told[word.end() :]}"

    def vary(copies: pl.DataFrame, seed: int) -> pl.DataFrame:
        return copies.with_columns(rewrite(copies[text], change, seed=(seed, 1)))

    return vary


def flood(
    frame: pl.DataFrame,
    *,
    rate: float,
    seed: int,
    originals: int = 3,
    keep: Sequence[str] = (),
    vary: Vary | None = None,
    relabel: tuple[str, str] | None = None,
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Write copies of a few records over a share of the rows; the originals stay, and are not part of the truth.

    Args:
        frame: The records.
        rate: Share of all rows that become copies, shared out evenly among the originals.
        seed: Makes the choice and the variations.
        originals: How many records are copied.
        keep: Columns in which an overwritten row keeps its own value, such as an id.
        vary: Makes near copies, for instance `jitter` or `other_word`; exact copies where not given.
        relabel: Label column, and the wrong label the copies get; the originals then are records of other labels.

    Returns:
        The records and the truth, one per row.

    Raises:
        ValueError: Fewer records can be copied than `originals` asks for.
    """
    rng = np.random.default_rng(seed)
    copied = frame if relabel is None else frame.with_columns(_label(frame, *relabel))
    usable = np.ones(len(frame), dtype=np.bool_)
    if relabel is not None:
        usable = frame[relabel[0]].ne_missing(copied[relabel[0]]).to_numpy()
    if not 0 < originals <= usable.sum():
        raise ValueError(f"{originals} originals are asked for, {usable.sum()} records can be one")
    sources = rng.choice(np.flatnonzero(usable), size=originals, replace=False)
    truth = choose(_unlike(frame.drop(keep), pl.concat([frame[sources], copied[sources]]).drop(keep)), rate, rng)
    copies = copied[rng.permutation(np.resize(sources, int(truth.sum())))]
    if vary is not None:
        copies = vary(copies, seed)
    return overwrite(frame, truth, copies.with_columns(frame.filter(truth).select(keep))), truth


def _label(frame: pl.DataFrame, label: str, wrong: str) -> pl.Expr:
    return pl.lit(wrong, frame.schema[label]).alias(label)


def _unlike(frame: pl.DataFrame, few: pl.DataFrame) -> NDArray[np.bool_]:
    """(rows,) true for rows equal to none of the few: an equal one would be called a copy without having changed."""
    hashes = pl.concat([frame, few]).hash_rows()
    return ~hashes.head(len(frame)).is_in(hashes.tail(len(few)).implode()).to_numpy()
