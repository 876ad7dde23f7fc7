"""Which data sets a workspace has: those of which there is any trace, in a folder or in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from lazaretto.errors import UsageError
from lazaretto.tables import AuditRow, BatchRow

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from lazaretto.config import Workspace

_JOURNAL = ".dsse.json"


@dataclass(frozen=True)
class Datasets:
    """The data sets of a workspace."""

    names: tuple[str, ...]
    """Those of which something is stored."""
    planned: tuple[str, ...]
    """Those that have a contract, too."""
    strays: tuple[str, ...]
    """One sentence for each thing that is named like a data set's, by what cannot be a data set's name."""

    def require(self, dataset: str) -> str:
        """The name, if there is such a data set.

        Raises:
            UsageError: There is none.
        """
        if dataset not in self.planned:
            known = f"there are: {', '.join(self.planned)}" if self.planned else "there is none yet"
            raise UsageError(f"there is no data set {dataset!r} in this workspace", hint=known)
        return dataset


def find_datasets(workspace: Workspace, session: Session) -> Datasets:
    """Every data set of which there is a trace."""
    where: dict[str, str] = {}
    for rows in (BatchRow, AuditRow):
        where.update((str(name), f"the ledger's {rows.__tablename__}") for name in session.scalars(_names(rows)))
    for part in ("attestations", "store", "quarantine"):
        folder = workspace.state / part
        where.update((path.name, str(folder)) for path in (folder.iterdir() if folder.is_dir() else ()))
    journal = workspace.state / "journal"
    where.update((path.name.removesuffix(_JOURNAL), str(journal)) for path in journal.glob(f"*{_JOURNAL}"))
    names = {name for name in where if is_name(workspace, name)}
    contracts = {path.stem for path in (workspace.root / "contracts").glob("*.yaml")}
    return Datasets(
        names=tuple(sorted(names)),
        planned=tuple(sorted(names | {name for name in contracts if is_name(workspace, name)})),
        strays=tuple(
            f"{place} has {name!r}, which is no data set's"
            for name, place in sorted(where.items())
            if name not in names
        ),
    )


def _names(rows: type[BatchRow | AuditRow]) -> Select[tuple[str]]:
    # Entries of the audit log about accounts, keys and the like are of no data set.
    return select(rows.dataset).where(rows.dataset != "").distinct()


def is_name(workspace: Workspace, name: str) -> bool:
    """Whether a data set can be called so."""
    try:
        workspace.store(name)
    except UsageError:
        return False
    return True
