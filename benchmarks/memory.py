"""How much memory a piece of work in this process needs at most, as Linux counts it."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path


def reset_peak() -> float | None:
    """Give back what is free, and let Linux start its record of the peak anew (proc(5): clear_refs).

    What the allocator keeps of earlier work would be used again, and not be counted.

    Returns:
        What is resident now, in MiB; None where the system does not tell.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _resident("VmRSS")


def peak_above(before: float | None) -> float | None:
    """Most memory resident at once since `reset_peak`, in MiB above what that gave; None where that is unknown."""
    peak = _resident("VmHWM")
    return None if before is None or peak is None else max(peak - before, 0.0)


def _resident(field: str) -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[field].split()[0]) / 1024 if field in lines else None
