"""The nearest trusted records of each suspect, for a person to compare it with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.records import RECORD_ID, ROW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.contract import Contract
    from lazaretto.detectors.panel import Panel

NEAREST = 3
"""Records named."""
_CHUNK = 1_024


def nearest(
    panel: Panel, suspects: pl.DataFrame, known: pl.DataFrame, contract: Contract, *, trusted: bool
) -> pl.DataFrame:
    """For each suspect the nearest of the known records in the panel's compact view.

    Args:
        panel: Whose view.
        suspects: Canonical records.
        known: Canonical records to compare with.
        contract: Names the label; one that is personal data is not said.
        trusted: Whether the known records are the trusted ones; else they are of the batch.

    Returns:
        ``_row`` and ``nearest``: JSON list of ``record_id``, ``label``, ``distance``, ``trusted``, ``row``, the nearest
        first.
    """
    if not len(known) or not len(suspects):
        return pl.DataFrame(schema={ROW: pl.UInt64, "nearest": pl.String})
    there, here = (panel.encoder.encode(frame)[0]["compact"].astype(np.float64) for frame in (known, suspects))
    distances, places = _closest(here, there)
    named = None if contract.label is None or contract.all_columns[contract.label].pii else contract.label
    labels = [None] * len(known) if named is None else known[named].cast(pl.String).to_list()
    ids, rows = known[RECORD_ID].to_list(), known[ROW].to_list()

    def said(place: int, distance: float) -> dict[str, Any]:
        found = {"record_id": ids[place], "label": labels[place], "distance": float(f"{distance:.3g}")}
        return {**found, "trusted": trusted, "row": rows[place]}

    texts = [
        json.dumps([said(place, distance) for place, distance in zip(near, far, strict=True)])
        for near, far in zip(places.tolist(), distances.tolist(), strict=True)
    ]
    return pl.DataFrame({ROW: suspects[ROW], "nearest": pl.Series(texts, dtype=pl.String)})


def _closest(here: NDArray[np.float64], there: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances and places (rows, at most 3) of the nearest, ascending; equal distances in the order of the places."""
    parts = []
    squares = (there**2).sum(axis=1)
    for start in range(0, len(here), _CHUNK):
        chunk = here[start : start + _CHUNK]
        apart = np.maximum(squares + (chunk**2).sum(axis=1)[:, None] - 2 * chunk @ there.T, 0.0)
        places = np.argsort(np.round(apart, 6), axis=1, kind="stable")[:, :NEAREST]
        parts.append((np.sqrt(np.take_along_axis(apart, places, axis=1)), places))
    return np.concatenate([far for far, _ in parts]), np.concatenate([near for _, near in parts])
