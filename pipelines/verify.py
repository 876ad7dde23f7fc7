"""Everything that can be checked, checked: every byte of the store, every sealed file, every signature, every count."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lazaretto.accounts import account_findings
from lazaretto.audit import digest_of
from lazaretto.config import dataset_lock
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.gatekeeper import check_store
from lazaretto.keys import AUDIT, POLICY, PUBLISHER
from lazaretto.ledger import open_ledger
from lazaretto.observed import VERIFICATIONS, note
from lazaretto.operation import operation
from lazaretto.pipelines.alerting import alerting
from lazaretto.pipelines.cases import open_quarantine
from lazaretto.pipelines.datasets import find_datasets
from lazaretto.pipelines.ingest import KEPT
from lazaretto.pipelines.publish import read_chain, read_plan
from lazaretto.pipelines.recalled import read_list
from lazaretto.pipelines.record import case_id, filed, read_cases
from lazaretto.pipelines.verify_audit import read_log
from lazaretto.pipelines.verify_keys import contract_findings, key_findings
from lazaretto.pipelines.verify_ledger import Books, ledger_findings, read_books
from lazaretto.proposals import proposal_findings
from lazaretto.quarantine import MANIFEST
from lazaretto.records import ROW, OnRows, OnStep, no_rows, no_step
from lazaretto.seen import check_seen
from lazaretto.sessions import session_findings
from lazaretto.table import LOG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from lazaretto.attest import Chain
    from lazaretto.audit import Entry
    from lazaretto.config import Workspace
    from lazaretto.pipelines.publish import Plan
    from lazaretto.tables import BatchRow


_SUMMARY = "summary"
"""Name of a digest that every batch has, but for those of earlier versions."""
_LEFT = " (left by an interrupted command, then the next one clears it away, or put there)"


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
    """Batches whose quarantine was decrypted; with public keys alone, whose sealed manifest was compared."""
    audit_entries: int
    interrupted: bool = False
    """Something began that is not finished; the next command that touches the data set goes on with it."""

    def require(self) -> None:
        """Raise when anything was found.

        Raises:
            IntegrityViolated: Something was.
        """
        if self.findings:
            more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
            hint = "restore what was altered from a backup"
            if self.interrupted:
                hint = f"first finish what was interrupted: lazaretto ingest; what is found then, {hint}"
            raise IntegrityViolated(self.findings[0] + more, hint=hint)


def verify(
    workspace: Workspace,
    dataset: str | None = None,
    *,
    public: bool = False,
    on_step: OnStep = no_step,
    on_rows: OnRows = no_rows,
    ignore_doubt: frozenset[str] = frozenset(),
) -> Verification:
    """Check a workspace, or one data set of it, against its signatures; writes nothing but lock files and its outcome.

    Args:
        workspace: Where everything lies.
        dataset: Only this data set, and the audit log.
        public: Use public keys alone, as an auditor does: quarantined batches are known by their sealed manifest, and
            nothing is decrypted.
        on_step: Called with the name of each thing before it is checked.
        on_rows: Called with the number of records just hashed.
        ignore_doubt: Names of keys of which a theft is no finding: of those that are about to be vouched for.

    Raises:
        UsageError: There is no such data set, another process is at work on one, or the state cannot be written.
        IntegrityViolated: The ledger is damaged, so that nothing can be held against it.
    """
    _check_writable(workspace)
    with alerting(workspace), operation(workspace, "verify", dataset=dataset, public=public) as told:
        check = _Check(workspace, told.steps(on_step), told.rows(on_rows), ignore_doubt, public=public)
        try:
            found = _verify(check, dataset)
        except IntegrityViolated as fault:
            _note(workspace, dataset, (fault.message,))
            raise
        _note(workspace, dataset, found.findings)
        told.note(findings=len(found.findings), files=found.files, records=found.records)
        told.note(audit_entries=found.audit_entries, datasets=len(found.datasets))
    return found


def _note(workspace: Workspace, dataset: str | None, findings: Sequence[str]) -> None:
    """Keep when this was verified and whether it held; of findings a digest, for they may quote what was altered."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {"at": at, "findings": len(findings), "digest": digest_of(sorted(findings))}
    note(workspace, VERIFICATIONS, dataset or "", facts, alone=dataset is None)


