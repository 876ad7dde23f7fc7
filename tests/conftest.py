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


@pytest.fixture(scope="session")
def empty_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with its ledger made: half a second that only the first test spends."""
    from lazaretto.ledger import open_ledger
    from tests.harness import make_workspace

    workspace = make_workspace(tmp_path_factory.mktemp("empty"))
    with open_ledger(workspace):
        pass
    return workspace.root


@pytest.fixture
def workspace(tmp_path: Path, empty_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace with the small contract of `tests.harness`; what the gate remembers stays beside it."""
    from tests.harness import copy_workspace

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy_workspace(empty_workspace, tmp_path)


@pytest.fixture(scope="session")
def two_batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace into which two batches were admitted, to be copied and tampered with."""
    from tests.harness import make_workspace, publish

    workspace = make_workspace(tmp_path_factory.mktemp("two"))
    publish(workspace)
    publish(workspace, 100)
    return workspace.root
