"""Lazaretto keeps poisoned records out of training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazaretto.errors import Blocked as Blocked
    from lazaretto.gatekeeper import gate as gate
    from lazaretto.loader import open_admitted as open_admitted

    __version__: str

__all__ = ["Blocked", "__version__", "gate", "open_admitted"]

_HOMES = {"Blocked": "errors", "gate": "gatekeeper", "open_admitted": "loader"}


def __getattr__(name: str) -> Any:  # noqa: ANN401  whatever is asked for
    """Import what is used when it is used: importing the package costs nothing."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"lazaretto.{_HOMES[name]}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("lazaretto")
    raise AttributeError(f"module 'lazaretto' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
