"""Clean months judged fast: a month is parsed once, and each night's panel has one detector.

What the window finds rests on the small model, the marks and calibrated p-values; none of them is made by the other
detectors. So false alarms can be counted over more months than whole judgings would allow.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from benchmarks.slow_poison import KEY, RATE, Month, Night, stream
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.table import make_detectors
from lazaretto.detectors.views.sample import key_seed
from lazaretto.parquet import read_parquet
from lazaretto.pipelines.confine import parse_confined
from lazaretto.pipelines.device import resolve_device
from lazaretto.pipelines.look_back import MEMORY, LookedBack, look_back, remembering, tonight_of
from lazaretto.pipelines.memory import Memory
from lazaretto.pipelines.score import Scoring, score_all
from lazaretto.pipelines.snapshot import snapshot
from lazaretto.pipelines.window import Past

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.data import DataSet
    from lazaretto.contract import Contract

ONE = "hbos"


def judged_fast(data: DataSet, month: Month, seed: int, nights: int) -> Iterator[Night]:
    """Look back night after night on a clean month."""
    sent = stream(data, month, 1, seed, nights)
    with tempfile.TemporaryDirectory() as folder:
        trusted = _parsed(sent.trusted, sent.contract, Path(folder) / "trusted")
        everything = _parsed(pl.concat(sent.batches), sent.contract, Path(folder) / "month")
    memories: list[tuple[str, Memory]] = []
    for number in range(nights):
        frame = everything[number * month.size : (number + 1) * month.size]
        past = Past(KEY, tuple(memories[-sent.contract.policy.window + 1 :]))
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            looked, alone, window = _night(frame, trusted, sent.contract, past, Path(folder), number)
            seconds = time.perf_counter() - began
            kept = (Path(folder) / MEMORY).read_bytes()
            waits = len(read_parquet(Path(folder) / "evidence" / "part-00000.parquet"))
        memories.append((str(number), Memory.from_bytes(kept)))
        yield Night(
            data=data.name,
            entry=month.entry,
            spread=0,
            seed=seed,
            panel=ONE,
            number=number + 1,
            poisons=0,
            alone=0,
            waiting=0,
            clean=len(frame),
            clean_alone=alone,
            clean_waiting=waits,
            findings=tuple(f"{one.kind}: {one.says}" for one in looked.findings),
            guilty=0.0,
            seconds=round(seconds, 2),
            window_seconds=round(window, 3),
            bytes=len(kept),
        )


def _parsed(frame: pl.DataFrame, contract: Contract, folder: Path) -> pl.DataFrame:
    folder.mkdir()
    frame.write_parquet(folder / "records.parquet")
    parsed = parse_confined(
        snapshot([folder / "records.parquet"], contract.dataset, folder / "snapshot"), contract, folder
    )
    return pl.concat([read_parquet(file) for file in parsed.partitions])


def _night(
    frame: pl.DataFrame, trusted: pl.DataFrame, contract: Contract, past: Past, into: Path, number: int
) -> tuple[LookedBack, int, float]:
    """What looking back brought, how many records wait for their scores, and the seconds it took."""
    keys = key_seed(0, KEY, str(number))
    panel = fit_panel(frame, trusted, contract, make_detectors((ONE,)), 0, resolve_device("cpu"), keys)
    remembers = remembering(past, panel, contract, into)
    scored = score_all([frame], Scoring(panel, RATE, into, contract.source, remembers))
    if remembers is None or scored.memory is None:
        raise ValueError("nothing is remembered of a night")
    alone = len(read_parquet(into / "evidence" / "part-00000.parquet"))
    frame.write_parquet(into / "records.parquet")
    began = time.perf_counter()
    tonight = tonight_of(panel, trusted, remembers.marker, [into / "records.parquet"])
    looked = look_back(past, scored.memory, remembers.marker, [(0, frame)], tonight, into)
    return looked, alone, time.perf_counter() - began
