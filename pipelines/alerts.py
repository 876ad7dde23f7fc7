"""What a person should be told of now: worked out anew from the state each time, so that a crash forgets nothing.

An alert says what, where, since when and what to do. It never says what a record holds, nor why a batch is held: those
sentences may quote values.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lazaretto.anchors import anchor_folders, open_anchors
from lazaretto.errors import LazarettoError
from lazaretto.observed import DRIFT, REFUSALS, STALE, VERIFICATIONS, look
from lazaretto.pipelines.datasets import is_name
from lazaretto.pipelines.heartbeat import last_night

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lazaretto.config import Workspace
    from lazaretto.monitoring import Watch

TITLES = {
    "held": "a batch is held",
    "queue": "cases wait too long",
    "drift": "columns drifted",
    "verification": "a verification failed",
    "stale_gate": "the gate found data too old",
    "stale_data": "nothing new was published",
    "night": "a night did not happen",
    "broken": "a night refused or failed a data set",
    "anchor": "the anchor folder is out of reach",
    "ledger": "the ledger cannot be read",
    "test": "a test",
}
"""Kinds of alerts, each with its title."""
ANCHOR_SECONDS = 5.0
"""How long the anchor folder may take to answer: a share that is gone may never do."""


@dataclass(frozen=True)
class Alert:
    """One thing to tell."""

    kind: str
    dataset: str
    """Empty where it concerns the whole workspace."""
    subject: str
    """Tells this event from the next of its kind: a batch, a time; empty for what lasts until it is mended."""
    says: str
    """What, where, since when."""
    hint: str
    """What to do."""

    @property
    def key(self) -> str:
        """One event, one key."""
        return f"{self.kind}:{self.dataset}:{self.subject}"

    @property
    def group(self) -> str:
        """Alerts of one group are told together, and not more often than the cool-down allows."""
        return f"{self.kind}:{self.dataset}"


def due(workspace: Workspace, watch: Watch | None = None, now: datetime | None = None) -> list[Alert]:
    """Everything that a person should know now, whether it was told before or not.

    Args:
        workspace: Where.
        watch: The spans of time; the configured ones by default.
        now: The clock's time by default.
    """
    moment = now or datetime.now(UTC)
    wanted = watch or workspace.monitoring.watch
    found = [*_verifications(workspace), *_drifted(workspace), *_anchor(workspace)]
    try:
        found += _in_the_ledger(workspace, wanted, moment)
    except LazarettoError as error:
        says = f"the ledger of workspace {workspace.id} cannot be read ({type(error).__name__})"
        found.append(Alert("ledger", "", "", says, "run lazaretto status there; it says why"))
    found += _nights(workspace, wanted, moment)
    found += _published(workspace, wanted, moment)
    return found


def night_missed(workspace: Workspace, within: timedelta, now: datetime | None = None) -> Alert | None:
    """The alert that no nightly run ended within a span of time; None if one did."""
    moment = now or datetime.now(UTC)
    hint = "see whether lazaretto serve, or what else starts lazaretto nightly, still runs"
    try:
        night = last_night(workspace)
    except LazarettoError:
        return Alert("night", "", "unreadable", "what the last nightly run left cannot be read", hint)
    if night is None:
        return Alert("night", "", "never", "no nightly run has ended yet", hint)
    if moment - datetime.fromisoformat(night.ended_at) <= within:
        return None
    says = f"the last nightly run ended {night.ended_at}, longer ago than the {within} allowed"
    return Alert("night", "", night.ended_at, says, hint)


def _in_the_ledger(workspace: Workspace, watch: Watch, now: datetime) -> Iterator[Alert]:
    from sqlalchemy import func, select

    from lazaretto.ledger import open_ledger
    from lazaretto.tables import BatchRow, CaseRow

    with open_ledger(workspace) as ledger, ledger.reading() as session:
        held = select(BatchRow).where(BatchRow.state == "held").order_by(BatchRow.ingested_at, BatchRow.id)
        oldest: dict[str, str] = {}
        for row in session.scalars(held):
            says = f"batch {row.id} of {row.dataset} is held since {row.ingested_at}: {row.quarantined:,} records wait"
            yield Alert("held", row.dataset, row.id, says, f"an analyst decides: lazaretto review list -b {row.id}")
            oldest.setdefault(row.dataset, row.ingested_at)
        opened = select(CaseRow.dataset, func.min(BatchRow.ingested_at)).join(BatchRow).where(CaseRow.state == "open")
        for dataset, since in session.execute(opened.group_by(CaseRow.dataset)):
            oldest[dataset] = min(since, oldest.get(dataset, since))
    for dataset, since in sorted(oldest.items()):
        if watch.decided_within is not None and now - datetime.fromisoformat(since) > watch.decided_within:
            says = f"the oldest of what waits in {dataset} does so since {since}, longer than {watch.decided_within}"
            yield Alert("queue", dataset, "", says, f"decide on it: lazaretto review list --dataset {dataset}")


def _verifications(workspace: Workspace) -> Iterator[Alert]:
    for dataset, facts in _facts(workspace, VERIFICATIONS):
        count = facts.get("findings")
        if isinstance(count, int) and count:
            what = dataset or f"workspace {workspace.id}"
            says = f"the verification of {what} that ended {facts.get('at')} found {count:,} things not as signed"
            hint = "train on nothing of it until lazaretto verify is content; it says what was altered"
            yield Alert("verification", dataset, str(facts.get("digest"))[:16], says, hint)


def _drifted(workspace: Workspace) -> Iterator[Alert]:
    for dataset, facts in _facts(workspace, DRIFT):
        columns, batch = facts.get("columns"), facts.get("batch")
        if isinstance(columns, int) and columns:
            says = f"batch {batch} of {dataset} differs from all before it in {columns:,} column(s)"
            yield Alert("drift", dataset, str(batch), says, f"look at its report: lazaretto report {batch}")


def _anchor(workspace: Workspace) -> Iterator[Alert]:
    if workspace.anchors and not reachable(workspace):
        says = f"an anchor of workspace {workspace.id} is not there or cannot be written"
        yield Alert("anchor", "", "", says, "mount or mend it; until then nothing can be ingested or decided")


def reachable(workspace: Workspace) -> bool:
    """Whether every anchor answers, and a folder may be written; a dead share would let us wait for ever."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            for anchor in open_anchors(workspace):
                anchor.look()
        except LazarettoError:
            return
        answers.append(all(os.access(folder, os.W_OK | os.X_OK) for folder in anchor_folders(workspace)))

    thread = threading.Thread(target=ask, daemon=True, name="lazaretto anchor")
    thread.start()
    thread.join(ANCHOR_SECONDS)
    return answers == [True]


