"""The landing folder: where new files wait, one folder per data set, until they are ingested."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lazaretto.config import Workspace
    from lazaretto.records import Batch


def waiting(workspace: Workspace) -> tuple[str, ...]:
    """Data sets with files in their landing folder, or with a publication that was interrupted, by name."""
    landing, journal = workspace.landing, workspace.state / "journal"
    names = {path.name for path in landing.iterdir() if path.is_dir()} if landing.is_dir() else set()
    interrupted = {path.name.removesuffix(".dsse.json") for path in journal.glob("*.dsse.json")}
    return tuple(sorted({name for name in names if has_landed(workspace, name)} | interrupted))


def has_landed(workspace: Workspace, dataset: str) -> bool:
    """Whether files wait for this data set."""
    folder = workspace.landing / dataset
    return folder.is_dir() and any(not path.is_dir() for path in folder.rglob("*"))


def landed(workspace: Workspace, dataset: str) -> Path:
    """The folder with a data set's waiting files.

    Raises:
        UsageError: There are none.
    """
    folder = workspace.landing / dataset
    if not has_landed(workspace, dataset):
        raise UsageError(f"nothing waits in {folder}", hint="put files there, or name them on the command line")
    return folder


def from_landing(workspace: Workspace, batch: Batch) -> tuple[tuple[str, str], ...]:
    """Path, relative to the workspace, and SHA-256 of a batch's files that lie in the landing folder."""
    found = []
    root, folder = workspace.root.resolve(), (workspace.landing / batch.dataset).resolve()
    for file in batch.files:
        path = (Path(file.root) / file.name if file.root else Path(file.name)).resolve()
        if path.is_relative_to(folder):
            found.append((path.relative_to(root).as_posix(), file.sha256))
    return tuple(found)


def clear_landing(workspace: Workspace, dataset: str, files: Iterable[tuple[str, str]]) -> None:
    """Remove files that were taken in, and the folders this leaves empty."""
    for name, sha256 in files:
        path = workspace.root / name
        # Another file may have come under the same name since; it waits for its own turn.
        if not path.is_file() or path.is_symlink() or _sha256(path) != sha256:
            continue
        path.unlink()
        for folder in path.parents:
            if folder == workspace.landing / dataset or any(folder.iterdir()):
                break
            folder.rmdir()


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
