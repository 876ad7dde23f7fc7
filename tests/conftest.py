"""Fixtures that several test files share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(scope="session")
def gx() -> ModuleType:
    """Great Expectations, imported once: it takes seconds."""
    from lazaretto.expectations.gx import load

    return load()
