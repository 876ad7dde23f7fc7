"""Copies count by how much a record says: the empty are alike by chance, the rich are not."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest
import torch

from lazaretto.contract import parse_contract
from lazaretto.detector import Views, fit
from lazaretto.detectors.drawn import Drawn
from lazaretto.detectors.hygiene import Copies
from lazaretto.detectors.views.encode import Encoder
from lazaretto.detectors.views.looks import Looks
from lazaretto.detectors.views.sample import record_keys
from lazaretto.records import DIGEST

COLUMNS = [f"word{number}" for number in range(12)]
NUMBERS = ", ".join(f"{name}: {{type: integer}}" for name in COLUMNS)
CONTRACT = parse_contract(f"dataset: mails\ncolumns: {{{NUMBERS}}}\n", "c")
EMPTY, RICH = 48, 20


def _mails() -> pl.DataFrame:
    """Counts of words: mails of no word at all first, mails of some, and twenty times one of many words."""
    rng = np.random.default_rng(104)
    some = rng.poisson(0.35 * rng.gamma(1.0, size=(1_500, 1)), (1_500, 12))
    some = some[some.any(axis=1)]
    counts = np.concatenate([np.zeros((EMPTY, 12)), some, np.tile(rng.poisson(3.0, 12), (RICH, 1))])
    return pl.DataFrame(counts.astype(np.int64), schema=COLUMNS)


def test_a_rich_record_twenty_times_is_odder_than_an_empty_one_forty_eight_times() -> None:
    _, arrays, names = Encoder.fit(_mails(), CONTRACT, 0, torch.device("cpu"))
    rows = len(arrays["copies"])
    views = Views(np.arange(rows, dtype=np.uint64), np.full(rows, -1), arrays, names)
    scores = fit(Copies(), [views]).score(views)
    assert (arrays["copies"][0], arrays["copies"][-1]) == (EMPTY, RICH)
    assert scores[-1] > np.quantile(scores[:-RICH], 0.99)
    assert scores[-1] > scores[0] + 2
    np.testing.assert_allclose(scores[arrays["copies"] == 1], 0.0)


def _rarities(*counts: int) -> list[float]:
    """How rare the looks with so many copies are, among a thousand looks that all say as much."""
    looks = np.repeat(np.arange(1_000, dtype=np.uint64), [*counts, *[1] * (1_000 - len(counts))])
    known = Looks.of(looks)
    rarity = known.rarity(known.copies(looks), np.zeros(len(looks)))
    assert rarity[-1] == 1.0
    return [float(rarity[start]) for start in np.cumsum([0, *counts[:-1]])]


def test_without_information_the_number_alone_decides() -> None:
    more, fewer = _rarities(EMPTY, RICH)
    # Of two copies each, for so few looks may be a flood's: (2 + 10) looks, of which ten fall by the third power.
    fall = 12 / (2 * np.log(2 / 1.5) + 10 / 3)
    assert fewer == pytest.approx(4 / 1_002 * (2 / RICH) ** (fall - 1))
    assert more / fewer == pytest.approx((RICH / EMPTY) ** (fall - 1))


def test_a_few_floods_say_nothing_of_what_is_usual_and_many_repeated_looks_do() -> None:
    assert _rarities(20, 20, 20)[0] < 1e-3
    assert _rarities(20, 20, 20, *[8] * 60)[0] > 20 * _rarities(20, 20, 20)[0]


def test_a_look_that_was_not_fitted_has_one_copy_and_is_not_rare() -> None:
    known = Looks.of(np.array([3, 3, 5], dtype=np.uint64), np.array([1.0, 1.0, 2.0]))
    copies = known.copies(np.array([3, 4, 5], dtype=np.uint64))
    assert copies.tolist() == [2, 1, 1]
    assert known.rarity(copies, np.array([1.0, 9.0, 2.0]))[1:].tolist() == [1.0, 1.0]
    nothing = Looks.of(np.zeros(0, dtype=np.uint64))
    assert nothing.rarity(nothing.copies(np.array([3], dtype=np.uint64)), np.zeros(1)).tolist() == [1.0]


def test_a_flood_of_copies_is_one_witness() -> None:
    frame = _mails().with_columns(label=pl.Series(["a", "b"] * 2_000).head(len(_mails())))
    contract = parse_contract(f"dataset: mails\nlabel: label\ncolumns: {{{NUMBERS}, label: {{type: category}}}}\n", "c")
    digests = [hashlib.blake2b(f"{row}".encode(), digest_size=16).hexdigest() for row in range(len(frame))]
    _, arrays, names = Encoder.fit(frame, contract, 0, torch.device("cpu"))
    labels = (frame["label"] == "b").cast(pl.Int64).to_numpy()
    views = Views(record_keys(frame.with_columns(pl.Series(DIGEST, digests)), 0), labels, arrays, names, ("a", "b"))
    drawn = Drawn.of(views, len(views), contract.policy)
    for number, shown in enumerate(drawn.shown):
        assert not shown[drawn.which == number].any()
        for flood in (np.arange(EMPTY), np.arange(len(views) - RICH, len(views))):
            # One of each label, for that two labels are given is something to know.
            assert sorted(labels[flood][shown[flood]].tolist()) == [0, 1]
        outside = np.flatnonzero(drawn.which != number)
        alone = outside[arrays["copies"][outside] == 1]
        assert shown[alone].all()
