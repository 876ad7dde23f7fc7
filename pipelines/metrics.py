"""Metrics for Prometheus: where the data sets stand, read from the ledger and from what was observed, when asked.

Times are given as timestamps, as is the custom there: an age that was written into a file would not grow. Labels are
data sets and words of ours, never anything of a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from lazaretto.anchors import open_anchors
from lazaretto.errors import LazarettoError, UsageError
from lazaretto.gatekeeper import answer
from lazaretto.ledger import open_ledger
from lazaretto.observed import INGESTS, REASONS, REFUSALS, VERIFICATIONS, look
from lazaretto.pipelines.alerts import reachable
from lazaretto.pipelines.datasets import find_datasets
from lazaretto.pipelines.heartbeat import last_night
from lazaretto.pipelines.landing import has_landed
from lazaretto.tables import AuditRow, BatchRow, CaseRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry
    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace

STATES = ("admitted", "held", "released", "discarded")
"""States of a batch: each is there, be it with 0."""
_HELP = {
    "lazaretto_ledger_readable": "1 if the ledger could be read for this; what comes from it is missing otherwise.",
    "lazaretto_batches": "Batches by their state now.",
    "lazaretto_records": "Records judged, by what became of them at first.",
    "lazaretto_cases_waiting": "Records that wait for a person's decision, one by one.",
    "lazaretto_oldest_case_timestamp_seconds": "When the batch of the oldest case that waits was taken in.",
    "lazaretto_oldest_held_batch_timestamp_seconds": "When the oldest batch that is held was taken in.",
    "lazaretto_landing_waiting": "1 if files wait in the landing folder.",
    "lazaretto_gate_open": "1 if the gate says yes to the newest version, as verified for this.",
    "lazaretto_store_version": "Newest version of the training store that the gate says yes to.",
    "lazaretto_store_epoch": "Its epoch, which grows by one with each attestation.",
    "lazaretto_store_records": "Records in it.",
    "lazaretto_store_published_timestamp_seconds": "When it was attested.",
    "lazaretto_gate_refusals": "How often the gate said no, by its reason; for unknown data sets with an empty one.",
    "lazaretto_ingest_timestamp_seconds": "When the last ingest began that took in a batch.",
    "lazaretto_ingest_duration_seconds": "How long it took.",
    "lazaretto_ingest_stage_duration_seconds": "How long each stage of it took.",
    "lazaretto_nightly_timestamp_seconds": "When the last nightly run came to its end.",
    "lazaretto_nightly_datasets": "Data sets of the last nightly run by what became of them.",
    "lazaretto_verify_timestamp_seconds": "When the last verification ended; an empty data set is all of them.",
    "lazaretto_verify_findings": "How many things it found that are not as they were signed.",
    "lazaretto_audit_entries": "Entries of the audit log.",
    "lazaretto_anchor_reachable": "1 if the anchor folder is there and may be written.",
    "lazaretto_anchor_entries": "Entries of the audit log that the newest checkpoint in the anchor folder covers.",
    "lazaretto_anchor_timestamp_seconds": "When the newest checkpoint in the anchor folder was written.",
}
_COUNTERS = {"lazaretto_records", "lazaretto_gate_refusals"}
"""They only grow; their samples are called so with ``_total``."""
NAMES = frozenset(name + ("_total" if name in _COUNTERS else "") for name in _HELP)
"""Names of all samples there can be."""


@dataclass(frozen=True)
class Sample:
    """One number."""

    name: str
    """Without ``_total``."""
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def samples(workspace: Workspace) -> Iterator[Sample]:
    """Every number there is to tell of a workspace.

    Raises:
        UsageError: The ledger cannot be read.
    """
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        names = find_datasets(workspace, session).planned
        yield from _ledger(session, names)
    yield Sample("lazaretto_ledger_readable", 1)
    for name in names:
        yield Sample("lazaretto_landing_waiting", has_landed(workspace, name), (("dataset", name),))
        yield from _gate(workspace, name)
    yield from _observed(workspace, names)
    yield from _anchor(workspace)


def registry(workspace: Workspace) -> CollectorRegistry:
    """A registry of prometheus_client that reads the workspace each time it is asked; see `exposition`."""
    from prometheus_client.registry import CollectorRegistry

    class Reader:
        def collect(self) -> Iterator[Metric]:
            try:
                found = list(samples(workspace))
            except LazarettoError:  # whoever scrapes shall learn of it, and gets no traceback
                found = [Sample("lazaretto_ledger_readable", 0)]
            yield from _families(found)

        def describe(self) -> list[Metric]:
            return []

    registered = CollectorRegistry(auto_describe=False)
    registered.register(Reader())
    return registered


def exposition(workspace: Workspace) -> bytes:
    """The metrics in Prometheus' text format.

    Raises:
        UsageError: The ledger cannot be read.
    """
    from prometheus_client import generate_latest
    from prometheus_client.registry import CollectorRegistry

    found = list(samples(workspace))

    class Once:
        def collect(self) -> Iterator[Metric]:
            yield from _families(found)

        def describe(self) -> list[Metric]:
            return []

    registered = CollectorRegistry(auto_describe=False)
    registered.register(Once())
    return generate_latest(registered)


def listen(workspace: Workspace, where: tuple[str, int]) -> tuple[str, int]:
    """Answer Prometheus over HTTP, from a thread of its own; gives host and port.

    Raises:
        UsageError: The address cannot be listened at.
    """
    from prometheus_client import start_http_server

    try:
        server, _ = start_http_server(where[1], addr=where[0], registry=registry(workspace))
    except OSError as error:
        raise UsageError(
            f"metrics cannot be served at {where[0]}:{where[1]}: {error.strerror or error}",
            hint="name another address; is the port taken by another lazaretto?",
        ) from error
    return where[0], int(server.server_port)


def _families(found: Sequence[Sample]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, text in _HELP.items():
        mine = [sample for sample in found if sample.name == name]
        if not mine:
            continue
        kind = CounterMetricFamily if name in _COUNTERS else GaugeMetricFamily
        family = kind(name, text, labels=[label for label, _ in mine[0].labels])
        for sample in mine:
            family.add_metric([value for _, value in sample.labels], sample.value)
        yield family


def _ledger(session: Session, names: Sequence[str]) -> Iterator[Sample]:
    dataset, outcomes = BatchRow.dataset, ("admitted", "quarantined", "rejected")
    states = select(dataset, BatchRow.state, func.count()).group_by(dataset, BatchRow.state)
    counted = {(name, state): count for name, state, count in session.execute(states)}
    sums = select(dataset, *(func.sum(getattr(BatchRow, one)) for one in outcomes)).group_by(dataset)
    records = {row[0]: row[1:] for row in session.execute(sums)}
    cases = select(CaseRow.dataset, func.count(), func.min(BatchRow.ingested_at)).join(BatchRow)
    opened = session.execute(cases.where(CaseRow.state == "open").group_by(CaseRow.dataset))
    waiting = {name: (count, since) for name, count, since in opened}
    held = select(dataset, func.min(BatchRow.ingested_at)).where(BatchRow.state == "held").group_by(dataset)
    held_since = {row[0]: row[1] for row in session.execute(held)}
    for name in names:
        mine = ("dataset", name)
        for state in STATES:
            yield Sample("lazaretto_batches", counted.get((name, state), 0), (mine, ("state", state)))
        for outcome, count in zip(outcomes, records.get(name, (0, 0, 0)), strict=True):
            yield Sample("lazaretto_records", float(count), (mine, ("outcome", outcome)))
        count, oldest = waiting.get(name, (0, None))
        yield Sample("lazaretto_cases_waiting", count, (mine,))
        yield from _time("lazaretto_oldest_case_timestamp_seconds", oldest, mine)
        yield from _time("lazaretto_oldest_held_batch_timestamp_seconds", held_since.get(name), mine)
    yield Sample("lazaretto_audit_entries", session.scalar(select(func.count()).select_from(AuditRow)) or 0)


def _gate(workspace: Workspace, name: str) -> Iterator[Sample]:
    mine = ("dataset", name)
    try:
        head = answer(workspace, name)
    except LazarettoError:
        yield Sample("lazaretto_gate_open", 0, (mine,))
        return
    yield Sample("lazaretto_gate_open", 1, (mine,))
    yield Sample("lazaretto_store_version", head.version, (mine,))
    yield Sample("lazaretto_store_epoch", head.epoch, (mine,))
    yield Sample("lazaretto_store_records", head.active_rows, (mine,))
    yield from _time("lazaretto_store_published_timestamp_seconds", head.issued_at, mine)


def _observed(workspace: Workspace, names: Sequence[str]) -> Iterator[Sample]:
    for name, facts in _facts(look(workspace, INGESTS), names):
        mine = ("dataset", name)
        yield from _time("lazaretto_ingest_timestamp_seconds", facts.get("at"), mine)
        yield from _number("lazaretto_ingest_duration_seconds", facts.get("seconds"), mine)
        stages = facts.get("stages")
        for stage, seconds in sorted(stages.items()) if isinstance(stages, dict) else ():
            yield from _number("lazaretto_ingest_stage_duration_seconds", seconds, mine, ("stage", str(stage)))
    refusals = dict(_facts(look(workspace, REFUSALS), ("", *names)))
    for name in ("", *names):
        for reason in REASONS:
            # With 0 before the first, or Prometheus would see no increase when it comes.
            said = refusals.get(name, {}).get(reason)
            count = said.get("count") if isinstance(said, dict) else 0
            yield from _number("lazaretto_gate_refusals", count, ("dataset", name), ("reason", reason))
    for name, facts in _facts(look(workspace, VERIFICATIONS), ("", *names)):
        yield from _time("lazaretto_verify_timestamp_seconds", facts.get("at"), ("dataset", name))
        yield from _number("lazaretto_verify_findings", facts.get("findings"), ("dataset", name))
    try:
        night = last_night(workspace)
    except LazarettoError:
        night = None
    if night is not None:
        yield from _time("lazaretto_nightly_timestamp_seconds", night.ended_at)
        states = list(night.states.values())
        for state in ("admitted", "held", "nothing", "refused", "failed"):
            yield Sample("lazaretto_nightly_datasets", states.count(state), (("state", state),))


def _anchor(workspace: Workspace) -> Iterator[Sample]:
    if not workspace.anchors:
        return
    there = reachable(workspace)
    yield Sample("lazaretto_anchor_reachable", there)
    newest = [anchor.look().newest for anchor in open_anchors(workspace)] if there else []
    # By their names, of the one that has fewest; whether their signatures hold is for `verify` to say.
    sizes = [_size(Path(note.name).stem) if note is not None else 0 for note in newest]
    yield from _number("lazaretto_anchor_entries", min((size for size in sizes if size is not None), default=None))
    ages = [Path(note.where).stat().st_mtime for note in newest if note is not None and Path(note.where).is_file()]
    if ages:
        yield Sample("lazaretto_anchor_timestamp_seconds", min(ages))


def _size(stem: str) -> int | None:
    digits = stem.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else None


def _facts(content: dict[str, Any], names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in names:
        facts = content.get(name)
        if isinstance(facts, dict):
            yield name, facts


def _time(name: str, text: object, *labels: tuple[str, str]) -> Iterator[Sample]:
    """A time of ours as seconds since the epoch; nothing where there is none, or what was written is none."""
    try:
        yield Sample(name, datetime.fromisoformat(str(text)).timestamp(), labels)
    except (ValueError, OverflowError):
        return


def _number(name: str, value: object, *labels: tuple[str, str]) -> Iterator[Sample]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield Sample(name, float(value), labels)
