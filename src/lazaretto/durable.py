"""Files that are there, whole, or not there at all: written aside, synced, then renamed into place."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lazaretto.errors import LazarettoError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
_READABLE = 0o644
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FOOTER = "Invalid thrift: transport error"
"""All that Polars says of a disk that fills up just when a Parquet file's footer is written."""
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NUMBER = re.compile(r"(?:\(os error |\[errno )(\d+)")


def make_folder(path: Path) -> None:
    """Make a folder and its parents, readable by the owner alone, to last; what exists is left as it is."""
    for folder in [*reversed(path.parents), path]:
        if not folder.is_dir():
            folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            sync_folder(folder.parent)


def file_mode_like(folder: Path) -> int:
    """Mode for a new file that is to be readable by whoever may look into its folder."""
    return stat.S_IMODE(folder.stat().st_mode) & _READABLE | PRIVATE_FILE


def make_folder_like_parent(path: Path) -> None:
    """Make one folder with the mode of the one it lies in."""
    path.mkdir(exist_ok=True)
    path.chmod(stat.S_IMODE(path.parent.stat().st_mode))


def write_durably(path: Path, content: bytes, *, mode: int = PRIVATE_FILE, unlocked: bool = False) -> None:
    """Replace a file's content so that a crash leaves the old content or the new one, never a mixture.

    Args:
        path: The file; its folder is made if absent.
        content: All of it.
        mode: Permissions of the file.
        unlocked: Several processes may write the file at once, for no lock of ours keeps them apart.
    """
    make_folder(path.parent)
    # Always the same name beside it: what a killed process left there is written over by the next.
    aside = path.with_name(f".{path.name}.{os.getpid()}.new" if unlocked else f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk. Where folders cannot be synced (Windows) nothing is done."""
    if os.name != "nt":
        _sync(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def sync_tree(path: Path) -> None:
    """Wait until every file and folder below ``path``, itself included, is on the disk."""
    for here, _folders, files in os.walk(path):
        for name in files:
            sync_file(path.__class__(here) / name)
        sync_folder(path.__class__(here))


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn the system's refusal to write below ``folder`` into one sentence, whichever library it comes through.

    Raises:
        Unavailable: The disk is full, or the folder cannot be written.
    """
    try:
        yield
    except LazarettoError:
        raise
    except Exception as error:
        refused = refusal(error, folder)
        if refused is None and _FOOTER in str(error):
            refused = refusal(OSError(errno.ENOSPC, str(error)), folder)
        if refused is not None:
            raise refused from error
        if not isinstance(error, OSError):
            raise
        raise Unavailable(f"cannot write to {error.filename or folder}: {error.strerror or error}") from error


def refusal(error: Exception, folder: Path | None = None) -> Unavailable | None:
    """The sentence for a full disk or a forbidden write; None for any other error.

    Args:
        error: What was raised. Polars, pyarrow and Delta tell the system's error number only in their messages.
        folder: Where was written, for errors that do not say.
    """
    said = str(error).lower()
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := _NUMBER.search(said)):
        number = int(found[1])
    if number in _NO_SPACE or "no space left" in said or "disk quota" in said:
        where = folder or getattr(error, "filename", None)
        disk = f"the disk of {where}" if where else "the disk"
        return Unavailable(f"no space left on {disk}", hint="free some space, then run the same command again")
    if number in _FORBIDDEN:
        where = getattr(error, "filename", None) or folder or "a file"
        return Unavailable(
            f"cannot write to {where}: {os.strerror(number)}",
            hint="check who owns it, its mode, and whether its disk is mounted to be read only",
        )
    return None