def _nights(workspace: Workspace, watch: Watch, now: datetime) -> Iterator[Alert]:
    within = watch.nightly_within
    missed = None if within is None else night_missed(workspace, within, now)
    if missed and (missed.subject != "never" or (within and now - _made(workspace) > within)):
        yield missed
    try:
        night = last_night(workspace)
    except LazarettoError:
        return
    for dataset, state in sorted(night.states.items() if night else ()):
        if night is not None and state in {"refused", "failed"}:
            says = f"the nightly run that ended {night.ended_at} could not take in {dataset}: {state}"
            hint = f"what waits stays in the landing folder; lazaretto ingest --dataset {dataset} says why"
            yield Alert("broken", dataset, night.ended_at, says, hint)


def _made(workspace: Workspace) -> datetime:
    """When the workspace was made, as far as its keys tell; now, where they are not here."""
    try:
        return datetime.fromtimestamp((workspace.keys / "publisher.pub").stat().st_mtime, UTC)
    except OSError:
        return datetime.now(UTC)


def _published(workspace: Workspace, watch: Watch, now: datetime) -> Iterator[Alert]:
    """Of data sets whose newest version is too old: for a training job that asked, or for what is configured."""
    from lazaretto.gatekeeper import answer

    refused = {dataset: facts.get(STALE) for dataset, facts in _facts(workspace, REFUSALS) if dataset}
    folder = workspace.state / "attestations"
    published = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for dataset in sorted(published):
        if watch.published_within is None and not refused.get(dataset):
            continue
        try:
            issued = answer(workspace, dataset).issued_at
        except LazarettoError:
            continue  # why the gate says no is another matter, and another alert where it is one
        last = refused.get(dataset)
        hint = f"see why nothing newer came: lazaretto status, lazaretto ingest --dataset {dataset}"
        if isinstance(last, dict) and str(last.get("at")) > issued:
            says = f"a training job found {dataset}, published {issued}, too old at {last.get('at')}"
            yield Alert("stale_gate", dataset, issued, says, hint)
        if watch.published_within is not None and now - datetime.fromisoformat(issued) > watch.published_within:
            says = f"the newest version of {dataset} was published {issued}, longer ago than {watch.published_within}"
            yield Alert("stale_data", dataset, issued, says, hint)


def _facts(workspace: Workspace, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for dataset, facts in sorted(look(workspace, name).items()):
        if isinstance(facts, dict) and (not dataset or is_name(workspace, dataset)):
            yield dataset, facts
