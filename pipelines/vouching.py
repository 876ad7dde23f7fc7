"""Additions to the trusted set: explicit, audited, versioned acts of people, capped and reversible.

A decision on a case teaches nothing: released records are no better trusted than before. Who wants records in the
trusted set says so, and no one person and no one source may have added more than the contract's ``trusted_share`` of
it, for whoever fills the trusted set decides what is called clean. The contract's own ``trusted`` files stay what they
are; what was added lies beside them and can be taken out again as it came.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from sqlalchemy import func, select

from lazaretto.attest import unchanged
from lazaretto.audit import Entry, digest_of
from lazaretto.config import dataset_lock
from lazaretto.contract import load_contract
from lazaretto.durable import make_folder, writable, write_durably
from lazaretto.errors import UsageError
from lazaretto.ledger import append_audit, checkpoint, open_ledger
from lazaretto.loader import opened
from lazaretto.pipelines.digests import digests
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.trusted import read_trusted
from lazaretto.pipelines.two_persons import TRUST, NeedsApproval
from lazaretto.proposals import Wish, require_approved
from lazaretto.proposals import done as mark_done
from lazaretto.records import RECORD_ID
from lazaretto.store import BATCH_ID
from lazaretto.tables import TrustedActRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.ledger import Ledger
    from lazaretto.pipelines.review import Word
    from lazaretto.pipelines.selection import Selection

ADD, REVERT = "add", "revert"


@dataclass(frozen=True)
class Act:
    """One addition to a trusted set, or its reversal."""

    id: str
    dataset: str
    action: str
    of: str | None
    """The act that is reverted."""
    records: int
    sources: dict[str, int]
    reason: str
    actor: str
    at: str
    version: int
    active: bool
    """Whether its records are in the trusted set now."""


def add(workspace: Workspace, dataset: str, selection: Selection, said: Word) -> Act:
    """Add admitted records to the trusted set.

    Args:
        workspace: Where everything lies.
        dataset: The data set.
        selection: Which of its admitted records.
        said: Who adds them and why.

    Raises:
        UsageError: Nothing new is meant, or one person or source would have added more than the contract's share.
        Blocked: The gate says no.
        NeedsApproval: There are accounts, so it takes two persons.
    """
    contract = load_contract(workspace.contract(dataset))
    with writable(workspace.state), dataset_lock(workspace, dataset), open_ledger(workspace) as ledger:
        meant = _meant(workspace, contract, selection)
        with ledger.reading() as session:
            active = _active(session, dataset)
        meant, known = _new(workspace, contract, meant, active)
        _check_share(contract, meant, active, known, said.actor)
        content = io.BytesIO()
        meant.select(list(contract.all_columns)).write_parquet(content)
        sha256 = hashlib.sha256(content.getvalue()).hexdigest()
        _require_two(ledger, dataset, {**selection.told, "ids": sorted(selection.ids), "sha256": sha256}, said)
        with ledger.writing() as session:
            version = _next_version(session, dataset)
            unit = "t-" + hashlib.sha256(json.dumps([dataset, version, sha256]).encode()).hexdigest()[:20]
            path = _file(workspace, dataset, unit)
            make_folder(path.parent)
            write_durably(path, content.getvalue())
            sources = json.dumps(_sources(contract, meant), sort_keys=True)
            what = {"of": None, "records": len(meant), "sources": sources, "sha256": sha256}
            row = _row(unit, dataset, ADD, said, version, **what)
            _record(session, row, "trusted.added")
            if said.proposal:
                mark_done(session, said.actor, said.proposal, said.at)
            done = _act(row, active=True)
        checkpoint(ledger)
    return done


def _require_two(ledger: Ledger, dataset: str, what: dict[str, Any], said: Word) -> None:
    """Refuse an addition by one person alone; where there are no accounts nobody can be told apart."""
    if not ledger.workspace.accounts_mark.exists():
        return
    if not said.proposal:
        why = "what is trusted says what is usual, for every later batch"
        raise NeedsApproval(Wish(TRUST, dataset, what, (why,), said.reason))
    with ledger.reading() as session:
        require_approved(session, ledger.workspace, said.proposal, TRUST, what, datetime.fromisoformat(said.at))


def revert(
    workspace: Workspace, dataset: str, said: Word, *, act: str | None = None, by: str | None = None
) -> list[Act]:
    """Take additions out of the trusted set again: one act, or all of one person.

    Raises:
        UsageError: There is no such addition, or it was reverted before.
    """
    with writable(workspace.state), dataset_lock(workspace, dataset), open_ledger(workspace) as ledger:
        done = []
        with ledger.writing() as session:
            active = _active(session, dataset)
            chosen = [row for row in active if row.id == act or (by is not None and row.actor == by)]
            if not chosen:
                whose = f"addition {act}" if act is not None else f"addition by {by}"
                raise UsageError(
                    f"the trusted set of {dataset} has no {whose}", hint="lazaretto trusted list says what was added"
                )
            for row in chosen:
                version = _next_version(session, dataset)
                unit = "t-" + hashlib.sha256(json.dumps([dataset, version, row.id]).encode()).hexdigest()[:20]
                what = {"of": row.id, "records": row.records, "sources": row.sources, "sha256": row.sha256}
                back = _row(unit, dataset, REVERT, said, version, **what)
                _record(session, back, "trusted.reverted")
                done.append(_act(back, active=False))
        checkpoint(ledger)
    return done


def list_acts(workspace: Workspace, dataset: str | None = None) -> list[Act]:
    """Every addition and reversal, oldest first."""
    rows = select(TrustedActRow).order_by(TrustedActRow.dataset, TrustedActRow.version)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        found = list(session.scalars(rows if dataset is None else rows.where(TrustedActRow.dataset == dataset)))
        gone = {row.of for row in found if row.action == REVERT}
        return [_act(row, active=row.action == ADD and row.id not in gone) for row in found]


def added_files(workspace: Workspace, ledger: Ledger, dataset: str) -> tuple[str, ...]:
    """The files of what was added and not taken out again.

    Raises:
        IntegrityViolated: One is not what was added.
    """
    with ledger.reading() as session:
        active = _active(session, dataset)
    return tuple(str(_verified(workspace, row)) for row in active)


def told_of(row: TrustedActRow) -> dict[str, Any]:
    """What the audit log says of an act: no content, but a digest of all that the ledger has."""
    said = [
        row.id,
        row.action,
        row.of,
        row.records,
        row.sources,
        row.sha256,
        row.reason,
        row.actor,
        row.at,
        row.version,
    ]
    detail = {"records": row.records, "sha256": row.sha256, "version": row.version, "act": digest_of(said)}
    return detail if row.of is None else {**detail, "of": row.of}


def _meant(workspace: Workspace, contract: Contract, selection: Selection) -> pl.DataFrame:
    """The admitted records that are meant, with the contract's columns."""
    chain = read_chain(workspace, contract.dataset)
    columns = [*contract.all_columns, RECORD_ID, BATCH_ID]
    which = selection.taken(chain, contract, "")
    if which is None:
        raise UsageError("records are added to the trusted set by source, batch or a list")
    admitted = opened(workspace, contract.dataset, columns=columns)
    parts = [frame.filter(which) for frame in admitted.frames()]
    meant = pl.concat(parts) if parts else pl.DataFrame()
    if not len(meant):
        raise UsageError(
            f"no record {selection.said} is in the store of {contract.dataset}",
            hint="only admitted records can be added",
        )
    return meant


