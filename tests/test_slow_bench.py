"""The benchmark of slow poison runs, and its tables say what happened: never is never."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from benchmarks.data import flights
from benchmarks.slow_poison import SHORT, Night, admitted, found_alone, found_together, main, read_record, stream
from benchmarks.slow_poison_report import report

if TYPE_CHECKING:
    from pathlib import Path


def night(number: int, **more: Any) -> Night:  # noqa: ANN401  fields of a night, each of its own type
    """A night with two poisons of a month of thirty, none of which waits."""
    usual: dict[str, Any] = {
        "data": "mails", "entry": "token", "spread": 30, "seed": 0, "panel": "default", "number": number, "poisons": 2,
        "alone": 0, "waiting": 0, "clean": 98, "clean_alone": 1, "clean_waiting": 1, "findings": (), "guilty": 0.0,
        "seconds": 5.0, "window_seconds": 0.1, "bytes": 1_000,
    }  # fmt: skip
    return Night(**{**usual, **more})


def test_what_is_never_found_is_printed_as_never() -> None:
    month = [night(number) for number in range(1, 31)]
    assert found_alone(month) is found_together(month) is None
    assert "| never | never | 60 | 60 |" in report(month, "here")


def test_a_month_that_was_not_judged_to_its_end_is_not_called_never() -> None:
    assert "| not in the 9 nights judged | not in the 9 nights judged |" in report(
        [night(n) for n in range(1, 10)], "here"
    )


def test_what_the_window_finds_is_told_with_what_was_let_in_before() -> None:
    found = night(5, waiting=2, findings=("trigger: it is there",), guilty=1.0)
    month = [*(night(number) for number in range(1, 5)), found]
    assert found_together(month) == 5
    assert (admitted(month, None, window=False), admitted(month, 5, window=True)) == (10, 8)
    assert "| never | night 5 | 10 | 8 | trigger: it is there |" in report(month, "here")


def test_a_finding_that_clean_records_carry_finds_nothing_and_in_a_clean_month_is_an_alarm() -> None:
    alarm = night(2, findings=("trigger: it was nothing",), guilty=0.1)
    assert found_together([night(1), alarm]) is None
    told = report([night(1, entry="clean", spread=0), night(2, entry="clean", spread=0, findings=("x: y",))], "here")
    assert "Clean months with any finding: 1 of 1" in told
    assert "night 2: x: y" in told


@pytest.mark.parametrize("spread", [1, 3])
def test_the_same_poison_arrives_in_so_many_nights(spread: int) -> None:
    sent = stream(flights(None), SHORT[0], spread, 100, 3)
    per_night = [int(truth.sum()) for truth in sent.truths]
    assert sum(per_night) == 7
    assert np.count_nonzero(per_night) == spread
    ids = pl.concat([sent.trusted, *sent.batches])["flight_id"]
    assert ids.n_unique() == len(ids)


def test_the_short_benchmark_runs_and_what_is_recorded_is_not_measured_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--short", "--first-seed", "100", "--record", str(tmp_path / "nights.jsonl")]
    main([*words, "--out", str(tmp_path / "page.md")])
    assert len(read_record(tmp_path / "nights.jsonl")) == 4
    assert (tmp_path / "page.svg").stat().st_size > 1_000
    assert "flights, trigger_outside" in (tmp_path / "page.md").read_text()
    capsys.readouterr()
    main(words)
    assert len(read_record(tmp_path / "nights.jsonl")) == 4
