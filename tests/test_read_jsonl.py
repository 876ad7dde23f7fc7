from __future__ import annotations

import json
import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import InputRefused
from lazaretto.pipelines import read_jsonl as module
from tests.reading import contract_of, read_jsonl, read_parquet

MIXED = contract_of("i: integer; n: number; b: boolean; c: category; v: {type: vector, dimensions: 2, nullable: true}")
VALID = (
    b'{"i": 1, "n": 2.5, "b": true, "c": "x", "v": [1, 2.5]}\n'
    b'{"i": null, "c": "caf\xc3\xa9"}\r\n'
    b'{"n": 1e3, "v": null}\n'
)


def line(**values: object) -> str:
    return json.dumps(values) + "\n"


def test_each_type_is_read() -> None:
    read = read_jsonl(VALID, MIXED)
    assert read.frame.select("i", "n", "b", "c", "v").rows() == [
        (1, 2.5, True, "x", [1.0, 2.5]),
        (None, None, None, "café", None),
        (None, 1000.0, None, None, None),
    ]


def test_one_column_may_mix_types_that_convert_exactly() -> None:
    text = line(i=1, c=7) + line(i=2.0, c="7") + line(i="3", c=True) + line(i="4.0", c=0.5)
    read = read_jsonl(text, contract_of("i: integer; c: category"))
    assert read.frame.select("i", "c").rows() == [(1, "7"), (2, "7"), (3, "true"), (4, "0.5")]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('{"i": 1, "i": 2}', "no JSON: the key 'i' is there twice"),
        ('{"i": 1, "x": {"y": 1, "y": 1}}', "no JSON: the key 'y' is there twice"),
        ("[1]", "a list where an object is due"),
        ("3", "a number where an object is due"),
        ('{"i": 1', "no JSON: Expecting ',' delimiter (character 8)"),
        ('{"i": 1} {"i": 2}', "no JSON: Extra data (character 10)"),
        ("[" * 100_000, "no JSON: nested too deeply"),
        ('{"i": ' + "9" * 5000 + "}", "no JSON: a number of thousands of digits"),
        ('{"i": {"a": 1}}', "i: an object is not a whole number"),
        ('{"i": [1]}', "i: a list of 1 is not a whole number"),
        ('{"c": ["a"]}', "c: an object is not text"),
        ('{"i": 3.5}', "i: 3.5 is not a whole number"),
        ('{"i": true}', "i: true is not a whole number"),
        ('{"i": 9223372036854775808}', "i: '9223372036854775808' does not fit into 64 bits"),
        ('{"n": Infinity}', "n: inf is infinite"),
        ('{"n": 1e999}', "n: inf is infinite"),
        ('{"n": "x"}', "n: 'x' is not a number"),
        ('{"b": 1}', "b: 1 is neither true nor false"),
        ('{"c": "\\ud800"}', "c: 3 bytes are not UTF-8 text"),
        ('{"v": [1, 2, 3]}', "v: a list of 3 is not a vector of 2 finite numbers"),
        ('{"v": [1, "2"]}', "v: an object is not a vector of 2 finite numbers"),
        ('{"v": [1, NaN]}', "v: a list of 2 is not a vector of 2 finite numbers"),
        ('{"i": 0.5, "b": "yes"}', "i: 0.5 is not a whole number; b: 'yes' is neither true nor false"),
    ],
)
def test_a_faulty_record_is_rejected_with_its_bytes_and_the_others_go_on(record: str, reason: str) -> None:
    read = read_jsonl(line(i=1) + record + "\n" + line(i=3), MIXED)
    assert len(read.reasons) == 1
    assert read.reasons[1].startswith(reason)
    assert read.originals == {1: record.encode()}
    assert read.frame["i"].to_list() == [1, 3]
    assert read.rejects["file"][0].endswith("t.jsonl, line 2")


def test_not_a_number_is_a_missing_value() -> None:
    read = read_jsonl('{"n": NaN, "i": NaN, "c": NaN}\n', MIXED)
    assert read.frame.select("n", "i", "c").rows() == [(None, None, None)]


def test_bytes_that_are_no_text_are_rejected() -> None:
    assert read_jsonl(b'{"c": "\xff"}\n{"c": "x"}\n', MIXED).reasons == {0: "text that is not UTF-8"}


def test_blank_lines_and_a_byte_order_mark_do_not_matter() -> None:
    read = read_jsonl(b'\xef\xbb\xbf{"i": 1}\n\n  \r\n{"i": 2}', MIXED)
    assert read.frame["i"].to_list() == [1, 2]


def test_a_key_no_line_has_holds_the_batch_and_unknown_keys_are_ignored() -> None:
    read = read_jsonl(line(i=1, x=1) + line(n=1, y=2), contract_of("i: integer; n: number; c: category"))
    assert [hold.rsplit(": ", 1)[-1] for hold in read.parsed.holds] == ["the column 'c' of the contract is missing"]
    assert read.parsed.ignored_columns == ("x", "y")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n \n", "holds no records"),
        ("1\n[2]\n", "no line is a JSON object"),
        ("hello\nworld\n", "no line is a JSON object"),
        ('{"x": 1}\n', "none of the contract's columns"),
    ],
)
def test_a_file_that_is_no_json_lines_is_refused_whole(text: str, words: str) -> None:
    with pytest.raises(InputRefused, match=words):
        read_jsonl(text, MIXED)


def test_a_line_too_long_to_be_a_record_refuses_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORD_BYTES", 50)
    with pytest.raises(InputRefused, match="line 2 is longer"):
        read_jsonl(line(c="x") + line(c="x" * 50), MIXED)


def test_chunk_borders_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(line(i=i, c=str(i)) for i in range(100))
    whole = read_jsonl(text, MIXED)
    monkeypatch.setattr(module, "CHUNK_BYTES", 64)
    assert read_jsonl(text, MIXED).frame.equals(whole.frame)


def test_a_chunk_without_one_good_record_is_read_like_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    contract = contract_of(
        "i: integer; n: number; b: boolean; c: category; t: timestamp; v: {type: vector, dimensions: 2, nullable: true}"
    )
    read = read_jsonl(line(i=1, n=1, b=True, c="x", t="2024-01-02", v=[1, 2]) + "oops\n", contract)
    assert list(read.reasons) == [1]


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_damage_ends_in_rejected_records_or_a_refused_file(damage: list[tuple[int, int]]) -> None:
    raw = bytearray(VALID)
    for place, byte in damage:
        raw[place] = byte
    try:
        read = read_jsonl(bytes(raw), MIXED)
    except InputRefused:
        return
    assert read.parsed.arrived == read.frame.height + read.parsed.rejected
    rows = sorted([*read.rejects["_row"], *(read.frame["_row"] if read.frame.width else [])])
    assert rows == list(range(read.parsed.arrived))


json_numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(json_numbers, st.text() | st.none()), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_what_json_writes_comes_back_with_the_digest_it_has_as_parquet(rows: list[tuple[float, str | None]]) -> None:
    contract = contract_of("n: number; c: text")
    read = read_jsonl("".join(line(n=number, c=text) for number, text in rows), contract)
    assert read.frame["c"].to_list() == [text for _, text in rows]
    assert all(math.isclose(a, b) for a, b in zip(read.frame["n"], [float(n) for n, _ in rows], strict=True))
    frame = pl.DataFrame(
        {"n": [float(n) for n, _ in rows], "c": [t for _, t in rows]}, schema_overrides={"c": pl.String}
    )
    assert read_parquet(frame, contract).frame["_digest"].to_list() == read.frame["_digest"].to_list()
