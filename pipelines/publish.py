"""The one way into the training store: a plan is written down and signed, then carried out step by step.

Every step can be done again without harm, so a process killed anywhere is finished by the next one that touches the
data set: it finds the plan in the journal and goes on. Up to the plan nothing has happened; from there on nothing is
decided any more. Order: store files are on the disk, plan, Delta commit, attestation, ledger and audit entry in one
transaction, checkpoint, then the scratch files and what waited in the landing folder go.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from lazaretto import attest
from lazaretto.attest import NOTHING, RECALL, Attestation, Chain, StoreFile, canonical_json, digest_of_files
from lazaretto.durable import sync_folder, write_durably
from lazaretto.errors import IntegrityViolated
from lazaretto.gatekeeper import check_store
from lazaretto.key_history import signers_of, signing_key
from lazaretto.keys import PUBLISHER
from lazaretto.ledger import checkpoint, refuse_changing
from lazaretto.pipelines.landing import clear_landing
from lazaretto.pipelines.recalled import record_recall, report_recall
from lazaretto.pipelines.record import record
from lazaretto.records import OnStep, no_step
from lazaretto.retraction import commit_retraction
from lazaretto.seen import check_seen
from lazaretto.store import commit, log_files, sweep, sweep_log
from lazaretto.table import active_files, open_table
from lazaretto.tables import BatchRow, DecisionRow, RecallRow

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace
    from lazaretto.ledger import Ledger

JOURNAL_TYPE = "application/vnd.lazaretto.journal+json"
HOLD = "hold"
"""Kind of a plan beside those of attestations: the batch waits as a whole, nothing enters the store."""
_BATCH_ID = re.compile(r"b-[0-9a-f]{20}")
STEPS = ("commit", "attest", "ledger", "checkpoint", "clean")
"""The steps of `carry_out`; the first two are passed over when nothing enters the store."""


@dataclass(frozen=True)
class Plan:
    """Everything that is needed to finish a publication, whatever is left of the process that began it."""

    kind: str
    """`HOLD`, or the kind of the attestation to come."""
    workspace: str
    dataset: str
    unit: str
    """Batch or release id."""
    batch: str
    actor: str
    at: str
    """UTC, ISO 8601."""
    base: int = -1
    """Store version before; -1 when nothing enters the store."""
    epoch: int = 0
    """Epoch of the attestation to come; 0 when nothing enters the store."""
    files: tuple[StoreFile, ...] = ()
    """To add to the store."""
    removed: tuple[StoreFile, ...] = ()
    """To take out of it: a recall alone does."""
    counts: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of contract, policy, verdicts, evidence, quarantine manifest; of a recall, of the list of its records."""
    hold_reasons: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    """Cases a release decides."""
    reason: str = ""
    """Why a person released or recalled."""
    proposal: str = ""
    """The approved proposal that is carried out by it, if it took two persons."""
    selection: dict[str, str] = field(default_factory=dict)
    """What a recall takes out."""
    landing: tuple[tuple[str, str], ...] = ()
    """Path, relative to the workspace, and SHA-256 of files to take out of the landing folder."""


def read_chain(workspace: Workspace, dataset: str, *, sound: bool = True) -> Chain:
    """A data set's attestations, verified.

    Args:
        workspace: Whose.
        dataset: The data set.
        sound: Whether one that a stolen key may have signed is refused, too, while nobody vouched for it.

    Raises:
        IntegrityViolated: One is missing, altered or forged.
    """
    signers = signers_of(workspace, PUBLISHER)
    chain = attest.verify(workspace.attestations(dataset), workspace.id, dataset, signers)
    if sound:
        signers.require_sound(dataset, len(chain.attestations))
    return chain


