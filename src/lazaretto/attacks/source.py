"""A poisoned source: one supplier, carrier or annotator among several delivers a share of lies.

The setting of the collaborative-learning literature, for instance Konstantinov and Lampert, "Robust Learning from
Untrusted Sources" (2019), where some sources are corrupted and the rest are not. Departures: one source only, and a
part of its records only, so that the source as a whole still looks like itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.attacks.label_flip import flip_random
from lazaretto.attacks.overwrite import overwrite

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Plant = Callable[[pl.DataFrame, int], tuple[pl.DataFrame, NDArray[np.bool_]]]

SHARE = 0.2


def poisoned_source(
    frame: pl.DataFrame, plant: Plant, *, source: str, seed: int, name: str | None = None
) -> tuple[pl.DataFrame, NDArray[np.bool_], str]:
    """Plant an attack in the records of one source.

    Args:
        frame: The records.
        plant: Any attack as a function of the source's own records and a seed; columns, types and number of rows stay.
        source: Name of the column that names the source.
        seed: Draws the source where none is given, and is handed to `plant`.
        name: The source. One that is drawn is that of a random record, so that tiny ones are rarely met.

    Returns:
        The records, the truth, one per row, and the source's name.

    Raises:
        ValueError: No record has that source, or none has any.
    """
    of = frame[source].cast(pl.String)
    named = of.drop_nulls()
    if named.is_empty() or (name is not None and name not in named):
        raise ValueError(f"no record has {'a source' if name is None else f'the source {name}'} in column {source}")
    chosen = str(named[int(np.random.default_rng((seed, 1)).integers(len(named)))]) if name is None else name
    theirs = of.eq_missing(chosen).to_numpy()
    poisoned, hit = plant(frame.filter(theirs), seed)
    truth = np.zeros(len(frame), dtype=np.bool_)
    truth[theirs] = hit
    return overwrite(frame, theirs, poisoned), truth, chosen


def flip_source(
    frame: pl.DataFrame, *, source: str, label: str, seed: int, share: float = SHARE, name: str | None = None
) -> tuple[pl.DataFrame, NDArray[np.bool_], str]:
    """Give a share of one source's records another of the labels that occur in any source.

    Args:
        frame: The records; the label column holds no null.
        source: Name of the column that names the source.
        label: Name of the label column, text.
        seed: Makes the choice.
        share: Share of the records *of that source*, unlike the `rate` of other attacks.
        name: The source; drawn as in `poisoned_source` where not given.

    Returns:
        The records, the truth, one per row, and the source's name.
    """
    classes = frame[label].unique().sort()

    def flip(theirs: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
        numbers = classes.search_sorted(theirs[label]).to_numpy().astype(np.int64)
        flipped, truth = flip_random(numbers, rate=share, classes=len(classes), seed=seed)
        return theirs.with_columns(classes.gather(flipped).alias(label)), truth

    return poisoned_source(frame, flip, source=source, seed=seed, name=name)
