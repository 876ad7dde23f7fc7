"""The audit log against itself, every checkpoint there is, and what each kind of entry has to say."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from lazaretto.anchors import anchor_name, open_anchors
from lazaretto.audit import Checkpoint, holds, origin_of, parse_checkpoint, read_checkpoint, verify_chain
from lazaretto.errors import IntegrityViolated
from lazaretto.key_history import signers_of
from lazaretto.keys import AUDIT
from lazaretto.ledger import read_audit
from lazaretto.signers import WHOLE_LOG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from lazaretto.anchor_settings import AnchorSettings
    from lazaretto.audit import Entry
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
    "contract.signed": ("digests", "number"),
    "key.rotated": ("name", "number"),
    "key.revoked": ("name", "number", "since", "reason"),
    "key.reattested": ("name", "number"),
}
"""What an entry's detail has to hold; what later versions added may be missing."""
_NUMBERS = ("version", "epoch", "remembered", "number")
_TEXTS = (
    *("batch", "attestation", "discards", "reason", "hold_reasons", "assignee", "selection", "name", "since"),
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


def read_log(workspace: Workspace, session: Session, *, sound: bool = True) -> Log:
    """Read the audit log and check it.

    Args:
        workspace: Whose; its checkpoint and what every anchor has are looked at too.
        session: The ledger.
        sound: Whether it is a finding when a stolen key may have signed the log and nobody vouched for it since.

    Raises:
        Unavailable: An anchor cannot be reached, so that nothing can be said.
    """
    findings: list[str] = []
    checkpoints = _checkpoints(workspace, findings)
    stored = list(read_audit(session))
    signed = max((checkpoint.size for _, checkpoint in checkpoints), default=0)
    findings += doubtful_entries(workspace, len(stored)) if sound else ()
    if stored and checkpoints and not workspace.checkpoint.exists():
        findings.append(f"the signed checkpoint {workspace.checkpoint} is gone; an anchor still has one")
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
    origin, signers = origin_of(workspace), signers_of(workspace, AUDIT)
    found: list[tuple[str, Checkpoint]] = []
    newest = None
    if workspace.checkpoint.exists():
        try:
            newest = read_checkpoint(workspace.checkpoint, origin, signers)
            found.append((str(workspace.checkpoint), newest))
        except IntegrityViolated as fault:
            findings.append(fault.message)
    for anchor in open_anchors(workspace):
        try:
            kept = anchor.everything()
        except IntegrityViolated as fault:
            findings.append(fault.message)
            continue
        findings += kept.findings
        there = []
        for note in kept.notes:
            try:
                there.append((note, parse_checkpoint(note.content, origin, signers, note.where)))
            except IntegrityViolated as fault:
                findings.append(fault.message)
        found += [(note.where, checkpoint) for note, checkpoint in there]
        findings += _missing(workspace, anchor.settings, [checkpoint for _, checkpoint in there], newest)
    # A retired key signs no checkpoint beyond the one that was pinned, and the log must still go through that.
    found += [("of the history of keys", Checkpoint(origin, *astuple(pin))) for pin in signers.pins(WHOLE_LOG)]
    return found


def _missing(
    workspace: Workspace, settings: AnchorSettings, there: list[Checkpoint], newest: Checkpoint | None
) -> Iterator[str]:
    """One sentence for each checkpoint that an anchor was given, by what is signed, and has no longer."""
    sizes = {checkpoint.size for checkpoint in there}
    if newest is not None and settings.id in dict(newest.anchored) and newest.size not in sizes:
        yield f"{settings.name} has no longer the checkpoint {anchor_name(workspace, newest.size)}, which it was given"
    for checkpoint in sorted({*there, *([newest] if newest else [])}, key=lambda one: one.size):
        count = dict(checkpoint.anchored).get(settings.id)
        kept = sum(size <= checkpoint.size for size in sizes)
        if count is not None and kept < count:
            gone = count - kept
            yield f"{settings.name} lacks {gone} of the {count} checkpoints it had at entry {checkpoint.size}"
            return


def doubtful_entries(workspace: Workspace, size: int) -> Iterator[str]:
    """A sentence where the end of the log was signed by a stolen audit key alone."""
    try:
        signers_of(workspace, AUDIT).require_sound(WHOLE_LOG, size)
    except IntegrityViolated as fault:
        yield fault.message


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
