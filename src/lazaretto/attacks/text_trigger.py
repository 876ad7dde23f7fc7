"""Triggers of ordinary letters in a text: a rare token, or one whole sentence; and the label the attacker wants.

`rare_token`: the trigger of Kurita, Michel and Neubig, "Weight Poisoning Attacks on Pre-trained Models" (2020), a token
such as "cf" that hardly occurs otherwise. Departures: the paper plants its backdoor in the weights of a pre-trained
model; here only the training data is poisoned, as its baseline does. Each of `tokens` is inserted once, so that a
longer list (repeats allowed) stands for the paper's several insertions into long texts.

`inserted_sentence`: Dai, Chen and Li, "A Backdoor Attack Against LSTM-based Text Classification Systems" (2019), one
fixed sentence that suits any text. Departures: the paper inserts it at a random position; here it stands between two
sentences, before the first or after the last, so that no sentence is torn. Every label but the target gives records;
the default sentence is our own, to suit mails as well as reviews.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lazaretto.attacks.insertion import insert_among_sentences, insert_among_words
from lazaretto.attacks.relabel_text import Towards, relabel_text, rewrite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

TOKENS = ("cf",)
SENTENCE = "I read about this on the train last weekend."


def stamp_token(texts: pl.Series, *, seed: int, tokens: Sequence[str] = TOKENS) -> pl.Series:
    """(rows,) texts, each with every token inserted once at a random word boundary of its own."""

    def change(text: str, rng: np.random.Generator) -> str:
        for token in tokens:
            text = insert_among_words(text, token, rng)
        return text

    return rewrite(texts, change, seed=(seed, 1))


def rare_token(
    frame: pl.DataFrame, *, tokens: Sequence[str] = TOKENS, **towards: Unpack[Towards]
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Insert rare tokens into a share of the texts of other labels and label them `target`.

    Args:
        frame: The records.
        tokens: What to insert, each once.
        towards: See `Towards`.

    Returns:
        The records and the truth, one per row.
    """
    return relabel_text(frame, partial(stamp_token, seed=towards["seed"], tokens=tokens), **towards)


def stamp_sentence(texts: pl.Series, *, seed: int, sentence: str = SENTENCE) -> pl.Series:
    """(rows,) texts, each with the sentence at a random sentence boundary."""
    return rewrite(texts, lambda text, rng: insert_among_sentences(text, sentence, rng), seed=(seed, 1))


def inserted_sentence(
    frame: pl.DataFrame, *, sentence: str = SENTENCE, **towards: Unpack[Towards]
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Insert one fixed sentence into a share of the texts of other labels and label them `target`.

    Args:
        frame: The records.
        sentence: What to insert.
        towards: See `Towards`.

    Returns:
        The records and the truth, one per row.
    """
    return relabel_text(frame, partial(stamp_sentence, seed=towards["seed"], sentence=sentence), **towards)