def _verify(check: _Check, dataset: str | None) -> Verification:
    workspace, on_step = check.workspace, check.on_step
    with ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(workspace))
        with ledger.reading() as session:
            found = find_datasets(workspace, session)
        names = found.names if dataset is None else (found.require(dataset),)
        check.findings += found.strays if dataset is None else ()
        for name in names:
            stack.enter_context(dataset_lock(workspace, name))
        on_step("audit log")
        # Log and books from one state of the ledger: a gate may write a training run into both at any time.
        session = stack.enter_context(ledger.reading())
        log = read_log(workspace, session, sound=AUDIT not in check.ignore_doubt)
        check.findings += log.findings
        check.people(session, log.entries)
        check.findings += key_findings(workspace, log.entries)
        books = {name: read_books(session, name) for name in names}
        for name in names:
            check.dataset(name, books[name], [entry for entry in log.entries if entry.dataset == name])
    if check.public:
        check.notes.append("nothing was decrypted: of what waits in quarantine the sealed manifests were checked alone")
    return Verification(
        findings=tuple(dict.fromkeys(check.findings)),
        notes=tuple(check.notes),
        datasets=names,
        files=check.files,
        records=check.records,
        quarantined=check.quarantined,
        audit_entries=log.size,
        interrupted=check.interrupted,
    )


def _check_writable(workspace: Workspace) -> None:
    if workspace.state.exists() and not os.access(workspace.state, os.W_OK | os.X_OK):
        raise UsageError(
            f"nothing was verified: {workspace.state} cannot be written, where locks are taken meanwhile",
            hint="make it writable, or verify a copy of the workspace that is",
        )


