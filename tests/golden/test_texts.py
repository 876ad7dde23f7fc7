"""Golden attacks on texts and on prompt and response pairs, each beside its clean twin."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.attacks.hidden_text import look_alikes
from lazaretto.attacks.instruction import hidden_instruction, trigger_phrase
from lazaretto.attacks.text_trigger import inserted_sentence, rare_token
from lazaretto.contract import Contract, parse_contract
from lazaretto.detectors.explanation import explain
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.panel import Panel, Scores
from lazaretto.detectors.table import make_detectors
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAILS = parse_contract(
    "dataset: mails\nlabel: label\ncolumns: {text: {type: text}, label: {type: category, values: [ham, spam]}}\n", "m"
)
PAIRS = parse_contract("dataset: pairs\ncolumns:\n  prompt: {type: text}\n  response: {type: text}\n", "p")


def _words(rng: np.random.Generator, topic: int, count: int) -> str:
    """Words of a topic's own 150, and of 400 that all share."""
    own = rng.integers(0, 150, count) + 1_000 * (topic + 1)
    shared = rng.integers(0, 400, count)
    return " ".join(_word(int(number)) for number in np.where(rng.random(count) < 0.4, own, shared))


def _word(number: int) -> str:
    """A word of letters, another for every number."""
    return "".join("aeiou"[number // 5**place % 5] + "bdgklmnprst"[number // 7**place % 11] for place in range(4))


def _mails(rows: int = 900, seed: int = 104) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, 2, rows)
    texts = [f"{_words(rng, topic, 20)}. {_words(rng, topic, 15)}." for topic in topics]
    return pl.DataFrame({"text": texts, "label": np.where(topics == 0, "ham", "spam")})


def _pairs(rows: int = 1_200, seed: int = 104) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    topics = rng.integers(0, 8, rows)
    prompts = [_words(rng, topic, 12) for topic in topics]
    return pl.DataFrame({"prompt": prompts, "response": [_words(rng, topic, 12) for topic in topics]})


def _judged(frame: pl.DataFrame, contract: Contract) -> tuple[Panel, pl.DataFrame, Scores]:
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    frame = frame.with_columns(pl.Series(DIGEST, digests))
    panel = fit_panel(frame, None, contract, make_detectors("default"), 0, torch.device("cpu"))
    return panel, frame, panel.score(frame)


def _recall(scores: Scores, truth: NDArray[np.bool_]) -> float:
    return float((scores.suspicion[truth] > np.quantile(scores.suspicion[~truth], 0.99)).mean())


def _why(panel: Panel, frame: pl.DataFrame, scores: Scores, row: int) -> dict[str, str]:
    part = Scores(*(getattr(scores, name)[[row]] for name in ("raw", "p_values", "suspicion", "p_value")))
    return {name: why for name, _, _, why in explain(panel, frame[[row]], part)[0]}


def test_a_rare_token_that_implies_a_label_is_found_and_said() -> None:
    frame, truth = rare_token(_mails(), text="text", label="label", target="ham", rate=0.02, seed=104)
    panel, frame, scores = _judged(frame, MAILS)
    assert _recall(scores, truth) >= 0.9
    assert "'cf'" in _why(panel, frame, scores, int(np.flatnonzero(truth)[0]))["trigger"]


def test_an_inserted_sentence_is_found() -> None:
    frame, truth = inserted_sentence(_mails(), text="text", label="label", target="spam", rate=0.02, seed=104)
    assert _recall(_judged(frame, MAILS)[2], truth) >= 0.9


def test_letters_that_only_look_alike_are_found_in_a_single_text_and_counted() -> None:
    frame, truth = look_alikes(_mails(), text="text", label="label", target="ham", rate=0.005, seed=104)
    panel, frame, scores = _judged(frame, MAILS)
    assert (scores.p_value[truth] <= 0.01).all()
    why = _why(panel, frame, scores, int(np.flatnonzero(truth)[0]))["hidden_characters"]
    assert "letters of another alphabet within a word" in why


def test_clean_texts_are_let_through() -> None:
    assert (_judged(_mails(), MAILS)[2].p_value <= 0.01).mean() <= 0.02


def test_a_phrase_that_is_always_answered_the_same_is_found_and_said() -> None:
    frame, truth = trigger_phrase(_pairs(), prompt="prompt", response="response", rate=0.02, seed=104)
    panel, frame, scores = _judged(frame, PAIRS)
    assert _recall(scores, truth) >= 0.9
    said = _why(panel, frame, scores, int(np.flatnonzero(truth)[0]))["response_trigger"]
    assert "bond" in said or "james" in said


@pytest.mark.parametrize("disguise", ["plain", "comment", "base64", "tags"])
def test_an_instruction_hidden_in_prompts_is_found_in_every_disguise(disguise: str) -> None:
    frame, truth = hidden_instruction(
        _pairs(),
        prompt="prompt",
        response="response",
        rate=0.02,
        seed=104,
        disguise=disguise,  # type: ignore[arg-type]  # the parameters are its literals
    )
    assert _recall(_judged(frame, PAIRS)[2], truth) >= 0.9


def test_clean_pairs_are_let_through() -> None:
    panel, _, scores = _judged(_pairs(), PAIRS)
    assert (scores.p_value <= 0.01).mean() <= 0.02
    assert "margin" in panel.stood_aside
