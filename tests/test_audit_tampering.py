"""Every way to tamper with the audit log is found with an anchor; a few are not found without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.audit_tampering import WAYS, Ground, Noticed, ground, noticed
from benchmarks.security import audit_report
from lazaretto.pipelines.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

ONLY_WITH_THE_ANCHOR = {
    "cut short, with the checkpoint before",
    "written anew with a stolen audit key",
    "a training run removed with a stolen audit key",
    "dated back with a stolen audit key",
    "everything put back",
    "an entry of the anchor removed",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return ground(tmp_path_factory.mktemp("audit"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_log_that_nobody_touched_is_found_sound(base: Ground, tmp_path: Path) -> None:
    verify(base.copied(tmp_path / "copy").workspace).require()


@pytest.mark.parametrize("way", list(WAYS))
def test_every_way_is_found_with_the_anchor_and_most_without(way: str, base: Ground) -> None:
    found = noticed(base, way)
    assert found.with_anchor
    assert bool(found.without) == (way not in ONLY_WITH_THE_ANCHOR), found.without


def test_what_is_not_found_is_said() -> None:
    text = audit_report([Noticed("this", "", ""), Noticed("that", "it was", "")], sound=True)
    assert "2 ways to tamper with the audit log: 1 found with the anchor, 0 without." in text
