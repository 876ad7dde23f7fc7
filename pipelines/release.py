"""One release: records of one batch leave quarantine for the store, through the same publication as any batch."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
from sqlalchemy import select

from lazaretto.attest import BATCH_RELEASE, RELEASE
from lazaretto.contract import load_contract
from lazaretto.durable import make_folder
from lazaretto.errors import LazarettoError, UsageError
from lazaretto.parquet import parquet_schema, read_parquet
from lazaretto.pipelines.cases import open_quarantine
from lazaretto.pipelines.publish import Plan, abandon, carry_out, next_epoch, prepare, read_chain
from lazaretto.pipelines.undecided import held_batch, open_cases
from lazaretto.records import ROW
from lazaretto.signed_contract import judged_by
from lazaretto.store import ensure_table, write_files
from lazaretto.tables import CaseRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.ledger import Ledger
    from lazaretto.pipelines.recheck import Recheck
    from lazaretto.pipelines.review import Word
    from lazaretto.records import OnStep

STEPS = ("decrypt", "validate", "files", "prepare")
"""Steps before `publish.carry_out`."""


@dataclass(frozen=True)
class Released:
    """Records of one batch that entered the store together."""

    unit: str
    dataset: str
    batch: str
    cases: tuple[str, ...]
    """Empty when the rest of a held batch was released."""
    records: int
    version: int
    epoch: int


@dataclass(frozen=True)
class Release:
    """A release to be made: these cases of a batch, or, without any, all that waits only because the batch is held."""

    workspace: Workspace
    dataset: str
    batch: str
    cases: tuple[str, ...]
    word: Word
    on_step: OnStep
    check: Recheck

    @property
    def unit(self) -> str:
        """The release's id. It follows from what is released, so that a second attempt is known as such."""
        content = "\n".join([self.batch, *sorted(self.cases)])
        return "r-" + hashlib.sha256(content.encode()).hexdigest()[:20]

    def make(self, ledger: Ledger) -> Released:
        """Publish the records, once. The caller holds the data set's lock and left nothing interrupted.

        Raises:
            UsageError: Decided before, or a record breaks today's contract.
            IntegrityViolated: A record cannot be read back as it was sealed, or the store was tampered with.
        """
        try:
            plan = self._plan(ledger)
        except BaseException:
            with suppress(LazarettoError):  # what went wrong is said already
                abandon(self.workspace, ledger, self.dataset)
            raise
        carry_out(self.workspace, ledger, plan, self.on_step)
        return self.made()

    def require_open(self, session: Session) -> tuple[CaseRow, ...]:
        """The cases, none decided yet, or nothing for the rest of a held batch; refuses what could not be released.

        Raises:
            UsageError: It was decided before, or there is no contract to judge it by.
            IntegrityViolated: The ledger contradicts itself about it.
        """
        self.contract()
        if self.cases:
            return tuple(open_cases(session, self.cases))
        held_batch(session, self.batch)
        return ()

    def made(self) -> Released:
        """What became of the release, once it was published."""
        chain = read_chain(self.workspace, self.dataset)
        entry = next(entry for entry in chain.attestations if entry.unit == self.unit)
        records = sum(file.rows for file in entry.added)
        return Released(self.unit, self.dataset, self.batch, self.cases, records, entry.version, entry.epoch)

    def _plan(self, ledger: Ledger) -> Plan:
        workspace = self.workspace
        contract = self.contract()
        with ledger.reading() as session:
            rows = self._rows(session)
        self.on_step("decrypt")
        partitions = self._decrypt(rows)
        self.on_step("validate")
        self._validate(partitions, contract)
        self.on_step("files")
        store = workspace.store(self.dataset)
        base = ensure_table(store, contract)
        frames = (read_parquet(partition) for partition in partitions)
        files = write_files(store, self.unit, self.batch, frames, contract)
        plan = Plan(
            kind=RELEASE if self.cases else BATCH_RELEASE,
            workspace=workspace.id,
            dataset=self.dataset,
            unit=self.unit,
            batch=self.batch,
            actor=self.word.actor,
            at=self.word.at,
            base=base,
            epoch=next_epoch(workspace, self.dataset),
            files=files,
            counts={"released": sum(file.rows for file in files)},
            digests=judged_by(workspace, contract),
            cases=self.cases,
            reason=self.word.reason,
            proposal=self.word.proposal,
        )
        self.on_step("prepare")
        prepare(workspace, plan)
        return plan

    def contract(self) -> Contract:
        """Today's contract of the data set.

        Raises:
            UsageError: There is none, or it is that of another one.
        """
        contract = load_contract(self.workspace.contract(self.dataset))
        if contract.dataset != self.dataset:
            raise UsageError(f"{contract.path} is the contract of {contract.dataset!r}, not of {self.dataset!r}")
        return contract

    def _rows(self, session: Session) -> set[int]:
        """Positions of the cases' records; without cases, of the records to leave out, for they are cases."""
        if self.cases:
            return {row.row for row in open_cases(session, self.cases)}
        held_batch(session, self.batch)
        return set(session.scalars(select(CaseRow.row).where(CaseRow.batch_id == self.batch)))

    def _decrypt(self, rows: set[int]) -> list[Path]:
        """Canonical Parquet in the scratch folder; as many files as the batch's quarantine has."""
        folder = self.workspace.work(self.dataset)
        make_folder(folder)
        paths = []
        for number, frame in enumerate(self._frames(rows)):
            if frame.height:
                paths.append(folder / f"part-{number:05}.parquet")
                frame.write_parquet(paths[-1])
        if not paths:
            raise UsageError(
                f"every record of batch {self.batch} that waits is a case of its own", hint="release those"
            )
        return paths

    def _frames(self, rows: set[int]) -> Iterator[pl.DataFrame]:
        quarantined = open_quarantine(self.workspace, self.dataset, self.batch)
        if self.cases:
            yield quarantined.select(rows)
            return
        left_out = pl.Series(sorted(rows), dtype=pl.UInt64)
        for frame in quarantined.records():
            yield frame.filter(~pl.col(ROW).is_in(left_out.implode()))

    def _validate(self, partitions: list[Path], contract: Contract) -> None:
        columns = set(parquet_schema(partitions[0]))
        missing = [name for name in contract.all_columns if name not in columns]
        if missing:
            raise UsageError(
                f"the records of {self.batch} have no column {missing[0]!r}; today's contract of {self.dataset} has"
            )
        broken = self.check(partitions, contract, self.workspace.work(self.dataset) / "check")
        if broken:
            row, why = min(broken.items())
            where = f"record {row} of {self.batch}" if row >= 0 else f"batch {self.batch}"
            more = f" ({len(broken) - 1} more do)" if len(broken) > 1 else ""
            raise UsageError(
                f"{where} breaks today's contract of {self.dataset}: {why}{more}; nothing of it was released",
                hint="discard it, or change the contract if the contract is wrong",
            )