def _new(
    workspace: Workspace, contract: Contract, meant: pl.DataFrame, active: Sequence[TrustedActRow]
) -> tuple[pl.DataFrame, int]:
    """Of the records meant those that are not trusted already, each once; and how many the contract's files have."""
    with tempfile.TemporaryDirectory() as folder:
        named = read_trusted(contract, (), Path(folder))
    columns = contract.all_columns
    known: set[str] = set() if named is None else set(digests(named, columns).to_list())
    for row in active:
        known.update(digests(pl.read_parquet(_verified(workspace, row)), columns).to_list())
    mine = digests(meant, columns)
    new = meant.filter(~mine.is_in(sorted(known)) & mine.is_first_distinct())
    if not len(new):
        raise UsageError(f"all {len(meant):,} records are in the trusted set already")
    return new, 0 if named is None else len(named)


def _check_share(
    contract: Contract, new: pl.DataFrame, active: Sequence[TrustedActRow], known: int, actor: str
) -> None:
    """Refuse what would give one person or one source too much of the trusted set."""
    share = contract.policy.trusted_share
    before = known + sum(row.records for row in active)
    total = before + len(new)
    people, sources = Counter[str](), Counter[str]()
    for row in active:
        people[row.actor] += row.records
        sources.update(json.loads(row.sources))
    adding = _sources(contract, new)
    who = [(f"{actor}", people[actor], len(new))]
    who += [(f"source {name!r}", sources[name], count) for name, count in sorted(adding.items())]
    for name, had, more in who:
        if had + more <= share * total:
            continue
        left = max(0, math.floor((share * before - had) / (1 - share)))
        raise UsageError(
            f"{name} would have added {had + more:,} of {total:,} trusted records, over the limit of {share:.0%}",
            hint=f"add {left:,} at most"
            if left
            else "others, or the contract's own 'trusted' files, must have more first",
        )


def _sources(contract: Contract, records: pl.DataFrame) -> dict[str, int]:
    if contract.source is None:
        return {}
    counted = records[contract.source].cast(pl.String).drop_nulls().rename("source").value_counts(name="records")
    return dict(sorted(counted.iter_rows()))


def _active(session: Session, dataset: str) -> list[TrustedActRow]:
    rows = select(TrustedActRow).where(TrustedActRow.dataset == dataset).order_by(TrustedActRow.version)
    found = list(session.scalars(rows))
    gone = {row.of for row in found if row.action == REVERT}
    return [row for row in found if row.action == ADD and row.id not in gone]


def _verified(workspace: Workspace, row: TrustedActRow) -> Path:
    path = _file(workspace, row.dataset, row.id)
    unchanged(path, row.sha256, "what was added to the trusted set", f"lazaretto trusted revert --act {row.id}")
    return path


def _file(workspace: Workspace, dataset: str, unit: str) -> Path:
    return workspace.state / "trusted" / dataset / f"{unit}.parquet"


def _next_version(session: Session, dataset: str) -> int:
    newest = select(func.max(TrustedActRow.version)).where(TrustedActRow.dataset == dataset)
    return (session.scalar(newest) or 0) + 1


def _row(unit: str, dataset: str, action: str, said: Word, version: int, **more: Any) -> TrustedActRow:  # noqa: ANN401  columns of the row
    told = {"reason": said.reason, "actor": said.actor, "at": said.at, "version": version}
    return TrustedActRow(id=unit, dataset=dataset, action=action, **told, **more)


def _record(session: Session, row: TrustedActRow, action: str) -> None:
    session.add(row)
    append_audit(session, Entry(0, row.at, row.actor, action, row.dataset, row.id, told_of(row)))


def _act(row: TrustedActRow, *, active: bool) -> Act:
    return Act(
        id=row.id,
        dataset=row.dataset,
        action=row.action,
        of=row.of,
        records=row.records,
        sources=json.loads(row.sources),
        reason=row.reason,
        actor=row.actor,
        at=row.at,
        version=row.version,
        active=active,
    )
