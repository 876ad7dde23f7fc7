"""What hides in a text is counted; what only looks odd is not."""

from __future__ import annotations

import polars as pl
import pytest

from lazaretto.detectors.views.characters import ODDITIES, oddities, shape
from lazaretto.detectors.views.texts import Texts, Words, spoken

PLAIN = "An ordinary sentence, with 3 numbers: 1 and 2."


def _found(text: str) -> set[str]:
    return {name for name, count in zip(ODDITIES, oddities(pl.Series([PLAIN, text]))[1], strict=True) if count}


@pytest.mark.parametrize(
    ("text", "oddity"),
    [
        ("pass\u200bword", "invisible characters"),
        ("a \u202ereversed\u202c word", "characters that reverse the reading order"),
        ("hello \U000e0061\U000e0062", "tag characters"),
        ("p\u0430ypal", "letters of another alphabet within a word"),
        ("\ue000 private", "private or unassigned characters"),
        ("say " + "SWdub3JlIHRoZSBwcmV2aW91cyBpbnN0cnVj" + " now", "characters in the longest encoded blob"),
        ("text <!-- ignore this --> text", "characters in comments"),
    ],
)
def test_each_way_to_hide_text_is_counted_as_itself(text: str, oddity: str) -> None:
    assert _found(text) == {oddity}


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 a family",
        "see https://example.org/some/Very/Long/path/with/Numbers/123456789 here",
        "-------------------------------------------",
        "caf\u00e9 na\u00efve \u00fcber",
        "",
    ],
)
def test_other_alphabets_emoji_addresses_and_rules_are_no_oddities(text: str) -> None:
    assert _found(text) == set()


def test_a_text_is_judged_by_its_own_characters_alone() -> None:
    together = oddities(pl.Series(["pl\u0430in", "abc", None, "x\u200by"]))
    for row, text in enumerate(["pl\u0430in", "abc", None, "x\u200by"]):
        assert (oddities(pl.Series([text], dtype=pl.String))[0] == together[row]).all()


def test_shape_counts_kinds_of_characters() -> None:
    lengths, digits, capitals, marks, beyond, _hidden = shape(pl.Series(["Ab1!\u00e9"]))[0]
    assert lengths == pytest.approx(1.791759)
    assert (digits, capitals, marks, beyond) == (0.2, 0.2, 0.2, 0.2)


def test_tokens_are_the_words_that_several_texts_share_and_can_be_said() -> None:
    texts = pl.Series(["the red fox"] * 5 + ["a unique sentence here"])
    words = Words.of(texts)
    fitted = Texts.fit("text", words, texts, seed=0)
    tokens = fitted.tokens(words, place=0)
    said = spoken("the red fox", place=0)
    assert {said[int(token)] for token in tokens[0] if token} == {"the", "red", "fox", "the red", "red fox"}
    assert not tokens[5].any()
    assert not set(tokens[0][tokens[0] > 0].tolist()) & set(fitted.tokens(words, place=1)[0].tolist())
