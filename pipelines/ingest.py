"""The main job: a batch arrives, is judged, and goes where its verdicts say. Plain Python: Prefect only schedules."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lazaretto.attest import ADMISSION
from lazaretto.config import dataset_lock
from lazaretto.contract import load_contract
from lazaretto.durable import make_folder, sync_tree, writable
from lazaretto.entrance import acting
from lazaretto.errors import LazarettoError, UsageError
from lazaretto.keys import derived_key, master_key
from lazaretto.ledger import discarded, hold_reasons, open_ledger
from lazaretto.observed import INGESTS, note
from lazaretto.operation import operation, under_way
from lazaretto.pipelines.account import EVIDENCE, VERDICTS, account, decided
from lazaretto.pipelines.alerting import alerting
from lazaretto.pipelines.clusters import CLUSTERS
from lazaretto.pipelines.device import check_device
from lazaretto.pipelines.landing import clear_landing, from_landing, has_landed, landed
from lazaretto.pipelines.look_back import FINDINGS, MEMORY
from lazaretto.pipelines.past import CARRIERS, list_carriers, load_past
from lazaretto.pipelines.publish import (
    HOLD,
    Plan,
    abandon,
    begin,
    carry_out,
    next_epoch,
    prepare,
    read_chain,
    recover,
)
from lazaretto.pipelines.recalled import last_recall
from lazaretto.pipelines.vouching import added_files
from lazaretto.quarantine import Content, Identity, seal_batch
from lazaretto.records import OnRows, OnStep, no_rows, no_step
from lazaretto.signed_contract import judged_by
from lazaretto.store import check_columns, ensure_table, write_files
from lazaretto.table import open_table
from lazaretto.tables import BatchRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lazaretto.attest import StoreFile
    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.ledger import Ledger
    from lazaretto.pipelines.scan import Judged
    from lazaretto.pipelines.window import Past
    from lazaretto.records import Batch

STEPS = ("keep", "quarantine", "files", "prepare")
"""Steps between judging and `publish.carry_out`."""
_NO_FILES: tuple[StoreFile, ...] = ()
KEPT = (VERDICTS, EVIDENCE, "summary.json", "report.html", CLUSTERS, MEMORY, FINDINGS, CARRIERS)
"""What stays of a judging, in ``state/batches/ID/``."""


@dataclass(frozen=True)
class Hooks:
    """What a judge is to tell and to ask."""

    on_batch: Callable[[Batch], Batch]
    """Called once the batch is known, before anything is judged, and gives the batch to go on with; what it raises ends
    the judging."""
    refuse: Callable[[Sequence[str]], set[str]]
    """Of the given content digests, those an analyst discarded before."""
    on_step: OnStep = no_step
    on_rows: OnRows = no_rows
    secret: bytes = b""
    """What only this workspace knows, for a judge to draw by."""
    past: Callable[[], Past | None] | None = None
    """What is remembered of the batches before."""
    vouched: tuple[str, ...] = ()
    """Files of what was added to the trusted set."""


class Judge(Protocol):
    """Judges files into a folder; see `lazaretto.pipelines.scan.judge`."""

    def __call__(self, files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> Judged:
        """Judge ``files`` against ``contract``, writing everything below ``into``."""
        ...


@dataclass(frozen=True)
class IngestResult:
    """What became of a batch."""

    dataset: str
    batch: str
    held: bool
    """The batch waits for a person as a whole."""
    counts: dict[str, int]
    """arrived, admitted, quarantined, rejected, suspects, files."""
    hold_reasons: tuple[str, ...]
    version: int | None
    """Store version that holds what was admitted; none when nothing was."""
    epoch: int | None
    folder: Path
    """Verdicts, evidence, summary and report."""
    ingested_at: str
    already: bool = False
    """The same bytes were ingested before; nothing was changed now."""
    recalled: str = ""
    """The recall by which records of them were taken out since."""

    @property
    def summary(self) -> dict[str, Any]:
        """What the judging wrote into ``summary.json``."""
        content: dict[str, Any] = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        return content


class _AlreadyIngested(Exception):  # noqa: N818  ends a judging, is no error
    def __init__(self, batch: Batch) -> None:
        super().__init__(batch.id)
        self.batch = batch


def scan_judge(seed: int = 0, device: str = "auto", trusted: tuple[str, ...] = ()) -> Judge:
    """The judge that is used by default: `lazaretto.pipelines.scan.judge`.

    Raises:
        UsageError: The device is not known or not there: before a data set is locked or anything read.
    """
    check_device(device)

    def run(files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> Judged:
        from lazaretto.dashboards.report import render_report
        from lazaretto.pipelines.scan import Options, judge

        options = Options(
            seed,
            device,
            trusted,
            refuse_digests=hooks.refuse,
            on_batch=hooks.on_batch,
            secret=hooks.secret,
            past=hooks.past,
            vouched=hooks.vouched,
        )
        judged = judge(files, contract, into, options, on_step=hooks.on_step, on_rows=hooks.on_rows)
        hooks.on_step("report")
        render_report(judged.folder, contract)
        return judged

    return run


def ingest(
    workspace: Workspace,
    files: Sequence[str | Path],
    dataset: str,
    *,
    judge: Judge | None = None,
    on_step: OnStep = no_step,
    on_rows: OnRows = no_rows,
    now: datetime | None = None,
) -> IngestResult:
    """Judge one batch and carry out its verdicts.

    Args:
        workspace: Where everything lies.
        files: Files, folders or globs; none takes everything that waits in ``landing/DATASET/`` as one batch.
        dataset: Whose contract applies.
        judge: What judges; `scan_judge` by default.
        on_step: Called with the name of each step before it starts.
        on_rows: Called with the number of records just handled.
        now: The time to write down; the clock's by default.

    Raises:
        UsageError: No contract, no files, another process at work, a full disk.
        InputRefused: A file is no data file. Nothing was changed.
        IntegrityViolated: Store, attestations or audit log were tampered with, or the contract is not the one that
            was signed. Nothing was changed.
    """
    at = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    with alerting(workspace), operation(workspace, "ingest", dataset=dataset) as told:
        hearers = told.steps(on_step), told.rows(on_rows)
        result = _ingest(workspace, [Path(file) for file in files], dataset, judge or scan_judge(), hearers, at)
        told.note(batch=result.batch, held=result.held, already=result.already, **result.counts)
        told.note(version=result.version, epoch=result.epoch)
    if not result.already:
        stages = {stage.name: stage.seconds for stage in told.stages}
        note(workspace, INGESTS, dataset, {"at": at, "seconds": told.seconds, "stages": stages})
    return result


def _ingest(
    workspace: Workspace, paths: list[Path], dataset: str, judge: Judge, hearers: tuple[OnStep, OnRows], at: str
) -> IngestResult:
    on_step, on_rows = hearers
    contract = load_contract(workspace.contract(dataset))
    if contract.dataset != dataset:
        raise UsageError(f"{contract.path} is the contract of {contract.dataset!r}, not of {dataset!r}")
    with writable(workspace.state), dataset_lock(workspace, dataset), open_ledger(workspace) as ledger:
        finished = recover(workspace, ledger, dataset, on_step)
        run = _Run(workspace, ledger, contract, judged_by(workspace, contract), at, finished.unit if finished else None)
        if not paths and finished is not None and not has_landed(workspace, dataset):
            return run.result(
                finished.batch, already=False
            )  # killed just after its files had been taken from the landing folder
        secret = derived_key(master_key(workspace.keys), "folds")
        vouched = added_files(workspace, ledger, dataset)
        hooks = Hooks(run.stop_if_known, run.refuse, on_step, on_rows, secret, run.past, vouched)
        return run.ingest(paths or [landed(workspace, dataset)], judge, hooks)


@dataclass(frozen=True)
class _Run:
    """One ingest under way; the data set is locked and nothing interrupted is left."""

    workspace: Workspace
    ledger: Ledger
    contract: Contract
    judged_by: dict[str, str]
    """Digests of the contract in force."""
    at: str
    finished: str | None
    """The interrupted publication that was just finished."""

    @property
    def dataset(self) -> str:
        return self.contract.dataset

    def ingest(self, paths: list[Path], judge: Judge, hooks: Hooks) -> IngestResult:
        store = self.workspace.store(self.dataset)
        table = open_table(store)
        if table is not None:
            check_columns(store, table, self.contract)
        work = self.workspace.work(self.dataset)
        make_folder(work)
        try:
            judged = judge(paths, self.contract, work, hooks)
            self.stop_if_known(judged.parsed.batch)  # a judge may not have asked
            plan = self.plan(judged, hooks.on_step)
        except _AlreadyIngested as known:
            clear_landing(self.workspace, self.dataset, from_landing(self.workspace, known.batch))
            abandon(self.workspace, self.ledger, self.dataset)
            return self.result(known.batch.id, already=known.batch.id != self.finished)
        except BaseException:
            with suppress(LazarettoError, OSError):  # what went wrong is said already
                abandon(self.workspace, self.ledger, self.dataset)
            raise
        carry_out(self.workspace, self.ledger, plan, hooks.on_step)
        return self.result(plan.batch, already=False)

    def plan(self, judged: Judged, on_step: OnStep) -> Plan:
        """Bring everything that is to be published to its place, then write down how to publish it."""
        workspace, batch = self.workspace, judged.parsed.batch
        counted = account(judged)
        on_step("keep")
        list_carriers(workspace, self.contract, batch.id, judged.folder, self.past)
        begin(workspace, self.dataset, batch.id)
        digests = keep(judged.folder, workspace.batch(batch.id))
        on_step("quarantine")
        identity = Identity(self.dataset, batch.id)
        content = Content(decided(judged, "quarantine"), judged.parsed.rejects, batch.files)
        sealed = seal_batch(workspace.quarantine(*identity), identity, master_key(workspace.keys), content)
        on_step("files")
        base, files = -1, _NO_FILES
        if counted.admitted:
            base = ensure_table(workspace.store(self.dataset), self.contract)
            admitted = decided(judged, "admit")
            files = write_files(workspace.store(self.dataset), batch.id, batch.id, admitted, self.contract)
        counted.check_written(sum(file.rows for file in files), sealed.manifest.records, sealed.manifest.rejects)
        plan = Plan(
            kind=HOLD if counted.hold_reasons else ADMISSION,
            workspace=workspace.id,
            dataset=self.dataset,
            unit=batch.id,
            batch=batch.id,
            actor=acting(self.workspace).name,
            at=self.at,
            base=base,
            epoch=next_epoch(workspace, self.dataset) if files else 0,
            files=files,
            counts={**counted.counts(), "files": len(batch.files)},
            digests={**digests, **self.judged_by, "quarantine": sealed.digest},
            hold_reasons=counted.hold_reasons,
            landing=from_landing(workspace, batch),
        )
        on_step("prepare")
        prepare(workspace, plan)
        return plan

    def past(self) -> Past | None:
        """What is remembered of the batches before; None where the contract asks for no window."""
        if self.contract.policy.window < 1:
            return None
        return load_past(self.workspace, self.ledger, self.contract)

    def stop_if_known(self, batch: Batch) -> Batch:
        """End the judging of a batch that was ingested before; one that may return after a recall is a new one.

        Raises:
            _AlreadyIngested: It was.
        """
        if (told := under_way(self.workspace)) is not None:
            told.note(batch=batch.id)
        with self.ledger.reading() as session:
            while session.get(BatchRow, batch.id) is not None:
                gone = last_recall(session, read_chain(self.workspace, self.dataset), batch.id)
                if gone is None or not gone.whole or not gone.may_return:
                    raise _AlreadyIngested(batch)
                batch = replace(batch, after=gone.unit)
        return batch

    def refuse(self, digests: Sequence[str]) -> set[str]:
        """Of these records, those that were discarded before."""
        return discarded(self.ledger, self.dataset, digests)

    def result(self, batch: str, *, already: bool) -> IngestResult:
        """What the ledger says about a batch."""
        with self.ledger.reading() as session:
            row = session.get_one(BatchRow, batch)
            names = ("arrived", "admitted", "quarantined", "rejected", "suspects", "files")
            reasons = hold_reasons(row)
            gone = last_recall(session, read_chain(self.workspace, self.dataset), batch) if already else None
            return IngestResult(
                dataset=row.dataset,
                batch=row.id,
                held=row.state == "held",
                counts={name: getattr(row, name) for name in names},
                hold_reasons=reasons,
                version=row.version,
                epoch=row.epoch,
                folder=self.workspace.batch(row.id),
                ingested_at=row.ingested_at,
                already=already,
                recalled=gone.unit if gone is not None else "",
            )


def keep(judged: Path, folder: Path) -> dict[str, str]:
    """Move what stays of a judging to the batch's folder; gives the SHA-256 of each file, by its name's stem."""
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    for name in KEPT:
        if (judged / name).exists():
            shutil.copyfile(judged / name, folder / name)
    sync_tree(folder)
    kept = [folder / name for name in KEPT if (judged / name).exists()]
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}
