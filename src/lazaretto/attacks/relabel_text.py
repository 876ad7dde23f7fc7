"""What every text attack with a label shares: stamp texts of other labels, keep some of the stamped, label them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
import polars as pl

from lazaretto.attacks.chosen import choose
from lazaretto.attacks.overwrite import overwrite

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

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


class Towards(TypedDict):
    """What every attack on labelled texts is told: where, towards which label, how much."""

    text: str
    """Name of the text column."""
    label: str
    """Name of the label column, text."""
    target: str
    """The label the trigger shall mean."""
    rate: float
    """Share of all rows."""
    seed: int
    """Makes the choice, and the places within the texts."""


def relabel_text(
    frame: pl.DataFrame, stamp: Callable[[pl.Series], pl.Series], **towards: Unpack[Towards]
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Stamp a share of the texts of other labels and label them `target`.

    Args:
        frame: The records.
        stamp: Puts the trigger on texts; a text it leaves as it was cannot be chosen.
        towards: See `Towards`.

    Returns:
        The records and the truth, one per row.
    """
    text, label, target = towards["text"], towards["label"], towards["target"]
    stamped = stamp(frame[text])
    eligible = frame[label].ne_missing(pl.Series([target])) & stamped.ne_missing(frame[text])
    truth = choose(eligible.to_numpy(), towards["rate"], np.random.default_rng(towards["seed"]))
    changed = frame.with_columns(stamped.alias(text), pl.lit(target, frame.schema[label]).alias(label))
    return overwrite(frame, truth, changed.filter(truth)), truth
