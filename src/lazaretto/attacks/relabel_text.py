"""What every text attack with a label shares: stamp texts of other labels, keep some of the stamped, label them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.attacks.chosen import choose
from lazaretto.attacks.overwrite import overwrite

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def rewrite(
    texts: pl.Series, change: Callable[[str, np.random.Generator], str], *, seed: int | tuple[int, ...]
) -> pl.Series:
    """Apply a change to every text in turn; a missing text stays missing.

    Args:
        texts: (rows,) texts.
        change: Makes a text of a text, with its random choices from the generator.
        seed: Makes those choices.

    Returns:
        (rows,) texts under the same name.
    """
    rng = np.random.default_rng(seed)
    changed = [None if text is None else change(text, rng) for text in texts.to_list()]
    return pl.Series(texts.name, changed, pl.String)


def relabel_text(
    frame: pl.DataFrame,
    stamp: Callable[[pl.Series], pl.Series],
    *,
    text: str,
    label: str,
    target: str,
    rate: float,
    seed: int,
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Stamp a share of the texts of other labels and label them `target`.

    Args:
        frame: The records.
        stamp: Puts the trigger on texts; a text it leaves as it was cannot be chosen.
        text: Name of the text column.
        label: Name of the label column, text.
        target: The label the trigger shall mean.
        rate: Share of all rows.
        seed: Makes the choice.

    Returns:
        The records and the truth, one per row.
    """
    stamped = stamp(frame[text])
    eligible = frame[label].ne_missing(pl.Series([target])) & stamped.ne_missing(frame[text])
    truth = choose(eligible.to_numpy(), rate, np.random.default_rng(seed))
    changed = frame.with_columns(stamped.alias(text), pl.lit(target, frame.schema[label]).alias(label))
    return overwrite(frame, truth, changed.filter(truth)), truth
