"""A workspace, a contract, a batch and a judge of a few lines: enough to publish for real within milliseconds."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from lazaretto.config import Workspace, init_workspace, load_workspace
from lazaretto.contract import Contract, parse_contract
from lazaretto.pipelines.ingest import Hooks, IngestResult, ingest
from lazaretto.pipelines.snapshot import snapshot
from lazaretto.records import DIGEST, RECORD_ID, ROW, Batch, Parsed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DATASET = "flights"
CONTRACT = """\
dataset: flights
id: id
label: late
columns:
  id: {type: category}
  x: {type: number}
  late: {type: boolean}
features: [x]
"""
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARTITION = 4
EVIDENCE = '[{"detector": "outlier", "score": 9.0, "p_value": 0.001, "why": "x is far out"}]'
HELD = "more is suspicious than the contract allows"


@dataclass(frozen=True)
class FakeJudged:
    folder: Path
    parsed: Parsed
    contract: Contract
    summary: dict[str, Any]


@dataclass(frozen=True)
class FakeJudge:
    """x over 100 is suspicious, x under 0 breaks the contract."""

    hold: bool = False

    def __call__(self, files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> FakeJudged:
        hooks.on_step("snapshot")
        batch = hooks.on_batch(snapshot(files, contract.dataset, into / "snapshot"))
        hooks.on_step("decide")
        types = {"id": pl.String, "x": pl.Float64}
        frame = pl.concat([pl.read_csv(file.copy, schema_overrides=types) for file in batch.files])
        digest = frame.select(pl.format("{}|{}|{}", "id", "x", "late").hash(7).cast(pl.String).alias(DIGEST))[DIGEST]
        frame = frame.with_columns(pl.col("id").alias(RECORD_ID), digest).with_row_index(ROW).cast({ROW: pl.UInt64})
        frame = frame.select("id", "x", "late", ROW, RECORD_ID, DIGEST)
        known = hooks.refuse(frame[DIGEST].to_list())
        parts = []
        (into / "canonical").mkdir()
        for number, part in enumerate(frame.iter_slices(PARTITION)):
            parts.append(into / "canonical" / f"part-{number:05}.parquet")
            part.write_parquet(parts[-1])
        rejected = (pl.col("x") < 0) | pl.col(DIGEST).is_in(sorted(known))
        suspect = (pl.col("x") > 100) & ~rejected
        waits = ~rejected if self.hold else suspect
        verdicts = frame.with_columns(
            decision=pl.when(rejected)
            .then(pl.lit("reject"))
            .when(waits)
            .then(pl.lit("quarantine"))
            .otherwise(pl.lit("admit")),
            suspect=suspect,
            p_value=pl.when(suspect).then(0.001).otherwise(0.5),
        )
        return self._write(into, contract, batch, verdicts, tuple(parts))

    def _write(
        self, into: Path, contract: Contract, batch: Batch, verdicts: pl.DataFrame, parts: tuple[Path, ...]
    ) -> FakeJudged:
        reasons = pl.when("suspect").then(pl.lit(["outlier: x is far out"])).otherwise(pl.lit([], pl.List(pl.String)))
        verdicts.select(
            pl.col(RECORD_ID).alias("record_id"),
            "decision",
            suspicion=-pl.col("p_value").log(),
            p_value="p_value",
            q_value="p_value",
            reasons=reasons,
        ).write_parquet(into / "verdicts.parquet")
        waiting = verdicts.filter(pl.col("decision") == "quarantine")
        said = pl.when("suspect").then(pl.lit(EVIDENCE)).otherwise(pl.lit("[]"))
        evidence = waiting.select(ROW, pl.col(RECORD_ID).alias("record_id"), "suspect", evidence=said)
        evidence.write_parquet(into / "evidence.parquet")
        rejects = verdicts.filter(pl.col("decision") == "reject")
        rejects.select(
            ROW, record_id=RECORD_ID, file=pl.lit("f"), stage=pl.lit("contract"), column=pl.lit("x"),
            reason=pl.lit("x is negative"), original=pl.col("x").cast(pl.String).cast(pl.Binary),
        ).write_parquet(into / "rejects.parquet")  # fmt: skip
        counts = {"admit": 0, "quarantine": 0, "reject": 0, **dict(verdicts.group_by("decision").len().iter_rows())}
        summary = {
            "dataset": contract.dataset, "batch": batch.id, "arrived": verdicts.height, "admitted": counts["admit"],
            "quarantined": counts["quarantine"], "rejected": counts["reject"], "hold": self.hold,
            "hold_reasons": [HELD] if self.hold else [],
        }  # fmt: skip
        (into / "summary.json").write_text(json.dumps(summary))
        parsed = Parsed(batch, parts, into / "rejects.parquet", verdicts.height, 0)
        return FakeJudged(into, parsed, contract, summary)


def make_workspace(root: Path) -> Workspace:
    """A workspace with the contract of `DATASET`."""
    workspace, _ = init_workspace(root / "workspace")
    workspace.contract(DATASET).write_text(CONTRACT)
    return workspace


def copy_workspace(root: Path, into: Path) -> Workspace:
    """A workspace like the one at ``root``, in ``into``."""
    shutil.copytree(root, into / "workspace", copy_function=shutil.copy2)
    return load_workspace(into / "workspace")


def write_batch(path: Path, start: int = 0, rows: int = 10) -> Path:
    """``rows`` records; every tenth is suspicious, the one after it breaks the contract."""
    path.parent.mkdir(parents=True, exist_ok=True)
    odd = {5: 1000, 6: -1}
    lines = [f"r{i},{odd.get(i % 10, i % 7)},{str(i % 2 == 0).lower()}" for i in range(start, start + rows)]
    path.write_text("\n".join(["id,x,late", *lines]) + "\n")
    return path


def contract() -> Contract:
    return parse_contract(CONTRACT, "flights.yaml")


def publish(workspace: Workspace, start: int = 0, *, hold: bool = False, rows: int = 10) -> IngestResult:
    """Ingest one batch of records numbered from ``start``."""
    file = write_batch(workspace.root.parent / f"batch-{start}.csv", start, rows)
    return ingest(workspace, [file], DATASET, judge=FakeJudge(hold), now=NOW)


def no_fault(_partitions: object, _contract: object, _into: object) -> dict[int, str]:
    """A recheck that finds nothing, in place of Great Expectations, which takes seconds."""
    return {}


def stored(workspace: Workspace) -> pl.DataFrame:
    """What is in the store, ordered."""
    frame = pl.scan_delta(str(workspace.store(DATASET))).collect()
    return frame.sort("_record_id")
