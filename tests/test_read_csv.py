from __future__ import annotations

import csv
import io

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazaretto.errors import InputRefused
from lazaretto.pipelines import read_csv as module
from lazaretto.pipelines.csv_records import BARE_CR, MISPLACED, NUL_BYTE, find_records
from tests.reading import contract_of, read_csv, read_parquet

AB = contract_of("a: text; b: text")
VALID = b'id,a,b\n1,"x, ""y""\nz",2.5\r\n2,,-3\n3,"",1e3\n4,caf\xc3\xa9,7\n'
TYPED = contract_of("a: text; b: number", id="id")


def records_by_the_book(block: bytes) -> tuple[list[bytes], list[int], bool]:
    """The RFC's state machine, byte by byte: records, their fields (0: faulty), and whether a quote stays open."""
    records, fields, start, at, state, count, broken = [], [], 0, 0, "start", 1, False
    while at < len(block):
        byte = block[at : at + 1]
        line_end = byte == b"\n" or block[at : at + 2] == b"\r\n"
        if broken or (state != "quoted" and line_end):
            if byte == b"\n" or not broken:
                records.append(block[start:at])
                fields.append(0 if broken else count)
                at += 0 if byte == b"\n" else 1
                start, state, count, broken = at + 1, "start", 1, False
        elif state == "quoted":
            state = "closed" if byte == b'"' else state
        elif byte == b'"':
            broken = state == "plain"
            state = "quoted"
        elif byte == b",":
            count, state = count + 1, "start"
        elif state == "closed":
            broken = True
        else:
            state = "plain"
        at += 1
    if start < len(block) and (broken or state != "quoted"):
        records.append(block[start:])
        fields.append(0 if broken else count)
    return records, fields, state == "quoted" and not broken


@given(st.lists(st.sampled_from([b'"', b",", b"\n", b"\r\n", b"a", b'""', b'","']), max_size=40).map(b"".join))
@settings(max_examples=800, deadline=None)
def test_records_are_found_as_the_state_machine_of_the_rfc_finds_them(block: bytes) -> None:
    found = find_records(block, final=True)
    pieces = [block[a:b] for a, b in zip(found.starts, found.ends, strict=True)]
    counts = [0 if found.faults.get(i) == MISPLACED else int(n) for i, n in enumerate(found.fields)]
    records, fields, is_open = records_by_the_book(block)
    expected = [(r.removesuffix(b"\r") if n == 0 else r, n) for r, n in zip(records, fields, strict=True)]
    assert list(zip(pieces, counts, strict=True)) == [pair for pair in expected if pair[0]]
    assert (found.open_at >= 0) == is_open


@given(st.binary(max_size=60).map(lambda b: bytes(b'",\n\ra\x00'[byte % 6] for byte in b)), st.integers(0, 60))
@settings(max_examples=400, deadline=None)
def test_a_block_cut_anywhere_gives_the_same_records(block: bytes, cut: int) -> None:
    whole = find_records(block, final=True)
    first = find_records(block[:cut], final=False)
    rest = block[first.consumed :]
    second = find_records(rest, final=True)
    starts = np.concatenate([first.starts, second.starts + first.consumed])
    ends = np.concatenate([first.ends, second.ends + first.consumed])
    faults = first.faults | {at + first.starts.size: what for at, what in second.faults.items()}
    assert starts.tolist() == whole.starts.tolist()
    assert ends.tolist() == whole.ends.tolist()
    assert faults == whole.faults


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1), st.sampled_from([("\r\n", 0), ("\r\n", 1), ("\n", 1)]))
@settings(max_examples=150, deadline=None)
def test_what_the_csv_module_writes_comes_back(rows: list[tuple[str, str]], how: tuple[str, int]) -> None:
    line_end, quoting = how
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=line_end, quoting=quoting)
    writer.writerows([("a", "b"), *rows])
    read = read_csv(out.getvalue().replace("\x00", " "), AB)
    # The module leaves empty text unquoted unless told to quote all; unquoted it is a missing value.
    clean = [tuple(value.replace("\x00", " ") for value in row) for row in rows]
    expected = clean if quoting else [tuple(value or None for value in row) for row in clean]
    assert read.frame.select("a", "b").rows() == expected


