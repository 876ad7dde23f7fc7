"""Looks back from a judged batch on those before it: what the window finds, and what is over a cap, waits too.

It comes after the scores and changes none of them: a record that waits for its score alone still does, and what the
window adds has a reason of its own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.parquet import read_parquet
from lazaretto.pipelines.marks import marker_of
from lazaretto.pipelines.memory import Memory, Seen
from lazaretto.pipelines.waits import WINDOW, Caps, Waiting
from lazaretto.pipelines.window import Finding, Past, Tonight, find
from lazaretto.records import ROW

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lazaretto.contract import Contract
    from lazaretto.detectors.panel import Panel, Scores
    from lazaretto.pipelines.marks import Marker

MEMORY, FINDINGS = "memory.npz", "window.json"
"""What a judging leaves: what is to be remembered of the batch, and what the window showed."""


@dataclass(frozen=True)
class LookedBack:
    """What came of looking back.

    Attributes:
        findings: What the window shows.
        carriers: How many records of the batch carry any of them.
        capped: How many wait because a cap is reached, and for nothing else.
        batches: How many were looked back on, this one included.
        records: How many records those had.
    """

    findings: tuple[Finding, ...]
    carriers: int
    capped: int
    batches: int
    records: int

    def brief(self, batch: str) -> dict[str, Any]:
        """For the summary."""
        return {
            "batches": self.batches,
            "records": self.records,
            "carriers": self.carriers,
            "capped": self.capped,
            "findings": [{"id": finding.id(batch), **finding.told} for finding in self.findings],
        }


@dataclass(frozen=True)
class Remembering:
    """Makes memories of partitions while they are scored, and says what of each record has to be known again."""

    marker: Marker
    rate: float
    folder: Path

    def remember(self, frame: pl.DataFrame, scores: Scores, classes: Sequence[str], number: int) -> Memory:
        """The memory of one partition; what the probe says against it goes into ``window/part-N.parquet``."""
        contract = self.marker.contract
        suspects = ~(scores.p_value > self.rate)
        seen = Seen(
            self.marker.valued("source", frame, contract.source),
            self.marker.valued("label", frame, contract.label),
            scores.p_value,
            ~suspects,
            self.marker.tokens(frame),
            self.marker.looks(frame),
            scores.reading,
            np.array([self.marker.value("label", name) for name in classes], dtype=np.uint64),
        )
        (self.folder / WINDOW).mkdir(exist_ok=True)
        known = {ROW: frame[ROW], "p_value": scores.p_value, "suspect": suspects, "contradicted": seen.contradicted}
        pl.DataFrame(known).write_parquet(self.folder / WINDOW / f"part-{number:05}.parquet")
        return Memory.of(self.marker.scheme, seen)


def remembering(past: Past | None, panel: Panel | None, contract: Contract, into: Path) -> Remembering | None:
    """What makes memories of a batch; None where nobody looks back, or nothing can be scored."""
    if past is None or panel is None or not panel.names:
        return None
    sides = {name: images.side for name, images in panel.encoder.images.items()}
    return Remembering(marker_of(past.key, contract, sides), contract.policy.false_quarantine_rate, into)


def look_back(
    past: Past,
    new: Memory,
    marker: Marker,
    frames: Iterable[tuple[int, pl.DataFrame]],
    tonight: Tonight,
    into: Path,
) -> LookedBack:
    """Find, put what is found into ``evidence/``, and write what is to be kept of it.

    Args:
        past: The batches before.
        new: What is remembered of this one, all that is no suspect counted as admitted.
        marker: What marked it.
        frames: The partitions that were scored, with their numbers; read again only if there is something to find.
        tonight: Names and the trusted set.
        into: Where ``window/``, ``evidence/`` and what is kept are.
    """
    policy = marker.contract.policy
    alike = [(name, memory) for name, memory in past.batches if memory.scheme == marker.scheme]
    # A first batch has nothing to look back on: it is judged as it always was.
    findings = find([m for _, m in alike], new, tonight, policy.window, policy.window_chance) if alike else ()
    admitting = [memory for name, memory in alike if name in past.admitting]
    waits = Waiting(marker, findings, Caps.of(policy.caps, admitting), into)
    if findings or policy.caps is not None:
        for number, frame in frames:
            waits.add(number, frame)
        new = waits.left(new)
    (into / MEMORY).write_bytes(new.trimmed().to_bytes())
    done = LookedBack(
        waits.found,
        waits.carriers,
        waits.capped,
        len(alike) + 1,
        new.records + sum(memory.records for _, memory in alike),
    )
    kept = {**asdict(done), "sides": dict(marker.sides)}
    (into / FINDINGS).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return done


def tonight_of(panel: Panel, trusted: pl.DataFrame | None, marker: Marker, partitions: Sequence[Path]) -> Tonight:
    """What is known beside memories: the names in the batch's files, and the trusted set."""
    contract = marker.contract
    names = {role: _named(marker, role, column, partitions) for role, column in _roles(contract).items()}
    if trusted is None:
        return Tonight(names["source"], names["label"])
    looks, counts = np.unique(marker.looks(trusted).marks, return_counts=True)
    counted = pl.DataFrame({"look": looks, "records": counts.astype(np.int64)})
    calibrating = None
    if panel.vouched is not None:
        columns = {role: marker.valued(role, trusted, column) for role, column in _roles(contract).items()}
        everyone = pl.DataFrame({**columns, "p_value": panel.vouched})
        calibrating = everyone.filter(pl.col("p_value").is_not_nan())
    return Tonight(names["source"], names["label"], calibrating, counted, len(trusted))


def _roles(contract: Contract) -> dict[str, str | None]:
    return {"source": contract.source, "label": contract.label}


def _named(marker: Marker, role: str, column: str | None, partitions: Sequence[Path]) -> dict[int, str]:
    """Digest -> name; what is personal is not said."""
    if column is None:
        return {}
    values: set[str] = set()
    for file in partitions:
        values.update(read_parquet(file, columns=[column])[column].cast(pl.String).drop_nulls().unique().to_list())
    hidden = marker.contract.all_columns[column].pii
    return {marker.value(role, value): "(withheld)" if hidden else value for value in sorted(values)}


def read_findings(content: bytes) -> tuple[Finding, ...]:
    """The findings of a ``window.json``."""
    return tuple(Finding(**{**one, "marks": tuple(one["marks"])}) for one in json.loads(content)["findings"])
