"""Compares suspects with what is no suspect: clusters with a rule each, and the nearest trusted records.

It comes after the scores and before the decision, and gives neither of them anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from lazaretto.detectors.views.sample import Sample
from lazaretto.parquet import read_parquet
from lazaretto.pipelines.clusters import Cluster, Compared, find_clusters
from lazaretto.pipelines.nearest import nearest
from lazaretto.records import ROW

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lazaretto.contract import Contract
    from lazaretto.detectors.panel import Panel

NEAREST_FILE = "nearest.parquet"
_MOST = {"table": (5_000, 10_000), "text": (2_000, 3_000), "image": (2_000, 3_000)}
"""Suspects and others looked at, by what is the dearest to look at."""


@dataclass(frozen=True)
class _Drawn:
    suspects: pl.DataFrame
    others: pl.DataFrame
    arrived: int
    """Judged records that are no suspects."""


def compare(
    frames: Iterable[pl.DataFrame], panel: Panel | None, trusted: pl.DataFrame | None, contract: Contract, folder: Path
) -> tuple[Cluster, ...]:
    """Find the clusters, and write the nearest records of each suspect into ``nearest.parquet``.

    Args:
        frames: The frames that were scored, in the same order.
        panel: What scored them; nothing is compared where it is None.
        trusted: Canonical trusted records; without them the nearest are those of the batch that are no suspects.
        contract: What is what.
        folder: Holds ``scores/`` and ``evidence/``.
    """
    clusters: tuple[Cluster, ...] = ()
    found = pl.DataFrame(schema={ROW: pl.UInt64, "nearest": pl.String})
    drawn = None if panel is None else _draw(frames, panel, contract, folder)
    if panel is not None and drawn is not None and len(drawn.suspects):
        sizes = {name: (images.side, images.channels) for name, images in panel.encoder.images.items()}
        families = {detector.name: detector.family for detector in panel.detectors}
        labelled = frozenset(detector.name for detector in panel.detectors if detector.needs_label)
        compared = Compared(drawn.suspects, drawn.others, drawn.arrived, families, labelled, sizes)
        clusters = find_clusters(compared, contract)
        known = drawn.others if trusted is None else trusted
        sample = Sample.of(known, _limits(contract)[1], panel.keys).frame
        found = nearest(panel, drawn.suspects, sample, contract, trusted=trusted is not None)
    found.write_parquet(folder / NEAREST_FILE)
    return clusters


def _limits(contract: Contract) -> tuple[int, int]:
    kinds = {contract.all_columns[name].type for name in contract.feature_names}
    return _MOST["image" if "image" in kinds else "text" if "text" in kinds else "table"]


def _draw(frames: Iterable[pl.DataFrame], panel: Panel, contract: Contract, folder: Path) -> _Drawn | None:
    """The strongest suspects and a sample of the others; memory holds one partition and what is drawn."""
    most, many = _limits(contract)
    strongest: pl.DataFrame | None = None
    others: Sample | None = None
    for number, frame in enumerate(frames):
        # No column of a contract begins with an underscore.
        said = read_parquet(folder / "evidence" / f"part-{number:05}.parquet").select(ROW, _evidence="evidence")
        scores = read_parquet(folder / "scores" / f"part-{number:05}.parquet")
        scores = scores.select(ROW, _suspicion="suspicion", _p_value="p_value")
        held = frame.join(said, on=ROW, how="inner", maintain_order="left").join(scores, on=ROW, how="left")
        part = Sample.of(frame.join(said, on=ROW, how="anti", maintain_order="left"), many, panel.keys)
        strongest = held if strongest is None else pl.concat([strongest, held])
        order = pl.col("_p_value").fill_nan(-1.0), pl.col("_suspicion").fill_nan(float("inf")), pl.col(ROW)
        strongest = strongest.sort(*order, descending=[False, True, False]).head(most)
        others = part if others is None else others.merge(part)
    if strongest is None or others is None:
        return None
    return _Drawn(strongest.sort(ROW), others.frame, others.arrived)
