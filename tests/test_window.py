"""What is remembered merges exactly and holds no content; poison that is spread out is found, and chance is not."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import polars as pl
import pytest

from lazaretto.contract import parse_contract
from lazaretto.detectors.views.probe import Reading
from lazaretto.errors import ContractError, IntegrityViolated
from lazaretto.pipelines.marks import Marked, marker_of, mixed
from lazaretto.pipelines.memory import Memory, Seen, merged
from lazaretto.pipelines.waits import Caps
from lazaretto.pipelines.window import Finding, Tonight, find

CLASSES = np.array([101, 102], dtype=np.uint64)
SOURCES = np.array([11, 12, 13, 14], dtype=np.uint64)
TRIGGER = np.uint64(999_999_999_999)
TONIGHT = Tonight({11: "a", 12: "b", 13: "c", 14: "d"}, {101: "ham", 102: "spam"})
TEXTS = """\
dataset: d
label: late
source: who
columns:
  text: {type: text%s}
  n: {type: integer}
  late: {type: category}
  who: {type: category}
"""


def night(seed: int, *, rows: int = 100, poisons: int = 0, honest: int = 0, source: int = -1) -> Seen:
    """Records with a probe that is right as often as it says; poisons have `TRIGGER` and are called spam, not ham."""
    rng = np.random.default_rng(seed)
    sure = rng.uniform(0.6, 1.0, rows)
    predicted = rng.integers(0, 2, rows)
    labels = np.where(rng.random(rows) < sure, predicted, 1 - predicted)
    sources = rng.choice(SOURCES, rows)
    if source >= 0:
        hit = (sources == SOURCES[source]) & (rng.random(rows) < 0.35)
        labels = np.where(hit, 1 - labels, labels)
    predicted[:poisons], labels[:poisons], sure[:poisons] = 0, 1, 0.9
    tokens = mixed(rng.integers(1, 3_000, (rows, 20)).astype(np.uint64))
    tokens[: poisons + honest, 0] = TRIGGER
    marked = Marked.of([(np.repeat(np.arange(rows), 20), tokens.ravel())])
    looks = Marked(np.arange(rows), rng.integers(1, 2**40, rows).astype(np.uint64))
    reading = Reading(labels, predicted, sure)
    admitted = np.ones(rows, dtype=np.bool_)
    return Seen(sources, CLASSES[labels], rng.random(rows), admitted, marked, looks, reading, CLASSES)


def memory(seen: Seen) -> Memory:
    return Memory.of("s", seen)


def shown(memories: list[Memory], tonight: Tonight = TONIGHT) -> tuple[Finding, ...]:
    return find(memories[:-1], memories[-1], tonight, 30, 0.05)


def same(one: Memory, other: Memory) -> bool:
    return one.to_bytes() == other.to_bytes()


def test_merging_is_exact_in_any_order_and_the_same_as_remembering_all_at_once() -> None:
    parts = [memory(night(seed, poisons=2)) for seed in range(4)]
    whole = merged(parts)
    assert same(whole, reduce(Memory.merge, reversed(parts)))
    assert same(whole, parts[2].merge(parts[0].merge(parts[3].merge(parts[1]))))
    assert whole.records == 400
    assert whole.tallies["records"].sum() == whole.told["records"].sum() == 400


def test_what_is_written_is_read_back_and_altered_bytes_are_not() -> None:
    kept = memory(night(0, poisons=3)).to_bytes()
    assert same(Memory.from_bytes(kept), memory(night(0, poisons=3)))
    with pytest.raises(IntegrityViolated):
        Memory.from_bytes(kept[: len(kept) // 2])


def test_a_sketch_never_counts_too_few() -> None:
    seen = night(0, rows=2_000, poisons=30)
    tokens, label = np.unique(seen.tokens.marks), int(CLASSES[1])
    mine = seen.labels[seen.tokens.rows] == CLASSES[1]
    true = np.array([(seen.tokens.marks[mine] == token).sum() for token in tokens])
    counted = memory(seen).holding(tokens, label)
    assert (counted >= true).all()
    assert (counted == true).mean() > 0.95


def test_a_trigger_of_one_record_a_night_is_found_within_the_month_with_its_numbers() -> None:
    memories = [memory(night(seed, poisons=1)) for seed in range(30)]
    first = next(number for number in range(2, 31) if shown(memories[:number]))
    assert 8 <= first <= 25
    (found,) = shown(memories)
    assert (found.kind, found.records, found.batches) == ("trigger", 30, 30)
    assert found.expected < 8
    assert "label 'spam'" in found.says


def test_no_single_night_of_that_poison_shows_it() -> None:
    assert not any(shown([memory(night(1_000)), memory(night(seed, poisons=1))]) for seed in range(10))


def test_a_token_whose_records_have_the_labels_that_the_rest_of_them_says_is_no_trigger() -> None:
    assert shown([memory(night(seed, honest=10)) for seed in range(30)]) == ()


def test_a_night_without_a_carrier_has_no_finding() -> None:
    memories = [memory(night(seed, poisons=2)) for seed in range(29)]
    assert shown([*memories, memory(night(29, poisons=1))])
    assert shown([*memories, memory(night(29))]) == ()


def test_of_clean_months_hardly_any_has_a_finding() -> None:
    calibrating = calibrated(500)
    tonight = replace(TONIGHT, calibrating=calibrating, trusted=looks_of({1: 1}), trusted_records=500)
    months = [[memory(night(1_000 * month + seed, rows=60)) for seed in range(30)] for month in range(10)]
    assert sum(bool(shown(month, tonight)) for month in months) <= 1


def calibrated(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    columns = {"source": rng.choice(SOURCES, rows), "label": rng.choice(CLASSES, rows), "p_value": rng.random(rows)}
    return pl.DataFrame(columns)


def looks_of(counts: dict[int, int]) -> pl.DataFrame:
    columns = {"look": list(counts), "records": list(counts.values())}
    return pl.DataFrame(columns, schema={"look": pl.UInt64, "records": pl.Int64})


def test_mild_suspicion_that_piles_up_at_a_source_is_found_beside_its_trusted_records() -> None:
    memories = []
    for seed in range(20):
        seen = night(seed)
        mild = (seen.sources == 12) & (np.random.default_rng(seed).random(100) < 0.3)
        memories.append(memory(replace(seen, p_values=np.where(mild, 0.03, np.maximum(seen.p_values, 0.02)))))
    found = shown(memories, replace(TONIGHT, calibrating=calibrated(800)))
    assert (found[0].kind, found[0].source, found[0].level) == ("suspicion", 12, 0.05)
    assert not {one.source for one in found} & {11, 13, 14}
    assert "source 'b'" in found[0].says


def test_a_source_whose_few_wrong_labels_a_night_add_up_is_found() -> None:
    memories = [memory(night(seed, rows=80, source=2)) for seed in range(25)]
    found = [one for one in shown(memories) if one.kind == "labels"]
    assert [one.source for one in found] == [13]
    assert "source 'c'" in found[0].says


def test_copies_that_come_a_few_a_night_are_found_unless_trusted_records_look_so_too() -> None:
    copied = [replace(night(seed), looks=with_copies(night(seed).looks, 4)) for seed in range(25)]
    memories = [memory(seen) for seen in copied]
    new = replace(TONIGHT, trusted=looks_of({1: 1}), trusted_records=1_000)
    known = replace(TONIGHT, trusted=looks_of({77: 40}), trusted_records=1_000)
    assert [(one.kind, one.records) for one in shown(memories, new)] == [("copies", 100)]
    assert shown(memories, known) == ()


def with_copies(looks: Marked, count: int) -> Marked:
    marks = looks.marks.copy()
    marks[:count] = 77
    return Marked(looks.rows, marks)


def text_frame() -> pl.DataFrame:
    return pl.DataFrame({"text": ["the secret badtoken is here", "nothing else"], "n": [41_234, 7], "who": ["a", "b"]})


def test_what_is_remembered_holds_no_content_and_means_nothing_without_the_key() -> None:
    contract = parse_contract(TEXTS % "", "d.yaml")
    one, other = (marker_of(key * 32, contract, {}) for key in (b"a", b"b"))
    tokens = one.tokens(text_frame())
    seen = replace(night(0, rows=2), tokens=tokens, looks=one.looks(text_frame()), reading=None)
    kept = Memory.of(one.scheme, seen).to_bytes()
    assert b"secret" not in kept
    assert not np.isin(tokens.marks, other.tokens(text_frame()).marks).any()
    assert one.scheme != other.scheme


@pytest.mark.parametrize(("pii", "said"), [("", "`badtoken`"), (", pii: true", "a word of text")])
def test_a_token_is_said_in_words_unless_it_is_personal(pii: str, said: str) -> None:
    marker = marker_of(b"k" * 32, parse_contract(TEXTS % pii, "d.yaml"), {})
    record = text_frame()[:1]
    alone = pl.DataFrame({"text": ["badtoken"], "n": [None], "who": ["a"]}, schema_overrides={"n": pl.Int64})
    assert marker.spoken(record, marker.tokens(alone).marks) == said


def test_texts_that_are_nearly_the_same_share_a_look_and_others_do_not() -> None:
    marker = marker_of(b"k" * 32, parse_contract(TEXTS % "", "d.yaml"), {})
    rng = np.random.default_rng(0)
    words = [f"word{k}" for k in rng.integers(0, 500, 80)]
    texts = [" ".join(words), " ".join([*words[:-1], "changed"]), " ".join(f"other{k}" for k in range(80))]
    looks = marker.looks(pl.DataFrame({"text": texts, "n": [1, 2, 3], "who": ["a"] * 3}))
    first, second, third = (set(looks.marks[looks.rows == row].tolist()) for row in range(3))
    assert first & second
    assert not first & third


def test_above_a_cap_records_wait_in_the_order_they_came() -> None:
    policy = parse_contract((TEXTS % "") + "policy: {caps: {per_source: 3, per_duplicate_cluster: 2}}\n", "d").policy
    before = replace(night(0, rows=2), sources=np.array([11, 12], dtype=np.uint64))
    caps = Caps.of(policy.caps, [memory(before)])
    sources = np.array([11, 11, 11, 12, 12, 0, 0, 0], dtype=np.uint64)
    looks = Marked(np.arange(8), np.array([1, 2, 3, 4, 5, 9, 9, 9], dtype=np.uint64))
    over = caps.over(sources, looks, np.array([True, False, *[True] * 6]))
    assert sorted(over) == [7]
    over = caps.over(sources, looks, np.ones(8, dtype=np.bool_))
    assert sorted(over) == list(range(8))
    assert "per_source" in over[0]
    assert "per_duplicate_cluster" in over[5]


@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        ("{windw: 3}", "did you mean 'window'?"),
        ("{caps: {per_sorce: 3}}", "did you mean 'per_source'?"),
        ("{caps: {per_source: 0}}", "policy.caps.per_source"),
        ("{window: -1}", "policy.window"),
        ("{window: 0, caps: {per_source: 3}}", "policy.window is 0"),
    ],
)
def test_what_a_contract_says_wrong_of_the_window_is_named(policy: str, fault: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_contract(f"{TEXTS % ''}policy: {policy}\n", "d.yaml")
    assert fault in str(caught.value)


def test_a_cap_per_source_needs_a_source() -> None:
    text = (TEXTS % "").replace("source: who\n", "") + "policy: {caps: {per_source: 3}}\n"
    with pytest.raises(ContractError, match="needs 'source'"):
        parse_contract(text, "d.yaml")
