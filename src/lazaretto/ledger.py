"""The ledger: what is true about batches, cases, decisions and training runs.

A change and its audit entry are one transaction: no audit entry, no change.
"""

from __future__ import annotations

import hmac
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from lazaretto.anchors import anchor_folders, anchor_name, open_anchors
from lazaretto.attest import NOTHING
from lazaretto.audit import Checkpoint, Entry, digest_of, origin_of, parse_checkpoint, sign_note
from lazaretto.config import named_lock
from lazaretto.database import WRITES, migrate, open_engine, sentences, take_turn
from lazaretto.durable import sync_folder, write_durably
from lazaretto.entrance import acting
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.key_history import signers_of, signing_key
from lazaretto.keys import AUDIT, derived_key, master_key
from lazaretto.tables import AuditRow, DiscardRow, RunRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from lazaretto.attest import Attestation
    from lazaretto.config import Workspace
    from lazaretto.tables import BatchRow


CHECKPOINTS = "audit-checkpoint"
"""Lock of who signs a checkpoint."""


@dataclass(frozen=True)
class Ledger:
    """An open ledger. Use `reading` to look and `writing` to change."""

    workspace: Workspace
    engine: Engine

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one consistent state."""
        # SQLite gives a transaction one state anyway.
        level = {"isolation_level": "REPEATABLE READ"} if self.engine.dialect.name == "postgresql" else {}
        with (
            sentences(self.workspace),
            self.engine.connect().execution_options(**level) as connection,
            Session(connection) as session,
        ):
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed when the block ends and rolled back when it raises; one writer at a time."""
        with (
            sentences(self.workspace),
            self.engine.connect().execution_options(**{WRITES: True}) as connection,
            Session(connection) as session,
        ):
            # Through the session: a transaction the connection had begun before would not be the session's to commit.
            take_turn(session.connection())
            yield session
            session.commit()


@contextmanager
def open_ledger(workspace: Workspace) -> Iterator[Ledger]:
    """The workspace's ledger, made or brought up to date first where that is needed.

    Raises:
        UsageError: The database cannot be reached or written, or is of a newer Lazaretto.
    """
    with sentences(workspace):
        engine = open_engine(workspace)
        try:
            migrate(workspace, engine)
            yield Ledger(workspace, engine)
        finally:
            engine.dispose()


@contextmanager
def changing(workspace: Workspace) -> Iterator[Session]:
    """A session for one change and its audit entries: committed when the block ends, then the log is signed.

    Raises:
        UsageError: The ledger cannot be used, or the audit key or an anchor cannot.
        IntegrityViolated: The audit log is not the one that was signed.
    """
    with open_ledger(workspace) as ledger:
        with ledger.writing() as session:
            yield session
        checkpoint(ledger)


def append_audit(session: Session, entry: Entry) -> Entry:
    """Add an entry to the audit log within a transaction; its number and link are set here."""
    last = session.execute(select(AuditRow.seq, AuditRow.hash).order_by(AuditRow.seq.desc()).limit(1)).first()
    seq, previous = (last.seq + 1, last.hash) if last else (1, NOTHING)
    linked = Entry(seq, entry.at, entry.actor, entry.action, entry.dataset, entry.subject, entry.detail, previous)
    session.add(
        AuditRow(
            seq=seq,
            at=linked.at,
            actor=linked.actor,
            action=linked.action,
            dataset=linked.dataset,
            subject=linked.subject,
            detail=json.dumps(linked.detail, sort_keys=True),
            previous=previous,
            hash=linked.hash,
        )
    )
    session.flush()
    return linked


def read_audit(session: Session) -> Iterator[tuple[Entry, str]]:
    """Every audit entry in order, with the hash stored for it; one whose detail cannot be read fits no hash."""
    for row in session.scalars(select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=1000)):
        try:
            detail = json.loads(row.detail)
        except (ValueError, TypeError, RecursionError):
            detail = {"unreadable": str(row.detail)}
        entry = Entry(row.seq, row.at, row.actor, row.action, row.dataset, row.subject, detail, row.previous)
        yield entry, row.hash


