"""Where a piece is put into a text: before a random word or between two sentences, the rest left byte for byte."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_WORD = re.compile(r"\S+")
_SENTENCE_START = re.compile(r"(?<=[.!?])\s+(?=\S)|\n\s*\n\s*(?=\S)")


def insert_among_words(text: str, piece: str, rng: np.random.Generator) -> str:
    """The text with `piece` before one of its words or after the last, every place as likely as another.

    A text without a word comes back as it was: there is no place.
    """
    words = list(_WORD.finditer(text))
    if not words:
        return text
    place = int(rng.integers(len(words) + 1))
    if place == len(words):
        return f"{text[: words[-1].end()]} {piece}{text[words[-1].end() :]}"
    start = words[place].start()
    return f"{text[:start]}{piece} {text[start:]}"


def insert_among_sentences(text: str, piece: str, rng: np.random.Generator) -> str:
    """The text with `piece` before one of its sentences or after the last, every place as likely as another.

    A sentence ends at a full stop, question or exclamation mark before white space, or at an empty line. A text without
    a word comes back as it was.
    """
    words = list(_WORD.finditer(text))
    if not words:
        return text
    first, end = words[0].start(), words[-1].end()
    starts = [first, *(match.end() for match in _SENTENCE_START.finditer(text) if first < match.end() < end)]
    place = int(rng.integers(len(starts) + 1))
    if place == len(starts):
        return f"{text[:end]} {piece}{text[end:]}"
    return f"{text[: starts[place]]}{piece} {text[starts[place] :]}"
