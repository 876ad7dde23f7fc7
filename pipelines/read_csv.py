"""Reads CSV strictly: RFC 4180, UTF-8, comma, one header line.

An unquoted empty field is a missing value, a quoted one is empty text; nothing else is missing, NA least of all.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.errors import InputRefused
from lazaretto.pipelines.chunks import MAX_RECORD_BYTES, Chunk, Loaded, refuse_odd_columns
from lazaretto.pipelines.csv_records import CR, LF, Records, find_records
from lazaretto.records import PARTITION_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from lazaretto.contract import Contract
    from lazaretto.records import SourceFile

BLOCK_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_UNCARRIED = {"image"}


@dataclass
class CsvReader:
    """Takes one CSV file apart.

    Blank lines are no records. A record with the wrong number of fields, a misplaced quote, a bare carriage return, a
    NUL byte or invalid UTF-8 is faulty; all others are well-formed by construction before a parser sees them.
    """

    file: SourceFile
    contract: Contract | None
    """What to read; without one every column is."""
    unusable: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file as the user knows it."""
        return self.file.name

    def chunks(self) -> Iterator[Chunk]:
        """All records in order.

        Raises:
            InputRefused: No usable header, a quote that is never closed, or a record too long to be one.
        """
        names: list[str] | None = None
        line = 1
        for block, records in self._blocks():
            first = 0
            if names is None:
                if not records.starts.size:
                    continue
                names = self._header(block[records.starts[0] : records.ends[0]], records)
                first = 1
            for start in range(first, records.starts.size, PARTITION_ROWS):
                stop = min(start + PARTITION_ROWS, records.starts.size)
                yield _Slice(block, records, start, stop, line, names, self).chunk()
            line += block.count(b"\n", 0, records.consumed)
        if names is None:
            raise InputRefused(f"{self.name} has no header: it holds nothing but blank lines")

    def _blocks(self) -> Iterator[tuple[bytes, Records]]:
        rest = b""
        line = 1
        with self.file.copy.open("rb") as source:
            rest = source.read(len(_BOM)).removeprefix(_BOM)
            while True:
                read = source.read(BLOCK_BYTES)
                block = rest + read
                final = not read
                records = find_records(block, final=final)
                if final and records.open_at >= 0:
                    where = line + block.count(b"\n", 0, records.open_at)
                    raise InputRefused(
                        f"{self.name}: a quoted field in the record on line {where} is never closed",
                        hint="close the quote; a quote inside a field is written twice",
                    )
                yield block, records
                if final:
                    return
                rest = block[records.consumed :]
                line += block.count(b"\n", 0, records.consumed)
                if len(rest) > MAX_RECORD_BYTES:
                    raise InputRefused(
                        f"{self.name}: the record on line {line} is longer than {MAX_RECORD_BYTES >> 20} MiB",
                        hint="is a quote left open there?",
                    )

    def _header(self, raw: bytes, records: Records) -> list[str]:
        if 0 in records.faults:
            raise InputRefused(f"{self.name}: the header holds {records.faults[0]}")
        try:
            names = next(csv.reader(io.StringIO(raw.decode(), newline=""), strict=True))
        except UnicodeDecodeError as error:
            raise InputRefused(f"{self.name}: the header is not UTF-8 (byte {error.start})") from error
        except csv.Error as error:
            raise InputRefused(f"{self.name}: the header cannot be read: {error}") from error
        refuse_odd_columns(self.name, names)
        if self.contract is not None:
            self._check(names, self.contract)
        return names

    def _check(self, names: Sequence[str], contract: Contract) -> None:
        if not set(names) & set(contract.all_columns):
            raise InputRefused(
                f"{self.name}: none of the contract's columns is in the header {', '.join(names)[:200]!r}",
                hint="the first line must name the columns, separated by commas",
            )
        for name in names:
            column = contract.all_columns.get(name)
            if column is not None and column.type in _UNCARRIED:
                raise InputRefused(
                    f"{self.name}: column {name!r} is an image, which CSV cannot hold",
                    hint="use Parquet, or a folder of images",
                )


