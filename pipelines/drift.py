"""Drift of what was admitted: the newest batch's columns against everything admitted before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.contract import load_contract
from lazaretto.errors import Blocked

if TYPE_CHECKING:
    from lazaretto.config import Workspace

ROWS = 100_000
"""Most records of either side that are compared; the first ones of the files."""
NOTABLE = 0.2
"""Population stability index from which a column is said to have drifted (the customary level)."""
_BINS = 10


def drift(workspace: Workspace, dataset: str, batch: str) -> list[dict[str, Any]]:
    """Population stability index of every scalar column, the largest first; empty without earlier records.

    PSI = sum over bins of (new - old) * ln(new / old), with deciles of the old records for numbers and the old
    records' twenty most frequent values for categories; half a record is added to every bin.
    """
    from lazaretto.loader import opened

    contract = load_contract(workspace.contract(dataset))
    kinds = {n: c.type for n, c in contract.all_columns.items() if n != contract.id and c.type in _COMPARED}
    try:
        admitted = opened(workspace, dataset, columns=(*kinds, "_batch_id"))
    except Blocked:
        return []
    old: list[pl.DataFrame] = []
    new: list[pl.DataFrame] = []
    taken = {"old": 0, "new": 0}
    for frame in admitted.frames():
        for side, parts, own in (("new", new, frame["_batch_id"] == batch), ("old", old, frame["_batch_id"] != batch)):
            rows = frame.filter(own).select(*kinds)
            if len(rows) and taken[side] < ROWS:
                parts.append(rows)
                taken[side] += len(rows)
    if not old or not new:
        return []
    before, after = pl.concat(old), pl.concat(new)
    found = []
    for name, kind in kinds.items():
        psi = _psi(*_shares(before[name], after[name], numeric=kind in ("integer", "number")))
        found.append({"column": name, "psi": round(psi, 4), "drifted": psi >= NOTABLE})
    return sorted(found, key=lambda row: (-row["psi"], row["column"]))


_COMPARED = ("integer", "number", "category", "boolean")


def _shares(old: pl.Series, new: pl.Series, *, numeric: bool) -> tuple[np.ndarray, np.ndarray]:
    """Counts per bin of both sides; missing values are a bin of their own."""
    if numeric:
        known = old.drop_nulls().to_numpy()
        edges = np.unique(np.quantile(known, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(known) else np.zeros(0)
        counted = [
            np.bincount(np.searchsorted(edges, s.drop_nulls().to_numpy()), minlength=len(edges) + 1) for s in (old, new)
        ]
    else:
        texts = [s.cast(pl.String).drop_nulls().rename("value") for s in (old, new)]
        top = texts[0].value_counts(sort=True).head(2 * _BINS)["value"].to_list()
        index = {value: place for place, value in enumerate(sorted(top))}
        places = [s.replace_strict(index, default=len(index), return_dtype=pl.Int64).to_numpy() for s in texts]
        counted = [np.bincount(place, minlength=len(index) + 1) for place in places]
    return np.append(counted[0], old.null_count()), np.append(counted[1], new.null_count())


def _psi(old: np.ndarray, new: np.ndarray) -> float:
    used = (old + new) > 0
    p, q = old[used] + 0.5, new[used] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())
