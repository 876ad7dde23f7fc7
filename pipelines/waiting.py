"""The clusters of what waits for a person, and their cases. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from lazaretto.errors import UsageError
from lazaretto.ledger import open_ledger
from lazaretto.pipelines.cases import Case, conditions, listed
from lazaretto.pipelines.clusters import Cluster, read_clusters
from lazaretto.tables import BatchRow, CaseRow

if TYPE_CHECKING:
    from lazaretto.config import Workspace


@dataclass(frozen=True)
class Waiting:
    """A cluster of a batch with what of it still waits."""

    dataset: str
    batch: str
    open: int
    """Cases of it that nobody decided yet."""
    cluster: Cluster


def list_clusters(workspace: Workspace, *, dataset: str | None = None, batch: str | None = None) -> list[Waiting]:
    """The clusters of which some cases are open, batch by batch, the newest first.

    Raises:
        IntegrityViolated: What was kept of a batch cannot be read.
    """
    query = select(CaseRow.batch_id, CaseRow.dataset, CaseRow.row).where(*conditions(dataset, batch, "open"))
    newest = select(BatchRow.id).order_by(BatchRow.ingested_at.desc(), BatchRow.id)
    rows: dict[str, set[int]] = {}
    names: dict[str, str] = {}
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        for name, of, row in session.execute(query):
            rows.setdefault(name, set()).add(row)
            names[name] = of
        order = [name for name in session.scalars(newest) if name in rows]
    found = [
        Waiting(names[name], name, len(rows[name].intersection(cluster.rows)), cluster)
        for name in order
        for cluster in read_clusters(workspace.batch(name))
    ]
    return [one for one in found if one.open]


def list_cluster(
    workspace: Workspace, batch: str, cluster: int, *, state: str | None = "open", limit: int = 50
) -> list[Case]:
    """The cases of one cluster, the most suspicious first.

    Raises:
        UsageError: The batch has no such cluster, or the state is none.
    """
    rows = next((one.rows for one in read_clusters(workspace.batch(batch)) if one.id == cluster), None)
    if rows is None:
        raise UsageError(f"batch {batch} has no cluster {cluster}", hint="lazaretto review clusters shows them")
    return listed(workspace, [*conditions(None, batch, state), CaseRow.row.in_(rows)], limit)
