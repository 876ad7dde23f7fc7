"""Fixtures that several test files share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from lazaretto.config import Workspace


@pytest.fixture(scope="session")
def gx() -> ModuleType:
    """Great Expectations, imported once: it takes seconds."""
    from lazaretto.expectations.gx import load

    return load()


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with the small contract of `tests.harness`; what the gate remembers stays beside it."""
    from tests.harness import make_workspace

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make_workspace(tmp_path)
