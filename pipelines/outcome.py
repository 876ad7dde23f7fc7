"""Writes what was decided: one verdict per arrived record, the evidence, the rejects, the counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lazaretto.errors import LazarettoError
from lazaretto.evidence import load_evidence
from lazaretto.parquet import read_parquet, scan_parquet
from lazaretto.pipelines.clusters import Cluster, write_clusters
from lazaretto.pipelines.compare import NEAREST_FILE
from lazaretto.pipelines.confine import originals_confined
from lazaretto.pipelines.summary import Tally, beside, summarise, titles_of
from lazaretto.policy import Tallies, hold_reasons
from lazaretto.records import RECORD_ID, REJECT_COLUMNS, ROW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lazaretto.contract import Contract
    from lazaretto.detectors.panel import Panel
    from lazaretto.expectations.check import CheckResult
    from lazaretto.pipelines.look_back import LookedBack
    from lazaretto.pipelines.scan import Options
    from lazaretto.pipelines.score import Scored
    from lazaretto.records import Parsed

ORIGINALS = "originals.parquet"
"""In the work folder: the bytes that came for records which parsed and are rejected."""


@dataclass(frozen=True)
class Outcome:
    """Everything the final pass reads."""

    folder: Path
    contract: Contract
    parsed: Parsed
    checked: CheckResult
    panel: Panel | None
    scored: Scored
    faults: tuple[str, ...]
    clusters: tuple[Cluster, ...] = ()
    trusted: pl.Series | None = None
    """What the trusted records are called (records,); None without a trusted set."""
    looked: LookedBack | None = None
    """What the batches before say; None where each batch is judged by itself."""

    @cached_property
    def image_files(self) -> pl.Series | None:
        """The file of every record (records,) where each is a file of its own; None where files hold many."""
        files = self.parsed.batch.files
        return pl.Series([file.name for file in files], dtype=pl.String) if all(file.root for file in files) else None


def write_outcome(outcome: Outcome, options: Options) -> dict[str, Any]:
    """Write ``verdicts.parquet``, ``evidence.parquet``, ``rejects.parquet`` and ``clusters.json``; return the summary.

    Raises:
        LazarettoError: If the verdicts do not account for every record that arrived.
    """
    folder, parsed, policy = outcome.folder, outcome.parsed, outcome.contract.policy
    refused = scan_parquet(folder / "refused.parquet")
    rejected = parsed.rejected + refused.select(pl.col(ROW).n_unique()).collect().item()
    suspects = sum(pq.read_metadata(file).num_rows for file in sorted((folder / "evidence").glob("part-*.parquet")))
    # What is over a cap is not suspicious: the rest of the batch need not wait for it.
    capped = 0 if outcome.looked is None else outcome.looked.capped
    holds = hold_reasons(policy, Tallies(parsed.arrived, rejected, suspects - capped), outcome.faults)
    tally = Tally()
    titles = titles_of(outcome.contract)
    originals = _fetch_originals(outcome, refused)
    with _Writers(folder) as writers:
        for window in _windows(outcome):
            verdicts, rejects = _verdicts(outcome, window, holds, originals)
            tally.add(verdicts, titles)
            writers.add(verdicts, rejects, held=bool(holds))
    decided = tally.decisions
    if decided.total() != parsed.arrived or decided["reject"] != rejected:
        raise LazarettoError(
            f"{parsed.arrived} records arrived but {decided.total()} have a verdict; nothing of this batch may be used"
        )
    write_clusters(outcome.clusters, folder)
    return summarise(outcome, options, tally, {"suspects": suspects, "holds": holds})


@dataclass(frozen=True)
class _Window:
    """A stretch of input rows [low, high), and the partition whose parsed records lie in it, if any."""

    low: int
    high: int
    part: int | None


def _windows(outcome: Outcome) -> Iterator[_Window]:
    last = []
    for file in outcome.parsed.partitions:
        statistics = scan_parquet(file).select(pl.col(ROW).max()).collect()
        last.append(int(statistics.item()) + 1)
    if not last:
        yield _Window(0, outcome.parsed.arrived, None)
        return
    last[-1] = outcome.parsed.arrived
    for part, (low, high) in enumerate(pairwise([0, *last])):
        yield _Window(low, high, part)


def _fetch_originals(outcome: Outcome, refused: pl.LazyFrame) -> Path | None:
    """A file with the bytes that came for every record that parsed but breaks the contract; None if there is none.

    They are taken from the files as they arrived, which is no work for this process.
    """
    rows = refused.select(pl.col(ROW).unique().sort()).collect()[ROW]
    if not len(rows):
        return None
    return originals_confined(outcome.parsed.batch, outcome.contract, rows.to_list(), outcome.folder / ORIGINALS)


def _verdicts(
    outcome: Outcome, window: _Window, holds: tuple[str, ...], originals: Path | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The verdicts of one window in input order, with the columns tallied; and its rejects."""
    inside = pl.col(ROW).is_between(window.low, window.high - 1)
    unparsed = scan_parquet(outcome.parsed.rejects).filter(inside).collect().select(REJECT_COLUMNS)
    frame = scores = evidence = None
    if window.part is not None:
        frame = read_parquet(outcome.parsed.partitions[window.part])
        scores = read_parquet(outcome.folder / "scores" / f"part-{window.part:05}.parquet")
        evidence = read_parquet(outcome.folder / "evidence" / f"part-{window.part:05}.parquet")
    refused = scan_parquet(outcome.folder / "refused.parquet").filter(inside).collect()
    rejects = pl.concat([unparsed, _refused_rows(refused, frame, originals)]).sort(ROW)
    if evidence is not None:
        near = scan_parquet(outcome.folder / NEAREST_FILE).filter(inside).collect()
        evidence = evidence.join(near, on=ROW, how="left", maintain_order="left")
    reasons = rejects.select(
        ROW,
        pl.coalesce("record_id", pl.format("row-{}", ROW)).alias("record_id"),
        reasons=pl.concat_list("reason"),
        decision=pl.lit("reject"),
    )
    parts = [reasons]
    if scores is not None and evidence is not None:
        parts.append(_judged(outcome, scores, evidence, holds))
    verdicts = pl.concat(parts, how="diagonal").sort(ROW)
    if verdicts.height != window.high - window.low or verdicts[ROW].n_unique() != verdicts.height:
        raise LazarettoError(f"rows {window.low} to {window.high - 1} do not have exactly one verdict each")
    tallied = list(dict.fromkeys(titles_of(outcome.contract).values()))
    if tallied and frame is not None:
        columns = frame.select(ROW, *(pl.col(name).alias(beside(name)) for name in tallied))
        verdicts = verdicts.join(columns, on=ROW, how="left", maintain_order="left")
    elif tallied:
        verdicts = verdicts.with_columns(pl.lit(None, pl.String).alias(beside(name)) for name in tallied)
    names, rows = outcome.image_files, verdicts[ROW]
    verdicts = verdicts.with_columns(
        pl.lit(None, pl.String).alias("file") if names is None else names[rows].alias("file")
    )
    return verdicts.with_columns(
        pl.col("suspect").fill_null(value=False)
        if "suspect" in verdicts.columns
        else pl.lit(value=False).alias("suspect")
    ), rejects


