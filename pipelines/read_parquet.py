"""Reads Parquet in bounded pieces; a column whose type can never be what the contract says is named, not guessed at."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lazaretto.errors import InputRefused
from lazaretto.pipelines.arrow_columns import json_rows, series_from, unusable_as
from lazaretto.pipelines.chunks import Chunk, Loaded, refuse_odd_columns
from lazaretto.records import PARTITION_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lazaretto.contract import Contract
    from lazaretto.records import SourceFile

PIECE_BYTES = 128 * 1024 * 1024
"""Decoded bytes in one piece, by the file's own account of its sizes."""

_MOST_ROWS_PER_BYTE, _FEW_ROWS = 100, 100_000
"""Records that differ in anything at all, an id or a number, take a byte each and not a hundredth of one."""
_MOST_BYTES_PER_BYTE, _FEW_BYTES = 1_000, 2**28
"""What a file may unpack to, for each of its bytes; up to so much it may in any case."""
_BLOATED = "no records that differ take so little room; a file that unpacks to far more than its size is refused"
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 8}
"""Bytes of a value in memory; a text's own bytes come on top."""


@dataclass
class ParquetReader:
    """Takes one Parquet file apart.

    Columns outside the contract are read only for the original of a rejected record.
    """

    file: SourceFile
    contract: Contract | None
    """What to read; without one every column is."""
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file as the user knows it."""
        return self.file.name

    def chunks(self) -> Iterator[Chunk]:
        """All records in order.

        Raises:
            InputRefused: Truncated or damaged, a column twice, or no column of the contract.
        """
        with _refusing(self.name), _open(self.file) as source, _Originals(self.file) as whole:
            self._refuse_bloated(source.metadata)
            names = list(source.schema_arrow.names)
            wanted = self._wanted(source.schema_arrow)
            first = 0
            batches = source.iter_batches(batch_size=_piece_rows(source.metadata), columns=wanted)
            for batch in self._pieces(batches):
                piece = _Piece(self, batch, wanted, whole, first)
                yield Chunk(batch.num_rows, names, piece.load, piece.originals, piece.place, (self.name,))
                first += batch.num_rows

    def _refuse_bloated(self, metadata: Any) -> None:  # noqa: ANN401  pyarrow ships no types
        """A column that says one value a thousand million times takes a few bytes, and hours to read."""
        rows, size = metadata.num_rows, self.file.size
        if rows > _FEW_ROWS and rows > _MOST_ROWS_PER_BYTE * size:
            raise InputRefused(f"{self.name} says it holds {rows:,} rows in {size:,} bytes", hint=_BLOATED)
        groups = (metadata.row_group(place) for place in range(metadata.num_row_groups))
        _refuse_unpacked(self.file, sum(_decoded_bytes(group) for group in groups))

    def _pieces(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Batches whose texts are not yet written out, in pieces of bounded size; too large a file is refused."""
        decoded = 0
        for batch in batches:
            size = sum(_written_out(column) for column in batch.columns)
            decoded += size
            _refuse_unpacked(self.file, decoded)
            rows = max(1, batch.num_rows * PIECE_BYTES // max(size, 1))
            for start in range(0, batch.num_rows, rows):
                yield batch.slice(start, rows)

    def _wanted(self, schema: Any) -> list[str]:  # noqa: ANN401  pyarrow ships no types
        names = list(schema.names)
        refuse_odd_columns(self.name, names)
        columns = self.contract.all_columns if self.contract else dict.fromkeys(names)
        wanted = [name for name in names if name in columns]
        if not wanted:
            raise InputRefused(f"{self.name} has none of the contract's columns; it has {', '.join(names)[:200]!r}")
        for name in wanted:
            column = columns[name]
            found = unusable_as(schema.field(name).type, column.type if column else None)
            if found:
                self.unusable[name] = found
        return wanted


@dataclass(frozen=True)
class _Piece:
    """Some rows of the file, the contract's columns only."""

    reader: ParquetReader
    batch: Any
    wanted: Sequence[str]
    whole: _Originals
    first: int

    def load(self) -> Loaded:
        faults: dict[int, str] = {}
        columns: dict[str, tuple[pl.Series, ...]] = {}
        with _refusing(self.reader.name):
            for name in self.wanted:
                column = self.batch.column(name)
                if name in self.reader.unusable:
                    if self.reader.contract is not None:
                        expected = self.reader.contract.all_columns[name].type
                        words = f"{name}: {self.reader.unusable[name]} where the contract says {expected}"
                        present = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
                        faults.update((at, words) for at in present.tolist() if at not in faults)
                    columns[name] = (pl.Series(name, [None] * len(column), dtype=pl.Null),)
                else:
                    columns[name] = (series_from(column, name),)
        if not faults:
            return Loaded(columns, np.arange(self.batch.num_rows))
        good = np.setdiff1d(np.arange(self.batch.num_rows), np.fromiter(faults, dtype=np.int64))
        return Loaded({name: (series.gather(good),) for name, (series,) in columns.items()}, good, faults)

    def originals(self, offsets: Sequence[int]) -> list[bytes]:
        with _refusing(self.reader.name):
            return self.whole.rows([self.first + at for at in offsets])

    def place(self, offset: int) -> str:
        return f"row {self.first + offset + 1}"


class _Originals:
    """Whole rows as JSON, by number; a second reading of the file that runs only when and as far as it is needed."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._source: Any = None
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None
        self._start = 0
        self._decoded = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._source is not None:
            self._source.close()

    def rows(self, wanted: Sequence[int]) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < len(wanted):
            row = wanted[len(found)]
            if self._source is None or row < self._start:
                self._restart()
            if row >= self._start + self._batch.num_rows:
                self._advance()
                continue
            here = [at - self._start for at in wanted[len(found) :] if at < self._start + self._batch.num_rows]
            taken = self._batch.take(pa.array(here, pa.int64()))
            self._decoded += sum(_written_out(column) for column in taken.columns)
            _refuse_unpacked(self._file, self._decoded)
            found += json_rows(taken)
        return found

    def _restart(self) -> None:
        self.__exit__()
        self._source = _open(self._file)
        self._batches = self._source.iter_batches(batch_size=_piece_rows(self._source.metadata))
        self._batch, self._start = next(self._batches), 0

    def _advance(self) -> None:
        self._start += self._batch.num_rows
        self._batch = next(self._batches)


def _open(file: SourceFile) -> Any:  # noqa: ANN401  pyarrow ships no types
    # Texts that the file keeps in a dictionary stay there until it is known how long they are all together.
    metadata = pq.read_metadata(file.copy)
    texts = [each.name for each in metadata.schema.to_arrow_schema() if _is_text(each.type)]
    # Without pre-buffering a row group is read page by page; with checksums a flipped bit is noticed.
    return pq.ParquetFile(
        file.copy, metadata=metadata, pre_buffer=False, buffer_size=1 << 20, memory_map=False,
        page_checksum_verification=True, read_dictionary=texts,
    )  # fmt: skip


def _refuse_unpacked(file: SourceFile, decoded: int) -> None:
    if decoded > max(_FEW_BYTES, _MOST_BYTES_PER_BYTE * file.size):
        raise InputRefused(f"{file.name} unpacks to {decoded / 2**30:.1f} GiB, from {file.size:,} bytes", hint=_BLOATED)


def _is_text(kind: Any) -> bool:  # noqa: ANN401  pyarrow ships no types
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _piece_rows(metadata: Any) -> int:  # noqa: ANN401  pyarrow ships no types
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    widest = max((_decoded_bytes(group) // max(group.num_rows, 1) for group in groups), default=0)
    return max(1, min(PARTITION_ROWS, PIECE_BYTES // max(widest, 1)))


def _decoded_bytes(group: Any) -> int:  # noqa: ANN401  pyarrow ships no types
    """What a row group takes in memory at least: a value that is packed a million times is there a million times."""
    columns = [group.column(place) for place in range(group.num_columns)]
    return sum(
        max(each.total_uncompressed_size, each.num_values * _WIDTHS.get(each.physical_type, 1)) for each in columns
    )


def _written_out(column: Any) -> int:  # noqa: ANN401  pyarrow ships no types
    """Bytes of a column once its dictionary, if it has one, is written out."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(lengths.take(column.indices)).as_py() or 0)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise InputRefused(
            f"{name} needs more memory than there is: {' '.join(str(error).split())[:100]}",
            hint="it unpacks to far more than its size; write it in smaller row groups",
        ) from error
    except (pa.ArrowException, OSError, ValueError, pl.exceptions.PolarsError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputRefused(f"{name} is no readable Parquet file: {text}", hint="was it copied in full?") from error
