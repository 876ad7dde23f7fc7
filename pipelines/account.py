"""Nothing lost, nothing twice, nothing unscored: a judging is held to its own numbers before anything is published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from lazaretto.errors import LazarettoError
from lazaretto.parquet import read_parquet, scan_parquet
from lazaretto.records import RECORD_ID, ROW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lazaretto.evidence import Decision
    from lazaretto.pipelines.scan import Judged

VERDICTS = "verdicts.parquet"
EVIDENCE = "evidence.parquet"


@dataclass(frozen=True)
class Account:
    """How many records of a batch went where."""

    arrived: int
    admitted: int
    quarantined: int
    rejected: int
    suspects: int
    hold_reasons: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """The numbers, by name."""
        return {
            "arrived": self.arrived,
            "admitted": self.admitted,
            "quarantined": self.quarantined,
            "rejected": self.rejected,
            "suspects": self.suspects,
        }

    def check_written(self, admitted: int, quarantined: int, rejected: int) -> None:
        """Hold what was written against what was decided.

        Raises:
            LazarettoError: Store files or quarantine have another number of records.
        """
        written = (admitted, quarantined, rejected)
        if written != (self.admitted, self.quarantined, self.rejected):
            raise LazarettoError(
                f"admitted, quarantined, rejected are {written} as written but "
                f"{(self.admitted, self.quarantined, self.rejected)} as decided; nothing was published"
            )


def account(judged: Judged) -> Account:
    """Count a judging's verdicts and hold them against its summary, its rejects and its evidence.

    Raises:
        LazarettoError: The numbers do not add up, or a record is to be admitted that was never scored.
    """
    summary, batch = judged.summary, judged.parsed.batch.id
    verdicts = scan_parquet(judged.folder / VERDICTS)
    unscored = (pl.col("decision") == "admit") & ~pl.col("p_value").is_finite().fill_null(value=False)
    found = verdicts.group_by("decision").agg(pl.len(), unscored.sum().alias("unscored")).collect()
    by = {str(name): int(count) for name, count, _ in found.iter_rows()}
    evidence = scan_parquet(judged.folder / EVIDENCE)
    checks: dict[str, tuple[Any, Any]] = {
        "arrived": (sum(by.values()), judged.parsed.arrived),
        "admitted": (by.pop("admit", 0), summary["admitted"]),
        "quarantined": (by.pop("quarantine", 0), summary["quarantined"]),
        "rejected": (by.pop("reject", 0), summary["rejected"]),
        "kept with their original bytes": (_distinct_rows(judged.parsed.rejects), summary["rejected"]),
        "quarantined with evidence": (_distinct_rows(judged.folder / EVIDENCE), summary["quarantined"]),
        "without a known verdict": (sum(by.values()), 0),
        "admitted without a score": (int(found["unscored"].sum()), 0),
    }
    if summary["hold"]:
        checks["admitted although the batch is held"] = (summary["admitted"], 0)
    for what, (counted, expected) in checks.items():
        if counted != expected:
            raise LazarettoError(
                f"batch {batch}: {counted} records are {what} where {expected} were expected; nothing was published"
            )
    return Account(
        arrived=judged.parsed.arrived,
        admitted=summary["admitted"],
        quarantined=summary["quarantined"],
        rejected=summary["rejected"],
        suspects=int(evidence.select(pl.col("suspect").sum()).collect().item()),
        hold_reasons=tuple(summary["hold_reasons"]) if summary["hold"] else (),
    )


def decided(judged: Judged, decision: Decision) -> Iterator[pl.DataFrame]:
    """The canonical records with one decision, partition by partition.

    Raises:
        LazarettoError: The verdicts are not those of the partitions.
    """
    verdicts = scan_parquet(judged.folder / VERDICTS).select("record_id", "decision")
    for partition in judged.parsed.partitions:
        frame = read_parquet(partition)
        if not frame.height:
            continue
        first, last = int(frame[ROW][0]), int(frame[ROW][-1])
        said = verdicts.slice(first, last - first + 1).collect()[(frame[ROW] - first).to_list()]
        if said["record_id"].to_list() != frame[RECORD_ID].to_list():
            raise LazarettoError(f"the verdicts of {judged.parsed.batch.id} are not those of {partition.name}")
        yield frame.filter(said["decision"] == decision)


def _distinct_rows(path: Path) -> int:
    return int(scan_parquet(path).select(pl.col(ROW).n_unique()).collect().item())
