"""The benchmark that mutates a store, in small: each kind is refused, a clean copy is not, and what is read is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.mutations import MUTATIONS
from benchmarks.security import Outcomes, copied, made, read_all, report, tried

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return made(tmp_path_factory.mktemp("small"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, small: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads has seen the store as it is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read_all(small)


def test_a_clean_copy_without_private_keys_is_read(small: Workspace, tmp_path: Path) -> None:
    assert read_all(copied(small.root, tmp_path / "copy")).equals(read_all(small))


@pytest.mark.parametrize("what", list(MUTATIONS))
def test_every_kind_of_mutation_is_refused(what: str, small: Workspace) -> None:
    found = Outcomes()
    tried(small.root, what, np.random.default_rng(104), read_all(small), found)
    assert (found.read, found.crashed) == ([], [])
    # A bit of the blanks or of the last digit of an envelope may say nothing.
    assert found.refused == 1 or (what.startswith(("attestation ", "signed contract ")) and found.without_effect == 1)


def test_what_is_read_and_what_has_no_effect_is_told_apart(small: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MUTATIONS, "nothing at all", lambda _workspace, _rng: "nothing")
    expected, found = read_all(small), Outcomes()
    tried(small.root, "nothing at all", np.random.default_rng(0), expected, found)
    assert (found.without_effect, found.read) == (1, [])
    tried(small.root, "nothing at all", np.random.default_rng(0), expected.head(3), found)
    assert found.read == ["nothing"]
    text = report({"nothing at all": found}, 0, 7, (1.0, 0.2, 1.05))
    assert "2 mutations of 1 kinds: 0 refused, 1 without effect, 1 read, 0 crashed." in text
    assert "False alarms: 0 in 7 clean loads" in text
    assert "1.05 s beside 1.00 s plainly, +5%; the gate before it, once: 0.20 s." in text
    assert "- nothing at all: nothing" in text
