"""Takes the file system from a process for good, all but what it names: Linux's Landlock, by its three system calls."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# The same on every architecture.
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_MOVE, _TRUNCATE, _DEVICE_CONTROL = 1 << 13, 1 << 14, 1 << 15
_FIRST_RIGHTS = (1 << 13) - 1
_TCP = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
_READ = _READ_FILE | _READ_DIR
# No links, devices, pipes or sockets: whoever takes over a folder later must not be led elsewhere by one.
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _MOVE | _TRUNCATE
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
_WITH_MOVES, _WITH_TRUNCATE, _WITH_TCP, _WITH_DEVICE_CONTROL, _WITH_SCOPES = 2, 3, 4, 5, 6
"""The version of Landlock that brought each."""


def version() -> int:
    """Landlock's version in the kernel that runs; 0 where there is none."""
    if platform.system() != "Linux":
        return 0
    return max(0, _call(_CREATE, None, 0, _VERSION_FLAG))


def restrict(readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Leave this thread, and all it will start, nothing but some files and folders with all that lies in them.

    To be called before any other thread is started: those keep their rights. TCP and signals to other processes go too,
    where the kernel's Landlock knows them. Paths that do not exist are passed over.

    Args:
        readable: To be read.
        writable: To be read, written, added to and emptied.

    Raises:
        OSError: The kernel takes no rules.
    """
    known = version()
    handled = _FIRST_RIGHTS
    handled |= _MOVE if known >= _WITH_MOVES else 0
    handled |= _TRUNCATE if known >= _WITH_TRUNCATE else 0
    handled |= _DEVICE_CONTROL if known >= _WITH_DEVICE_CONTROL else 0
    attributes = struct.pack("Q", handled)
    attributes += struct.pack("Q", _TCP) if known >= _WITH_TCP else b""
    attributes += struct.pack("Q", _ABSTRACT_SOCKETS_AND_SIGNALS) if known >= _WITH_SCOPES else b""
    rules = _checked(_call(_CREATE, attributes, len(attributes), 0))
    try:
        for paths, rights in ((readable, _READ), (writable, _WRITE)):
            for path in paths:
                _allow(rules, path, rights & handled)
        _checked(_call(_RESTRICT, rules, 0))
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        allowed = rights if path.is_dir() else rights & _OF_FILES
        _checked(_call(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", allowed, place), 0))
    finally:
        os.close(place)


def _call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    given = [
        ctypes.create_string_buffer(value, len(value)) if isinstance(value, bytes)
        else ctypes.c_void_p(None) if value is None
        else ctypes.c_long(value)
        for value in arguments
    ]  # fmt: skip
    return int(libc.syscall(ctypes.c_long(number), *given))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no Landlock rules")
    return result
