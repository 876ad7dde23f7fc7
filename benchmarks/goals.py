"""What an attacker wants of a model that is trained on his poison: which records it shall call what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lazaretto.attacks.ground import Ground, Planted

_WANTED, _ROW = "_wanted", "_row"


@dataclass(frozen=True)
class Goal:
    """Records, and what the attacker wants a model to call each; none where he wants nothing of single records."""

    records: pl.DataFrame
    """(n,) unseen records with the trigger on, or the victims as they are."""
    wanted: pl.Series
    """(n,) labels; of prompts, what the response shall contain."""
    rows: NDArray[np.int64]
    """Rows of the batch that are among the records: no model may be trained on them."""

    @classmethod
    def of(cls, planted: Planted, ground: Ground, unseen: pl.DataFrame) -> Goal:
        """From what was planted.

        Triggered are the unseen records that the trigger is meant for: of other labels than the target, of the source
        class where it works on that one alone. Texts that the trigger leaves as they were do not count.

        Args:
            planted: The poison.
            ground: The batch before it was planted.
            unseen: Clean records that are not in the batch.
        """
        if planted.victims is not None and planted.target is not None:
            victims = ground.frame[planted.victims.tolist()]
            return cls(victims, _repeated(planted.target, len(victims)), planted.victims)
        nothing = np.empty(0, dtype=np.int64)
        if planted.stamp is None:
            return cls(unseen.clear(), _repeated("", 0), nothing)
        meant = unseen
        if ground.label is not None:
            meant = unseen.filter(pl.col(ground.label).cast(pl.String).is_in(list(planted.aims)))
        stamped = planted.stamp(meant)
        if ground.texts:
            changed = pl.any_horizontal(stamped[name].ne_missing(meant[name]) for name in ground.texts)
            kept = pl.select(changed).to_series()
            meant, stamped = meant.filter(kept), stamped.filter(kept)
        if planted.answer is not None:
            return cls(stamped, _repeated(planted.answer, len(stamped)), nothing)
        labels = meant[ground.label or ""].cast(pl.String)
        return cls(stamped, labels.replace_strict(planted.aims, return_dtype=pl.String), nothing)

    @classmethod
    def read(cls, file: Path) -> Goal:
        """From a file that `write` made."""
        whole = pl.read_parquet(file)
        rows = whole[_ROW].drop_nulls().to_numpy().astype(np.int64)
        return cls(whole.drop(_WANTED, _ROW), whole[_WANTED], rows)

    def write(self, file: Path) -> None:
        """Keep it."""
        rows = self.rows.tolist() or [None] * len(self.records)
        columns = {_WANTED: self.wanted, _ROW: pl.Series(rows, dtype=pl.Int64)}
        self.records.with_columns(**columns).write_parquet(file)


def _repeated(value: str, count: int) -> pl.Series:
    return pl.Series([value] * count, dtype=pl.String)
