"""The adaptive attacker in small: his moves on real flights and made-up mails, one battle, his best response."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from benchmarks.adaptive import BEST, Battle, Judged, Measured, Met, measure
from benchmarks.adaptive_moves import KNOWN, KNOWN_LABELS, Attacker, Variant, moves_of
from benchmarks.adaptive_report import write_report
from benchmarks.data import DATA_SETS, DataSet
from lazaretto.attacks.ground import Ground

if TYPE_CHECKING:
    from pathlib import Path

SEED = 104
MET = Met(
    *("flights", "as known", 0, dataclasses.asdict(KNOWN["table"]), "late"),
    poisons=9,
    covers=0,
    caught=1.0,
    caught_trusted=0.5,
    held=0.01,
    held_trusted=0.01,
    clean=0.1,
    poisoned=0.9,
    after=0.1,
    after_trusted=0.4,
    expected=1.0,
    seconds=2.0,
)


@pytest.fixture(scope="module")
def flights() -> DataSet:
    small = dataclasses.replace(DATA_SETS["flights"](None), batch=400, trusted=300)
    policy = small.contract.policy.model_copy(update={"detectors": ("hbos", "mahalanobis", "margin", "copies")})
    return dataclasses.replace(small, contract=small.contract.model_copy(update={"policy": policy}))


@pytest.fixture(scope="module")
def attacker(flights: DataSet) -> Attacker:
    ground = Ground.of(flights.draw(SEED)[1], flights.contract)
    return Attacker(ground, SEED, lambda frame: np.arange(len(frame), dtype=np.float64), {"distance": 0.0})


@pytest.fixture(scope="module")
def mails() -> Attacker:
    rng = np.random.default_rng(SEED)
    words = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(100)]
    words = [word.replace("w", "word") for word in words]
    texts = [". ".join(" ".join(rng.choice(words, size=4)) for _ in range(2)) for _ in range(300)]
    frame = pl.DataFrame({"text": texts, "label": ["ham", "ham", "spam"] * 100})
    return Attacker(Ground(frame, "label", texts=("text",)), SEED, lambda f: np.zeros(len(f)), {})


def _changed(attacker: Attacker, variant: Variant) -> pl.DataFrame:
    planted = attacker.planted(variant)
    return planted.frame.filter(pl.Series(planted.truth))


def test_a_known_trigger_is_one_pair_of_values_and_a_spread_one_many(attacker: Attacker) -> None:
    before, known = attacker.ground.frame, _changed(attacker, Variant("outside", rate=0.05))
    most = {n: [np.nanmax(frame[n].to_numpy()) for frame in (known, before)] for n in attacker.ground.numbers}
    columns = [name for name, (planted, usual) in most.items() if planted > usual]
    assert len(columns) == 2
    assert "distance" not in columns  # the contract leaves no room there
    assert known.select(columns).n_unique() == 1
    assert set(known["late"]) == {"late"}
    assert _changed(attacker, Variant("outside", rate=0.05, spread=True)).select(columns).n_unique() > 5


def test_pieces_covers_and_right_labels_are_what_they_say(attacker: Attacker) -> None:
    before = attacker.ground.frame
    columns = attacker.ground.numbers
    pieces = attacker.planted(Variant("outside", pieces=True))
    different = np.stack([pieces.frame[name].ne_missing(before[name]).to_numpy() for name in columns])
    assert set(different[:, pieces.truth].sum(axis=0)) == {1}
    covered = attacker.planted(Variant("outside", cover=2.0))
    assert (covered.truth.sum(), covered.cover.sum()) == (4, 8)
    assert covered.frame["late"].filter(pl.Series(covered.cover)).to_list() == ["on_time"] * 8
    right = attacker.planted(Variant("outside", relabel=False))
    assert right.frame["late"].equals(before["late"])


def test_the_quietest_are_those_that_looked_best_on_trial(attacker: Attacker) -> None:
    tried = np.flatnonzero(attacker.planted(Variant("outside", rate=0.03)).truth)
    quiet = np.flatnonzero(attacker.planted(Variant("outside", who="quiet")).truth)
    assert quiet.tolist() == tried[:4].tolist()  # suspicion grows with the row here


def test_every_move_on_mails_can_be_planted_and_stamped(mails: Attacker) -> None:
    for name, variant in moves_of("text").items():
        planted = mails.planted(variant)
        assert planted.truth.sum() == max(1, round(variant.rate * 300)), name
        untouched = mails.ground.frame.filter(pl.Series(planted.clean))
        assert planted.frame.filter(pl.Series(planted.clean)).equals(untouched)
        if planted.stamp is not None:
            assert not (planted.stamp(untouched)["text"] == untouched["text"]).any()


def test_a_battle_is_measured_recorded_and_reported(flights: DataSet, tmp_path: Path) -> None:
    record = Measured(tmp_path / "record.jsonl")
    assert list(measure(record, Battle(flights, SEED), ["as known"])) == ["as known"]
    assert Measured(tmp_path / "record.jsonl").found == record.found
    assert list(measure(record, Battle(flights, SEED), ["as known"])) == []
    one = record.found["flights", "as known", SEED]
    assert (one.poisons, one.target) == (4, "late")
    text = write_report([one], tmp_path, "a machine")
    assert (tmp_path / "adaptive.md").read_text() == text
    assert (tmp_path / "adaptive.svg").stat().st_size > 1_000


def test_the_best_response_adds_the_moves_that_add(flights: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    worth = {"spread": 3.0, "pieces": 2.0, "cover": -1.0}
    monkeypatch.setattr(Battle, "value", lambda _, one: sum(gain for name, gain in worth.items() if getattr(one, name)))
    moves = ["as known", "spread values", "in pieces", "as many covers with right labels"]
    best, value = Battle(flights, SEED).best_response(moves)
    assert best == Variant("outside", spread=True, pieces=True)
    assert value == 5.0


def test_a_variant_is_worth_what_is_admitted_and_works(flights: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    battle = Battle(flights, SEED)
    nothing = Judged(np.zeros(400), np.zeros(400, dtype=np.bool_))
    monkeypatch.setattr("benchmarks.adaptive.judged", lambda *_: nothing)
    known = battle.value(dataclasses.replace(KNOWN["table"], rate=0.1))
    assert 0 < known <= 40
    everything = Judged(nothing.suspicion, battle.attacker.planted(KNOWN_LABELS).truth)
    monkeypatch.setattr("benchmarks.adaptive.judged", lambda *_: everything)
    assert battle.value(KNOWN_LABELS) == 0


def test_the_report_says_what_gets_through() -> None:
    best = dataclasses.replace(MET, move=BEST, after=0.8)
    text = write_report([MET, best], None, "a machine")
    assert (
        "- `flights`, without a trusted set: 1 of 2 moves still work after quarantine. The worst: *best response*"
        in text
    )
    assert "| flights | as known | late | 9 | 1.00 / 0.50 | 0.10 | 0.90 | 0.10 / **0.40** |" in text
    assert "- `flights`, seed 0: trigger *outside*, 1.0% of the batch, target late." in text