def check_head(workspace: Workspace, ledger: Ledger, chain: Chain) -> None:
    """Refuse to build on a store, or a ledger, that is not the one the newest attestation describes.

    Raises:
        IntegrityViolated: A commit was added, taken away or changed, or the ledger was put back to an older state.
    """
    head = chain.head
    if head is None:
        folder = workspace.store(chain.dataset)
        table = open_table(folder)
        if table is not None and active_files(table):
            raise IntegrityViolated(f"the store {folder} holds files but nothing was ever published there")
        return
    check_store(workspace, chain)
    with ledger.reading() as session:
        decided = select(DecisionRow.id).where(DecisionRow.unit == head.unit).limit(1)
        known = session.get(BatchRow, head.unit) or session.get(RecallRow, head.unit) or session.scalar(decided)
        if known is None:
            raise IntegrityViolated(
                f"the ledger does not know {head.unit}, the newest publication of {chain.dataset}",
                hint="it was put back or exchanged: restore the ledger that belongs to this store",
            )


def next_epoch(workspace: Workspace, dataset: str) -> int:
    """Epoch of the attestation that comes next."""
    head = read_chain(workspace, dataset).head
    return head.epoch + 1 if head else 1


def begin(workspace: Workspace, dataset: str, batch: str) -> None:
    """Note which batch is being brought to its places, so that they are known if that is not finished."""
    write_durably(_begun(workspace, dataset), batch.encode())


def abandon(workspace: Workspace, ledger: Ledger, dataset: str) -> None:
    """Take back what was brought to its place for something that will not be published, and the scratch files.

    Nothing that was published is touched, nor anything while a plan waits to be carried out.
    """
    if workspace.journal(dataset).exists():
        return
    published = {attestation.unit for attestation in read_chain(workspace, dataset).attestations}
    marker = _begun(workspace, dataset)
    if marker.exists():
        # It names folders to clear away and nothing else: where it does not name a batch, nothing is cleared away.
        batch = marker.read_bytes().decode(errors="replace")
        if _BATCH_ID.fullmatch(batch) and batch not in published:
            with ledger.reading() as session:
                known = session.get(BatchRow, batch) is not None
            for folder in () if known else (workspace.batch(batch), workspace.quarantine(dataset, batch)):
                shutil.rmtree(folder, ignore_errors=True)
                shutil.rmtree(folder.with_name(f".{folder.name}.part"), ignore_errors=True)
        marker.unlink()
    sweep(workspace.store(dataset), published)
    sweep(workspace.recall(dataset, "any").parent, published)
    shutil.rmtree(workspace.work(dataset), ignore_errors=True)


def prepare(workspace: Workspace, plan: Plan) -> None:
    """Write a plan down. From here on it will be carried out, by whoever comes next."""
    _settle(workspace, plan.dataset)
    payload = canonical_json(asdict(plan))
    envelope = attest.seal(payload, JOURNAL_TYPE, signing_key(workspace, PUBLISHER))
    write_durably(workspace.journal(plan.dataset), envelope)


def _settle(workspace: Workspace, dataset: str) -> None:
    """Wait until the folders that a publication lies in are on the disk with the names in them.

    A process that was killed between making a folder, or renaming a file into it, and syncing that leaves a name that
    everybody sees and a power cut takes away.
    """
    whole = (workspace.attestations(dataset), workspace.store(dataset), workspace.quarantine(dataset, "any").parent)
    kept = (workspace.batch("any").parent, workspace.recall(dataset, "any").parent, workspace.checkpoint.parent)
    folders = {folder for path in (*whole, *kept, workspace.journal(dataset).parent) for folder in (path, path.parent)}
    for folder in sorted(folders | {workspace.state}):
        if folder.is_dir():
            sync_folder(folder)


def recover(workspace: Workspace, ledger: Ledger, dataset: str, on_step: OnStep = no_step) -> Plan | None:
    """Finish what an interrupted process began, and clear what it left; gives the plan it had, if any.

    The caller holds the data set's lock.

    Raises:
        IntegrityViolated: The journal or the store was tampered with in the meantime, or put back to an older state.
    """
    refuse_changing(workspace)
    chain, plan = read_chain(workspace, dataset), None
    check_seen(workspace, chain, remember=False)
    if workspace.journal(dataset).exists():
        plan = read_plan(workspace, dataset)
        _settle(workspace, dataset)
        carry_out(workspace, ledger, plan, on_step)
        chain = read_chain(workspace, dataset)
    sweep_log(workspace.store(dataset))
    check_head(workspace, ledger, chain)
    abandon(workspace, ledger, dataset)
    checkpoint(ledger)
    return plan


