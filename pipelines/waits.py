"""Which records of a batch wait because of the batches before: carriers of a finding, and what is over a cap."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.evidence import Evidence, dump_evidence, load_evidence
from lazaretto.parquet import read_parquet
from lazaretto.pipelines.window import Carried, Finding, named
from lazaretto.records import RECORD_ID, ROW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lazaretto import contract as contracts
    from lazaretto.pipelines.marks import Marked, Marker
    from lazaretto.pipelines.memory import Memory

    Flags = NDArray[np.bool_]

WINDOW, CAP = "window", "cap"
"""What stands for a detector in the evidence."""


@dataclass
class Caps:
    """How many more records may be let in.

    Attributes:
        policy: The contract's; None for no cap.
        sources: Digest of a source -> admitted in the window.
        looks: Digest of a look -> the same.
    """

    policy: contracts.Caps | None
    sources: Counter[int] = field(default_factory=Counter)
    looks: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, policy: contracts.Caps | None, admitting: Sequence[Memory]) -> Caps:
        """What batches that let records in have used up."""
        caps = cls(policy)
        for memory in admitting if policy is not None else ():
            tallies, looks = memory.tallies, memory.looks
            caps.sources.update(dict(tallies.group_by("source").agg(pl.col("admitted").sum()).iter_rows()))
            caps.looks.update(dict(looks.select("look", "admitted").iter_rows()))
        return caps

    def over(self, sources: NDArray[np.uint64], looks: Marked, able: Flags) -> dict[int, str]:
        """Row -> why it waits, of those that would else be admitted; the others are counted as admitted, in order."""
        if self.policy is None:
            return {}
        per_source, per_look = self.policy.per_source, self.policy.per_duplicate_cluster
        of_row: dict[int, list[int]] = {}
        for row, look in zip(looks.rows.tolist(), looks.marks.tolist(), strict=True):
            of_row.setdefault(row, []).append(look)
        over: dict[int, str] = {}
        for row in np.flatnonzero(able).tolist():
            source, mine = int(sources[row]), of_row.get(row, [])
            if per_source is not None and source and self.sources[source] >= per_source:
                over[row] = f"its source has its {per_source:,} records of this window (policy.caps.per_source)"
            elif per_look is not None and any(self.looks[look] >= per_look for look in mine):
                over[row] = (
                    f"{per_look:,} records like it were admitted in this window (policy.caps.per_duplicate_cluster)"
                )
            else:
                self.sources[source] += 1
                self.looks.update(mine)
        return over


class Waiting:
    """Goes through a batch's partitions and adds to their evidence."""

    def __init__(self, marker: Marker, findings: Sequence[Finding], caps: Caps, folder: Path) -> None:
        self._marker, self._caps, self._folder = marker, caps, folder
        self._findings = list(findings)
        self._carried = [0] * len(findings)
        self._gone: list[pl.DataFrame] = []
        self._unlike: Counter[int] = Counter()
        self.carriers = 0
        self.capped = 0

    @property
    def found(self) -> tuple[Finding, ...]:
        """The findings that the batch carries, triggers in words."""
        return tuple(one for one, count in zip(self._findings, self._carried, strict=True) if count)

    def add(self, number: int, frame: pl.DataFrame) -> None:
        """Look through partition ``number``; its evidence is written anew where anything waits."""
        known = read_parquet(self._folder / WINDOW / f"part-{number:05}.parquet")
        contract, suspects = self._marker.contract, known["suspect"].to_numpy()
        carried = Carried(
            self._marker.valued("source", frame, contract.source),
            self._marker.valued("label", frame, contract.label),
            known["p_value"].to_numpy(),
            known["contradicted"].to_numpy(),
            self._marker.tokens(frame),
            self._marker.looks(frame),
        )
        said: dict[int, list[Evidence]] = {}
        for place, unnamed in enumerate(self._findings):
            rows = np.flatnonzero(unnamed.carried_by(carried))
            if not len(rows):
                continue
            finding = unnamed
            if "{token}" in unnamed.says:
                finding = named(unnamed, self._spoken(unnamed, frame, carried.tokens, rows))
                self._findings[place] = finding
            self._carried[place] += len(rows)
            for row in rows.tolist():
                said.setdefault(row, []).append(Evidence(WINDOW, finding.records, finding.p_value, finding.says))
        able = ~suspects
        able[list(said)] = False
        self.carriers += len(said)
        over = self._caps.over(carried.sources, carried.looks, able)
        self.capped += len(over)
        said |= {row: [Evidence(CAP, 0.0, 1.0, why)] for row, why in over.items()}
        if said:
            self._write(number, frame, said)
            self._leave(carried, np.array(sorted(row for row in said if not suspects[row]), dtype=np.int64))

    def left(self, new: Memory) -> Memory:
        """The batch's memory, with what waits no longer counted as admitted."""
        if not self._gone:
            return new
        gone = pl.concat(self._gone).group_by("source", "label").agg(gone=pl.len().cast(pl.Int64))
        tallies = new.tallies.join(gone, on=["source", "label"], how="left").fill_null(0)
        unlike = pl.DataFrame(
            {"look": list(self._unlike), "gone": list(self._unlike.values())},
            schema={"look": pl.UInt64, "gone": pl.Int64},
        )
        looks = new.looks.join(unlike, on="look", how="left").fill_null(0)
        admitted = (pl.col("admitted") - pl.col("gone")).alias("admitted")
        return replace(
            new, tallies=tallies.with_columns(admitted).drop("gone"), looks=looks.with_columns(admitted).drop("gone")
        )

    def _spoken(self, finding: Finding, frame: pl.DataFrame, tokens: Marked, rows: NDArray[np.int64]) -> str:
        """The strongest token in words, by a record that has it."""
        best = np.array(finding.marks[:1], dtype=np.uint64)
        having = np.intersect1d(rows, np.flatnonzero(tokens.having(best, len(frame))))
        if len(having):
            return self._marker.spoken(frame[int(having[0])], best)
        return self._marker.spoken(frame[int(rows[0])], np.array(finding.marks, dtype=np.uint64))

    def _leave(self, carried: Carried, rows: NDArray[np.int64]) -> None:
        self._gone.append(pl.DataFrame({"source": carried.sources[rows], "label": carried.labels[rows]}))
        self._unlike.update(carried.looks.marks[np.isin(carried.looks.rows, rows)].tolist())

    def _write(self, number: int, frame: pl.DataFrame, said: dict[int, list[Evidence]]) -> None:
        """The evidence of a partition with what is said now, after what the detectors said."""
        path = self._folder / "evidence" / f"part-{number:05}.parquet"
        before = read_parquet(path)
        rows = frame[ROW].to_list()
        more = {rows[place]: evidence for place, evidence in said.items()}
        told = [
            text if row not in more else dump_evidence([*load_evidence(text), *more.pop(row)])
            for row, text in zip(before[ROW].to_list(), before["evidence"].to_list(), strict=True)
        ]
        names = dict(zip(rows, frame[RECORD_ID].to_list(), strict=True))
        added = pl.DataFrame(
            {
                ROW: list(more),
                "record_id": [names[row] for row in more],
                "evidence": [dump_evidence(evidence) for evidence in more.values()],
            },
            schema=before.schema,
        )
        whole = pl.concat([before.with_columns(evidence=pl.Series(told, dtype=pl.String)), added])
        whole.sort(ROW).write_parquet(path)
