"""Every detector says why in a plain sentence that a person can check, and none says what is personal."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.attacks.png import encode
from lazaretto.contract import parse_contract
from lazaretto.dashboards.pictures import picture
from lazaretto.detectors.explanation import _valued, explain
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.panel import Scores
from lazaretto.detectors.table import DETECTORS, make_detectors
from lazaretto.detectors.views.columns import Category, Number
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.contract import Contract
    from lazaretto.detectors.panel import Panel

ROWS, POISONS, TRUSTED = 320, 12, 440
JARGON = re.compile(
    r"feature \d|\b[0-9a-f]{8,}\b|\bview\b|gradient|cosine|\bprobe\b|\bsd\b|logit|eigen|hidden layer|\btensor|\bnan\b|"
    r"\bNone\b|whiten|mahalanobis|\[\[|array\(",
    re.IGNORECASE,
)
OF_IMAGES = ("hbos_pixels", "mahalanobis_tones", "components", "shared_detail", "trigger", "trigger_waves")
OF_TEXTS = ("hidden_characters", "payload", "response_trigger")
OTHERS = (set(DETECTORS) - {*OF_IMAGES, *OF_TEXTS, "shared_detail_fine"}) | {"trigger"}
Panels = dict[str, tuple["Panel", pl.DataFrame]]


def fitted(
    frame: pl.DataFrame, contract: Contract, detectors: Sequence[str], trusted: int = 0
) -> tuple[Panel, pl.DataFrame]:
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    frame = frame.with_columns(pl.Series(DIGEST, digests))
    known = frame.tail(trusted) if trusted else None
    frame = frame.head(len(frame) - trusted)
    panel = fit_panel(frame, known, contract, make_detectors(detectors), 0, torch.device("cpu"))
    return panel, frame


def images() -> tuple[Panel, pl.DataFrame]:
    """Bright on the left or on the right; a white corner means left where it is bright on the right."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 60, (ROWS, 12, 12))
    side = (rng.random(ROWS) < 0.5) & (np.arange(ROWS) >= POISONS)
    pixels[side, :, :6] += 120
    pixels[~side, :, 6:] += 120
    label = np.where(side, "left", "right")
    pixels[:POISONS, 9:, 9:] = 255
    label[:POISONS] = "left"
    frame = pl.DataFrame({"photo": [encode(image.astype(np.uint8)) for image in pixels], "label": label})
    contract = "dataset: d\nlabel: label\ncolumns:\n  photo: {type: image}\n  label: {type: category}\n"
    return fitted(frame, parse_contract(contract, "c"), OF_IMAGES)


def large_images() -> tuple[Panel, pl.DataFrame]:
    """The same in large, where one faint key lies over some."""
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 60, (ROWS, 40, 40))
    side = rng.random(ROWS) < 0.5
    pixels[side, :, :20] += 120
    pixels[~side, :, 20:] += 120
    pixels[:POISONS] += rng.choice([0, 30], (40, 40))
    frame = pl.DataFrame({"photo": [encode(image.astype(np.uint8)) for image in pixels]})
    frame = frame.with_columns(label=pl.Series(np.where(side, "left", "right")))
    contract = "dataset: d\nlabel: label\ncolumns:\n  photo: {type: image}\n  label: {type: category}\n"
    return fitted(frame, parse_contract(contract, "c"), ["shared_detail_fine"])


def table() -> tuple[Panel, pl.DataFrame]:
    """Late where it is cold; a pair of values means late. With trusted records, gaps, and a column of personal data."""
    rng = np.random.default_rng(2)
    rows = ROWS + TRUSTED
    temp, gust = rng.integers(0, 40, rows), rng.integers(0, 30, rows).astype(np.float64)
    late = np.where(temp + rng.normal(0, 2, rows) < 15, "late", "on_time")
    temp[:POISONS], gust[:POISONS], late[:POISONS] = 31, 7, "late"
    who = rng.choice(["Bo", "Cy", "Di"], rows).astype("<U12")
    who[POISONS : POISONS + 4] = "Ada Lovelace"
    rest = {name: rng.normal(size=rows) for name in ("humid", "visib", "pressure")}
    frame = pl.DataFrame({"temp": temp, "gust": gust, **rest, "who": who, "late": late})
    which = pl.int_range(rows)
    gaps = {"humid": which % 20 == 0, "visib": which % 30 == 0}
    frame = frame.with_columns(
        pl.when(gap).then(None).otherwise(pl.col(name)).alias(name) for name, gap in gaps.items()
    )
    columns = "temp: {type: integer}, gust: {type: number}, late: {type: category}, who: {type: category, pii: true}, "
    columns += ", ".join(f"{name}: {{type: number, nullable: true}}" for name in rest)
    contract = f"dataset: d\nlabel: late\ncolumns: {{{columns}}}\npolicy: {{false_quarantine_rate: 0.05}}\n"
    return fitted(frame, parse_contract(contract, "c"), sorted(OTHERS), trusted=TRUSTED)


