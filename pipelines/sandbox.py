"""What a process that parses may still do: read its input and its libraries, write one folder, compute.

Two parts of Linux, each good without the other: Landlock for files, a seccomp filter for the network, other programs
and other processes. Both work for any user, root too, and cannot be taken back. Where there are none of them (another
system, an older kernel, a container that forbids them) the limits on memory and time are all that holds.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lazaretto.pipelines import landlock, seccomp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PACKAGES = ("polars", "pyarrow", "numpy", "PIL", "pydantic", "yaml")
"""What parsing imports; each is looked for where it is, its neighbours are its own requirements."""
_SYSTEM = (
    "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache",
    "/etc/localtime", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom", "/sys/devices/system/cpu",
)  # fmt: skip
_KEPT = (
    "LANG", "LC_", "TZ", "PYTHON", "LD_LIBRARY_PATH", "DYLD_", "OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "POLARS_",
    "ARROW_", "MALLOC_", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "WINDIR",
)  # fmt: skip


@dataclass(frozen=True)
class Sandbox:
    """Which parts of the sandbox hold."""

    files: bool
    """Nothing can be read or written but what parsing needs (Landlock)."""
    calls: bool
    """No network, no other program, no other process (seccomp)."""

    @property
    def words(self) -> str:
        """For a person: what holds, or what is lacking."""
        if self.files and self.calls:
            return "on"
        if self.files:
            return "no filter of system calls (the kernel offers no seccomp here); files are confined"
        if self.calls:
            return "files are not confined (the kernel offers no Landlock); network and programs are"
        return "off: this system offers neither Landlock nor seccomp; memory and time are limited all the same"


def offered() -> Sandbox:
    """What this system offers; nothing is restricted."""
    return Sandbox(files=landlock.version() > 0, calls=seccomp.supported())


def enter(readable: Iterable[Path], writable: Iterable[Path]) -> Sandbox:
    """Restrict this process as far as the system can, for good.

    To be called before any other thread is started, so before polars, pyarrow or numpy are imported.

    Args:
        readable: Files and folders it may read beside the libraries.
        writable: Folders it may write.

    Returns:
        What holds from now on.
    """
    can = offered()
    if can.files or can.calls:
        seccomp.give_up_privileges()
    files = can.files and _holds(lambda: landlock.restrict([*libraries(), *readable], writable))
    return Sandbox(files=files, calls=can.calls and _holds(seccomp.install))


def _holds(restrict: Callable[[], None]) -> bool:
    try:
        restrict()
    except OSError:  # a container's own filter may forbid it although the kernel has it
        return False
    return True


def libraries() -> list[Path]:
    """Where the code that parses lies: Python, its packages, shared libraries, time zones."""
    import lazaretto

    own = [Path(place) for place in lazaretto.__path__]
    # In a checkout the four upper packages are links out of this one.
    own += [path.resolve() for place in own for path in place.iterdir() if path.is_symlink()]
    found = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    found += [Path(place) / "lib" for place in (sys.prefix, sys.base_prefix)]
    for name in _PACKAGES:
        spec = find_spec(name)
        found += [Path(place).parent for place in (spec.submodule_search_locations or ())] if spec else []
    found += [Path(place) for place in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if place]
    return list(dict.fromkeys([*own, *found, *map(Path, _SYSTEM)]))


def environment(scratch: Path) -> dict[str, str]:
    """The variables a parser needs; passwords and keys of stores and databases are none of its business.

    Args:
        scratch: The folder it may write: polars, short of memory, puts aside there what it would put in /var/tmp.
    """
    kept = {name: value for name, value in os.environ.items() if name.upper().startswith(_KEPT)}
    return kept | dict.fromkeys(("POLARS_TEMP_DIR", "POLARS_OOC_SPILL_DIR", "TMPDIR"), str(scratch))
