"""Parses a batch once, strictly, into canonical Parquet; what does not parse is kept with its reason and its bytes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.contract import canonical_schema
from lazaretto.contract_errors import nearest
from lazaretto.errors import InputRefused
from lazaretto.pipelines.canonical import convert
from lazaretto.pipelines.digests import digests
from lazaretto.pipelines.duplicates import reject_shared_ids, tell_copies_apart
from lazaretto.pipelines.look_alikes import odd_columns
from lazaretto.pipelines.partitions import PartitionWriter
from lazaretto.pipelines.read_jsonl import JsonlReader
from lazaretto.pipelines.readers import place_of, readers_of
from lazaretto.pipelines.rejects import REJECT_SCHEMA, RejectWriter
from lazaretto.pipelines.repeats import Repeats
from lazaretto.records import DIGEST, RECORD_ID, ROW, Batch, OnRows, Parsed, no_rows

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.contract import Contract
    from lazaretto.pipelines.chunks import Chunk, Loaded, Reader

_MOST_HOLDS = 20
"""Odd columns named; one would do to hold the batch."""
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"

Faults = dict[int, list[tuple[str, str]]]
"""Position in the chunk -> (column or nothing, sentence) of each fault."""


def parse(batch: Batch, contract: Contract, into: Path, *, on_rows: OnRows = no_rows) -> Parsed:
    """Parse a snapshot into ``into/canonical/part-*.parquet`` and ``into/rejects.parquet``.

    A record that cannot be taken apart, or whose values cannot become what the contract says, is rejected with its
    reason and its bytes; the others go on. Records that share an id are all rejected; without an id column equal
    records are numbered apart. Memory holds a few partitions, whatever the size of the batch.

    Args:
        batch: The snapshot.
        contract: What its columns should be.
        into: The work folder; what an earlier parse left there is replaced.
        on_rows: Called with the number of records just parsed.

    Raises:
        InputRefused: A file cannot be taken apart into records, has none, or has no column of the contract.
        UsageError: The disk is full.
    """
    _clear(into)
    run = _Run(contract, into, on_rows)
    try:
        with RejectWriter(into / "rejects.parquet") as rejects:
            for reader in readers_of(batch, contract):
                run.read(reader, rejects)
        run.writer.finish()
        rejected = rejects.count
        repeated = run.repeats.resolve(run.arrived)
        partitions = tuple(run.writer.paths)
        if repeated is not None and contract.id is not None:
            partitions, rejected = reject_shared_ids(batch, contract, into, partitions, repeated)
        elif repeated is not None:
            tell_copies_apart(partitions, repeated)
    except BaseException:
        run.repeats.close()
        _clear(into)
        raise
    run.repeats.close()
    ignored = tuple(run.ignored)
    return Parsed(batch, partitions, into / "rejects.parquet", run.arrived, rejected, ignored, tuple(run.holds))


def _clear(into: Path) -> None:
    shutil.rmtree(into / "canonical", ignore_errors=True)
    shutil.rmtree(into / "repeats", ignore_errors=True)
    (into / "rejects.parquet").unlink(missing_ok=True)


@dataclass
class _Run:
    """One parse under way."""

    contract: Contract
    into: Path
    on_rows: OnRows
    arrived: int = 0
    ignored: dict[str, None] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.columns = self.contract.all_columns
        self.schema = canonical_schema(self.contract)
        self.writer = PartitionWriter(self.into / "canonical")
        self.repeats = Repeats(self.into / "repeats")

    def read(self, reader: Reader, rejects: RejectWriter) -> None:
        before = self.arrived
        seen: dict[str, None] = {}
        for chunk in reader.chunks():
            self._chunk(chunk, rejects)
            seen.update(dict.fromkeys(chunk.names))
        if self.arrived == before:
            raise InputRefused(f"{reader.name} holds no records", hint="was it written in full?")
        if isinstance(reader, JsonlReader) and not reader.objects:
            raise InputRefused(f"{reader.name}: no line is a JSON object", hint="JSON lines hold one object a line")
        missing = [name for name in self.columns if name not in seen]
        if len(missing) == len(self.columns):
            found = ", ".join(seen)[:200]
            raise InputRefused(f"{reader.name} has none of the contract's columns; it has {found!r}")
        self.holds += [
            f"{reader.name}: the column {name!r} of the contract is missing{nearest(name, list(seen))}"
            for name in missing
        ]
        self.holds += [
            f"{reader.name}: the column {name!r} is {found} where the contract says {self.columns[name].type}"
            for name, found in reader.unusable.items()
        ]
        self.holds += [f"{reader.name}: {what}" for what in odd_columns(seen, self.columns)[:_MOST_HOLDS]]
        self.ignored.update((name, None) for name in seen if name not in self.columns)

    def _chunk(self, chunk: Chunk, rejects: RejectWriter) -> None:
        loaded = chunk.load()
        frame, faults = self._convert(loaded)
        rows = loaded.offsets.astype(np.uint64) + np.uint64(self.arrived)
        frame = frame.with_columns(pl.Series(ROW, rows, dtype=pl.UInt64), self._ids(frame, rows))
        self._refuse_odd_ids(frame, loaded.offsets, faults)
        bad = np.zeros(frame.height, dtype=bool)
        bad[np.searchsorted(loaded.offsets, np.array(sorted(faults), dtype=np.int64))] = True
        lost = frame.filter(bad).select(ROW, RECORD_ID) if faults else frame.head(0).select(ROW, RECORD_ID)
        for at, what in loaded.faults.items():
            faults[at] = [("", what)]
        if faults:
            rejects.add(self._rejected(chunk, faults, dict(lost.iter_rows())))
            frame = frame.filter(~bad)
        self._keep(frame)
        self.arrived += chunk.count
        self.on_rows(chunk.count)

    def _convert(self, loaded: Loaded) -> tuple[pl.DataFrame, Faults]:
        """The canonical columns of all records of a chunk, and the faults of those whose values do not fit."""
        count = loaded.offsets.size
        faults: Faults = {}
        converted: list[pl.Series] = []
        for name, column in self.columns.items():
            raw = loaded.columns.get(name)
            if raw is None:
                converted.append(pl.Series(name, [None], dtype=self.schema[name]).new_from_index(0, count))
                continue
            found = convert(raw, name, column)
            converted.append(found.values)
            for place, what in found.faults.items():
                faults.setdefault(int(loaded.offsets[place]), []).append((name, what))
        return pl.DataFrame(converted), faults

    def _ids(self, frame: pl.DataFrame, rows: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> pl.Series:
        """The id as text; a record whose id is missing is called by its row (validation will reject it)."""
        if self.contract.id is None or self.contract.names_people:
            return pl.Series(RECORD_ID, [None], dtype=pl.String).new_from_index(0, frame.height)
        ids = frame[self.contract.id].cast(pl.String).alias(RECORD_ID)
        if ids.null_count():
            ids = ids.zip_with(ids.is_not_null(), pl.Series([_row_name(row) for row in rows.tolist()], dtype=pl.String))
        return ids

    def _refuse_odd_ids(self, frame: pl.DataFrame, offsets: np.ndarray[tuple[int], Any], faults: Faults) -> None:
        """Add the records whose id no log can show as it is, or no database keep."""
        name = self.contract.id
        if name is None or frame.schema[name] != pl.String:
            return
        for place in frame[name].str.contains(_CONTROL).fill_null(value=False).arg_true().to_list():
            shown = "a value" if self.contract.names_people else repr(frame[name][place])[:60]
            faults.setdefault(int(offsets[place]), []).append((name, f"{name}: {shown} holds control characters"))

    def _rejected(self, chunk: Chunk, faults: Faults, ids: dict[int, str | None]) -> pl.DataFrame:
        offsets = sorted(faults)
        rows = [self.arrived + at for at in offsets]
        return pl.DataFrame(
            {
                ROW: rows,
                "record_id": [ids.get(row) or _row_name(row) for row in rows],
                "file": [place_of(chunk, at) for at in offsets],
                "stage": ["parse"] * len(rows),
                "column": [faults[at][0][0] for at in offsets],
                "reason": ["; ".join(what for _, what in faults[at]) for at in offsets],
                "original": chunk.originals(offsets),
            },
            schema=REJECT_SCHEMA,
        )

    def _keep(self, frame: pl.DataFrame) -> None:
        frame = frame.with_columns(digests(frame, self.columns).alias(DIGEST))
        name = self.contract.id
        if name is None or self.contract.names_people:
            frame = frame.with_columns(pl.col(DIGEST).alias(RECORD_ID))
        known = frame.select(ROW, pl.col(name or DIGEST).cast(pl.String).alias("id")).drop_nulls()
        self.repeats.add(known["id"], known[ROW].to_numpy())
        self.writer.add(frame)


def _row_name(row: int) -> str:
    return f"row-{row}"
