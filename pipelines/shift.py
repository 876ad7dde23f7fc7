"""Does the batch as a whole carry its labels like the trusted set? A poison of a third of a batch shows here first."""

from __future__ import annotations

import numpy as np
import polars as pl

SHARE_MOVED = 0.2
"""Total variation distance of the label distributions that holds the batch: a fifth of it is labelled otherwise."""
_CHANCE = 1e-6


def label_shift(batch: pl.Series, trusted: pl.Series, *, withheld: bool = False) -> str | None:
    """A sentence if the label distribution moved by more than chance and by more than `SHARE_MOVED`, else None.

    Args:
        batch: Labels of the batch (or of its sample).
        trusted: Labels of the trusted set.
        withheld: Whether no label may be named.
    """
    from scipy.stats import chi2_contingency

    sides = [labels.cast(pl.String).fill_null("(missing)") for labels in (batch, trusted)]
    names = sorted(set(sides[0].unique()) | set(sides[1].unique()))
    counts = np.array([[int((side == name).sum()) for name in names] for side in sides])
    if len(names) < 2 or not counts.sum(axis=1).all():  # noqa: PLR2004  one label cannot shift
        return None
    shares = counts / counts.sum(axis=1, keepdims=True)
    moved = float(np.abs(shares[0] - shares[1]).sum() / 2)
    if moved < SHARE_MOVED or chi2_contingency(counts).pvalue > _CHANCE:
        return None
    most = int(np.abs(shares[0] - shares[1]).argmax())
    which = "one of them" if withheld else repr(names[most])
    return (
        f"its labels are not distributed like the trusted set's: {which} is {shares[0][most]:.0%} of it "
        f"and {shares[1][most]:.0%} of the trusted records"
    )
