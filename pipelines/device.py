"""Where torch computes: refused by name before anything is read, resolved when torch is needed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lazaretto.errors import UsageError

if TYPE_CHECKING:
    import torch

THREADS = 2
"""Threads that torch may use while fitting: fixed, because sums in another order differ in their last bits."""

_KNOWN = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


def check_device(name: str) -> None:
    """Refuse a device that is not known or not there, without the seconds that torch takes where it need not be asked.

    Raises:
        UsageError: If the name is unknown or the device is not there.
    """
    if not _KNOWN.fullmatch(name):
        raise UsageError(f"device {name!r} is not known", hint="use auto, cpu, cuda, cuda:0 or mps")
    if name in ("auto", "cpu"):
        return
    import torch

    kind, _, index = name.partition(":")
    there = torch.backends.mps.is_available() if kind == "mps" else torch.cuda.is_available()
    if not there or (index and int(index) >= torch.cuda.device_count()):
        raise UsageError(f"device {name!r} is not there on this machine", hint="use --device auto or cpu")


def resolve_device(name: str) -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        UsageError: If the name is unknown or the device is not there.
    """
    check_device(name)
    import torch

    torch.set_num_threads(THREADS)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return torch.device(name)
