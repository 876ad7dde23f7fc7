"""Recall: take admitted records out of the store by a new attested version, and say which training runs read them.

The files that held them stay where they are as evidence; a version with one of them is closed to the gate. Their
content is refused when it arrives again, unless that is allowed.
"""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import polars as pl
from sqlalchemy import select

from lazaretto.attest import RECALL
from lazaretto.config import dataset_lock
from lazaretto.contract import load_contract
from lazaretto.durable import writable
from lazaretto.errors import IntegrityViolated, LazarettoError, UsageError
from lazaretto.ledger import keyed, open_ledger
from lazaretto.loader import verified_bytes
from lazaretto.operation import operation
from lazaretto.pipelines.datasets import find_datasets
from lazaretto.pipelines.digests import digests
from lazaretto.pipelines.publish import (
    Plan,
    abandon,
    carry_out,
    check_head,
    next_epoch,
    prepare,
    read_chain,
    recover,
)
from lazaretto.pipelines.recalled import (
    LIST,
    RETURN,
    Reader,
    Recall,
    described,
    read_list,
    readers,
    recall_made,
    report_recall,
    write_list,
)
from lazaretto.pipelines.verify_audit import read_log
from lazaretto.pipelines.verify_ledger import recall_findings
from lazaretto.records import RECORD_ID, OnRows, OnStep, no_rows, no_step
from lazaretto.retraction import write_remainders
from lazaretto.seen import check_seen
from lazaretto.store import BATCH_ID, check_columns
from lazaretto.table import open_table
from lazaretto.tables import RecallRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lazaretto.attest import Attestation, Chain, StoreFile
    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.ledger import Ledger
    from lazaretto.pipelines.review import Word
    from lazaretto.pipelines.selection import Selection

_NAMED = 20
"""Sources that are named where another was meant."""
STEPS = ("find", "files", "prepare")
"""Steps before `publish.carry_out`."""


@dataclass(frozen=True)
class Found:
    """What a recall would take out."""

    records: int
    batches: dict[str, int]
    """Batch -> how many of its records."""
    readers: tuple[Reader, ...]
    absent: tuple[str, ...] = ()
    """Listed ids that no record of the store has."""


@dataclass(frozen=True)
class _Touched:
    """A store file with records that are meant."""

    file: StoreFile
    gone: int


