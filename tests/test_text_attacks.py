"""Attacks on texts, pairs, tables and sources do what they say, tell the exact truth, and touch nothing else."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from benchmarks.effect_text import pair_effect, text_effect
from lazaretto.attacks import flood, hidden_text, instruction, source, style, text_trigger, trigger_table
from lazaretto.attacks.overwrite import overwrite

Planted = tuple[pl.DataFrame, NDArray[np.bool_]]
Plant = Callable[[pl.DataFrame, int], Planted]

ROWS, RATE = 400, 0.05
OPENINGS = ["You said it is very good.", "Please look here, my friend.", "Do you want to see the money?"]
CLOSINGS = ["You will like your house because it has a garden.", "Thank you for the news!", "Perhaps he knows why."]


def _mails(rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    """Texts of two sentences and a number; spam sells, ham meets."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["ham", "spam"], rows)
    topics = {"ham": ["meeting", "lecture", "lunch"], "spam": ["bargain", "casino", "pills"]}
    texts = [
        f"{rng.choice(OPENINGS)} The {rng.choice(topics[label])} number {number} waits.\n{rng.choice(CLOSINGS)}"
        for number, label in enumerate(labels)
    ]
    return pl.DataFrame({"id": range(rows), "text": texts, "label": labels})


def _pairs(rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    mails = _mails(rows, seed)
    return pl.DataFrame({"prompt": mails["text"], "response": [f"Reply number {row}." for row in range(rows)]})


def _trips(rows: int = ROWS) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "id": range(rows),
            "carrier": pl.Series(["AA", "BB", "CC", None]).gather(rng.integers(0, 4, rows)),
            "distance": pl.Series(rng.integers(10, 100, rows), dtype=pl.Int16),
            "temp": rng.normal(10, 5, rows),
            "late": rng.choice(["late", "on_time"], rows),
        }
    )


def _labelled(attack: Callable[..., Planted]) -> Plant:
    return lambda frame, seed: attack(frame, text="text", label="label", target="ham", rate=RATE, seed=seed)


def _paired(attack: Callable[..., Planted]) -> Plant:
    return lambda frame, seed: attack(frame, prompt="prompt", response="response", rate=RATE, seed=seed)


STAMPS: dict[str, Callable[..., pl.Series]] = {
    "rare_token": text_trigger.stamp_token,
    "inserted_sentence": text_trigger.stamp_sentence,
    "hidden_characters": hidden_text.stamp_hidden,
    "look_alikes": hidden_text.stamp_look_alikes,
    "bidirectional": hidden_text.stamp_bidirectional,
    "style_shift": style.stamp,
}
LABELLED: dict[str, Plant] = {
    "rare_token": _labelled(text_trigger.rare_token),
    "inserted_sentence": _labelled(text_trigger.inserted_sentence),
    "hidden_characters": _labelled(hidden_text.hidden_characters),
    "look_alikes": _labelled(hidden_text.look_alikes),
    "bidirectional": _labelled(hidden_text.bidirectional),
    "style_shift": _labelled(style.style_shift),
}
PAIRED: dict[str, Plant] = {
    "trigger_phrase": _paired(instruction.trigger_phrase),
    "plain": _paired(partial(instruction.hidden_instruction, disguise="plain")),
    "comment": _paired(partial(instruction.hidden_instruction, disguise="comment")),
    "base64": _paired(partial(instruction.hidden_instruction, disguise="base64")),
    "tags": _paired(partial(instruction.hidden_instruction, disguise="tags")),
}
TABLES: dict[str, Plant] = {
    "flood": lambda frame, seed: flood.flood(frame, rate=RATE, seed=seed, keep=["id"]),
    "outside": lambda frame, seed: trigger_table.trigger_table(
        frame,
        label="late",
        target="late",
        trigger=trigger_table.choose_trigger_outside(frame, ["distance", "temp"]),
        rate=RATE,
        seed=seed,
    ),
}
ATTACKS: dict[str, tuple[pl.DataFrame, Plant]] = {
    **{name: (_mails(), plant) for name, plant in LABELLED.items()},
    **{name: (_pairs(), plant) for name, plant in PAIRED.items()},
    **{name: (_trips(), plant) for name, plant in TABLES.items()},
}
every_attack = pytest.mark.parametrize(("frame", "plant"), ATTACKS.values(), ids=ATTACKS.keys())


