"""What may be said of an operation outside the ledger: an allow-list of keys, each with the only shape of its value.

Logs and spans go to people and machines that must never see a sample. So nothing is taken out of what is said; only
what is known to be harmless is let in: counts, seconds, ids of ours, words of ours. The text of an error is none of
these, for it may quote a value.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WITHHELD = "withheld"
"""Key that says how many others were left out."""
_MOST = 2**63


def _shape(pattern: str) -> Callable[[object], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST


def _flag(value: object) -> bool:
    return isinstance(value, bool)


_WORD = _shape(r"[a-z][a-z_]{0,39}")
_ID = _shape(r"(?:b|r|k)-[0-9a-f]{20}")
_HEX = _shape(r"[0-9a-f]{8,32}")

ALLOWED: dict[str, Callable[[object], bool]] = {
    # What, when and in which run.
    "event": _shape(r"[a-z][a-z_]{0,39}\.(?:began|stage|done|failed)"),
    "timestamp": _shape(r"\d{4}-\d\d-\d\dT[\d:.]{8,15}Z"),
    "level": _shape("debug|info|warning|error"),
    "run": _HEX,
    "workspace": _shape(r"[a-z0-9][a-z0-9-]{2,39}"),
    # Of what. A data set's name is the contract's file name.
    "dataset": _shape(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"),
    "batch": _ID,
    "unit": _ID,
    "stage": _shape(r"[a-z][a-z ]{0,39}"),
    # How it went.
    "answer": _shape("yes|no"),
    "reason": _WORD,
    "error": _shape(r"[A-Za-z_][A-Za-z0-9_]{0,79}"),
    "exit_code": _count,
    "held": _flag,
    "already": _flag,
    "public": _flag,
    "failed": _flag,
    "seconds": _seconds,
    # How many, and which version of the store.
    **dict.fromkeys(
        (
            *("arrived", "admitted", "quarantined", "rejected", "suspects", "files", "records", "rows"),
            *("cases", "datasets", "findings", "audit_entries", "released", "discarded", "assigned", "recalled"),
            *("runs", "sent", "undelivered", "version", "epoch", WITHHELD),
        ),
        _count,
    ),
}


def screened(said: Mapping[str, Any]) -> dict[str, Any]:
    """What of it may be told; where something was left out, how many keys."""
    kept = {key: value for key, value in said.items() if key in ALLOWED and ALLOWED[key](value)}
    left_out = sum(1 for key, value in said.items() if key not in kept and value is not None)
    return kept if not left_out else {**kept, WITHHELD: left_out + kept.get(WITHHELD, 0)}
