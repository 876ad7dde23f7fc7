"""The random walk over the two-person rule, in short; and that its judge would see a breach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import two_persons

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    import argon2

    plain = argon2.PasswordHasher
    monkeypatch.setattr(argon2, "PasswordHasher", lambda: plain(time_cost=1, memory_cost=8, parallelism=1))


def test_a_short_walk_does_much_and_breaks_nothing(tmp_path: Path) -> None:
    walked = two_persons.walk(300, 100, tmp_path)
    assert walked.breaches == []
    assert all(walked.counts[what] for what in ("proposed", "approved", "done", "refused", "changed", "forged"))


@pytest.mark.parametrize(
    "broken",
    ["lazaretto.proposals.authorise", "lazaretto.proposals.check_credentials"],
)
def test_the_judge_sees_a_rule_that_is_not_kept(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broken, lambda *_arguments, **_named: None)
    assert two_persons.walk(600, 101, tmp_path).breaches
