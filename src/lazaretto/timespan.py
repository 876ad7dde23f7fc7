"""Spans of time as people write them: 90m, 24h, 7d."""

from __future__ import annotations

from datetime import timedelta

from lazaretto.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def timespan(text: str) -> timedelta:
    """A span such as ``90m``, ``24h`` or ``7d``.

    Raises:
        UsageError: The text is none, or longer than the calendar.
    """
    number, unit = text[:-1], text[-1:]
    try:
        if unit in _SECONDS and number.isdecimal():
            return timedelta(seconds=int(number) * _SECONDS[unit])
    except (OverflowError, ValueError):
        pass  # more digits than a span, or a number, may have
    raise UsageError(f"{text[:40]!r} is no time span", hint="write for instance 90m, 24h or 7d")
