"""Where the records of a CSV begin and end, byte for byte, by RFC 4180 and nothing laxer.

Parsers disagree on ragged rows and stray quotes, so those records are found here and never reach a parser. The RFC's
state machine is evaluated on whole blocks: a byte lies inside quotes when the number of quotes before it in its record
is odd. That fails only behind a misplaced quote; there the record is given up at the end of its line, and counting
starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUOTE, COMMA, LF, CR, NUL = b'",\n\r\x00'
MISPLACED = "a quote inside an unquoted field, or text behind a closing quote"
BARE_CR = "a carriage return outside quotes"
NUL_BYTE = "a NUL byte"


@dataclass(frozen=True)
class Records:
    """The complete records of a block, blank lines left out."""

    starts: NDArray[np.int64]
    """First byte of each record (records,)."""
    ends: NDArray[np.int64]
    """One past its last byte, the line end left out (records,)."""
    fields: NDArray[np.int64]
    """Number of fields; meaningless where the record is faulty (records,)."""
    faults: dict[int, str]
    """Record -> what is wrong with it."""
    consumed: int
    """Bytes of the block that belong to complete records; what follows belongs to the next block."""
    open_at: int
    """Start of the record whose quoted field does not end in this block, or -1."""


@dataclass(frozen=True)
class _Lines:
    """Which line ends end a record (lines,), which of them end one that is given up (lines,), and the state behind."""

    ends: NDArray[np.bool_]
    given_up: NDArray[np.bool_]
    tail_open: bool = False
    tail_given_up: bool = False


def find_records(block: bytes, *, final: bool) -> Records:
    """Find the records of a block that begins where a record begins.

    Args:
        block: Bytes of the file.
        final: Whether the file ends with this block; then the last record needs no line end.
    """
    data = np.frombuffer(block, dtype=np.uint8)
    newlines = np.flatnonzero(data == LF)
    quotes = np.flatnonzero(data == QUOTE)
    lines = _judge_lines(data, newlines, quotes, final=final)
    ends = newlines[lines.ends]
    broken = lines.given_up[lines.ends]
    consumed = int(ends[-1]) + 1 if ends.size else 0
    # The carriage return of a line end belongs to it; one at the end of the file does not end a line.
    content = ends - ((ends > 0) & (data[ends - 1] == CR))
    tail = consumed < data.size
    if tail and final and not lines.tail_open:
        ends, content = np.append(ends, data.size), np.append(content, data.size)
        broken = np.append(broken, lines.tail_given_up)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends + 1])[: ends.size]
    kept = content > starts
    starts, content = starts[kept], content[kept]
    faults, fields = _inside(data, quotes.size > 0, starts, content)
    faults |= dict.fromkeys(np.flatnonzero(broken[kept]).tolist(), MISPLACED)
    open_at = consumed if tail and lines.tail_open else -1
    return Records(starts, content, fields, faults, data.size if final else consumed, open_at)


def _judge_lines(
    data: NDArray[np.uint8], newlines: NDArray[np.int64], quotes: NDArray[np.int64], *, final: bool
) -> _Lines:
    given_up = np.zeros(newlines.size, dtype=bool)
    if not quotes.size:
        return _Lines(np.ones(newlines.size, dtype=bool), given_up)
    before = np.searchsorted(quotes, newlines)  # quotes before each line end
    base = np.zeros(newlines.size, dtype=np.int64)  # the quote from which they are counted
    misplaced = _misplaced(data, quotes, final=final)
    first_quote, first_line = 0, 0
    tail_given_up = False
    while True:
        # Counted from an odd quote, odd quotes are the opening ones.
        suspects = misplaced[first_quote & 1]
        place = int(np.searchsorted(suspects, first_quote))
        if place == suspects.size:
            base[first_line:] = first_quote
            break
        line = int(np.searchsorted(newlines, quotes[suspects[place]]))
        base[first_line : line + 1] = first_quote
        if line == newlines.size:
            tail_given_up = True
            break
        given_up[line] = True
        first_line, first_quote = line + 1, int(before[line])
    tail_open = not tail_given_up and (quotes.size - first_quote) % 2 == 1
    return _Lines(((before - base) % 2 == 0) | given_up, given_up, tail_open=tail_open, tail_given_up=tail_given_up)


def _misplaced(
    data: NDArray[np.uint8], quotes: NDArray[np.int64], *, final: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Quotes (by index) that stand where none may, if even quotes open a field, and if odd ones do."""
    previous = data[np.maximum(quotes - 1, 0)]
    may_open = (quotes == 0) | (previous == COMMA) | (previous == LF) | (previous == QUOTE)
    last = data.size - 1
    following = data[np.minimum(quotes + 1, last)]
    second = data[np.minimum(quotes + 2, last)]
    may_close = (following == COMMA) | (following == LF) | (following == QUOTE)
    may_close |= (following == CR) & (second == LF)
    # At the end of a block that is not the last nobody can know yet; the record is not complete and comes again.
    may_close |= quotes == last
    if not final:
        may_close |= (quotes + 1 == last) & (following == CR)
    even = np.arange(quotes.size) % 2 == 0
    return (
        np.flatnonzero(~np.where(even, may_open, may_close)),
        np.flatnonzero(~np.where(even, may_close, may_open)),
    )


def _inside(
    data: NDArray[np.uint8], has_quotes: bool, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[dict[int, str], NDArray[np.int64]]:
    """What is wrong inside records, and how many fields each has."""
    parity: NDArray[np.uint8] | None = None
    phase = np.zeros(starts.size, dtype=np.uint8)
    if has_quotes:
        # Modulo 256 the parity is still right. It counts the quote itself, which is neither comma nor return.
        parity = np.bitwise_and(np.cumsum(data == QUOTE, dtype=np.uint8), np.uint8(1))
        phase[starts > 0] = parity[starts[starts > 0] - 1]

    def outside(byte: int) -> NDArray[np.int64]:
        places = np.flatnonzero(data == byte)
        if parity is None or not places.size:
            return _count(places, starts, ends)
        odd = parity[places] == 1
        return np.where(phase == 1, _count(places[odd], starts, ends), _count(places[~odd], starts, ends))

    faults = dict.fromkeys(np.flatnonzero(_count(np.flatnonzero(data == NUL), starts, ends)).tolist(), NUL_BYTE)
    faults |= dict.fromkeys(np.flatnonzero(outside(CR)).tolist(), BARE_CR)
    return faults, outside(COMMA) + 1


def _count(places: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the ascending ``places`` lie in each record (records,)."""
    if not places.size:
        return np.zeros(starts.size, dtype=np.int64)
    return np.searchsorted(places, ends) - np.searchsorted(places, starts)
