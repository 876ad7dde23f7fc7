"""Reading a Delta table's log: what version it is at, which files it is made of. Light, for the gate imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lazaretto.errors import IntegrityViolated

if TYPE_CHECKING:
    from pathlib import Path

    from deltalake import DeltaTable

LOG = "_delta_log"


def open_table(folder: Path, version: int | None = None) -> DeltaTable | None:
    """The Delta table, at its newest or the given version; none when there is no table yet.

    Raises:
        IntegrityViolated: There is one, but it cannot be read.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    if not (folder / LOG).is_dir():
        return None
    try:
        return DeltaTable(folder, version=version)
    except TableNotFoundError as error:
        if not any((folder / LOG).glob("*.json")):
            return None  # killed before the first commit
        raise IntegrityViolated(f"the log of the store {folder} cannot be read: {error}") from error
    except (DeltaError, OSError, ValueError) as error:
        raise IntegrityViolated(f"the log of the store {folder} cannot be read: {error}") from error


def active_files(table: DeltaTable) -> dict[str, int]:
    """Path and size in bytes of every file the table is made of at its version."""
    actions = table.get_add_actions(flatten=True)
    paths, sizes = (actions.column(name).to_pylist() for name in ("path", "size_bytes"))
    return dict(zip(paths, sizes, strict=True))
