"""Reads JSON lines strictly: one object a line, no key twice, nothing nested where a single value is due."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.errors import InputRefused
from lazaretto.pipelines.chunks import MAX_RECORD_BYTES, Chunk, Loaded, name_twice
from lazaretto.records import PARTITION_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lazaretto.contract import Contract
    from lazaretto.records import SourceFile

CHUNK_BYTES = 8 * 1024 * 1024
_MOST_NAMES = 10_000
"""More column names than this are not remembered; they would be ignored anyway."""
_INT64 = 2**63
_BOM = b"\xef\xbb\xbf"


@dataclass
class JsonlReader:
    """Takes one file of JSON lines apart. Blank lines are no records."""

    file: SourceFile
    contract: Contract | None
    """What to read; without one every key is."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    """Keys seen so far, in order."""
    objects: int = 0
    """Lines so far that hold an object."""

    @property
    def name(self) -> str:
        """The file as the user knows it."""
        return self.file.name

    def chunks(self) -> Iterator[Chunk]:
        """All records in order.

        Raises:
            InputRefused: A line too long to be a record, or columns JSON cannot hold.
        """
        for name, column in (self.contract.all_columns if self.contract else {}).items():
            if column.type == "image":
                raise InputRefused(
                    f"{self.name}: column {name!r} is an image, which JSON lines cannot hold",
                    hint="use Parquet, or a folder of images",
                )
        lines: list[bytes] = []
        places: list[int] = []
        size = 0
        for number, line in self._lines():
            lines.append(line)
            places.append(number)
            size += len(line)
            if size >= CHUNK_BYTES or len(lines) == PARTITION_ROWS:
                yield self._chunk(lines, places)
                lines, places, size = [], [], 0
        if lines:
            yield self._chunk(lines, places)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self.file.copy.open("rb") as source:
            number = 0
            while line := source.readline(MAX_RECORD_BYTES + 1):
                number += 1
                if len(line) > MAX_RECORD_BYTES:
                    raise InputRefused(f"{self.name}: line {number} is longer than {MAX_RECORD_BYTES >> 20} MiB")
                if number == 1:
                    line = line.removeprefix(_BOM)
                text = line.removesuffix(b"\n").removesuffix(b"\r")
                if text.strip(b" \t\r"):
                    yield number, text

    def _chunk(self, lines: list[bytes], places: list[int]) -> Chunk:
        def originals(offsets: Sequence[int]) -> list[bytes]:
            return [lines[at] for at in offsets]

        return Chunk(
            len(lines), self.names, lambda: self._load(lines), originals, lambda at: f"line {places[at]}", (self.name,)
        )

    def _load(self, lines: list[bytes]) -> Loaded:
        decode = json.JSONDecoder(object_pairs_hook=_object).decode
        records: list[dict[str, Any]] = []
        offsets: list[int] = []
        faults: dict[int, str] = {}
        for at, line in enumerate(lines):
            try:
                record = decode(line.decode())
            except UnicodeDecodeError:
                faults[at] = "text that is not UTF-8"
            except json.JSONDecodeError as error:
                faults[at] = f"no JSON: {error.msg} (character {error.pos + 1})"
            except (ValueError, RecursionError) as error:
                faults[at] = f"no JSON: {_words(error)}"
            else:
                if isinstance(record, dict):
                    records.append(record)
                    offsets.append(at)
                else:
                    faults[at] = f"{_word(record)} where an object is due"
        self.objects += len(records)
        for record in records:
            if not record.keys() <= self.names.keys() and len(self.names) < _MOST_NAMES:
                self.names.update(dict.fromkeys(record))
        columns = {
            name: series_of([record.get(name) for record in records])
            for name in (self.contract.all_columns if self.contract else self.names)
            if name in self.names
        }
        return Loaded(columns, np.array(offsets, dtype=np.int64), faults)


def _words(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    # Python's own advice is for programmers.
    return "a number of thousands of digits" if "int_max_str_digits" in str(error) else str(error)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = name_twice(name for name, _ in pairs) or ""
        raise ValueError(f"the key {twice[:100]!r} is there twice")
    return found


def _word(value: object) -> str:
    return {list: "a list", str: "text", bool: "a truth value", type(None): "null"}.get(type(value), "a number")


def series_of(values: list[Any]) -> tuple[pl.Series, ...]:
    """JSON values (records,) as one series, or as several when they mix types, each null where another has the value.

    A whole number beyond 64 bits is given as its digits, text with lone surrogates as bytes, and what no column can
    hold as a struct, so that the conversion says what is wrong with them.
    """
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return (pl.Series(values, dtype=pl.Null),)
    if len(kinds) > 1:
        parts = [[value if type(value) is kind else None for value in values] for kind in sorted(kinds, key=str)]
        return tuple(series for part in parts for series in series_of(part))
    return _SERIES[kinds.pop()](values)


def _integers(values: list[int | None]) -> tuple[pl.Series, ...]:
    small = [value if value is None or -_INT64 <= value < _INT64 else None for value in values]
    series = pl.Series(small, dtype=pl.Int64)
    if small == values:
        return (series,)
    large = [
        str(value) if value is not None and kept is None else None for value, kept in zip(values, small, strict=True)
    ]
    return series, pl.Series(large, dtype=pl.String)


def _texts(values: list[str | None]) -> tuple[pl.Series, ...]:
    try:
        return (pl.Series(values, dtype=pl.String),)
    except UnicodeEncodeError:
        broken = [value is not None and any("\ud800" <= mark <= "\udfff" for mark in value) for value in values]
    texts = [None if bad else value for value, bad in zip(values, broken, strict=True)]
    raw = [
        value.encode("utf-8", "surrogatepass") if bad and value is not None else None
        for value, bad in zip(values, broken, strict=True)
    ]
    return pl.Series(texts, dtype=pl.String), pl.Series(raw, dtype=pl.Binary)


def _lists(values: list[list[Any] | None]) -> tuple[pl.Series, ...]:
    numbers = [_floats(value) for value in values]
    lost = [value is not None and found is None for value, found in zip(values, numbers, strict=True)]
    series = pl.Series(numbers, dtype=pl.List(pl.Float64))
    if not any(lost):
        return (series,)
    return series, _structs([{} if bad else None for bad in lost])[0]


def _floats(value: list[Any] | None) -> list[float] | None:
    if value is None or not all(type(item) in {int, float} for item in value):
        return None
    try:
        return [float(item) for item in value]
    except OverflowError:
        return [math.inf]


def _structs(values: Sequence[dict[str, Any] | None]) -> tuple[pl.Series, ...]:
    present = [None if value is None else {"nested": True} for value in values]
    return (pl.Series(present, dtype=pl.Struct({"nested": pl.Boolean()})),)


_SERIES: dict[type, Callable[[list[Any]], tuple[pl.Series, ...]]] = {
    bool: lambda values: (pl.Series(values, dtype=pl.Boolean),),
    int: _integers,
    float: lambda values: (pl.Series(values, dtype=pl.Float64),),
    str: _texts,
    list: _lists,
    dict: _structs,
}
