"""Scores partitions against the fitted panel: one pure function per partition, run by a few workers.

Each worker computes with one thread, so that neither the number of workers nor the machine's cores can change the order
of a sum, and two workers do not wait for each other's threads.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.calibrate import PValueCounts
from lazaretto.pipelines.sources import SourceCounts
from lazaretto.records import RECORD_ID, ROW, OnRows, no_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from lazaretto.detectors.panel import Panel
    from lazaretto.pipelines.look_back import Remembering
    from lazaretto.pipelines.memory import Memory

WORKERS = 2
"""Partitions scored at the same time; memory grows with each."""


@dataclass(frozen=True)
class PartScores:
    """What one partition's scoring leaves in memory; the scores themselves lie on disk."""

    p_values: NDArray[np.float64]
    flagged: NDArray[np.int64]
    """(detectors,) records whose p-value by that detector alone is at most the rate."""
    faults: dict[str, str] = field(default_factory=dict)
    """Detector -> the error it raised."""
    sources: SourceCounts | None = None
    memory: Memory | None = None


@dataclass
class Scored:
    """All partitions together."""

    counts: PValueCounts = field(default_factory=PValueCounts)
    flagged: dict[str, int] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    """Detector -> the first error it raised while scoring or explaining; a batch with any is held."""
    sources: SourceCounts | None = None
    """How each source's labels agree with the probe; None without a source or a label."""
    memory: Memory | None = None
    """What is to be remembered of them; None where nothing is."""


@dataclass(frozen=True)
class Scoring:
    """How records are scored, and where what is found of them goes."""

    panel: Panel | None
    """The fitted panel; None, or one whose detectors all failed, leaves every score empty (the batch is then held)."""
    rate: float
    """p-value up to which a record is a suspect."""
    folder: Path
    """Where ``scores/`` and ``evidence/`` go."""
    source: str | None = None
    """The column that says who supplied a record."""
    remembering: Remembering | None = None
    """Makes what is remembered of the records; None where nobody looks back."""


def score_all(frames: Iterable[pl.DataFrame], how: Scoring, on_rows: OnRows = no_rows) -> Scored:
    """Score every partition into ``scores/`` and explain its suspects into ``evidence/``.

    Args:
        frames: Canonical records that were not rejected, partition by partition.
        how: Panel, rate, and the folder where both folders go.
        on_rows: Called with the number of records just scored.
    """
    for name in ("scores", "evidence"):
        (how.folder / name).mkdir(exist_ok=True)
    scored = Scored()
    how = how if how.panel is not None and how.panel.names else replace(how, panel=None)
    names = () if how.panel is None else how.panel.names
    flagged = np.zeros(len(names), dtype=np.int64)
    for part in _in_order(frames, how):
        scored.counts.add(part.p_values)
        flagged += part.flagged
        scored.faults = {**part.faults, **scored.faults}
        if part.sources is not None:
            scored.sources = part.sources if scored.sources is None else scored.sources.merge(part.sources)
        if part.memory is not None:
            scored.memory = part.memory if scored.memory is None else scored.memory.merge(part.memory)
        on_rows(len(part.p_values))
    scored.flagged = dict(zip(names, flagged.tolist(), strict=True))
    return scored


def score_partition(frame: pl.DataFrame, how: Scoring, number: int) -> PartScores:
    """Score and explain one partition; writes ``scores/part-N.parquet`` and ``evidence/part-N.parquet``."""
    from lazaretto.detectors.explanation import explain
    from lazaretto.evidence import Evidence, dump_evidence

    panel, rate, folder = how.panel, how.rate, how.folder
    names = () if panel is None else panel.names
    raw = np.full((len(frame), len(names)), np.nan)
    suspicion = p_value = np.full(len(frame), np.nan)
    suspects = np.zeros(len(frame), dtype=bool)
    flagged = np.zeros(len(names), dtype=np.int64)
    said: list[str] = []
    faults: dict[str, str] = {}
    sources = memory = None
    if panel is not None and len(frame):
        scores = panel.score(frame)
        raw, suspicion, p_value = scores.raw, scores.suspicion, scores.p_value
        suspects = ~(p_value <= 1) | (p_value <= rate)  # what has no p-value is a suspect
        flagged = (scores.p_values <= rate).sum(axis=0)
        index = np.flatnonzero(suspects)
        subset = type(scores)(raw[index], scores.p_values[index], suspicion[index], p_value[index], scores.faults)
        faults = scores.faults
        if how.source is not None and scores.reading is not None:
            read = scores.reading
            sources = SourceCounts.of(frame[how.source], read.labels, read.predicted, read.sure)
        if how.remembering is not None:
            memory = how.remembering.remember(frame, scores, panel.classes, number)
        explained = explain(panel, frame[index], subset) if len(index) else []
        said = [dump_evidence([Evidence(*item) for item in evidence]) for evidence in explained]
    table = {"record_id": frame[RECORD_ID], "suspicion": suspicion, "p_value": p_value}
    columns = {f"score.{name}": raw[:, i] for i, name in enumerate(names)}
    pl.DataFrame({ROW: frame[ROW], **table, **columns}).write_parquet(folder / "scores" / f"part-{number:05}.parquet")
    judged = frame.filter(pl.Series(suspects, dtype=pl.Boolean))
    evidence = {ROW: judged[ROW], "record_id": judged[RECORD_ID], "evidence": pl.Series(said, dtype=pl.String)}
    pl.DataFrame(evidence).write_parquet(folder / "evidence" / f"part-{number:05}.parquet")
    return PartScores(p_value, flagged, faults, sources, memory)


def _in_order(frames: Iterable[pl.DataFrame], how: Scoring) -> Iterator[PartScores]:
    """Results in the order of the partitions, with no more of them read ahead than there are workers."""
    if how.panel is None:
        yield from (score_partition(frame, how, n) for n, frame in enumerate(frames))
        return
    import torch
    from threadpoolctl import threadpool_limits

    waiting: deque[Future[PartScores]] = deque()
    with (
        threadpool_limits(1),
        ThreadPoolExecutor(WORKERS, initializer=torch.set_num_threads, initargs=(1,)) as workers,
    ):
        for number, frame in enumerate(frames):
            if len(waiting) == WORKERS:
                yield waiting.popleft().result()
            waiting.append(workers.submit(score_partition, frame, how, number))
        while waiting:
            yield waiting.popleft().result()
