"""What the characters of a text show and its words do not: kinds, hidden ones, look-alikes, blobs, comments."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

SHAPE = ("length", "share of digits", "share of capitals", "share of marks", "share beyond ASCII", "hidden characters")
"""Dimensions of `shape`."""

ODDITIES = (
    "invisible characters",
    "characters that reverse the reading order",
    "tag characters",
    "letters of another alphabet within a word",
    "private or unassigned characters",
    "characters in the longest encoded blob",
    "characters in comments",
)
"""Dimensions of `oddities`."""

_DIGIT, _CAPITAL, _MARK, _HIDDEN, _PRIVATE, _LETTER = 1, 2, 4, 8, 16, 32
_LATIN, _FOREIGN = 1, 2
_JOINERS = (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD, 0x180E)
_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_TAGS = (0xE0000, 0xE0080)
_BLOB = re.compile(r"(?<![\w/.=-])(?:[A-Za-z0-9+/]{24,}={0,2}|(?:[0-9a-fA-F]{2}){16,})(?![\w/.-])")
"""Base64 or hexadecimal; not the path of an address, which has its neighbours."""
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
# Alphabets with letters that look like Latin ones, and Latin letters in disguise.
_LOOKING_ALIKE = (
    (0x0370, 0x0400),
    (0x0400, 0x0530),
    (0x0530, 0x0590),
    (0x13A0, 0x1400),
    (0xA4D0, 0xA500),
    (0xFF21, 0xFF5B),
    (0x1D400, 0x1D800),
)
_LATIN_BLOCKS = ((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250))


def shape(values: pl.Series) -> NDArray[np.float64]:
    """(rows, 6) logarithm of the length, shares of kinds of characters, logarithm of hidden characters."""
    codes, starts, lengths = _codes(values)
    kinds = _kinds()[codes]
    total = np.maximum(lengths, 1)
    counts = [_per_text(kinds & bit > 0, starts, lengths) for bit in (_DIGIT, _CAPITAL, _MARK)]
    shares = [count / total for count in (*counts, _per_text(codes > 0x7F, starts, lengths))]  # noqa: PLR2004  ASCII
    hidden = _per_text(kinds & (_HIDDEN | _PRIVATE) > 0, starts, lengths)
    return np.stack([np.log1p(lengths), *shares, np.log1p(hidden)], axis=1)


def oddities(values: pl.Series) -> NDArray[np.float64]:
    """(rows, 7) counts of what a sound text hardly ever has, in characters; a missing text has none.

    A joiner counts next to Latin letters only: emoji and many scripts need it. So does a letter of an alphabet with
    look-alikes: in a word of its own it is just another language.
    """
    codes, starts, lengths = _codes(values)
    kinds, alphabet = _kinds()[codes], _alphabets()[codes]
    latin = alphabet == _LATIN
    beside = np.zeros(len(codes), dtype=np.bool_)
    beside[1:] |= latin[:-1]
    beside[:-1] |= latin[1:]
    # The neighbour of a text's last character is another text's first.
    if len(codes):
        beside[starts[lengths > 0]] = False
        ends = (starts + lengths - 1)[lengths > 0]
        beside[ends] = False
        inner = (lengths > 1)[lengths > 0]
        first, last = starts[lengths > 0][inner], ends[inner]
        beside[first] |= latin[first + 1]
        beside[last] |= latin[last - 1]
    flags = (
        np.isin(codes, _JOINERS) & beside,
        np.isin(codes, _BIDI),
        (codes >= _TAGS[0]) & (codes < _TAGS[1]),
        (alphabet == _FOREIGN) & beside,
        kinds & _PRIVATE > 0,
    )
    texts = [text or "" for text in values]
    blobs = [max((len(blob) for blob in _BLOB.findall(text) if _encoded(blob)), default=0) for text in texts]
    comments = [sum(len(found.group()) for found in _COMMENT.finditer(text)) for text in texts]
    counts = [_per_text(flag, starts, lengths) for flag in flags]
    return np.stack([*counts, np.asarray(blobs, dtype=np.float64), np.asarray(comments, dtype=np.float64)], axis=1)


def _encoded(blob: str) -> bool:
    """Whether a run of letters and digits is no long word: words have no digits between capitals."""
    return any(c.isdigit() for c in blob) and (any(c.isupper() for c in blob) or blob.isalnum())


def _codes(values: pl.Series) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]:
    """All texts' code points in one array, where each text starts, and how long it is."""
    parts = [np.frombuffer((text or "").encode("utf-32-le", "surrogatepass"), dtype=np.uint32) for text in values]
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])[: len(lengths)].astype(np.int64)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint32), starts, lengths


def _per_text(flags: NDArray[np.bool_], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    running = np.concatenate([[0], np.cumsum(flags)]).astype(np.float64)
    return np.asarray(running[starts + lengths] - running[starts])


@lru_cache(maxsize=1)
def _kinds() -> NDArray[np.uint8]:
    """Bits of every code point's general category."""
    bits = {"Nd": _DIGIT, "Lu": _CAPITAL | _LETTER, "Cf": _HIDDEN, "Co": _PRIVATE, "Cn": _PRIVATE}
    table = np.zeros(0x110000, dtype=np.uint8)
    for code in range(0x110000):
        kind = unicodedata.category(chr(code))
        table[code] = bits.get(kind, {"P": _MARK, "S": _MARK, "L": _LETTER}.get(kind[0], 0))
    return table


@lru_cache(maxsize=1)
def _alphabets() -> NDArray[np.uint8]:
    table = np.zeros(0x110000, dtype=np.uint8)
    for low, high in _LATIN_BLOCKS:
        table[low:high] = _LATIN
    for low, high in _LOOKING_ALIKE:
        table[low:high] = _FOREIGN
    return np.where(_kinds() & _LETTER > 0, table, 0).astype(np.uint8)
