"""How tonight compares with the nights before: shares per batch, and whether the last stands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazaretto.config import Workspace

NIGHTS = 30
"""Most batches looked back on."""
_FEWEST = 3
"""With fewer earlier batches there is nothing to compare with."""


def trend(workspace: Workspace, dataset: str) -> list[dict[str, Any]]:
    """The data set's recent batches, oldest first.

    Each has the counts, the share of suspicious records, and ``unusual``: the chance of so many suspects if the share
    were that of all the batches before (binomial upper tail), or None where there are fewer than three before.
    """
    from scipy.stats import binom
    from sqlalchemy import select

    from lazaretto.ledger import open_ledger
    from lazaretto.tables import BatchRow

    with open_ledger(workspace) as ledger, ledger.reading() as session:
        query = select(BatchRow).where(BatchRow.dataset == dataset).order_by(BatchRow.ingested_at.desc(), BatchRow.id)
        rows = list(reversed(session.scalars(query.limit(NIGHTS)).all()))
        nights: list[dict[str, Any]] = []
        suspects = judged = 0
        for row in rows:
            mine = row.arrived - row.rejected
            # One pseudo-record of each kind: a history without a single suspect does not make one suspect impossible.
            share = (suspects + 1) / (judged + 2)
            unusual = float(binom.sf(row.suspects - 1, mine, share)) if len(nights) >= _FEWEST else None
            nights.append(
                {
                    "batch": row.id,
                    "at": row.ingested_at,
                    "arrived": row.arrived,
                    "admitted": row.admitted,
                    "quarantined": row.quarantined,
                    "rejected": row.rejected,
                    "suspects": row.suspects,
                    "share": round(row.suspects / mine, 5) if mine else 0.0,
                    "unusual": None if unusual is None else float(f"{unusual:.3g}"),
                }
            )
            suspects, judged = suspects + row.suspects, judged + mine
    return nights