def _judged(outcome: Outcome, scores: pl.DataFrame, evidence: pl.DataFrame, holds: tuple[str, ...]) -> pl.DataFrame:
    """Verdicts of the records that were scored."""
    words = [[f"{e.detector}: {e.why}" for e in load_evidence(text)] for text in evidence["evidence"]]
    said = evidence.select(ROW, "evidence", "nearest", suspect=pl.lit(value=True)).with_columns(
        reasons=pl.Series(words, dtype=pl.List(pl.String))
    )
    table = scores.join(said, on=ROW, how="left", maintain_order="left").with_columns(
        pl.col("suspect").fill_null(value=False),
        pl.col("reasons").fill_null([]),
        q_value=pl.Series(outcome.scored.counts.q_values(scores["p_value"].to_numpy())),
    )
    if holds:
        held = [f"batch held: {why}" for why in holds]
        return table.with_columns(
            decision=pl.lit("quarantine"), reasons=pl.concat_list("reasons", pl.lit(held, pl.List(pl.String)))
        )
    return table.with_columns(decision=pl.when("suspect").then(pl.lit("quarantine")).otherwise(pl.lit("admit")))


def _refused_rows(refused: pl.DataFrame, frame: pl.DataFrame | None, originals: Path | None) -> pl.DataFrame:
    """Records that parsed but break the contract, as rows of ``rejects.parquet``."""
    schema = {
        ROW: pl.UInt64, "record_id": pl.String, "file": pl.String, "stage": pl.String,
        "column": pl.String, "reason": pl.String, "original": pl.Binary,
    }  # fmt: skip
    if frame is None or originals is None or not len(refused):
        return pl.DataFrame(schema=schema)
    grouped = refused.group_by(ROW, maintain_order=True).agg(
        pl.col("stage").first(), pl.col("column").first(), pl.col("reason").str.join("; ")
    )
    rows = frame.select(ROW, RECORD_ID).join(grouped, on=ROW, how="inner", maintain_order="left")
    came = scan_parquet(originals).filter(pl.col(ROW).is_between(rows[ROW].min(), rows[ROW].max())).collect()
    rows = rows.join(came, on=ROW, how="left", maintain_order="left")
    return rows.select(
        ROW,
        pl.col(RECORD_ID).alias("record_id"),
        "file",
        "stage",
        "column",
        "reason",
        "original",
    )


class _Writers:
    """The three Parquet files, streamed window by window."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for writer in self._open.values():
            writer.close()
        if error[0] is None:
            for name in self._open:
                (self._folder / f"{name}.new").replace(self._folder / f"{name}.parquet")

    def add(self, verdicts: pl.DataFrame, rejects: pl.DataFrame, *, held: bool) -> None:
        """Append one window."""
        for name in ("suspicion", "p_value", "q_value"):
            if name not in verdicts.columns:
                verdicts = verdicts.with_columns(pl.lit(None, pl.Float64).alias(name))
        scores = sorted(name for name in verdicts.columns if name.startswith("score."))
        fixed = ["record_id", "decision", "suspicion", "p_value", "q_value", "reasons"]
        self._write("verdicts", verdicts.select(*fixed, *scores))
        chosen = verdicts.filter(pl.col("decision") == "quarantine") if held else verdicts.filter("suspect")
        said = [
            (pl.col(name) if name in chosen.columns else pl.lit(None, pl.String)).fill_null("[]").alias(name)
            for name in ("evidence", "nearest")
        ]
        self._write("evidence", chosen.select(ROW, "record_id", "file", "suspect", *said))
        self._write("rejects", rejects)

    def _write(self, name: str, frame: pl.DataFrame) -> None:
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if name not in self._open:
            self._open[name] = pq.ParquetWriter(self._folder / f"{name}.new", table.schema, compression="zstd")
        writer = self._open[name]
        writer.write_table(pa.table(table.columns, schema=writer.schema))