def carry_out(workspace: Workspace, ledger: Ledger, plan: Plan, on_step: OnStep = no_step) -> Attestation | None:
    """Do what a plan says, leaving out what is done already; gives the attestation when something entered the store.

    Raises:
        IntegrityViolated: The store is not what the plan was made for.
    """
    attestation = None
    if plan.files or plan.removed:
        on_step("commit")
        modified = int(datetime.fromisoformat(plan.at).timestamp() * 1000)
        where = workspace.store(plan.dataset), plan.unit, plan.base
        if plan.removed:
            version = commit_retraction(*where, plan.removed, plan.files, modified)
        else:
            version = commit(*where, plan.files, modified)
        on_step("attest")
        attestation = _attest(workspace, plan, version)
    on_step("ledger")
    with ledger.writing() as session:
        if plan.kind == RECALL:
            record_recall(session, workspace, plan, attestation)
        else:
            record(session, workspace, plan, attestation)
    on_step("checkpoint")
    checkpoint(ledger)
    if plan.kind == RECALL:
        report_recall(ledger, read_chain(workspace, plan.dataset), plan.unit)
    on_step("clean")
    _clean(workspace, plan)
    return attestation


def _attest(workspace: Workspace, plan: Plan, version: int) -> Attestation:
    chain = read_chain(workspace, plan.dataset)
    head = chain.head
    if head is not None and head.epoch == plan.epoch:
        if head.unit != plan.unit:
            raise IntegrityViolated(f"epoch {plan.epoch} of {plan.dataset} is of {head.unit}, not of {plan.unit}")
        return head
    epoch = head.epoch if head else 0
    if epoch + 1 != plan.epoch:
        raise IntegrityViolated(
            f"the newest attestation of {plan.dataset} is {epoch} where {plan.epoch - 1} was expected"
        )
    removed = tuple(file.path for file in plan.removed)
    active = [*(file for file in chain.files(epoch).values() if file.path not in removed), *plan.files]
    attestation = Attestation(
        workspace=workspace.id,
        dataset=plan.dataset,
        epoch=plan.epoch,
        version=version,
        kind=plan.kind,
        unit=plan.unit,
        batch=plan.batch,
        issued_at=plan.at,
        previous=head.digest if head else NOTHING,
        active_digest=digest_of_files(active),
        active_files=len(active),
        active_rows=sum(file.rows for file in active),
        added=plan.files,
        removed=removed,
        log=log_files(workspace.store(plan.dataset), head.version + 1 if head else 0, version),
        counts=plan.counts,
        digests=plan.digests,
    )
    attest.sign(workspace.attestations(plan.dataset), attestation, signing_key(workspace, PUBLISHER))
    return attestation


def _clean(workspace: Workspace, plan: Plan) -> None:
    clear_landing(workspace, plan.dataset, plan.landing)
    shutil.rmtree(workspace.work(plan.dataset), ignore_errors=True)
    journal = workspace.journal(plan.dataset)
    for path in (journal, _begun(workspace, plan.dataset)):
        path.unlink(missing_ok=True)
    sync_folder(journal.parent)


def _begun(workspace: Workspace, dataset: str) -> Path:
    return workspace.journal(dataset).with_name(f"{dataset}.begun")


def read_plan(workspace: Workspace, dataset: str) -> Plan:
    """The publication of a data set that is under way or was interrupted.

    Raises:
        IntegrityViolated: It cannot be read, is not signed with the publisher's key, or is that of another data set.
    """
    path = workspace.journal(dataset)
    payload = attest.unseal(path, JOURNAL_TYPE, signers_of(workspace, PUBLISHER).current)
    try:
        content: dict[str, Any] = json.loads(payload)
        for name in ("files", "removed"):
            content[name] = tuple(StoreFile(**item) for item in content.get(name, ()))
        content["landing"] = tuple((name, sha256) for name, sha256 in content["landing"])
        for name in ("hold_reasons", "cases"):
            content[name] = tuple(content[name])
        plan = Plan(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityViolated(f"the journal {path} is not one of ours") from error
    if (plan.workspace, plan.dataset) != (workspace.id, dataset):
        raise IntegrityViolated(f"the journal {path} is that of {plan.dataset} in {plan.workspace}")
    return plan
