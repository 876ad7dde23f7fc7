"""Turns columns as a file holds them into canonical ones, strictly: exactly, or the record is rejected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.pipelines.images import image_faults
from lazaretto.pipelines.timestamps import Read, read_timestamps, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lazaretto.contract import Column

_EXACT_FLOAT = 2.0**53
"""Whole numbers up to here are exact as 64-bit floats."""
_SHOWN = 60
_TEXT_INTEGER = r"^[+-]?[0-9]+$"
_WHOLE = r"^-?[0-9]+(\.0*)?$"


@dataclass(frozen=True)
class Converted:
    """A canonical column and why some of its records are rejected.

    ``values`` (records,) is null where the value was missing or rejected; ``faults`` maps the record's position to
    a sentence.
    """

    values: pl.Series
    faults: dict[int, str]


def convert(raw: Sequence[pl.Series], name: str, column: Column) -> Converted:
    """Convert one column.

    Args:
        raw: One series, or several of equal length of which at most one has a value for each record (JSON lines may
            mix types).
        name: The column's name, for the sentences.
        column: What the contract says about it.
    """
    reader = _READERS[column.type]
    values: pl.Series | None = None
    faults: dict[int, str] = {}
    for part in raw:
        found, masks = reader(part, column)
        for mask, words in masks:
            bad = mask.fill_null(value=False)
            if not bad.any():
                continue
            for index in bad.arg_true().to_list():
                # Bytes say nothing to a reader, so of an image only what is wrong with it is told.
                shown = "" if column.type == "image" else f"{_shown(readable(part, index), column)} "
                faults.setdefault(index, f"{name}: {shown}{words}")
        values = found if values is None else values.zip_with(values.is_not_null(), found)
    if values is None:
        raise ValueError("a column needs at least one series")
    return Converted(values.rename(name), faults)


def _shown(value: object, column: Column) -> str:
    if column.pii:
        return "a value"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, pl.Series)):
        return f"a list of {len(value)}"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _nulls(raw: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(raw.name, [None], dtype=dtype).new_from_index(0, len(raw))


def _never(raw: pl.Series, dtype: pl.DataType, words: str) -> Read:
    return _nulls(raw, dtype), [(raw.is_not_null(), words)]


def _integer(raw: pl.Series, _column: Column) -> Read:
    overflow = "does not fit into 64 bits"
    if raw.dtype.is_integer():
        values = raw.cast(pl.Int64, strict=False)
        return values, [(raw.is_not_null() & values.is_null(), overflow)]
    if raw.dtype.is_decimal():
        return _integer_from_decimal(raw)
    if raw.dtype.is_float():
        return _integer_from_float(raw.cast(pl.Float64))
    if raw.dtype != pl.String:
        return _never(raw, pl.Int64(), "is not a whole number")
    values = raw.cast(pl.Int64, strict=False)
    left = raw.is_not_null() & values.is_null()
    if not left.any():
        return values, []
    # Written by a program that keeps whole numbers with gaps as floats: 3.0.
    floats = raw.zip_with(left, _nulls(raw, pl.String())).cast(pl.Float64, strict=False)
    whole = (floats.floor() == floats) & (floats.abs() <= _EXACT_FLOAT) & left
    whole = whole.fill_null(value=False)
    values = values.zip_with(~whole, floats.fill_nan(None).cast(pl.Int64, strict=False))
    digits = raw.str.contains(_TEXT_INTEGER) & left & ~whole
    bad = left & ~whole & ~floats.is_nan().fill_null(value=False)
    return values, [(digits, overflow), (bad, "is not a whole number")]


def _integer_from_decimal(raw: pl.Series) -> Read:
    # Not by way of floats: they are exact up to 2^53 only.
    values = raw.cast(pl.Int64, strict=False)  # cuts a fraction off
    whole = raw.cast(pl.String).str.contains(_WHOLE)
    return values.zip_with(whole.fill_null(value=False), _nulls(raw, pl.Int64())), [
        (~whole, "is not a whole number"),
        (whole & values.is_null(), "does not fit into 64 bits"),
    ]


def _integer_from_float(raw: pl.Series) -> Read:
    floats = raw.fill_nan(None)
    whole = (floats.floor() == floats) & floats.is_finite()
    values = floats.zip_with(whole, _nulls(raw, pl.Float64())).cast(pl.Int64, strict=False)
    return values, [
        (floats.is_infinite(), "is infinite"),
        (floats.is_finite() & ~whole, "is not a whole number"),
        (whole & values.is_null(), "does not fit into 64 bits"),
    ]


def _number(raw: pl.Series, _column: Column) -> Read:
    if not (raw.dtype.is_numeric() or raw.dtype == pl.String):
        return _never(raw, pl.Float64(), "is not a number")
    values = raw.cast(pl.Float64, strict=False)
    unread = raw.is_not_null() & values.is_null()
    infinite = values.is_infinite()
    values = values.fill_nan(None)
    values = values.zip_with(~infinite.fill_null(value=False), _nulls(raw, pl.Float64()))
    return values, [(unread, "is not a number"), (infinite, "is infinite")]


def _boolean(raw: pl.Series, _column: Column) -> Read:
    words = "is neither true nor false"
    if raw.dtype == pl.Boolean:
        return raw, []
    if raw.dtype != pl.String:
        return _never(raw, pl.Boolean(), words)
    lower = raw.str.to_lowercase()
    truth = lower == "true"
    known = truth | (lower == "false")
    return truth.zip_with(known, _nulls(raw, pl.Boolean())), [(~known, words)]


def _text(raw: pl.Series, _column: Column) -> Read:
    if raw.dtype == pl.String:
        return raw, []
    if raw.dtype.is_integer() or raw.dtype in {pl.Boolean, pl.Categorical, pl.Enum}:
        return raw.cast(pl.String), []
    if raw.dtype.is_float():
        # NaN is a missing value in every column, an infinite number is rejected in every column.
        values = raw.fill_nan(None)
        return values.cast(pl.String), [(values.is_infinite(), "is infinite")]
    if raw.dtype == pl.Binary:
        texts = [_decoded(value) for value in raw.to_list()]
        values = pl.Series(raw.name, texts, dtype=pl.String)
        return values, [(raw.is_not_null() & values.is_null(), "are not UTF-8 text")]
    return _never(raw, pl.String(), "is not text")


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _vector(raw: pl.Series, column: Column) -> Read:
    dimensions = column.dimensions or 0
    dtype = pl.List(pl.Float32)
    words = f"is not a vector of {dimensions} finite numbers"
    if raw.dtype == pl.String:
        raw = pl.Series(raw.name, [_json_vector(text) for text in raw.to_list()], dtype=pl.List(pl.Float64))
    inner = getattr(raw.dtype, "inner", None)
    if inner is None or not inner.is_numeric():
        return _never(raw, dtype, words)
    lists = raw.cast(pl.List(pl.Float64))
    present = lists.is_not_null()
    right = (lists.list.len() == dimensions).fill_null(value=False)
    with np.errstate(over="ignore"):  # too large for 32 bits becomes infinite, which is what is looked for
        flat = lists.filter(right).explode().to_numpy().astype(np.float32).reshape(-1, dimensions)
    finite = np.isfinite(flat).all(axis=1)
    good = right.to_numpy().copy()
    good[good] = finite
    # One null at the end, for all that have no vector to point to.
    kept = pl.Series(raw.name, flat[finite], dtype=pl.Array(pl.Float32, dimensions)).cast(dtype)
    kept = kept.append(pl.Series(raw.name, [None], dtype=dtype))
    places = np.full(len(raw), len(kept) - 1, dtype=np.uint32)
    places[good] = np.arange(len(kept) - 1, dtype=np.uint32)
    return kept.gather(places), [(present & ~pl.Series(good), words)]


def _json_vector(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(value, list) or not all(type(item) in {int, float} for item in value):
        return []
    try:
        return [float(item) for item in value]
    except OverflowError:
        return []


def _image(raw: pl.Series, column: Column) -> Read:
    words = "no image: PNG or JPEG bytes are needed, or a struct with a field 'bytes'"
    if isinstance(raw.dtype, pl.Struct):
        fields = {field.name: field.dtype for field in raw.dtype.fields}
        if fields.get("bytes") != pl.Binary:
            return _never(raw, pl.Binary(), words)
        inner = raw.struct.field("bytes")
        paths = raw.struct.field("path") if "path" in fields else _nulls(raw, pl.String())
        values, faults = _image(inner, column)
        return values, [
            *faults,
            (inner.is_null() & paths.is_not_null(), "only the path of an image, without its bytes"),
        ]
    if raw.dtype != pl.Binary:
        return _never(raw, pl.Binary(), words)
    found = image_faults(raw.to_list(), column.max_pixels, transparent=column.transparent)
    texts = pl.Series(found, dtype=pl.String)
    faults = [(texts == fault, fault) for fault in texts.drop_nulls().unique(maintain_order=True).to_list()]
    return raw.zip_with(texts.is_null(), _nulls(raw, pl.Binary())), faults


_READERS: dict[str, Callable[[pl.Series, Column], Read]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "category": _text,
    "text": _text,
    "timestamp": lambda raw, _column: read_timestamps(raw),
    "vector": _vector,
    "image": _image,
}
