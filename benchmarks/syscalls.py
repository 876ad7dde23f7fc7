"""What a piece of work asks of the system, as strace tells it; and errors that strace lets the system answer with.

strace attaches to a forked copy of this process before the work begins. Its lines are read into `Call` values; a call
that was interrupted by another thread's is put together again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import forked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGING = (
    "open", "openat", "creat", "write", "pwrite64", "writev", "sendfile", "copy_file_range", "ftruncate", "truncate",
    "fallocate", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmod",
)  # fmt: skip
"""System calls that can change a file or a folder."""
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)(<[^>]*>)?(.*)")
_UNFINISHED = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FILE = re.compile(r"^-?\d+<([^>]*)>")
_AT = re.compile(r"^(?:AT_FDCWD|\d+)<([^>]*)>$")


@dataclass(frozen=True)
class Call:
    """One system call."""

    thread: int
    name: str
    number: int
    """Which of this thread's calls of this name on this path it is, from 1."""
    path: str
    """Absolute; of a rename or link, the new name."""
    old: str = ""
    """Of a rename or link, the old name."""
    flags: str = ""
    result: int = 0
    injected: bool = False

    @property
    def changes(self) -> bool:
        """Whether it would change something: opening to read does not."""
        return self.name not in {"open", "openat"} or "O_CREAT" in self.flags or "O_TRUNC" in self.flags


def missing() -> str:
    """Why calls cannot be traced here; empty where they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)  # noqa: S607  found just now
    return f"strace may not trace here: {tried.stderr.strip()[:200]}" if tried.returncode else ""


def traced(
    job: Callable[[], Any],
    log: Path,
    *,
    before: Callable[[], None] | None = None,
    refuse: tuple[Call, str] | None = None,
) -> forked.Ended:
    """Do something in a fork while strace writes down what it asks of the system.

    Args:
        job: What to do.
        log: Where to.
        before: Called in the fork just before the work.
        refuse: A call, as another run of the same work made it, that shall fail, and the error's name. Then the calls
            on its path alone are written down.
    """
    waiting, going = os.pipe()

    def wait() -> None:
        os.close(going)
        os.read(waiting, 1)
        os.close(waiting)
        if before is not None:
            before()

    child, reading = forked.start(job, before=wait)
    os.close(waiting)
    command = ["strace", "-f", "-y", "-s", "1", "-qq", "-o", str(log), "-e", f"trace={','.join(CHANGING)}"]
    if refuse is not None:
        call, error = refuse
        # strace counts each thread's calls for itself; the path keeps out what other threads say to one another.
        command += ["-P", call.path, "-e", f"inject={call.name}:error={error}:when={call.number}"]
    command += ["-p", str(child)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
        _attached(child)
        os.close(going)
        ended = forked.finish(child, reading)
        tracer.wait(30)
    return ended


def _attached(child: int) -> None:
    import time

    status = Path(f"/proc/{child}/status")
    for _ in range(2000):
        if not re.search(r"^TracerPid:\t0$", status.read_text(), flags=re.MULTILINE):
            time.sleep(0.01)  # it is seized at once; a moment later its calls are told, too
            return
        time.sleep(0.002)
    raise RuntimeError("strace did not attach within four seconds")


def read(log: Path) -> list[Call]:
    """The calls in a log, in the order in which they ended."""
    numbers: dict[tuple[int, str, str], int] = {}
    calls: list[Call] = []
    for line in whole_lines(log.read_text(errors="replace")):
        found = _LINE.match(line)
        if found is None:
            continue
        thread, name, said, result, rest = int(found[1]), found[2], found[3], found[4], found[6]
        path, old, flags = _meant(name, said)
        numbers[thread, name, path] = number = numbers.get((thread, name, path), 0) + 1
        code = 0 if result == "?" else int(result)
        calls.append(Call(thread, name, number, path, old, flags, code, "(INJECTED)" in rest))
    return calls


def whole_lines(text: str) -> Iterator[str]:
    """The lines of a log, those of interrupted calls put together."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        if unfinished := _UNFINISHED.match(line):
            begun[unfinished[1]] = f"{unfinished[1]} {unfinished[2]}({unfinished[3]}"
        elif resumed := _RESUMED.match(line):
            yield begun.pop(resumed[1], "") + resumed[3]
        else:
            yield line


def _meant(name: str, said: str) -> tuple[str, str, str]:
    """Path, old path and flags of a call's arguments."""
    texts = _TEXT.findall(said)
    if name in {"write", "pwrite64", "writev", "sendfile", "ftruncate", "fallocate", "fsync", "fdatasync", "fchmod"}:
        found = _FILE.match(said)
        return (found[1] if found else "", "", "")
    if name == "copy_file_range":
        files = re.findall(r"\d+<([^>]*)>", said)
        return (files[-1] if files else "", files[0] if files else "", "")
    folders = [match[1] for part in said.split(", ") if (match := _AT.match(part))]
    paths = [_joined(folders[min(at, len(folders) - 1)] if folders else "", text) for at, text in enumerate(texts)]
    if name.startswith(("rename", "link", "symlink")):
        return (paths[-1] if paths else "", paths[0] if len(paths) > 1 else "", "")
    flags = said.rpartition('"')[2]
    return (paths[0] if paths else "", "", flags)


def _joined(folder: str, path: str) -> str:
    return path if path.startswith("/") else f"{folder}/{path}"
