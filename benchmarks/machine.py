"""What the figures were measured on, in one line."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def processor() -> str:
    """Its name."""
    model = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        names = [
            line.split(":", 1)[1].strip() for line in listing.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return model


def code() -> str:
    """The commit that is checked out, with a + where something differs from it; nothing outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        said = subprocess.run(
            ["git", "-C", here, "describe", "--always", "--exclude=*", "--dirty=+", "--abbrev=7"],  # noqa: S607  git is where it is
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.strip()


def machine() -> str:
    """Processor, cores, memory, Python and the versions that matter most."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in ("polars", "torch", "great-expectations"))
    return f"{os.cpu_count()} cores of {processor()}, {memory:.0f} GiB; Python {platform.python_version()}, {packages}"
