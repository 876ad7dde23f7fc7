"""Takes a private copy of what arrived, hashing it while it is read: the only bytes any later step sees."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lazaretto.durable import writable
from lazaretto.errors import InputRefused, UsageError
from lazaretto.pipelines.formats import HEAD_BYTES, data_kind, is_image_name, refuse_by_content, refuse_by_name
from lazaretto.records import Batch, OnRows, SourceFile, no_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

_BLOCK = 1 << 20
# O_NONBLOCK: opening a named pipe must not wait for its writer. Without O_NOFOLLOW (Windows) lstat has to do.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True)
class _Found:
    path: Path
    name: str
    root: str = ""
    """The image folder it lies in; empty for a data file."""


def snapshot(paths: Sequence[str | Path], dataset: str, into: Path, *, on_file: OnRows = no_rows) -> Batch:
    """Copy files into ``into``, each under its SHA-256, and describe them as one batch.

    A folder with data files in it stands for those files; a folder of images (sub-folder = class) stands for its
    images. Files are taken in the order given, those of a glob or folder by name. The same file named twice counts
    once.

    Args:
        paths: Files, folders and globs.
        dataset: The data set the batch is for.
        into: Folder for the copies; made if absent.
        on_file: Called with 1 after each file.

    Raises:
        UsageError: A path does not exist or matches nothing, or the copy cannot be written (a full disk).
        InputRefused: A link, a device, an empty file, or a file that is no data file.
    """
    if not paths:
        raise UsageError("no files were given")
    found: dict[Path, _Found] = {}
    for item in (item for path in paths for item in _expand(path)):
        found.setdefault(item.path.resolve(), item)
    files: list[SourceFile] = []
    with writable(into):
        into.mkdir(parents=True, exist_ok=True)
        for item in found.values():
            files.append(_copy(item, into))
            on_file(1)
    return Batch(dataset=dataset, files=tuple(files))


def _expand(path: str | Path) -> list[_Found]:
    text = str(path)
    if os.path.lexists(text):
        return _expand_existing(Path(text))
    if glob.has_magic(text):
        matched = sorted(glob.glob(text, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
        if matched:
            return [item for match in matched for item in _expand_existing(Path(match))]
        raise UsageError(f"no file matches {text}")
    raise UsageError(f"{text} does not exist", hint="check the path; it counts from the folder you are in")


def _expand_existing(path: Path) -> list[_Found]:
    if path.is_symlink():
        raise InputRefused(f"{path} is a link", hint="give the file it points to")
    if not path.is_dir():
        refuse_by_name(str(path))
        return [_Found(path, str(path))]
    names = list(_walk(path))
    data = [name for name in names if data_kind(name)]
    images = [name for name in names if is_image_name(name)]
    if data and images:
        raise InputRefused(
            f"folder {path} holds both images ({images[0]}) and data files ({data[0]})",
            hint="name the data files, or keep the images in a folder of their own",
        )
    if images:
        return [_Found(path / name, name, str(path)) for name in names]
    if not data:
        raise InputRefused(f"folder {path} holds no data file and no image")
    for name in names:
        refuse_by_name(str(path / name))
    return [_Found(path / name, str(path / name)) for name in names]


def _walk(folder: Path) -> list[str]:
    """Names of all files below a folder, relative to it with ``/``, sorted."""
    names: list[str] = []

    def refuse(error: OSError) -> None:
        raise InputRefused(f"folder {error.filename} cannot be read: {error.strerror}") from error

    for here, folders, files in os.walk(folder, onerror=refuse):
        for name in folders:
            if (Path(here) / name).is_symlink():
                raise InputRefused(f"{Path(here) / name} is a link", hint="give the folder it points to")
        names += [(Path(here) / name).relative_to(folder).as_posix() for name in files]
    return sorted(names)


def _copy(item: _Found, into: Path) -> SourceFile:
    if not str(item.path).isprintable():
        raise InputRefused(f"the file name {str(item.path)!r} holds control characters or is not UTF-8")
    source = _open(item.path)
    try:
        before = os.fstat(source)
        if not stat.S_ISREG(before.st_mode):
            raise InputRefused(f"{item.path} is no regular file (a folder, device, pipe or socket)")
        part = into / f".part-{os.getpid()}"
        try:
            digest, size = _hash_and_copy(source, part, item)
            after = os.fstat(source)
            if (size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise InputRefused(
                    f"{item.path} changed while it was read", hint="wait until it is written, then retry"
                )
            copy = into / digest
            part.replace(copy)
        finally:
            part.unlink(missing_ok=True)
    finally:
        os.close(source)
    return SourceFile(name=item.name, sha256=digest, size=size, copy=copy, root=item.root)


def _open(path: Path) -> int:
    try:
        return os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK}:
            raise InputRefused(f"{path} is a link", hint="give the file it points to") from error
        if error.errno == errno.ENOENT:
            raise UsageError(f"{path} does not exist") from error
        raise InputRefused(f"{path} cannot be read: {error.strerror}") from error


def _hash_and_copy(source: int, target: Path, item: _Found) -> tuple[str, int]:
    """Read once, hashing what is written. Gives the SHA-256 (hex) and the size in bytes."""
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as out:
        while block := _read(source, item.path):
            if size == 0 and not item.root:
                refuse_by_content(item.name, block[:HEAD_BYTES])
            digest.update(block)
            out.write(block)
            size += len(block)
    if size == 0 and not item.root:
        raise InputRefused(f"{item.name} is empty", hint="was it copied in full?")
    return digest.hexdigest(), size


def _read(source: int, path: Path) -> bytes:
    try:
        return os.read(source, _BLOCK)
    except OSError as error:
        raise InputRefused(f"{path} cannot be read: {error.strerror}") from error