def checkpoint(ledger: Ledger) -> None:
    """Sign the audit log's newest hash, unless that is done already, and have every anchor keep it.

    Raises:
        IntegrityViolated: The log is shorter than, or not the one, the last checkpoint was signed for.
        UsageError: The audit key or an anchor cannot be used.
    """
    with named_lock(ledger.workspace, CHECKPOINTS, wait=True), ledger.reading() as session:
        refuse_changing(ledger.workspace)
        sign_newest(ledger.workspace, session)


def sign_newest(workspace: Workspace, session: Session) -> Checkpoint | None:
    """As `checkpoint`, for who holds its lock; gives the newest checkpoint, None for an empty log."""
    origin, signers = origin_of(workspace), signers_of(workspace, AUDIT)
    places = [(anchor, anchor.look()) for anchor in open_anchors(workspace)]
    notes = [glance.newest for _, glance in places]
    if workspace.checkpoint.exists():
        here = parse_checkpoint(_read(workspace.checkpoint), origin, signers, str(workspace.checkpoint))
        _require_same(session, here, str(workspace.checkpoint))
    else:
        here = Checkpoint(origin, 0, NOTHING)
    signed = [here.size]
    for note in notes:
        before = parse_checkpoint(note.content, origin, signers, note.where) if note else Checkpoint(origin, 0, NOTHING)
        _require_same(session, before, note.where if note else "")
        signed.append(before.size)
    last = session.execute(select(AuditRow.seq, AuditRow.hash).order_by(AuditRow.seq.desc()).limit(1)).first()
    if last is None:
        return None
    if min(signed) == last.seq:
        # Whoever signed it may have been killed before the name was on the disk.
        for folder in (workspace.checkpoint.parent, *anchor_folders(workspace)):
            sync_folder(folder)
        return here
    name = anchor_name(workspace, last.seq)
    anchored = tuple((anchor.settings.id, glance.count_with(name)) for anchor, glance in places)
    newest = Checkpoint(origin, last.seq, last.hash, anchored)
    note_ = sign_note(newest.body, origin, signing_key(workspace, AUDIT))
    # The anchors first: a checkpoint that is here was given to each of them. One that has its own keeps that: a place
    # that only takes new files would refuse another.
    for anchor, glance in places:
        if name not in glance.names:
            anchor.put(name, note_)
    write_durably(workspace.checkpoint, note_)
    return newest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntegrityViolated(f"audit checkpoint {path} cannot be read: {error.strerror}") from error


def _require_same(session: Session, before: Checkpoint, where: str) -> None:
    if before.size and session.scalar(select(AuditRow.hash).where(AuditRow.seq == before.size)) != before.head:
        raise IntegrityViolated(
            f"the audit log is not the one that checkpoint {where} was signed for",
            hint="lazaretto verify says what is wrong; restore the ledger from a backup",
        )


def refuse_changing(workspace: Workspace) -> None:
    """Refuse to sign anything while a change of keys is under way: it could come to stand on the wrong side of it.

    Raises:
        UsageError: One is.
    """
    if workspace.changing_keys.exists():
        raise UsageError(
            "a change of keys is under way or was interrupted",
            hint="lazaretto keys list finishes one that was interrupted",
        )


def append_once(session: Session, entry: Entry) -> None:
    """Add an entry unless there is one of that action on that subject: for what is finished by doing it again."""
    known = select(AuditRow.seq).where(AuditRow.action == entry.action, AuditRow.subject == entry.subject).limit(1)
    if session.scalar(known) is None:
        append_audit(session, entry)


