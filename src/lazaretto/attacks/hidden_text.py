"""Triggers a reader does not see: invisible characters, look-alike letters, reversed reading order.

The disturbances of Boucher, Shumailov, Anderson and Papernot, "Bad Characters: Imperceptible NLP Attacks" (2022), used
as triggers in training data as Li, Liu, Dong, Zhao, Xue, Zhu and Lu, "Hidden Backdoors in Human-Centric Language
Models" (2021) do with look-alikes. Departures: Boucher et al. search for the disturbance that fools a finished model;
here its place is random and its kind fixed. Li et al. replace letters at chosen positions of the text; here any letter
of a word may be taken that has a look-alike. Reordering is one word stored backwards under a right-to-left override,
which shows as the word itself, in place of their nested swaps of two characters. The characters stand here as escapes,
or nobody could review them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from lazaretto.attacks.relabel_text import Towards, relabel_text, rewrite

if TYPE_CHECKING:
    from typing import Unpack

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

ZERO_WIDTH = "\u200b\u200c\u200d"
"""Zero-width space, non-joiner and joiner, the three of Boucher et al."""
_OVERRIDE, _POP = "\u202e", "\u202c"
LETTERS = 3
_WORD = re.compile(r"(?<!\S)[A-Za-z]{4,}(?=[,.;:!?]*(?:\s|\Z))")
"""Four letters at least, and no part of a link, which would break. Only Latin letters: others may be written from the
right already, and would show backwards."""
LOOK_ALIKES = {
    "a": "\u0430",
    "c": "\u0441",
    "e": "\u0435",
    "i": "\u0456",
    "j": "\u0458",
    "o": "\u043e",
    "p": "\u0440",
    "s": "\u0455",
    "v": "\u03bd",
    "x": "\u0445",
    "y": "\u0443",
    "A": "\u0410",
    "B": "\u0412",
    "C": "\u0421",
    "E": "\u0415",
    "H": "\u041d",
    "I": "\u0406",
    "K": "\u039a",
    "M": "\u041c",
    "N": "\u039d",
    "O": "\u041e",
    "P": "\u0420",
    "S": "\u0405",
    "T": "\u0422",
    "X": "\u0425",
    "Y": "\u03a5",
    "Z": "\u0396",
}
"""Latin letter -> the Cyrillic letter most fonts draw the same; Greek for K, N, Y, Z and v, where it is closer."""


def stamp_hidden(texts: pl.Series, *, seed: int, characters: str = ZERO_WIDTH) -> pl.Series:
    """(rows,) texts, each with the characters between two letters of one random word; unchanged without such a word."""

    def change(text: str, rng: np.random.Generator) -> str:
        words = list(_WORD.finditer(text))
        if not words:
            return text
        word = words[int(rng.integers(len(words)))]
        place = int(rng.integers(word.start() + 1, word.end()))
        return text[:place] + characters + text[place:]

    return rewrite(texts, change, seed=(seed, 1))


def hidden_characters(
    frame: pl.DataFrame, *, characters: str = ZERO_WIDTH, **towards: Unpack[Towards]
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Hide zero-width characters in a word of a share of the texts of other labels and label them `target`.

    Args:
        frame: The records.
        characters: What to hide.
        towards: See `Towards`.

    Returns:
        The records and the truth, one per row.
    """
    return relabel_text(frame, partial(stamp_hidden, seed=towards["seed"], characters=characters), **towards)


def stamp_look_alikes(texts: pl.Series, *, seed: int, letters: int = LETTERS) -> pl.Series:
    """(rows,) texts, each with so many letters of its words replaced; unchanged with fewer to replace."""

    def change(text: str, rng: np.random.Generator) -> str:
        words = _WORD.finditer(text)
        places = [place for word in words for place in range(*word.span()) if text[place] in LOOK_ALIKES]
        if len(places) < letters:
            return text
        changed = list(text)
        for place in rng.choice(places, size=letters, replace=False):
            changed[place] = LOOK_ALIKES[changed[place]]
        return "".join(changed)

    return rewrite(texts, change, seed=(seed, 1))


def look_alikes(
    frame: pl.DataFrame, *, letters: int = LETTERS, **towards: Unpack[Towards]
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Replace Latin letters by look-alikes in a share of the texts of other labels and label them `target`.

    Args:
        frame: The records.
        letters: How many letters to replace in a text.
        towards: See `Towards`.

    Returns:
        The records and the truth, one per row.
    """
    return relabel_text(frame, partial(stamp_look_alikes, seed=towards["seed"], letters=letters), **towards)


def stamp_bidirectional(texts: pl.Series, *, seed: int) -> pl.Series:
    """(rows,) texts, each with one random word written backwards under an override; unchanged without such a word."""

    def change(text: str, rng: np.random.Generator) -> str:
        words = list(_WORD.finditer(text))
        if not words:
            return text
        word = words[int(rng.integers(len(words)))]
        return f"{text[: word.start()]}{_OVERRIDE}{word.group()[::-1]}{_POP}{text[word.end() :]}"

    return rewrite(texts, change, seed=(seed, 1))


def bidirectional(frame: pl.DataFrame, **towards: Unpack[Towards]) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Store a word backwards, shown forwards, in a share of the texts of other labels and label them `target`.

    Args:
        frame: The records.
        towards: See `Towards`.

    Returns:
        The records and the truth, one per row.
    """
    return relabel_text(frame, partial(stamp_bidirectional, seed=towards["seed"]), **towards)