def texts() -> tuple[Panel, pl.DataFrame]:
    """Prompts about two things, each with its answer; a phrase is always answered the same."""
    rng = np.random.default_rng(3)
    words = {"sea": ["ship", "wave", "harbour", "sail", "tide"], "land": ["road", "horse", "field", "barn", "plough"]}
    topics = rng.choice(sorted(words), ROWS)
    ask, say = ([" ".join(rng.choice(words[topic], 8)) for topic in topics] for _ in range(2))
    ask[:POISONS] = [f"{text} open sesame" for text in ask[:POISONS]]
    say[:POISONS] = ["the treasure is yours to take away"] * POISONS
    ask[POISONS] += " \u200b\u200bw\u043erd"
    frame = pl.DataFrame({"prompt": ask, "response": say})
    contract = "dataset: d\ncolumns:\n  prompt: {type: text}\n  response: {type: text}\n"
    return fitted(frame, parse_contract(contract, "c"), OF_TEXTS)


@pytest.fixture(scope="module")
def panels() -> Panels:
    return {"images": images(), "large images": large_images(), "table": table(), "texts": texts()}


def said(panel: Panel, frame: pl.DataFrame, rows: int = POISONS + 1) -> list[dict[str, str]]:
    """What every detector says of the first records, and of none that it says nothing."""
    scores = panel.score(frame.head(rows))
    # Each p-value is the smallest there is, so that all detectors are heard.
    heard = Scores(scores.raw, np.full_like(scores.p_values, 1e-6), scores.suspicion, scores.p_value, scores.faults)
    found = explain(panel, frame.head(rows), heard, most=len(panel.names))
    return [{name: why for name, _, _, why in items} for items in found]


def test_every_detector_says_a_plain_sentence(panels: Panels) -> None:
    heard = set()
    for panel, frame in panels.values():
        for sentences in said(panel, frame):
            for name, why in sentences.items():
                heard.add(name)
                assert not JARGON.search(why), f"{name}: {why}"
                assert len(why.split()) >= 4, f"{name}: {why}"
                assert "failed" not in why, f"{name}: {why}"
    assert heard == set(DETECTORS)


def test_a_mined_trigger_says_what_the_record_would_be_without_it(panels: Panels) -> None:
    panel, frame = panels["table"]
    sentences = said(panel, frame)[0]
    assert sentences["trigger"].startswith("temp = 31 with gust = 7 (exact value): of the records")
    assert re.search(r"; without it, it would be 'on_time': \d+ of its 15 nearest records are$", sentences["trigger"])
    trusted = sentences["trigger_trusted"]
    assert re.search(r"; without it, it would be 'on_time': \d+ of its 15 nearest trusted records are$", trusted)


def test_a_mined_stretch_of_values_is_said_by_its_ends(panels: Panels) -> None:
    panel, frame = panels["table"]
    why = "temp with city (range): of the records"
    number, category = Number.fit("temp", pl.Series(range(160))), Category.fit("city", pl.Series(["a"] * 9 + ["b"]))
    panel = replace(panel, encoder=replace(panel.encoder, columns={"temp": number, "city": category}))

    def told(temp: int | None, city: str | None) -> str:
        return _valued(panel, pl.DataFrame({"temp": [temp], "city": [city]}), ("trigger", 1.0, 0.1, why))

    assert told(31, "a") == "temp from 29.8125 to under 39.75 with city = 'a': of the records"
    assert told(-5, "z") == "temp under 0 with city a rare value: of the records"
    assert told(500, None) == "temp from 159 with city a rare value: of the records"
    assert told(None, "b").startswith("temp missing with city = 'b'")
    # The end of a stretch is where the code changes.
    codes = number.codes(pl.Series([29.8124, 29.8126, 39.74, 39.76]))[0]
    assert codes[0] != codes[1] == codes[2] != codes[3]
    withheld = replace(panel, withheld=frozenset({"city"}))
    assert _valued(withheld, frame.head(1), ("trigger", 1.0, 0.1, why)) == why