@dataclass(frozen=True)
class _Slice:
    """Records ``start`` to ``stop`` of a block."""

    block: bytes
    records: Records
    start: int
    stop: int
    line: int
    """Line on which the block begins."""
    names: Sequence[str]
    reader: CsvReader

    def chunk(self) -> Chunk:
        return Chunk(self.stop - self.start, self.names, self.load, self.originals, self.place, (self.reader.name,))

    def originals(self, offsets: Sequence[int]) -> list[bytes]:
        starts, ends = self.records.starts, self.records.ends
        return [self.block[starts[self.start + at] : ends[self.start + at]] for at in offsets]

    def place(self, offset: int) -> str:
        edges = self.records.starts[self.start + offset], self.records.ends[self.start + offset]
        first, last = self.line + np.searchsorted(self._line_ends, edges)
        return f"line {first}" if first == last else f"lines {first}-{last}"

    @cached_property
    def _line_ends(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.frombuffer(self.block, dtype=np.uint8) == LF)

    def load(self) -> Loaded:
        records, width = self.records, len(self.names)
        faults = {at - self.start: what for at, what in records.faults.items() if self.start <= at < self.stop}
        fields = records.fields[self.start : self.stop]
        for at in np.flatnonzero(fields != width).tolist():
            faults.setdefault(at, f"{_fields(int(fields[at]))} where the header has {width}")
        for at in self._invalid_text():
            faults.setdefault(at, "text that is not UTF-8")
        good = np.ones(self.stop - self.start, dtype=bool)
        good[list(faults)] = False
        offsets = np.flatnonzero(good)
        contract = self.reader.contract
        wanted = [name for name in self.names if contract is None or name in contract.all_columns]
        frame = self._parse(good, int(offsets.size))
        return Loaded({name: (frame[name],) for name in wanted}, offsets, faults)

    def _invalid_text(self) -> Iterator[int]:
        """Records that are not UTF-8."""
        records = self.records
        begin, end = int(records.starts[self.start]), int(records.ends[self.stop - 1])
        while begin < end:
            try:
                self.block[begin:end].decode()
            except UnicodeDecodeError as error:
                at = int(np.searchsorted(records.ends, begin + error.start, side="right"))
                yield at - self.start
                begin = int(records.ends[at])
            else:
                return

    def _parse(self, good: NDArray[np.bool_], count: int) -> pl.DataFrame:
        """Parse the good records, all fields as text (count, columns)."""
        schema = dict.fromkeys(self.names, pl.String())
        if not count:
            return pl.DataFrame(schema=schema)
        frame = pl.read_csv(self._joined(good), has_header=False, schema=schema, quote_char='"')
        if frame.height != count:
            raise InputRefused(
                f"{self.reader.name}: {count} records were found where the parser reads {frame.height}",
                hint="please report this file as a bug; as Parquet it can be read meanwhile",
            )
        return frame

    def _joined(self, good: NDArray[np.bool_]) -> bytes:
        """The bytes of the good records alone, each ended by a line feed."""
        starts = self.records.starts[self.start : self.stop]
        ends = self.records.ends[self.start : self.stop]
        # Runs of good records without a blank line between them are copied as one.
        follows = np.zeros(good.size, dtype=bool)
        gaps = starts[1:] - ends[:-1]
        returns = np.frombuffer(self.block, dtype=np.uint8)[ends[:-1]] == CR
        follows[1:] = good[1:] & good[:-1] & (gaps == np.where(returns, len(b"\r\n"), len(b"\n")))
        first = np.flatnonzero(good & ~follows)
        last = np.flatnonzero(good & ~np.append(follows[1:], False))
        runs = (self.block[starts[a] : ends[b]] for a, b in zip(first, last, strict=True))
        return b"\n".join([*runs, b""])


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"
