"""Whether a trusted set deserves its trust: how many of its records would be suspects if nobody vouched for them.

A poison that the trusted set holds too is usual by definition: as few as one trusted record in a hundred that carries
the batch's own trigger takes its p-values above a rate of 0.01. The p-values themselves cannot show that. So trusted
records are judged once more as a batch without a trusted set is (`lazaretto.calibrate.EstimatedNull`), from the scores
there are already. What that does not find in a batch it does not find here: many poisons of a table, and fewer trusted
ones than sound records are odd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OFF = 1.5
"""How many times as many sound records as the rate says an estimate may make suspects: as many as on clean batches."""
_CHANCE = 1e-3
"""How seldom a trusted set without poison may be doubted, if its estimate is off by no more."""


@dataclass(frozen=True)
class Doubt:
    """What the trusted records look like by themselves."""

    suspects: tuple[int, ...]
    """Rows of the trusted set whose estimated p-value is at most the rate, the smallest first."""
    records: int
    rate: float

    @classmethod
    def of(cls, p_values: NDArray[np.float64], rate: float) -> Doubt:
        """From the estimated p-values (records,) of all trusted records."""
        order = np.argsort(p_values, kind="stable")
        return cls(tuple(order[: int((p_values <= rate).sum())].tolist()), len(p_values), rate)

    @property
    def raised(self) -> bool:
        """Whether there are more suspects than an estimate gives once in a thousand trusted sets."""
        from scipy.stats import binom

        expected = min(_OFF * self.rate, 1.0)
        return bool(binom.sf(len(self.suspects) - 1, self.records, expected) < _CHANCE)

    @property
    def sentence(self) -> str:
        """What to tell a person; empty where there is no doubt."""
        if not self.raised:
            return ""
        return (
            f"{len(self.suspects):,} of {self.records:,} trusted records look suspicious themselves, where about "
            f"{self.rate * self.records:,.0f} would be expected: if they are poison and not odd by nature, "
            "poison like them passes for usual"
        )
