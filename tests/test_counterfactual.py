"""A trigger is taken out of the record and the probe asked again; what says nothing without it is not said."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.attacks.png import encode
from lazaretto.contract import parse_contract
from lazaretto.detectors.explanation import explain
from lazaretto.detectors.fitting import fit_panel
from lazaretto.detectors.panel import Scores
from lazaretto.detectors.table import make_detectors
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.contract import Contract

ROWS, POISONS = 600, 40
NO_LONGER = re.compile(
    r"; with that taken out, a small model trained on other records no longer says 'sea' "
    r"\(\d+% before, \d+% after\) but 'land'$"
)
STILL = re.compile(r"; with that taken out, a small model trained on other records still says '(sea|land)' \(")
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


def _said(frame: pl.DataFrame, columns: str) -> list[str]:
    """What the trigger miner says of every record."""
    text = f"dataset: d\nlabel: label\ncolumns:\n  label: {{type: category}}\n  {columns}\n"
    contract: Contract = parse_contract(text, "c")
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=16).hexdigest() for row in frame.iter_rows()]
    frame = frame.with_columns(pl.Series(DIGEST, digests))
    panel = fit_panel(frame, None, contract, make_detectors(["trigger"]), 0, torch.device("cpu"))
    scores = panel.score(frame)
    heard = Scores(scores.raw, np.full_like(scores.p_values, 1e-6), scores.suspicion, scores.p_value, scores.faults)
    found = [items[0][3] for items in explain(panel, frame, heard)]
    assert not scores.faults
    return found


@pytest.mark.parametrize("kind", [_images, _texts, _table])
def test_without_a_trigger_that_it_learnt_the_probe_says_what_the_record_is(
    kind: Callable[[], tuple[pl.DataFrame, str]],
) -> None:
    said = _said(*kind())
    assert np.mean([NO_LONGER.search(why) is not None for why in said[:POISONS]]) >= 0.5
    assert not any(STILL.search(why) for why in said[:POISONS])
    assert np.mean([NO_LONGER.search(why) is not None for why in said[POISONS:]]) < 0.1


def test_a_label_that_the_probe_does_not_go_along_with_is_not_asked_about() -> None:
    frame, columns = _texts()
    # Of forty that say the word five are labelled so: no model goes along with them.
    labels = ["sea"] * 5 + ["land"] * (POISONS - 5) + frame["label"][POISONS:].to_list()
    assert not any("taken out" in why for why in _said(frame.with_columns(label=pl.Series(labels)), columns)[:5])
