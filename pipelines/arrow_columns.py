"""Arrow columns as Parquet gives them: which can become what the contract says, as polars series, and as JSON rows."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import polars as pl
import pyarrow as pa
from pyarrow import types

_NUMBERS = {"integer", "float", "decimal", "text", "null"}
_BECOMES: dict[str, set[str]] = {
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "boolean": {"boolean", "text", "null"},
    "category": {"integer", "float", "boolean", "text", "binary", "null"},
    "text": {"integer", "float", "boolean", "text", "binary", "null"},
    "timestamp": {"timestamp", "date", "text", "null"},
    "vector": {"numbers", "text", "null"},
    "image": {"binary", "image", "null"},
}
_KINDS = (
    ("null", types.is_null),
    ("boolean", types.is_boolean),
    ("integer", types.is_integer),
    ("float", types.is_floating),
    ("decimal", types.is_decimal128),
    ("text", lambda kind: types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)),
    ("binary", lambda kind: types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)),
    ("date", types.is_date),
    ("timestamp", types.is_timestamp),
)


def unusable_as(kind: Any, column_type: str | None) -> str:  # noqa: ANN401  pyarrow ships no types
    """The Arrow type in words if no value of it can ever be a ``column_type`` (None: of any type), else nothing."""
    becomes = _BECOMES[column_type] if column_type else set().union(*_BECOMES.values())
    return "" if _word(kind) in becomes else str(kind)[:80]


def _word(kind: Any) -> str:  # noqa: ANN401  pyarrow ships no types
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    for word, holds in _KINDS:
        if holds(kind):
            return word
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return "numbers" if types.is_integer(kind.value_type) or types.is_floating(kind.value_type) else ""
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return "image" if _word(kind.field("bytes").type) == "binary" else ""
    return ""


def series_from(column: Any, name: str) -> pl.Series:  # noqa: ANN401  pyarrow ships no types
    """One usable column as a polars series (records,).

    Raises:
        pyarrow.ArrowInvalid: The column is damaged.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_float16(column.type):
        column = column.cast(pa.float32())
    if types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        if _word(column.type) != "text":
            raise
        # Parquet does not promise that text is UTF-8. As bytes it is checked value by value.
        column = _as_bytes(column)
    series = pl.from_arrow(column)
    if not isinstance(series, pl.Series):
        raise TypeError("one Arrow array gives one series")
    return series.rename(name)


def _as_bytes(column: Any) -> Any:  # noqa: ANN401  pyarrow ships no types
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.view(pa.large_binary() if types.is_large_string(column.type) else pa.binary())


def json_rows(batch: Any) -> list[bytes]:  # noqa: ANN401  pyarrow ships no types
    """Each row of a record batch as a JSON object; bytes become ``{"base64": "..."}``."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        columns = [_as_bytes(column) if _word(column.type) == "text" else column for column in batch.columns]
        rows = pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()
    except (OverflowError, ValueError):  # a time that Python has no word for: all times as numbers
        columns = [column.cast(_numeric(column.type)) for column in batch.columns]
        rows = pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()
    return [json.dumps(row, default=_plain, ensure_ascii=False).encode("utf-8", "backslashreplace") for row in rows]


def _numeric(kind: Any) -> Any:  # noqa: ANN401  pyarrow ships no types
    """A type with whole numbers in place of dates and times, however deep they lie."""
    if types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()  # noqa: PLR2004  the widths of Arrow's times
    if types.is_list(kind):
        return pa.list_(_numeric(kind.value_type))
    if types.is_large_list(kind):
        return pa.large_list(_numeric(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(field.name, _numeric(field.type)) for field in kind])
    return kind


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    return str(value)
