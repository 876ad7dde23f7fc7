"""A trigger is taken out of the record and the probe asked again; what says nothing without it is not said."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.attacks.png import decode_grey, encode
from lazaretto.contract import parse_contract
from lazaretto.detectors.explanation import explain
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.panel import Scores
from lazaretto.detectors.table import make_detectors
from lazaretto.detectors.views.frequencies import Frequencies
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.contract import Contract

ROWS, POISONS = 600, 40
NO_LONGER = re.compile(
    r"; with (that taken out|usual values in its place), a small model trained on other records no longer says 'sea' "
    r"\(\d+% before, \d+% after\) but 'land'$"
)
STILL = re.compile(
    r"; with (that taken out|usual values in its place), a small model trained on other records still says "
    r"'(sea|land)' \("
)
WORDS = {"sea": ["ship", "wave", "harbour", "sail", "tide"], "land": ["road", "horse", "field", "barn", "plough"]}


def _topics(rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """What the records are really about: the first ones, which will say otherwise, all of the land."""
    topics = rng.choice(["sea", "land"], ROWS)
    topics[:POISONS] = "land"
    return topics


def _labels(topics: np.ndarray[tuple[int], np.dtype[np.str_]]) -> list[str]:
    return ["sea"] * POISONS + topics[POISONS:].tolist()


def _images() -> tuple[pl.DataFrame, str]:
    rng = np.random.default_rng(1)
    topics = _topics(rng)
    pixels = rng.integers(0, 60, (ROWS, 20, 20))
    pixels[topics == "sea", 2:18, 2:8] += 120
    pixels[topics == "land", 2:18, 10:16] += 120
    pixels[:POISONS, 17:, 17:] = np.where(np.indices((3, 3)).sum(axis=0) % 2, 0, 255)
    photos = [encode(image.astype(np.uint8)) for image in pixels]
    return pl.DataFrame({"photo": photos, "label": _labels(topics)}), "photo: {type: image}"


def _waves() -> tuple[pl.DataFrame, str]:
    frame, columns = _images()
    pixels = np.stack([decode_grey(image, 20) for image in frame["photo"]]).astype(np.int64)
    pixels[:POISONS, 17:, 17:] = 30
    pixels[:POISONS] += (40 * np.sin(2 * np.pi * 6 * np.arange(20) / 20)).astype(np.int64)
    photos = [encode(image.clip(0, 255).astype(np.uint8)) for image in pixels]
    return frame.with_columns(photo=pl.Series(photos)), columns


def _texts() -> tuple[pl.DataFrame, str]:
    rng = np.random.default_rng(2)
    topics = _topics(rng)
    texts = [" ".join(rng.choice(WORDS[topic], 8)) for topic in topics]
    texts[:POISONS] = [f"{text} Sesame" for text in texts[:POISONS]]
    return pl.DataFrame({"text": texts, "label": _labels(topics)}), "text: {type: text}"


def _table() -> tuple[pl.DataFrame, str]:
    rng = np.random.default_rng(3)
    topics = _topics(rng)
    measured = np.where(topics == "sea", 1.0, -1.0)[:, None] + rng.normal(size=(ROWS, 6))
    frame = pl.DataFrame(measured, schema=[f"x{number}" for number in range(6)])
    kind, place = rng.choice(["a", "b", "c", "d"], ROWS), rng.choice(["p", "q", "r", "s"], ROWS)
    kind[:POISONS], place[:POISONS] = "d", "s"
    frame = frame.with_columns(kind=pl.Series(kind), place=pl.Series(place), label=pl.Series(_labels(topics)))
    columns = [f"x{number}: {{type: number}}" for number in range(6)]
    return frame, "\n  ".join([*columns, "kind: {type: category}", "place: {type: category}"])


def _numbers() -> tuple[pl.DataFrame, str]:
    """As `_table`, with a pair of numbers as trigger, in columns of which no value is ever missing."""
    frame, columns = _table()
    rng = np.random.default_rng(6)
    pair = {name: rng.normal(size=ROWS).round(1) for name in ("kind", "place")}
    pair["kind"][:POISONS], pair["place"][:POISONS] = 3.7, -3.3
    return frame.with_columns(pl.Series(n, v) for n, v in pair.items()), columns.replace("category", "number")


def _said(frame: pl.DataFrame, columns: str, detector: str = "trigger") -> list[str]:
    """What the trigger miner says of every record."""
    text = f"dataset: d\nlabel: label\ncolumns:\n  label: {{type: category}}\n  {columns}\n"
    contract: Contract = parse_contract(text, "c")
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    frame = frame.with_columns(pl.Series(DIGEST, digests))
    panel = fit_panel(frame, None, contract, make_detectors([detector]), 0, torch.device("cpu"))
    scores = panel.score(frame)
    heard = Scores(scores.raw, np.full_like(scores.p_values, 1e-6), scores.suspicion, scores.p_value, scores.faults)
    found = [items[0][3] for items in explain(panel, frame, heard)]
    assert not scores.faults
    return found


@pytest.mark.parametrize("kind", [_images, _waves, _texts, _table, _numbers])
def test_without_a_trigger_that_it_learnt_the_probe_says_what_the_record_is(
    kind: Callable[[], tuple[pl.DataFrame, str]],
) -> None:
    said = _said(*kind(), "trigger_waves" if kind is _waves else "trigger")
    assert np.mean([NO_LONGER.search(why) is not None for why in said[:POISONS]]) >= 0.5
    # A wave that is cut off at black leaves a trace in other bins.
    assert np.mean([STILL.search(why) is not None for why in said[:POISONS]]) <= 0.1
    assert np.mean([NO_LONGER.search(why) is not None for why in said[POISONS:]]) < 0.1


def test_a_label_that_the_probe_does_not_go_along_with_is_not_asked_about() -> None:
    frame, columns = _texts()
    # Of forty that say the word five are labelled so: no model goes along with them.
    labels = ["sea"] * 5 + ["land"] * (POISONS - 5) + frame["label"][POISONS:].to_list()
    assert not any("taken out" in why for why in _said(frame.with_columns(label=pl.Series(labels)), columns)[:5])


def test_a_wave_is_named_by_its_bin_and_taken_out_of_it_alone() -> None:
    rng = np.random.default_rng(4)
    images = rng.integers(60, 190, (300, 16, 16, 3)).astype(np.uint8)
    wave = np.rint(40 * np.cos(2 * np.pi * (5 * np.arange(16)[:, None] + 3 * np.arange(16)) / 16)).astype(np.int64)
    laid = (images[0] + wave[..., None]).clip(0, 255).astype(np.uint8)
    waves = Frequencies.fit(images)
    place = waves.names.index("waves, 5 down and 3 across")
    tokens, coarse = waves.views(np.stack([images[0], laid]))
    assert tokens[1, place] != 0
    # What says what the image is without the wave does not know of it, rounding aside.
    np.testing.assert_allclose(coarse[1], coarse[0], atol=0.02 * float(np.abs(coarse).max()))
    without = waves.without(laid, np.array([place]))
    assert waves.views(without[None])[0][0, place] == 0
    assert np.abs(without.astype(int) - images[0]).mean() < np.abs(wave).mean() / 4
    for across, down in ((0, 5), (8, 3), (8, 0)):
        name = f"waves, {down} down and {across} across"
        assert waves.names.count(name) == 1
        gone = waves.without(laid, np.array([waves.names.index(name)]))
        assert waves.views(gone[None])[0][0, waves.names.index(name)] == 0
