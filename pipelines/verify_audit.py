"""The audit log against itself, every checkpoint there is, and what each kind of entry has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazaretto.audit import anchors, holds, origin_of, read_checkpoint, verify_chain
from lazaretto.errors import IntegrityViolated
from lazaretto.keys import AUDIT, public_key
from lazaretto.ledger import read_audit

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from lazaretto.audit import Checkpoint, Entry
    from lazaretto.config import Workspace

_BATCH = ("counts", "digests")
_DECISION = ("batch", "cases")
_NEEDED: dict[str, tuple[str, ...]] = {
    "batch.admitted": _BATCH,
    "batch.held": _BATCH,
    "case.released": (*_DECISION, "epoch"),
    "batch.released": (*_DECISION, "epoch"),
    "case.discarded": (*_DECISION, "remembered"),
    "batch.discarded": (*_DECISION, "remembered"),
    "case.assigned": _DECISION,
    "recall.made": ("counts", "digests", "selection", "epoch"),
    "recall.remembered": ("batch", "remembered", "discards"),
    "window.found": ("batch", "kind", "finding"),
    "trusted.added": ("records", "sha256", "act"),
    "trusted.reverted": ("of", "sha256", "act"),
    "run.passed": ("version", "epoch", "attestation"),
}
"""What an entry's detail has to hold; what later versions added may be missing."""
_NUMBERS = ("version", "epoch", "remembered")
_TEXTS = (
    *("batch", "attestation", "discards", "reason", "hold_reasons", "assignee", "selection"),
    *("act", "kind", "finding", "of", "sha256"),
)


@dataclass(frozen=True)
class Log:
    """The audit log as it was found."""

    entries: tuple[Entry, ...]
    """Those that can be believed: each fits its hash and says what its kind has to say."""
    size: int
    """How many entries there are."""
    signed: int
    """Entry up to which the newest checkpoint goes that is signed; 0 where there is none."""
    findings: tuple[str, ...]


def read_log(workspace: Workspace, session: Session) -> Log:
    """Read the audit log and check it.

    Args:
        workspace: Whose; its checkpoint and its anchor folder are looked at too.
        session: The ledger.
    """
    findings: list[str] = []
    checkpoints = _checkpoints(workspace, findings)
    stored = list(read_audit(session))
    signed = max((checkpoint.size for _, checkpoint in checkpoints), default=0)
    try:
        size = verify_chain(stored, checkpoints)
        if size > signed and not findings:
            findings.append(
                f"{size - signed} audit entries are newer than the signed checkpoint: "
                "an operation was interrupted (the next one signs them) or they were forged"
            )
    except IntegrityViolated as fault:
        findings.append(fault.message)
    entries = []
    for entry, said in stored:
        if not holds(entry, said):
            continue  # found above; what it says now was said by somebody else
        if _says_enough(entry):
            entries.append(entry)
        else:
            what = f"audit entry {entry.seq} ({entry.action} {entry.subject})"
            findings.append(f"{what} does not say what such an entry says")
    return Log(tuple(entries), len(stored), signed, tuple(findings))


def _checkpoints(workspace: Workspace, findings: list[str]) -> list[tuple[str, Checkpoint]]:
    """The checkpoints whose signature holds, each with where it lies; the others are added to the findings."""
    origin, key = origin_of(workspace), public_key(workspace.keys, AUDIT)
    found = []
    for path in [*([workspace.checkpoint] if workspace.checkpoint.exists() else []), *anchors(workspace)]:
        try:
            found.append((str(path), read_checkpoint(path, origin, key)))
        except IntegrityViolated as fault:
            findings.append(fault.message)
    return found


def _says_enough(entry: Entry) -> bool:
    detail: Any = entry.detail
    return (
        isinstance(detail, dict)
        and all(name in detail for name in _NEEDED.get(entry.action, ()))
        and ("epoch" in detail) == ("attestation" in detail)
        and all(isinstance(detail[name], int) for name in _NUMBERS if name in detail)
        and all(isinstance(detail[name], str) for name in _TEXTS if name in detail)
        and _is_map(detail.get("counts", {}), int)
        and _is_map(detail.get("digests", {}), str)
        and isinstance(detail.get("cases", []), list)
        and all(isinstance(case, str) for case in detail.get("cases", []))
    )


def _is_map(value: object, kind: type) -> bool:
    return isinstance(value, dict) and all(isinstance(item, kind) for item in value.values())
