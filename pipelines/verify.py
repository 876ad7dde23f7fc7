"""Everything that can be checked, checked: every byte of the store, every sealed file, every signature, every count."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from lazaretto.audit import anchors, origin_of, read_checkpoint, verify_chain
from lazaretto.config import dataset_lock
from lazaretto.errors import IntegrityViolated
from lazaretto.gatekeeper import check_store
from lazaretto.keys import AUDIT, public_key
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines.cases import open_quarantine
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.record import case_id, filed, read_cases
from lazaretto.pipelines.verify_ledger import Books, ledger_findings, read_books
from lazaretto.records import ROW, OnRows, OnStep, no_rows, no_step
from lazaretto.table import LOG
from lazaretto.tables import BatchRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sqlalchemy.orm import Session

    from lazaretto.attest import Chain
    from lazaretto.audit import Checkpoint, Entry
    from lazaretto.config import Workspace


@dataclass(frozen=True)
class Verification:
    """What was checked and what was found."""

    findings: tuple[str, ...]
    """One sentence for each thing that is not as it was signed; empty is good."""
    notes: tuple[str, ...]
    """What is no fault but worth knowing."""
    datasets: tuple[str, ...]
    files: int
    """Store files hashed."""
    records: int
    """Records in them."""
    quarantined: int
    """Batches whose quarantine was decrypted."""
    audit_entries: int

    def require(self) -> None:
        """Raise when anything was found.

        Raises:
            IntegrityViolated: Something was.
        """
        if self.findings:
            more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
            raise IntegrityViolated(self.findings[0] + more, hint="restore what was altered from a backup")


def verify(
    workspace: Workspace, dataset: str | None = None, *, on_step: OnStep = no_step, on_rows: OnRows = no_rows
) -> Verification:
    """Check a workspace, or one data set of it, against its signatures; changes nothing.

    Args:
        workspace: Where everything lies.
        dataset: Only this data set, and the audit log.
        on_step: Called with the name of each thing before it is checked.
        on_rows: Called with the number of records just hashed.

    Raises:
        UsageError: Another process is at work on a data set, or the ledger cannot be read.
    """
    check = _Check(workspace, on_step, on_rows)
    with ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(workspace))
        with ledger.reading() as session:
            names = (dataset,) if dataset else _datasets(workspace, session)
        for name in names:
            stack.enter_context(dataset_lock(workspace, name))
        on_step("audit log")
        # Log and books from one state of the ledger: a gate may write a training run into both at any time.
        session = stack.enter_context(ledger.reading())
        entries = check.audit(session)
        books = {name: read_books(session, name) for name in names}
        for name in names:
            check.dataset(name, books[name], entries)
    return Verification(
        findings=tuple(dict.fromkeys(check.findings)),
        notes=tuple(check.notes),
        datasets=names,
        files=check.files,
        records=check.records,
        quarantined=check.quarantined,
        audit_entries=len(entries),
    )


class _Check:
    """One verification under way."""

    def __init__(self, workspace: Workspace, on_step: OnStep, on_rows: OnRows) -> None:
        self.workspace = workspace
        self.on_step = on_step
        self.on_rows = on_rows
        self.findings: list[str] = []
        self.notes: list[str] = []
        self.files = self.records = self.quarantined = 0

    def audit(self, session: Session) -> list[Entry]:
        """Check the audit log against itself and every checkpoint there is; gives its entries."""
        entries: list[Entry] = []
        try:
            checkpoints = list(self._checkpoints())
            size = verify_chain(_kept(read_audit(session), entries), checkpoints)
        except IntegrityViolated as fault:
            self.findings.append(fault.message)
            return entries
        signed = max((checkpoint.size for _, checkpoint in checkpoints), default=0)
        if size > signed:
            self.findings.append(
                f"{size - signed} audit entries are newer than the signed checkpoint: "
                "an operation was interrupted (the next one signs them) or they were forged"
            )
        return entries

    def _checkpoints(self) -> Iterator[tuple[str, Checkpoint]]:
        origin, key = origin_of(self.workspace), public_key(self.workspace.keys, AUDIT)
        own = [self.workspace.checkpoint] if self.workspace.checkpoint.exists() else []
        for path in [*own, *anchors(self.workspace)]:
            yield str(path), read_checkpoint(path, origin, key)

    def dataset(self, name: str, books: Books, entries: list[Entry]) -> None:
        """Check one data set: store, quarantine, what was kept of the judging, and the ledger's books."""
        if self.workspace.journal(name).exists():
            self.notes.append(f"a publication of {name} was interrupted; lazaretto ingest --dataset {name} finishes it")
        self.on_step(f"{name}: store")
        chain = self._store(name)
        self.on_step(f"{name}: ledger")
        if chain is not None:
            self.findings += ledger_findings(books, chain, [entry for entry in entries if entry.dataset == name])
        self.on_step(f"{name}: quarantine")
        self._quarantine(name, books)

    def _store(self, name: str) -> Chain | None:
        folder = self.workspace.store(name)
        try:
            chain = read_chain(self.workspace, name)
            check_store(self.workspace, chain)
        except IntegrityViolated as fault:
            self.findings.append(fault.message)
            return None
        active = chain.files(len(chain.attestations))
        for path, file in active.items():
            if _sha256(folder / path) != file.sha256:
                self.findings.append(f"store file {folder / path} is not the one that was attested")
            self.files += 1
            self.records += file.rows
            self.on_rows(file.rows)
        attested = {file.path for entry in chain.attestations for file in entry.added}
        for found in sorted(folder.rglob("*")) if folder.is_dir() else ():
            relative = found.relative_to(folder)
            if not found.is_dir() and relative.parts[0] != LOG and relative.as_posix() not in attested:
                self.findings.append(f"{found} lies in the store but was never attested")
        return chain

    def _quarantine(self, name: str, books: Books) -> None:
        for row in books.batches:
            self.findings += self._batch(name, row, books.cases.get(row.id, {}))
        known = {row.id for row in books.batches}
        folder = self.workspace.quarantine(name, "any").parent
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name not in known:
                self.findings.append(f"{path} lies in quarantine but the ledger does not know it")

    def _batch(self, name: str, row: BatchRow, cases: Mapping[str, str]) -> Iterator[str]:
        try:
            digests = dict(json.loads(row.digests))
            found = read_cases(self.workspace.batch(row.id), digests)
        except IntegrityViolated as fault:
            yield fault.message
        except (ValueError, TypeError, KeyError):
            yield f"the ledger's digests of batch {row.id} cannot be read"
            return
        else:
            judged = {case_id(row.id, case[ROW]): filed(case) for case in found.iter_rows(named=True)}
            for case in sorted(case for case, digest in cases.items() if judged.get(case) != digest):
                yield f"case {case} is not what was judged: its record or its evidence was changed in the ledger"
        try:
            quarantined = open_quarantine(self.workspace, name, row.id)
        except IntegrityViolated as fault:
            yield fault.message
            return
        self.quarantined += 1
        if quarantined.digest != digests.get("quarantine"):
            yield f"the quarantine {quarantined.folder} is not the one that was sealed for {row.id}"
        held = (quarantined.manifest.records, quarantined.manifest.rejects)
        if held != (row.quarantined, row.rejected):
            yield f"the quarantine {quarantined.folder} does not hold what the ledger says of {row.id}"
        yield from quarantined.check()


def _datasets(workspace: Workspace, session: Session) -> tuple[str, ...]:
    names = set(session.scalars(select(BatchRow.dataset).distinct()))
    for part in ("attestations", "store", "quarantine"):
        folder = workspace.state / part
        names |= {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return tuple(sorted(names))


def _kept(stored: Iterator[tuple[Entry, str]], into: list[Entry]) -> Iterator[tuple[Entry, str]]:
    for entry, said in stored:
        into.append(entry)
        yield entry, said


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError:
        return None
