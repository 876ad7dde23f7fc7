"""Reads a judged folder: the files that `lazaretto.pipelines.scan` leaves there, as much of them as a page needs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from lazaretto.errors import UsageError
from lazaretto.parquet import scan_parquet
from lazaretto.records import ROW

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.contract import Contract


@dataclass(frozen=True)
class JudgedFolder:
    """A judged batch on disk; nothing is read before it is asked for, and never a whole large file."""

    path: Path
    contract: Contract | None
    """Without it no value of any record is shown: what is personal data cannot be known."""
    summary: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path, contract: Contract | None) -> JudgedFolder:
        """Open a folder.

        Raises:
            UsageError: It holds no judged batch.
        """
        try:
            summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{path} holds no judged batch: summary.json cannot be read ({error})",
                hint="give the folder that `lazaretto scan --out` wrote",
            ) from error
        if not isinstance(summary, dict) or not (path / "verdicts.parquet").is_file():
            raise UsageError(f"{path} holds no judged batch: its summary or its verdicts are missing")
        return cls(path, contract, summary)

    @cached_property
    def verdicts(self) -> pl.LazyFrame:
        """One row per arrived record, numbered by `ROW`."""
        return scan_parquet(self.path / "verdicts.parquet").with_row_index(ROW).cast({ROW: pl.UInt64})

    def p_value_counts(self, bins: int) -> list[int]:
        """How many judged records fall in each of `bins` equal bins of the p-value; the last includes 1."""
        judged = self.verdicts.filter((pl.col("decision") != "reject") & pl.col("p_value").is_finite())
        place = (pl.col("p_value") * bins).floor().clip(0, bins - 1).cast(pl.Int64)
        found = judged.group_by(place.alias("bin")).len().collect(engine="streaming")
        counts = dict(found.rows())
        return [int(counts.get(number, 0)) for number in range(bins)]

    def stranger(self, limit: float) -> int:
        """How many judged records have a p-value of at most ``limit``."""
        judged = self.verdicts.filter((pl.col("decision") != "reject") & (pl.col("p_value") <= limit))
        return int(judged.select(pl.len()).collect(engine="streaming").item())

    def strongest(self, most: int) -> pl.DataFrame:
        """The most suspicious suspects with their verdict and evidence, the most suspicious first."""
        path = self.path / "evidence.parquet"
        if not path.is_file():
            return pl.DataFrame()
        evidence = scan_parquet(path)
        suspects = evidence.filter(pl.col("suspect")).select(ROW)
        columns = ("record_id", "decision", "suspicion", "p_value", "q_value")
        # As `review list` has them: by p-value, equal ones by suspicion; what is no number comes first.
        certain = float("inf")
        top = (
            self.verdicts.select(ROW, *columns)
            .join(suspects, on=ROW, how="semi")
            .with_columns(first=-_number("p_value", -certain), second=_number("suspicion", certain))
            .top_k(most, by=["first", "second"])
            .collect(engine="streaming")
            .sort("first", "second", ROW, descending=[True, True, False])
        )
        rows = top[ROW].to_list()
        # What an earlier version wrote has no files.
        wanted = [name for name in ("file", "evidence", "nearest") if name in evidence.collect_schema()]
        said = evidence.filter(pl.col(ROW).is_in(rows)).select(ROW, *wanted).collect()
        return top.join(said, on=ROW, how="left", maintain_order="left")

    @cached_property
    def clusters(self) -> dict[int, int]:
        """Row -> the cluster it is in; nothing where an earlier version judged."""
        try:
            found = json.loads((self.path / "clusters.json").read_text(encoding="utf-8"))
            return {int(row): int(one["id"]) for one in found for row in one["rows"]}
        except (OSError, ValueError, TypeError, KeyError):
            return {}

    def records(self, rows: list[int], *, trusted: bool = False) -> dict[int, dict[str, Any]]:
        """The canonical columns of a few records by row number; without those that are no longer there.

        Args:
            rows: Their ``_row``.
            trusted: Whether they are trusted records, numbered by themselves.
        """
        folder = self.path / "trusted" if trusted else self.path
        parts = sorted((folder / "canonical").glob("part-*.parquet"))
        if not parts or not rows:
            return {}
        found = scan_parquet(parts).filter(pl.col(ROW).is_in(rows)).collect()
        return {int(record[ROW]): record for record in found.iter_rows(named=True)}

    def reject_reasons(self, most: int) -> tuple[pl.DataFrame, int]:
        """Rejected records by stage, column and reason, the most frequent first, and how many groups there are."""
        path = self.path / "rejects.parquet"
        if not path.is_file():
            return pl.DataFrame(), 0
        keys = ["stage", "column", "reason"]
        groups = scan_parquet(path).group_by(keys).agg(pl.len().alias("records"), pl.col(ROW).min().alias("first"))
        ordered = groups.sort(["records", "first"], descending=[True, False]).collect(engine="streaming")
        return ordered.head(most), ordered.height


def _number(name: str, otherwise: float) -> pl.Expr:
    return pl.col(name).fill_nan(otherwise).fill_null(otherwise)