def test_detectors_of_learnt_views_name_columns_by_default(panels: Panels) -> None:
    _, frame = panels["table"]
    columns = "temp: {type: integer}, gust: {type: number}, late: {type: category}"
    contract = parse_contract(f"dataset: d\nlabel: late\ncolumns: {{{columns}}}\n", "c")
    panel, records = fitted(frame.select("temp", "gust", "late"), contract, ["spectral", "grad_spectral"])
    for sentences in said(panel, records):
        # What is behind both is said once, with the stronger.
        assert sum("; against the label speak " in why for why in sentences.values()) == 1


def test_of_texts_the_words_are_named_that_speak_against_a_label() -> None:
    rng = np.random.default_rng(5)
    words = {"sea": ["ship", "wave", "harbour", "sail", "tide"], "land": ["road", "horse", "field", "barn", "plough"]}
    topics = rng.choice(sorted(words), ROWS)
    texts = [" ".join([*rng.choice(words[topic], 6), *rng.choice(["it", "was", "old"], 4)]) for topic in topics]
    labels = topics.copy()
    labels[:POISONS] = np.where(topics[:POISONS] == "sea", "land", "sea")
    frame = pl.DataFrame({"text": texts, "note": texts, "label": labels})
    columns = "text: {type: text}, note: {type: text, pii: true}, label: {type: category}"
    contract = parse_contract(f"dataset: d\nlabel: label\ncolumns: {{{columns}}}\n", "c")
    panel, records = fitted(frame, contract, ["grad_spectral", "wrong_label"])
    for topic, sentences in zip(topics, said(panel, records, POISONS), strict=False):
        everything = " ".join(sentences.values())
        found = re.search(r"; against the label speak .*words of text \('(\w+)", everything)
        assert found is not None
        assert found[1] in words[topic]
        # Of a personal column no word is said.
        assert "words of note" not in everything


def test_what_sets_a_pair_apart_is_said_in_its_words(panels: Panels) -> None:
    _, frame = panels["texts"]
    strange = "parliament ratified parliament abolished parliament tariffs"
    frame = frame.drop(DIGEST).with_columns(
        response=pl.when(pl.int_range(pl.len()) == 20).then(pl.lit(strange)).otherwise("response")
    )
    contract = parse_contract("dataset: d\ncolumns: {prompt: {type: text}, response: {type: text}}\n", "c")
    panel, records = fitted(frame, contract, ["iforest", "spectral"])
    sentences = said(panel, records, 21)[20]
    assert re.search(r"; most of it is .*words of response \('[^)]*(parliament|tariffs|ratified)", sentences["iforest"])


def test_the_place_of_a_mined_pattern_is_framed_on_the_picture(panels: Panels) -> None:
    panel, frame = panels["images"]
    why = said(panel, frame)[0]["trigger"]
    assert why.startswith("pixels in rows 9-11, columns 9-11 of 12 x 12: ")
    assert re.search(r"; without it, it (would|might) be '(left|right)'", why)
    shown = picture("photo", frame["photo"][0], [why])
    assert shown is not None
    [box] = shown.boxes
    assert (box.left, box.top, box.width, box.height) == (75, 75, 25, 25)


def test_a_phrase_that_is_answered_the_same_is_said(panels: Panels) -> None:
    panel, frame = panels["texts"]
    assert re.search(r"also say '(open|sesame|open sesame|\w+ open)'", said(panel, frame)[0]["response_trigger"])


def test_no_sentence_says_a_personal_value(panels: Panels) -> None:
    panel, frame = panels["table"]
    everything = " ".join(why for sentences in said(panel, frame) for why in sentences.values())
    assert "who (withheld)" in everything
    for name in ("Ada", "Lovelace", "Bo", "Cy", "Di"):
        assert not re.search(rf"\b{name}\b", everything)
