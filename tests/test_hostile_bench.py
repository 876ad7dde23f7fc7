"""The benchmark of hostile input, in small: it runs what it says, and what is lost or breaks is told."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.hostile import Found, cases, print_targets
from benchmarks.hostile_counts import records
from benchmarks.hostile_mutants import mutant, seeds
from benchmarks.hostile_run import Ended, in_a_child
from benchmarks.hostile_storm import Storm, _one, _take
from benchmarks.hostile_tables import FORMATS, ROWS, rows, written

if TYPE_CHECKING:
    from pathlib import Path


def test_there_are_more_than_eighty_classes_in_each_of_the_four_formats() -> None:
    named = {(case.name, case.kind) for case in cases(0)}
    for kind in FORMATS:
        assert len([name for name, of in named if of == kind]) > 150
    shared = {name for name, _ in named if all((name, kind) in named for kind in FORMATS)}
    assert len(shared) > 140


@pytest.mark.parametrize("kind", FORMATS)
def test_records_are_counted_as_they_were_written(kind: str) -> None:
    assert records(written(kind, rows()), folder=False) == ROWS


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (b'a,b\n"x\ny",2\n3,4', 2),
        (b'a\n1"2\n3\n', 2),
        (b"a\n\n\r\n1\r\n", 1),
        (b'a\n"1"x"\n2\n', 2),
        (b'a\n"1\n2\n', None),
        (b"\xef\xbb\xbfa\n1\n", 1),
    ],
)
def test_csv_is_counted_by_the_book(content: bytes, count: int | None) -> None:
    assert records({"d.csv": content}, folder=False) == count


@pytest.mark.parametrize("kind", FORMATS)
def test_some_mutants_of_each_format_end_in_an_error_of_ours_or_all_of_their_records(kind: str, tmp_path: Path) -> None:
    known, found = seeds()[kind], Storm(kind)
    for number in range(25):
        content = mutant(kind, known, np.random.default_rng(number))
        _take(found, {"number": number, **_one(kind, content, tmp_path)})
    assert found.count == 25
    assert found.faults == []


def test_a_lost_record_a_fault_and_a_process_that_ended_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = Storm("csv")
    lost, broken = Ended("rejected", "", 5, 1, 3), Ended("fault", "KeyError: x")
    _take(found, {"number": 7, "ended": lost.__dict__, "rows": 5})
    _take(found, {"number": 8, "ended": broken.__dict__, "rows": None})
    _take(found, {"number": 9, "ended": Ended("read", "", 5, 0, 5).__dict__, "rows": 6})
    assert [fault.split(":")[0] for fault in found.faults] == ["csv 7", "csv 8", "csv 9"]
    slow = Found({("a", "csv"): Ended("read", "", 1, 0, 1, 11.0, 1.0, 2**31)})
    assert not print_targets(slow, [found])
    assert capsys.readouterr().out.count("missed: ") == 3


def test_a_child_that_crashes_hangs_or_raises_is_told_from_one_that_answers() -> None:
    def crash() -> dict[str, object]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    def hang() -> dict[str, object]:
        time.sleep(60)
        return {}

    assert in_a_child(crash, 20)["said"] == "SIGKILL"
    assert in_a_child(hang, 0.2)["what"] == "late"
    assert in_a_child(lambda: {"what": "read"}, 20)["what"] == "read"