def record_run(workspace: Workspace, attestation: Attestation, run: str, at: str) -> None:
    """Write down that a training run reads a store version; once for each run and version.

    Raises:
        UsageError: The ledger cannot be written or the audit key not be used: then the run may not begin.
    """
    who = acting(workspace).name
    where = (RunRow.run == run, RunRow.dataset == attestation.dataset, RunRow.version == attestation.version)
    with open_ledger(workspace) as ledger:
        with ledger.writing() as session:
            if session.scalar(select(RunRow.id).where(*where)) is None:
                facts = {"version": attestation.version, "epoch": attestation.epoch}
                row = RunRow(run=run, dataset=attestation.dataset, attestation=attestation.digest, at=at, **facts)
                session.add(row)
                detail = {**facts, "attestation": attestation.digest}
                append_audit(session, Entry(0, at, who, "run.passed", attestation.dataset, run, detail))
        checkpoint(ledger)


def hold_reasons(row: BatchRow) -> tuple[str, ...]:
    """Why a batch is held; nothing for one that is not.

    Raises:
        IntegrityViolated: The ledger's text of it is not what was written there.
    """
    try:
        reasons = json.loads(row.hold_reasons)
    except (ValueError, TypeError, RecursionError):
        reasons = None
    sound = isinstance(reasons, list) and all(isinstance(reason, str) for reason in reasons)
    if not sound or (row.state == "held" and not reasons):
        raise IntegrityViolated(
            f"the ledger's reasons for holding batch {row.id} cannot be read",
            hint="lazaretto verify says what else was altered; restore the ledger from a backup",
        )
    return tuple(reasons)


def remember_discarded(session: Session, workspace: Workspace, batch: BatchRow, digests: Sequence[str], at: str) -> int:
    """Keep the keyed digests of records of a batch that must not come back; gives how many are new."""
    return remember_keyed(session, batch, keyed(workspace, batch.dataset, digests), at)


def keyed(workspace: Workspace, dataset: str, digests: Sequence[str]) -> list[str]:
    """Content digests made useless to whoever lacks the master key, in their order."""
    key = _discard_key(workspace)
    return [_mac(key, dataset, digest) for digest in digests]


def remember_keyed(session: Session, batch: BatchRow, keyed_digests: Sequence[str], at: str) -> int:
    """As `remember_discarded`, of digests that `keyed` gave."""
    macs = set(keyed_digests)
    new = sorted(macs - _known(session, batch.dataset, macs))
    if new:
        common = {"dataset": batch.dataset, "batch_id": batch.id, "at": at}
        session.execute(insert(DiscardRow), [{**common, "mac": mac} for mac in new])
    return len(new)


def discarded(ledger: Ledger, dataset: str, digests: Sequence[str]) -> set[str]:
    """Of the given content digests, those an analyst discarded before."""
    with ledger.reading() as session:
        if not session.scalar(select(func.count()).select_from(DiscardRow).where(DiscardRow.dataset == dataset)):
            return set()
        key = _discard_key(ledger.workspace)
        by_mac = {_mac(key, dataset, digest): digest for digest in digests}
        return {by_mac[mac] for mac in _known(session, dataset, set(by_mac))}


def discards_digest(session: Session, dataset: str, batch: str, at: str) -> str:
    """What the audit log says of the records of a batch discarded at one time: a digest of all their keyed digests.

    Two discards within a second cannot be told apart later, so the digest is of both: the last one's entry counts.
    """
    mine = (DiscardRow.dataset == dataset, DiscardRow.batch_id == batch, DiscardRow.at == at)
    return digest_of(sorted(session.scalars(select(DiscardRow.mac).where(*mine))))


def _known(session: Session, dataset: str, macs: set[str]) -> set[str]:
    found: set[str] = set()
    ordered = sorted(macs)
    for start in range(0, len(ordered), 500):  # SQLite limits the number of parameters
        chosen = DiscardRow.mac.in_(ordered[start : start + 500])
        found.update(session.scalars(select(DiscardRow.mac).where(DiscardRow.dataset == dataset, chosen)))
    return found


def _discard_key(workspace: Workspace) -> bytes:
    return derived_key(master_key(workspace.keys), "discarded records")


def _mac(key: bytes, dataset: str, digest: str) -> str:
    return hmac.digest(key, f"{dataset}\n{digest}".encode(), "sha256").hex()
