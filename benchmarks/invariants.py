"""What must hold of a workspace whatever happened to the processes that worked in it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl
from sqlalchemy import select

from benchmarks.journeys import DATASET
from lazaretto.errors import LazarettoError

if TYPE_CHECKING:
    from lazaretto.config import Workspace

KINDS = ("lost", "duplicated", "admitted unscored", "acknowledged and gone", "not verified", "otherwise another end")
"""What can be wrong, the worst first."""


def account(workspace: Workspace) -> dict[str, Any]:
    """Everything a workspace holds that a person would miss, as JSON: records, verdicts, decisions, audit entries."""
    from lazaretto.ledger import open_ledger, read_audit
    from lazaretto.pipelines.publish import read_chain
    from lazaretto.tables import BatchRow, CaseRow, DecisionRow, DiscardRow, RecallRow

    with open_ledger(workspace) as ledger, ledger.reading() as session:
        batches = [
            [row.id, row.state, row.arrived, row.admitted, row.quarantined, row.rejected, row.suspects, row.version]
            for row in session.scalars(select(BatchRow).order_by(BatchRow.id))
        ]
        cases = sorted([row.id, row.state] for row in session.scalars(select(CaseRow)))
        decisions = [f"{row.action} {row.batch_id} {row.case_id}" for row in session.scalars(select(DecisionRow))] + [
            f"recall {row.id}" for row in session.scalars(select(RecallRow))
        ]
        discards = sorted(row.mac for row in session.scalars(select(DiscardRow)))
        audit = [f"{entry.action} {entry.subject}" for entry, _ in read_audit(session)]
    chain = read_chain(workspace, DATASET).attestations
    return {
        "batches": batches,
        "cases": cases,
        "decisions": decisions,
        "discards": discards,
        "audit": audit,
        "chain": [[entry.epoch, entry.version, entry.kind, entry.unit, entry.active_rows] for entry in chain],
        "stored": _stored(workspace),
        "waiting": sorted(path.name for path in (workspace.landing / DATASET).glob("*")),
        "quarantined": _quarantined(workspace, [str(row[0]) for row in batches]),
    }


def _stored(workspace: Workspace) -> list[list[str]]:
    """Record id and batch of every record that the newest attestation says is in the store."""
    from lazaretto.pipelines.publish import read_chain

    chain = read_chain(workspace, DATASET)
    files = [workspace.store(DATASET) / path for path in chain.files(len(chain.attestations))]
    frames = [pl.read_parquet(file, columns=["_record_id", "_batch_id"]) for file in files]
    return sorted([name, batch] for frame in frames for name, batch in frame.iter_rows())


def _quarantined(workspace: Workspace, batches: list[str]) -> list[list[str]]:
    """Batch and record id of everything in quarantine, decrypted."""
    from lazaretto.pipelines.cases import open_quarantine

    found: list[list[str]] = []
    for batch in batches:
        quarantined = open_quarantine(workspace, DATASET, batch)
        found += [[batch, str(name)] for frame in quarantined.records() for name in frame["_record_id"]]
        found += [[batch, f"reject {row}"] for frame in quarantined.rejects() for row in frame["_row"]]
    return sorted(found)


def unscored(workspace: Workspace, stored: list[list[str]]) -> list[str]:
    """Records in the store without a verdict and finite scores that say admit, or a person's release."""
    from lazaretto.ledger import open_ledger
    from lazaretto.tables import CaseRow, DecisionRow

    with open_ledger(workspace) as ledger, ledger.reading() as session:
        released = select(DecisionRow).where(DecisionRow.action == "release")
        said = [(row.batch_id, row.case_id) for row in session.scalars(released)]
        named = {row.id: row.record_id for row in session.scalars(select(CaseRow))}
    allowed = {(batch, named[case]) for batch, case in said if case is not None}
    whole = {batch for batch, case in said if case is None}
    wrong: list[str] = []
    for batch in sorted({batch for _, batch in stored}):
        try:
            verdicts = pl.read_parquet(workspace.batch(batch) / "verdicts.parquet")
        except (OSError, pl.exceptions.PolarsError):
            wrong.append(f"every record of {batch}: its verdicts cannot be read")
            continue
        finite = pl.all_horizontal(pl.col("suspicion", "p_value").is_finite(), pl.col("^score\\..*$").is_finite())
        scored = verdicts.filter(finite & pl.col("decision").is_in(["admit", "quarantine"]))
        decided = dict(scored.select("record_id", "decision").iter_rows())
        for name in (name for name, of in stored if of == batch):
            verdict = decided.get(name)
            if verdict != "admit" and not (verdict and ((batch, name) in allowed or batch in whole)):
                wrong.append(f"record {name} of {batch}")
    return wrong


def faults(workspace: Workspace, expected: dict[str, Any], before: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What is wrong, each as one of `KINDS` and a sentence.

    Args:
        workspace: What is left.
        expected: The `account` of the same work done without any mishap.
        before: The account of what was acknowledged before; what of it must stay is what ``expected`` has, too.
    """
    from lazaretto.pipelines.verify import verify

    try:
        found = account(workspace)
    except LazarettoError as error:
        return [("not verified", error.message)]
    wrong = [("not verified", finding) for finding in verify(workspace).findings]
    wrong += [("admitted unscored", said) for said in unscored(workspace, found["stored"])]
    for of in ("stored", "quarantined", "batches", "cases", "decisions", "discards", "audit", "chain", "waiting"):
        have, want = (Counter(json.dumps(item) for item in one[of]) for one in (found, expected))
        kept = want & Counter(json.dumps(item) for item in before[of]) if before else Counter[str]()
        wrong += [("acknowledged and gone", f"{of}: {item}") for item in (kept - have)]
        wrong += [("lost", f"{of}: {item}") for item in (want - have) if item not in kept]
        more = have - want
        wrong += [("duplicated" if item in want else "otherwise another end", f"{of}: {item}") for item in more]
    for name, _, arrived, admitted, quarantined, rejected, *_ in found["batches"]:
        if arrived != admitted + quarantined + rejected:
            wrong.append(("lost", f"{name}: {arrived} arrived, {admitted} + {quarantined} + {rejected} accounted for"))
    return wrong


def gate_fault(workspace: Workspace, expected: dict[str, Any]) -> list[tuple[str, str]]:
    """The gate must say yes to what was published, and name the epoch that is expected."""
    from lazaretto import gate

    if not expected["chain"]:
        return []
    try:
        epoch = gate(DATASET, workspace=workspace).epoch
    except LazarettoError as error:
        return [("not verified", f"the gate: {error.message}")]
    newest = expected["chain"][-1][0]
    return [] if epoch == newest else [("lost", f"the gate knows epoch {epoch}, not {newest}")]
