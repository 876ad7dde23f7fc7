"""The library that stands between a process and the system calls that change files: built, loaded and told what to do.

Its source is ``boundaries.c``. It counts the calls below one folder that create, write, sync, rename, link, truncate or
remove, of every thread and every library, and kills the process before the N-th, half-way through it, or fails it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

COUNT, KILL, TEAR, FAIL = range(4)
"""What to do at a boundary."""
WRITES = frozenset({"write", "pwrite", "pwrite64", "writev", "sendfile", "sendfile64", "copy_file_range"})
"""Calls that can end half-way."""
_PRELOAD = "LD_PRELOAD"
_SOURCE = Path(__file__).with_suffix(".c")


@dataclass(frozen=True)
class Boundary:
    """One call that changes a file."""

    number: int
    call: str
    path: str
    """Relative to the folder watched."""


def missing() -> str:
    """Why the library cannot be used here; empty where it can."""
    if not sys.platform.startswith("linux"):
        return "system calls are stood between on Linux alone"
    compiler = shutil.which("cc") or shutil.which("gcc")
    return "" if compiler else "there is no C compiler (cc or gcc) to build the library"


def build(folder: Path) -> Path:
    """Compile the library into a folder.

    Raises:
        RuntimeError: That is not possible here, or the compiler refuses.
    """
    if missing():
        raise RuntimeError(missing())
    out = folder / "boundaries.so"
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    command = [
        compiler,
        "-std=gnu11",
        "-O2",
        "-shared",
        "-fPIC",
        "-D_LARGEFILE64_SOURCE",
        "-o",
        str(out),
        str(_SOURCE),
        "-ldl",
    ]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"the compiler refuses {_SOURCE}: {made.stderr}")
    return out


def loaded() -> bool:
    """Whether this process was started with the library."""
    return _PRELOAD in os.environ and hasattr(ctypes.CDLL(None), "boundaries_arm")


def run(library: Path, module: str, arguments: list[str]) -> NoReturn:
    """Do everything in a process that is started with the library, then end as that does."""
    environment = {**os.environ, _PRELOAD: str(library)}
    sys.exit(subprocess.run([sys.executable, "-m", module, *arguments], env=environment, check=False).returncode)


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.boundaries_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_char_p]
    library.boundaries_passed.restype = ctypes.c_long
    library.boundaries_shift_clock.argtypes = [ctypes.c_longlong]
    return library


def arm(folder: Path, at: int = 0, how: int = COUNT, error: int = 0, log: Path | None = None) -> None:
    """Count the calls below a folder from now on.

    Args:
        folder: Which.
        at: Number of the call at which something happens; 0 for none.
        how: What happens then.
        error: The error number of `FAIL`.
        log: Where to write every call as it comes.
    """
    said = str(log).encode() if log is not None else b""
    _library().boundaries_arm(str(folder).encode(), at, how, error, said)


def passed() -> int:
    """Calls counted since `arm`."""
    return int(_library().boundaries_passed())


def shift_clock(seconds: float) -> None:
    """Let the clock of day, as this process reads it, run ahead by so much (or behind)."""
    _library().boundaries_shift_clock(int(seconds * 1e9))


def read(log: Path) -> list[Boundary]:
    """The calls that a log tells, in their order."""
    lines = (line.split("\t") for line in log.read_text(errors="replace").splitlines())
    return [Boundary(int(line[0]), line[1], line[2]) for line in lines if len(line) >= 3]  # noqa: PLR2004  number, call, path