@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_damage_ends_in_rejected_records_or_a_refused_file(damage: list[tuple[int, int]]) -> None:
    raw = bytearray(VALID)
    for place, byte in damage:
        raw[place] = byte
    try:
        read = read_csv(bytes(raw), TYPED)
    except InputRefused:
        return
    assert read.parsed.arrived == read.frame.height + read.parsed.rejected
    assert read.rejects.height == read.parsed.rejected
    rows = sorted([*read.rejects["_row"], *(read.frame["_row"] if read.frame.width else [])])
    assert rows == list(range(read.parsed.arrived))


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("1,2,3", "3 fields where the header has 2"),
        ("1", "1 field where the header has 2"),
        ('1"2,3', MISPLACED),
        ('"1"2,3', MISPLACED),
        ('"1\n2" x,3', MISPLACED),
        ("1\r2,3", BARE_CR),
        ("1\x00,3", NUL_BYTE),
    ],
)
def test_a_faulty_record_is_rejected_with_its_bytes_and_the_others_go_on(record: str, reason: str) -> None:
    read = read_csv(f"a,b\n1,2\n{record}\n3,4\n", AB)
    assert read.reasons == {1: reason}
    assert read.originals == {1: record.encode()}
    assert read.frame["a"].to_list() == ["1", "3"]
    assert read.frame["_row"].to_list() == [0, 2]


def test_a_record_that_is_not_utf8_is_rejected_with_its_bytes() -> None:
    read = read_csv(b"a,b\n1,2\n\xff,\xfe\nx,\xe9\n3,4\n", AB)
    assert read.originals == {1: b"\xff,\xfe", 2: b"x,\xe9"}
    assert set(read.reasons.values()) == {"text that is not UTF-8"}
    assert read.frame["a"].to_list() == ["1", "3"]


def test_a_rejected_record_says_on_which_lines_it_stood() -> None:
    read = read_csv('a,b\n\n"x\ny",1\n1,2,3\n"p\nq"r,1\n', AB)
    assert [name.rsplit("/", 1)[-1] for name in read.rejects["file"]] == ["t.csv, line 5", "t.csv, lines 6-7"]


def test_unquoted_nothing_is_missing_and_quoted_nothing_is_text() -> None:
    read = read_csv('a,b\n,""\n"",\nNA,null\n', AB)
    assert read.frame.select("a", "b").rows() == [(None, ""), ("", None), ("NA", "null")]


def test_blank_lines_a_byte_order_mark_and_a_missing_last_line_end_do_not_matter() -> None:
    read = read_csv(b"\xef\xbb\xbf\r\na,b\r\n\r\n1,2\r\n\r\n3,4", AB)
    assert read.frame.select("a", "b").rows() == [("1", "2"), ("3", "4")]
    assert read.parsed.arrived == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n\n", "no header"),
        ("a,b\n", "holds no records"),
        ("a,b,a\n1,2,3\n", "has the column 'a' twice"),
        ("x,y\n1,2\n", "none of the contract's columns"),
        ('a,b\n1,2\n"3,4\n5,6\n', "in the record on line 3 is never closed"),
        ('a,b"\n1,2\n', "the header holds a quote"),
        ("a,b\r1,2\r", "the header holds a carriage return"),
        (b"a,b\xff\n1,2\n", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_taken_apart_is_refused_whole(text: str | bytes, words: str) -> None:
    with pytest.raises(InputRefused, match=words):
        read_csv(text, AB)


def test_an_image_column_cannot_come_as_csv() -> None:
    with pytest.raises(InputRefused, match="which CSV cannot hold"):
        read_csv("a,p\n1,2\n", contract_of("a: text; p: image"))


def test_a_missing_column_holds_the_batch_and_others_are_named_as_ignored() -> None:
    read = read_csv("a,x,y\n1,2,3\n", AB)
    assert read.frame.select("a", "b").rows() == [("1", None)]
    assert len(read.parsed.holds) == 1
    assert read.parsed.holds[0].endswith("t.csv: the column 'b' of the contract is missing")
    assert read.parsed.ignored_columns == ("x", "y")


def mixed(rows: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    words = rng.choice(np.array(["", "plain", 'a "quoted" one', "two\nlines", "x,y", "é\r\n"]), rows)
    return pl.DataFrame({"a": words, "b": rng.normal(size=rows)})


@pytest.mark.parametrize("size", [1, 13, 1000])
def test_block_borders_do_not_show(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, contract = mixed(200), contract_of("a: text; b: number")
    text = frame.write_csv(quote_style="non_numeric")
    monkeypatch.setattr(module, "BLOCK_BYTES", size)
    assert read_csv(text, contract).frame.select("a", "b").equals(frame)


def test_the_same_records_as_csv_and_parquet_have_the_same_digests() -> None:
    frame, contract = mixed(300), contract_of("a: text; b: number")
    text = frame.write_csv(quote_style="non_numeric")
    assert read_csv(text, contract).frame.equals(read_parquet(frame, contract).frame)
