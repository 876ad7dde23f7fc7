"""What was observed of operations that leave no trace in the ledger: small files in ``state/observed/``.

How long the stages of the last ingest took, what the last verification found, which columns drifted, why the gate said
no. Metrics and alerts are made of it; nothing is decided by it. So it may be lost, and what cannot be written does not
stop what was done.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lazaretto.config import named_lock
from lazaretto.durable import write_durably
from lazaretto.errors import Blocked, IntegrityViolated, LazarettoError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lazaretto.config import Workspace

INGESTS = "ingests"
"""Data set -> when its last ingest ended, how long it took, and each stage of it."""
VERIFICATIONS = "verifications"
"""Data set, or nothing for the whole workspace -> when it was verified last, and how many findings there were."""
DRIFT = "drift"
"""Data set -> the batch that drifted last, and in how many columns."""
REFUSALS = "refusals"
"""Data set -> reason -> how often the gate said no, and when it did last."""
STALE = "stale"
"""Reason of a refusal: older than the ``--max-age`` that was asked for."""
REASONS = (
    *("held", "nothing_admitted", "batch_not_there", "recalled", "unknown_version"),
    *(STALE, "clock", "under_way", "integrity", "no_answer", "other"),
)
"""All reasons there are."""
_TRIES, _PAUSE = 50, 0.02
"""A second at most: whoever is asked shall not wait for whoever counts."""


def look(workspace: Workspace, name: str) -> dict[str, Any]:
    """What was written down under a name; nothing where nothing was, or it cannot be read."""
    try:
        content = json.loads((workspace.state / "observed" / f"{name}.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def note(workspace: Workspace, name: str, key: str, facts: Mapping[str, Any], *, alone: bool = False) -> None:
    """Write down what is true of a key now. Where that cannot be done, nothing happens.

    Args:
        workspace: Where.
        name: Of what: `INGESTS` and the like.
        key: A data set, or nothing for all of them.
        facts: What is true.
        alone: Whether what was written down of other keys is no longer true.
    """
    _change(workspace, name, lambda content: {**({} if alone else content), key: dict(facts)})


def note_refusal(workspace: Workspace, dataset: str, error: LazarettoError, now: datetime | None = None) -> None:
    """Count that the gate said no, by its reason; data sets that there are not are counted together.

    Args:
        workspace: Where.
        dataset: What was asked for.
        error: What the gate said.
        now: When; the clock's time by default.
    """
    at = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    reason = reason_of(error)

    def counted(content: dict[str, Any]) -> dict[str, Any]:
        # Or whoever asks for names that he makes up makes as many time series.
        name = dataset if _exists(workspace, dataset) else ""
        mine = content.get(name)
        mine = dict(mine) if isinstance(mine, dict) else {}
        before = mine.get(reason)
        count = before.get("count", 0) if isinstance(before, dict) else 0
        mine[reason] = {"count": count + 1 if isinstance(count, int) else 1, "at": at}
        return {**content, name: mine}

    _change(workspace, REFUSALS, counted)


def reason_of(error: LazarettoError) -> str:
    """Why the gate said no, as one word."""
    if isinstance(error, Blocked):
        return error.reason if error.reason in REASONS else "other"
    return "integrity" if isinstance(error, IntegrityViolated) else "no_answer"


def _exists(workspace: Workspace, dataset: str) -> bool:
    try:
        return workspace.contract(dataset).is_file() or workspace.attestations(dataset).is_dir()
    except LazarettoError:  # no name of a data set
        return False


def _change(workspace: Workspace, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with suppress(OSError, LazarettoError):
        for _ in range(_TRIES):
            with named_lock(workspace, f"observed-{name}", wait=False) as holder:
                if not holder:
                    content = json.dumps(change(look(workspace, name)), sort_keys=True).encode() + b"\n"
                    write_durably(workspace.state / "observed" / f"{name}.json", content)
                    return
            time.sleep(_PAUSE)