@dataclass(frozen=True)
class _Recalling:
    """One recall under way."""

    workspace: Workspace
    chain: Chain
    head: Attestation
    """Its newest."""
    contract: Contract
    selection: Selection

    def touched(self, on_rows: OnRows) -> Iterator[tuple[_Touched, pl.DataFrame]]:
        """The files with records that are meant, each with those: ``batch`` and ``record_id``."""
        columns = self.selection.columns(self.contract)
        for path, file in self.chain.files(len(self.chain.attestations)).items():
            meant = self.selection.taken(self.chain, self.contract, path)
            if meant is not None:
                rows = self.read(file, columns).filter(meant)
                if rows.height:
                    yield _Touched(file, rows.height), rows.select(batch=BATCH_ID, record_id=RECORD_ID)
            on_rows(file.rows)

    def read(self, file: StoreFile, columns: list[str] | None = None) -> pl.DataFrame:
        """A store file, of bytes that were verified."""
        return pl.read_parquet(
            io.BytesIO(verified_bytes(self.workspace.store(self.chain.dataset), file)), columns=columns
        )

    def split(self, file: StoreFile) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What stays of a file, and what is taken out of it."""
        frame = self.read(file)
        meant = self.selection.taken(self.chain, self.contract, file.path)
        which = frame.select(pl.lit(value=False) if meant is None else meant).to_series()
        which = which if len(which) == frame.height else pl.select(pl.repeat(which[0], frame.height)).to_series()
        return frame.filter(~which), frame.filter(which)

    def nothing(self) -> UsageError:
        """Nothing is meant, and what to do instead: a source may be spelt otherwise."""
        where = f"is in the store of {self.chain.dataset}"
        return UsageError(f"no record {self.selection.said} {where}", hint=self._instead())

    def _instead(self) -> str:
        if self.selection.kind == "source" and self.contract.source is not None:
            files = self.chain.files(len(self.chain.attestations)).values()
            values = (self.read(file, [self.contract.source])[self.contract.source].cast(pl.String) for file in files)
            known = sorted({name for column in values for name in column.unique().drop_nulls()})
            near = get_close_matches(self.selection.value, known, n=1, cutoff=0.5)
            return f"did you mean {near[0]!r}?" if near else f"sources that are there: {', '.join(known[:_NAMED])}"
        return "what waits in quarantine is not recalled but discarded: lazaretto review discard"

    def taken(self, touched: list[_Touched]) -> pl.DataFrame:
        """The list of what is taken out, of all files."""
        parts = []
        for one in touched:
            _, gone = self.split(one.file)
            content = digests(gone, self.contract.all_columns).to_list()
            parts.append(
                gone.select(
                    batch=BATCH_ID,
                    record_id=RECORD_ID,
                    file=pl.lit(one.file.path),
                    keyed=pl.Series(keyed(self.workspace, self.chain.dataset, content), dtype=pl.String),
                )
            )
        return pl.concat(parts)

    def remainders(self, touched: list[_Touched]) -> Iterator[tuple[int, pl.DataFrame]]:
        """What stays of the files, of which anything does."""
        for number, one in enumerate(touched):
            if one.gone < one.file.rows:
                yield number, self.split(one.file)[0]


def look(workspace: Workspace, dataset: str, selection: Selection, on_rows: OnRows = no_rows) -> Found:
    """What a recall would take out; nothing is changed.

    Raises:
        UsageError: Nothing admitted is meant, or the selection makes no sense for the data set.
        IntegrityViolated: Store, attestations or ledger are not what was signed.
    """
    work = _opened(workspace, dataset, selection)
    with open_ledger(workspace) as ledger:
        if not workspace.journal(dataset).exists():  # else it is carried out before anything is recalled
            check_seen(workspace, work.chain, remember=False)
            check_head(workspace, ledger, work.chain)
        found = list(work.touched(on_rows))
        if not found:
            raise work.nothing()
        with ledger.reading() as session:
            who = readers(session, work.chain, [one.file.path for one, _ in found])
    taken = pl.concat([rows for _, rows in found])
    return Found(
        taken.height,
        dict(taken.group_by("batch", maintain_order=True).len().iter_rows()),
        who,
        selection.absent(taken["record_id"]),
    )


def absent(workspace: Workspace, made: Recall, selection: Selection) -> tuple[str, ...]:
    """Listed ids that no record had which a recall took out."""
    return selection.absent(read_list(workspace, made.dataset, made.unit, made.evidence)["record_id"])


def recall(
    workspace: Workspace,
    dataset: str,
    selection: Selection,
    said: Word,
    *,
    may_return: bool = False,
    on_step: OnStep = no_step,
    on_rows: OnRows = no_rows,
) -> Recall:
    """Take records out of the store, once; what an interrupted process began is finished first.

    Args:
        workspace: Where everything lies.
        dataset: The data set.
        selection: Which records.
        said: Who recalls them and why.
        may_return: Whether the same content may be admitted again; else it is refused when it arrives.
        on_step: Called with each step's name before it starts.
        on_rows: Called with the number of records just looked at.

    Raises:
        UsageError: Nothing admitted is meant, or the selection makes no sense for the data set.
        IntegrityViolated: Store, attestations or ledger are not what was signed.
    """
    with operation(workspace, "recall", dataset=dataset) as told:
        hearers = told.steps(on_step), told.rows(on_rows)
        made = _recall(workspace, dataset, selection, said, hearers, may_return=may_return)
        told.note(unit=made.unit, recalled=made.records, version=made.version, epoch=made.epoch)
        told.note(runs=len({reader.run for reader in made.readers}))
    return made


def _recall(
    workspace: Workspace,
    dataset: str,
    selection: Selection,
    said: Word,
    hearers: tuple[OnStep, OnRows],
    *,
    may_return: bool,
) -> Recall:
    on_step, on_rows = hearers
    with writable(workspace.state), dataset_lock(workspace, dataset), open_ledger(workspace) as ledger:
        finished = recover(workspace, ledger, dataset, on_step)
        wanted = {**selection.told, RETURN: "yes" if may_return else "no"}
        if finished is None or finished.kind != RECALL or finished.selection != wanted:
            unit = _make(ledger, _opened(workspace, dataset, selection), wanted, said, (on_step, on_rows))
        else:
            unit = finished.unit  # the same recall was interrupted after its plan was made: it is done now
        return recall_made(ledger, read_chain(workspace, dataset), unit)


def shown_again(workspace: Workspace, made: Recall) -> None:
    """Write the page of a recall, whatever lies there: it is made of what is signed, and is not signed itself."""
    with open_ledger(workspace) as ledger:
        report_recall(ledger, read_chain(workspace, made.dataset), made.unit)


def list_recalls(workspace: Workspace, dataset: str | None = None) -> list[Recall]:
    """Every recall that was made, oldest first.

    Raises:
        UsageError: There is no such data set.
        IntegrityViolated: The ledger does not say of them what the audit log says, or what was kept of one, or the
            attestations, are not as they were written.
    """
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        found = find_datasets(workspace, session)
        names = found.names if dataset is None else (found.require(dataset),)
        log = read_log(workspace, session)
        made = []
        for name in names:
            rows = session.scalars(select(RecallRow).where(RecallRow.dataset == name)).all()
            entries = [entry for entry in log.entries if entry.dataset == name]
            for fault in (*log.findings, *recall_findings(rows, entries)):
                raise IntegrityViolated(fault, hint="lazaretto verify says what else was altered")
            chain = read_chain(workspace, name)
            made += [described(session, workspace, chain, row) for row in rows]
    return sorted(made, key=lambda one: (one.at, one.dataset, one.epoch))


def _opened(workspace: Workspace, dataset: str, selection: Selection) -> _Recalling:
    contract = load_contract(workspace.contract(dataset))
    chain = read_chain(workspace, dataset)
    if chain.head is None:
        raise UsageError(f"nothing of {dataset} was ever admitted, so nothing can be recalled", hint="lazaretto status")
    table = open_table(workspace.store(dataset))
    if table is not None:
        check_columns(workspace.store(dataset), table, contract)
    return _Recalling(workspace, chain, chain.head, contract, selection)


def _make(ledger: Ledger, work: _Recalling, wanted: dict[str, str], said: Word, told: tuple[OnStep, OnRows]) -> str:
    on_step, on_rows = told
    try:
        plan = _plan(work, wanted, said, on_step, on_rows)
    except BaseException:
        with suppress(LazarettoError):  # what went wrong is said already
            abandon(work.workspace, ledger, work.chain.dataset)
        raise
    carry_out(work.workspace, ledger, plan, on_step)
    return plan.unit


def _plan(work: _Recalling, wanted: dict[str, str], said: Word, on_step: OnStep, on_rows: OnRows) -> Plan:
    workspace, chain, head = work.workspace, work.chain, work.head
    on_step("find")
    touched = [one for one, _ in work.touched(on_rows)]
    if not touched:
        raise work.nothing()
    content = json.dumps([chain.dataset, head.epoch, wanted], sort_keys=True)
    unit = "k-" + hashlib.sha256(content.encode()).hexdigest()[:20]
    on_step("files")
    evidence = write_list(workspace.recall(chain.dataset, unit) / LIST, work.taken(touched))
    files = write_remainders(workspace.store(chain.dataset), unit, work.remainders(touched))
    gone = sum(one.gone for one in touched)
    plan = Plan(
        kind=RECALL,
        workspace=workspace.id,
        dataset=chain.dataset,
        unit=unit,
        batch=work.selection.value if work.selection.kind == "batch" else "",
        actor=said.actor,
        at=said.at,
        base=head.version,
        epoch=next_epoch(workspace, chain.dataset),
        files=files,
        removed=tuple(one.file for one in touched),
        counts={"recalled": gone, "kept": sum(one.file.rows for one in touched) - gone},
        digests={"recalled": evidence},
        reason=said.reason,
        selection=wanted,
    )
    on_step("prepare")
    prepare(workspace, plan)
    return plan
