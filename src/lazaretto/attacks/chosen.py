"""Which records an attack takes: the one place where rates become counts and seeds become choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def choose(eligible: NDArray[np.bool_], rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose records to poison, without replacement.

    Args:
        eligible: (rows,) records the attack may take.
        rate: Share of *all* rows to take; at least one record is taken.
        rng: Source of the choice.

    Returns:
        (rows,) true for the chosen.

    Raises:
        ValueError: `rate` is no share, or fewer records are eligible than it asks for.
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be above 0 and at most 1, not {rate}")
    rows = len(eligible)
    wanted = max(1, round(rate * rows))
    candidates = np.flatnonzero(eligible)
    if wanted > len(candidates):
        raise ValueError(f"rate {rate} asks for {wanted} of {rows} records, but only {len(candidates)} can be taken")
    truth = np.zeros(rows, dtype=np.bool_)
    truth[rng.choice(candidates, size=wanted, replace=False)] = True
    return truth
