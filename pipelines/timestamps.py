"""Reads timestamps, and times as files hold them: in UTC, to the microsecond, within the calendar."""

from __future__ import annotations

import polars as pl

Fault = tuple[pl.Series, str]
"""A mask over the records (Boolean) and what is wrong where it is true."""
Read = tuple[pl.Series, list[Fault]]

_TIMESTAMP = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"(?:[Zz]|([+-][0-9]{2}):?([0-9]{2})?)?)?$"
)
_UTC = pl.Datetime("us", "UTC")
_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = 86_400
_FIRST, _LAST = -62_135_596_800, 253_402_300_799
"""Seconds from 1970 to the first and the last of the years 1 to 9999, the only ones a timestamp can be written in."""
_OUTSIDE = "lies outside the years 1 to 9999"


def read_timestamps(raw: pl.Series) -> Read:
    """Timestamps (records,) from dates, times, or ISO 8601 text; null where there is none or it is at fault."""
    if isinstance(raw.dtype, pl.Datetime) or raw.dtype == pl.Date:
        return _from_times(raw)
    words = "is not an ISO 8601 timestamp"
    if raw.dtype != pl.String:
        return _nulls(raw, _UTC), [(raw.is_not_null(), words)]
    values = _from_text(raw)
    kept, faults = _from_times(values)
    return kept, [(raw.is_not_null() & values.is_null(), words), *faults]


def _from_times(raw: pl.Series) -> Read:
    sound = _in_calendar(raw)
    # What lies outside never reaches a cast: there it would wrap around, or end the process.
    inside = raw.zip_with(sound.fill_null(value=False), _nulls(raw, raw.dtype))
    if raw.dtype == pl.Date:
        inside = inside.cast(pl.Datetime("us"))
    zone = getattr(inside.dtype, "time_zone", None)
    aware = inside.dt.replace_time_zone("UTC") if zone is None else inside.dt.convert_time_zone("UTC")
    return aware.cast(_UTC), [(~sound, _OUTSIDE)]


def _from_text(raw: pl.Series) -> pl.Series:
    parts = raw.to_frame("raw").select(pl.col("raw").str.extract_groups(_TIMESTAMP)).unnest("raw")
    missing = ("", "00:00", "00", "0", "+00", "00")
    day, minute, second, fraction, hours, minutes = (
        part.fill_null(default) if default else part for part, default in zip(parts, missing, strict=True)
    )
    fraction = fraction.str.pad_end(6, "0").str.slice(0, 6)  # finer than a microsecond is cut off
    pieces = pl.DataFrame([day.alias("d"), minute.alias("m"), second.alias("s"), fraction.alias("f")])
    pieces = pieces.with_columns(hours.alias("h"), minutes.alias("z"))
    whole = pieces.select(pl.format("{}T{}:{}.{}{}{}", "d", "m", "s", "f", "h", "z")).to_series()
    return whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.6f%z", time_unit="us", strict=False).cast(_UTC)


def readable(raw: pl.Series, index: int) -> object:
    """One value of a column. A time that no calendar has cannot be taken out as one: it is told as its number."""
    if not (isinstance(raw.dtype, pl.Datetime) or raw.dtype == pl.Date):
        return raw[index]
    unit = raw.dtype.time_unit if isinstance(raw.dtype, pl.Datetime) else "days"
    one = raw[index : index + 1]
    return raw[index] if _in_calendar(one)[0] else f"{one.to_physical()[0]} {unit} from 1970"


def _in_calendar(raw: pl.Series) -> pl.Series:
    """Which dates or times (records,) lie in the years 1 to 9999, in UTC; null where there is none."""
    low, high = _FIRST // _DAY, _LAST // _DAY
    if isinstance(raw.dtype, pl.Datetime):
        unit = _PER_SECOND[raw.dtype.time_unit]
        # Of nanoseconds, 64 bits hold fewer years than the calendar has.
        low, high = max(_FIRST * unit, -(2**63)), min((_LAST + 1) * unit - 1, 2**63 - 1)
    return raw.to_physical().cast(pl.Int64).is_between(low, high)


def _nulls(raw: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(raw.name, [None], dtype=dtype).new_from_index(0, len(raw))