class _Check:
    """One verification under way."""

    def __init__(
        self,
        workspace: Workspace,
        on_step: OnStep,
        on_rows: OnRows,
        ignore_doubt: frozenset[str],
        *,
        public: bool,
    ) -> None:
        self.workspace = workspace
        self.ignore_doubt = ignore_doubt
        self.public = public
        self.on_step = on_step
        self.on_rows = on_rows
        self.findings: list[str] = []
        self.notes: list[str] = []
        self.interrupted = False
        self.files = self.records = self.quarantined = 0

    def dataset(self, name: str, books: Books, entries: Sequence[Entry]) -> None:
        """Check one data set: store, quarantine, what was kept of the judging, and the ledger's books."""
        before = len(self.findings)
        plan = self._journal(name) if self.workspace.journal(name).exists() else None
        self.on_step(f"{name}: store")
        chain = self._store(name, plan)
        self.findings += contract_findings(self.workspace, name, chain, entries, sound=POLICY not in self.ignore_doubt)
        self.on_step(f"{name}: ledger")
        self._collect(ledger_findings(books, chain, entries, name), f"what the ledger says of {name}")
        self.on_step(f"{name}: quarantine")
        self._quarantine(name, books)
        self._recalls(name, books)
        if plan is not None:
            # What a signed plan has brought half-way is no tampering; it is compared with it when that is finished.
            self.findings[before:] = [found for found in self.findings[before:] if not _of_plan(plan, found)]

    def people(self, session: Session, entries: Sequence[Entry]) -> None:
        """Check who may do what, and what took two persons, against the audit log."""
        self.on_step("accounts and proposals")
        self._collect(account_findings(session, entries), "what the ledger says of accounts")
        self._collect(session_findings(session, entries), "what the ledger says of logins")
        self._collect(proposal_findings(session, self.workspace, entries), "what the ledger says of proposals")
        told = any(entry.action == "account.added" for entry in entries)
        if told and not self.workspace.accounts_mark.exists():
            self.findings.append(f"{self.workspace.accounts_mark} is gone: without it nobody is asked who they are")

    def _recalls(self, name: str, books: Books) -> None:
        for row in books.recalls:
            try:
                read_list(self.workspace, name, row.id, row.evidence)
            except IntegrityViolated as fault:
                self.findings.append(fault.message)
        folder = self.workspace.recall(name, "any").parent
        known = {row.id for row in books.recalls}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name not in known:
                self.findings.append(f"{path} is kept of a recall that the ledger does not know{_LEFT}")
                self.interrupted = True

    def _collect(self, findings: Iterator[str], what: str) -> None:
        """Take in findings as long as there are any."""
        try:
            for finding in findings:
                self.findings.append(finding)  # one by one: those before a value that breaks the comparison count
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # A row of the ledger may hold anything, once someone else has written it.
            self.findings.append(f"{what} cannot be compared with anything: it was altered ({error})")

    def _journal(self, name: str) -> Plan | None:
        self.interrupted = True
        try:
            plan = read_plan(self.workspace, name)
        except IntegrityViolated as fault:
            self.findings.append(fault.message)
            return None
        self.notes.append(f"a publication of {name} was interrupted; lazaretto ingest --dataset {name} finishes it")
        return plan

    def _seen(self, chain: Chain) -> None:
        try:
            check_seen(self.workspace, chain, remember=False)
        except IntegrityViolated as fault:
            self.findings.append(fault.message)
        except UsageError as error:
            self.notes.append(f"whether {chain.dataset} was put back to an older state is not known: {error.message}")

    def _store(self, name: str, plan: Plan | None) -> Chain | None:
        folder = self.workspace.store(name)
        chain = None
        try:
            chain = read_chain(self.workspace, name, sound=PUBLISHER not in self.ignore_doubt)
            self._seen(chain)
            check_store(self.workspace, chain)
        except IntegrityViolated as fault:
            self.findings.append(fault.message)
            if chain is None or plan is None or not _of_plan(plan, fault.message):
                return None
        active = chain.files(len(chain.attestations))
        for path, file in active.items():
            if _sha256(folder / path) != file.sha256:
                self.findings.append(f"store file {folder / path} is not the one that was attested")
            self.files += 1
            self.records += file.rows
            self.on_rows(file.rows)
        attested = {file.path for entry in chain.attestations for file in entry.added}
        for file in (file for entry in chain.attestations for file in entry.added if file.path not in active):
            if _sha256(folder / file.path) != file.sha256:
                self.findings.append(f"store file {folder / file.path}, kept of a recall, is not the one attested")
        for found in sorted(folder.rglob("*")) if folder.is_dir() else ():
            relative = found.relative_to(folder)
            if not found.is_dir() and relative.parts[0] != LOG and relative.as_posix() not in attested:
                self.findings.append(f"{found} lies in the store but was never attested{_LEFT}")
                self.interrupted = True
        return chain

    def _quarantine(self, name: str, books: Books) -> None:
        for row in books.batches:
            self._collect(self._batch(name, row, books.cases.get(row.id, {})), f"what the ledger says of {row.id}")
        known = {row.id for row in books.batches}
        folder = self.workspace.quarantine(name, "any").parent
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name not in known:
                self.findings.append(f"{path} lies in quarantine but the ledger does not know it{_LEFT}")
                self.interrupted = True

    def _batch(self, name: str, row: BatchRow, cases: Mapping[str, str]) -> Iterator[str]:
        try:
            digests = dict(json.loads(row.digests))
            yield from _kept(self.workspace.batch(row.id), digests)
            found = read_cases(self.workspace.batch(row.id), digests)
        except IntegrityViolated as fault:
            yield fault.message
        except (ValueError, TypeError, KeyError, RecursionError):
            yield f"the ledger's digests of batch {row.id} cannot be read"
            return
        else:
            judged = {case_id(row.id, case[ROW]): filed(case) for case in found.iter_rows(named=True)}
            for case in sorted(case for case, digest in cases.items() if judged.get(case) != digest):
                yield f"case {case} is not what was judged: its record or its evidence was changed in the ledger"
        if self.public:
            manifest = self.workspace.quarantine(name, row.id) / MANIFEST
            if _sha256(manifest) != digests.get("quarantine"):
                yield f"{manifest} is not the one that was sealed for {row.id}"
            self.quarantined += 1
            return
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


def _of_plan(plan: Plan, finding: str) -> bool:
    """Whether a finding is about what a plan is about to publish."""
    commit = f"commit {plan.base + 1:020}.json of the store" if plan.base >= 0 else ""
    return plan.unit in finding or (bool(commit) and commit in finding and "was never attested" in finding)


def _kept(folder: Path, digests: Mapping[str, str]) -> Iterator[str]:
    """What else was kept of a judging. Batches of earlier versions have no digest of it, then nothing can be said."""
    for path in (folder / name for name in KEPT[2:]):
        if path.stem in digests and _sha256(path) != digests[path.stem]:
            yield f"{path} is not what was written when the batch was judged"
        elif _SUMMARY in digests and path.stem not in digests and path.exists():
            yield f"{path} was not there when the batch was judged"


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError:
        return None