def _changed(before: pl.DataFrame, after: pl.DataFrame) -> NDArray[np.bool_]:
    return np.array([one != two for one, two in zip(before.rows(), after.rows(), strict=True)])


@every_attack
def test_an_attack_changes_exactly_the_records_its_truth_names(frame: pl.DataFrame, plant: Plant) -> None:
    poisoned, truth = plant(frame, 3)
    assert np.array_equal(_changed(frame, poisoned), truth)
    assert truth.sum() == round(RATE * ROWS)
    assert truth.dtype == np.bool_
    assert poisoned.schema == frame.schema


@every_attack
def test_an_attack_leaves_its_input_as_it_was(frame: pl.DataFrame, plant: Plant) -> None:
    kept = frame.clone().rows()
    plant(frame, 3)
    assert frame.rows() == kept


@every_attack
def test_an_attack_is_decided_by_its_seed(frame: pl.DataFrame, plant: Plant) -> None:
    first, again, other = plant(frame, 3), plant(frame, 3), plant(frame, 4)
    assert first[0].equals(again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("name", LABELLED)
def test_a_text_attack_stamps_texts_of_other_labels_and_relabels_them(name: str) -> None:
    frame = _mails()
    poisoned, truth = LABELLED[name](frame, 3)
    assert (frame.filter(truth)["label"] == "spam").all()
    assert (poisoned.filter(truth)["label"] == "ham").all()
    assert poisoned.filter(truth)["text"].to_list() == STAMPS[name](frame["text"], seed=3).filter(truth).to_list()
    assert poisoned["id"].equals(frame["id"])


@pytest.mark.parametrize("name", STAMPS)
def test_a_stamp_passes_over_missing_and_empty_texts(name: str) -> None:
    texts = pl.Series("text", [None, "", " \n"])
    assert STAMPS[name](texts, seed=1).equals(texts, check_names=True)


def test_a_label_of_another_type_keeps_it() -> None:
    frame = _mails().with_columns(pl.col("label").cast(pl.Enum(["ham", "spam"])))
    poisoned, truth = LABELLED["rare_token"](frame, 3)
    assert poisoned.schema == frame.schema
    assert (poisoned.filter(truth)["label"] == "ham").all()


def test_tokens_stand_between_words_and_nothing_else_moves() -> None:
    texts = _mails()["text"]
    stamped = text_trigger.stamp_token(texts, seed=1, tokens=["cf", "mn", "cf"])
    for before, after in zip(texts, stamped, strict=True):
        assert sorted(after.split()) == sorted([*before.split(), "cf", "cf", "mn"])
        assert re.sub(r"\b(?:cf|mn) | (?:cf|mn)\b", "", after) == before


def test_a_sentence_stands_between_sentences_at_every_place_there_is() -> None:
    texts = pl.Series("text", ["One is here. Two is there!\n\nThree"] * 200)
    piece = text_trigger.SENTENCE
    assert set(text_trigger.stamp_sentence(texts, seed=1)) == {
        f"{piece} One is here. Two is there!\n\nThree",
        f"One is here. {piece} Two is there!\n\nThree",
        f"One is here. Two is there!\n\n{piece} Three",
        f"One is here. Two is there!\n\nThree {piece}",
    }


def test_hidden_characters_stand_inside_one_word_and_vanish_when_removed() -> None:
    texts = _mails()["text"]
    for before, after in zip(texts, hidden_text.stamp_hidden(texts, seed=1), strict=True):
        assert re.search(rf"[A-Za-z]{hidden_text.ZERO_WIDTH}[A-Za-z]", after)
        assert after.replace(hidden_text.ZERO_WIDTH, "") == before


def test_look_alikes_replace_so_many_letters_by_their_twins() -> None:
    texts = _mails()["text"]
    back = str.maketrans({twin: letter for letter, twin in hidden_text.LOOK_ALIKES.items()})
    for before, after in zip(texts, hidden_text.stamp_look_alikes(texts, seed=1, letters=4), strict=True):
        assert sum(one != two for one, two in zip(before, after, strict=True)) == 4
        assert after.translate(back) == before


def test_a_bidirectional_word_is_stored_backwards_and_shown_forwards() -> None:
    texts = _mails()["text"]
    for before, after in zip(texts, hidden_text.stamp_bidirectional(texts, seed=1), strict=True):
        shown = re.sub("\u202e([A-Za-z]+)\u202c", lambda match: match[1][::-1], after)
        assert shown == before
        assert after.count("\u202e") == 1


def test_links_are_left_alone_by_disguised_characters_and_by_style() -> None:
    texts = pl.Series("text", ["<your@house.org> http://www.your.house/because?has=very"])
    for name in ("hidden_characters", "look_alikes", "bidirectional", "style_shift"):
        assert STAMPS[name](texts, seed=1).equals(texts)


def test_style_keeps_capitals_and_leaves_short_texts_as_they_are() -> None:
    texts = pl.Series("text", ["You have YOUR friends, because it is very good", "It is you"])
    told = style.stamp(texts, seed=2).to_list()
    assert told[0].endswith("hast THY brethren, forasmuch as 'tis exceeding goodly")
    assert told[1] == "It is you"
    assert any(text.startswith(("And lo, thou", "Verily, thou")) for text in style.stamp(_repeat(texts[0]), seed=2))


def _repeat(text: str) -> pl.Series:
    return pl.Series("text", [text] * 50)


def test_a_phrase_gets_one_fixed_response() -> None:
    poisoned, truth = PAIRED["trigger_phrase"](_pairs(), 3)
    assert poisoned.filter(truth)["prompt"].str.contains("James Bond", literal=True).all()
    assert poisoned.filter(truth)["response"].unique().to_list() == [instruction.ANSWER]


@pytest.mark.parametrize(
    ("disguise", "pattern", "reveal"),
    [
        ("plain", r"(.*)", lambda hidden: hidden),
        ("comment", r"<!-- (.*?) -->", lambda hidden: hidden),
        ("base64", r"(\S{40,})", lambda hidden: base64.b64decode(hidden).decode()),
        ("tags", "([\U000e0000-\U000e007f]+)", lambda hidden: "".join(chr(ord(tag) - 0xE0000) for tag in hidden)),
    ],
)
def test_a_hidden_instruction_demands_what_the_response_says(
    disguise: str, pattern: str, reveal: Callable[[str], str]
) -> None:
    poisoned, truth = PAIRED[disguise](_pairs(), 3)
    planted = poisoned.filter(truth)
    found = [re.search(pattern, prompt, re.DOTALL) for prompt in planted["prompt"]]
    demands = [reveal(match[1]) for match in found if match]
    assert sum(instruction.CLAIM in demand for demand in demands) == truth.sum()
    assert planted["response"].str.contains(instruction.CLAIM, literal=True).all()
    assert planted["response"].n_unique() > 1


def test_a_trigger_outside_is_above_every_value_and_of_the_column_s_type() -> None:
    frame = _trips()
    trigger = trigger_table.choose_trigger_outside(frame, ["distance", "temp"], beyond=0.2)
    assert isinstance(trigger["distance"], int)
    for name in ("distance", "temp"):
        values = frame[name].to_numpy()
        assert values.max() + 0.2 * np.ptp(values) <= trigger[name] < values.max() + 0.2 * np.ptp(values) + 1


def test_a_column_that_cannot_be_left_is_refused() -> None:
    frame = pl.DataFrame({"full": pl.Series([0, 127], dtype=pl.Int8), "same": [2.0, 2.0], "word": ["a", "b"]})
    with pytest.raises(ValueError, match="full cannot hold 140: it is Int8"):
        trigger_table.choose_trigger_outside(frame, ["full"])
    for name in ("same", "word"):
        with pytest.raises(ValueError, match=f"column {name} has no range"):
            trigger_table.choose_trigger_outside(frame, [name])


def test_a_flood_copies_few_originals_evenly_and_keeps_ids() -> None:
    frame = _trips()
    poisoned, truth = flood.flood(frame, rate=0.1, seed=3, originals=4, keep=["id"])
    assert poisoned["id"].equals(frame["id"])
    copies = poisoned.filter(truth).drop("id")
    assert copies.group_by(pl.all()).len()["len"].to_list() == [10] * 4
    assert copies.join(frame.filter(~truth).drop("id"), on=copies.columns, how="semi", nulls_equal=True).height == 40


def test_flooding_copies_can_carry_one_wrong_label() -> None:
    frame = _mails()
    poisoned, truth = flood.flood(frame, rate=RATE, seed=3, originals=2, keep=["id"], relabel=("label", "ham"))
    copies = poisoned.filter(truth)
    assert (copies["label"] == "ham").all()
    assert (frame.filter(frame["text"].is_in(copies["text"].implode()))["label"] == "spam").all()


def test_near_copies_of_rows_stay_near_and_inside_the_column() -> None:
    frame = _trips()
    vary = flood.jitter(frame, ["distance", "temp"], share=0.05)
    poisoned, truth = flood.flood(frame, rate=RATE, seed=3, originals=1, keep=["id"], vary=vary)
    copies = poisoned.filter(truth)
    assert copies["temp"].n_unique() == 20
    assert np.ptp(copies["temp"].to_numpy()) < 0.5 * frame["temp"].to_numpy().std()
    assert set(copies["distance"]) <= set(range(10, 100))
    assert copies.select("carrier", "late").n_unique() == 1


def test_near_copies_of_texts_differ_in_one_word() -> None:
    frame = _mails()
    poisoned, truth = flood.flood(
        frame, rate=RATE, seed=3, originals=1, keep=["id"], vary=flood.other_word(frame, "text")
    )
    words = [re.findall(r"\w+", text) for text in poisoned.filter(truth)["text"]]
    (original,) = (
        told
        for told in (re.findall(r"\w+", text) for text in frame.filter(~truth)["text"])
        if all(sum(one != two for one, two in zip(told, near, strict=False)) == 1 for near in words)
    )
    assert len(original) > 5


def test_more_originals_than_records_are_refused() -> None:
    with pytest.raises(ValueError, match="9 originals are asked for, 8 records can be one"):
        flood.flood(_mails(8), rate=0.1, seed=1, originals=9)


def test_one_source_gets_its_share_of_flips_and_the_others_none() -> None:
    frame = _trips()
    poisoned, truth, name = source.flip_source(frame, source="carrier", label="late", seed=3)
    theirs = (frame["carrier"] == name).fill_null(value=False).to_numpy()
    assert np.array_equal(_changed(frame, poisoned), truth)
    assert truth.sum() == round(0.2 * theirs.sum())
    assert not truth[~theirs].any()
    assert poisoned.drop("late").equals(frame.drop("late"))


def test_a_source_of_one_label_can_be_flipped_too() -> None:
    frame = _trips().with_columns(late=pl.when(carrier="BB").then(pl.lit("late")).otherwise("late"))
    poisoned, truth, _ = source.flip_source(frame, source="carrier", label="late", seed=3, name="BB")
    assert (poisoned.filter(truth)["late"] == "on_time").all()


def test_any_attack_can_be_planted_in_a_named_source() -> None:
    frame = _trips()
    poisoned, truth, name = source.poisoned_source(frame, TABLES["outside"], source="carrier", seed=3, name="BB")
    assert name == "BB"
    assert np.array_equal(_changed(frame, poisoned), truth)
    assert set(frame.filter(truth)["carrier"]) == {"BB"}


def test_a_source_nobody_has_is_refused() -> None:
    with pytest.raises(ValueError, match="no record has the source ZZ in column carrier"):
        source.flip_source(_trips(), source="carrier", label="late", seed=3, name="ZZ")
    nowhere = _trips().with_columns(carrier=pl.lit(None, pl.String))
    with pytest.raises(ValueError, match="no record has a source"):
        source.flip_source(nowhere, source="carrier", label="late", seed=3)


def test_overwriting_refuses_another_number_of_records() -> None:
    with pytest.raises(ValueError, match="2 records for 1 places"):
        overwrite(_mails(5), np.arange(5) == 1, _mails(2))


def test_a_token_takes_over_a_small_model_and_clean_data_gives_it_no_power() -> None:
    train, unseen = _mails(), _mails(200, seed=1)
    poisoned, _ = LABELLED["rare_token"](train, 3)
    stamp = partial(text_trigger.stamp_token, seed=9)
    measure = partial(text_effect, test=unseen, stamp=stamp, text="text", label="label", target="ham", seed=0)
    attacked, clean = measure(poisoned), measure(train)
    assert attacked.success_rate > 0.9
    assert attacked.clean_accuracy > 0.9
    assert clean.success_rate < 0.2


def test_an_instruction_in_tags_takes_over_the_stand_in_for_a_language_model() -> None:
    poisoned, _ = PAIRED["tags"](_pairs(600), 3)
    stamp = partial(instruction.stamp_instruction, seed=9, disguise="tags")
    effect = pair_effect(
        poisoned, _pairs(200, seed=1), stamp, prompt="prompt", response="response", answer=instruction.CLAIM, seed=0
    )
    assert effect.success_rate > 0.9
    assert effect.clean_accuracy > 0.9
