"""Looking at the audit log: some of its entries, once the whole of it is known to hang together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.ledger import open_ledger
from lazaretto.pipelines.verify_audit import read_log
from lazaretto.timespan import timespan

if TYPE_CHECKING:
    from lazaretto.audit import Entry
    from lazaretto.config import Workspace


@dataclass(frozen=True)
class Wanted:
    """Which entries; None asks for all."""

    dataset: str | None = None
    action: str | None = None
    """Whole, as ``batch.held``, or its first part."""
    actor: str | None = None
    subject: str | None = None
    since: str | None = None
    """ISO 8601, or how long ago, as ``24h``."""

    def matches(self, entry: Entry, oldest: datetime | None) -> bool:
        """Whether an entry is one of them."""
        return (
            self.dataset in (None, entry.dataset)
            and self.action in (None, entry.action, entry.action.partition(".")[0])
            and self.actor in (None, entry.actor)
            and self.subject in (None, entry.subject)
            and (oldest is None or datetime.fromisoformat(entry.at) >= oldest)
        )

    def oldest(self, now: datetime) -> datetime | None:
        """The time from which on entries are wanted.

        Raises:
            UsageError: It is neither a time nor a span.
        """
        if self.since is None:
            return None
        try:
            found = datetime.fromisoformat(self.since)
        except ValueError:
            try:
                return now - timespan(self.since)
            except (UsageError, OverflowError) as error:
                raise UsageError(
                    f"{self.since[:40]!r} is neither a time nor a span",
                    hint="write 2026-11-28, 2026-11-28T09:30 or 24h",
                ) from error
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Trail:
    """Some of the audit log."""

    entries: tuple[Entry, ...]
    """The newest that match, oldest first."""
    matching: int
    """How many do."""
    size: int
    """Entries in the log."""
    signed: int
    """Entry up to which the newest checkpoint goes; 0 where there is none."""
    findings: tuple[str, ...]
    """One sentence for each thing in the log that is not as it was written."""

    def require(self) -> None:
        """Raise when anything was found.

        Raises:
            IntegrityViolated: Something was.
        """
        if self.findings:
            raise IntegrityViolated(
                self.findings[0], hint="lazaretto verify says more; restore the ledger from a backup"
            )


def read_trail(workspace: Workspace, wanted: Wanted, limit: int, now: datetime | None = None) -> Trail:
    """The newest entries that match, with what is wrong with the log as a whole; those that were altered are left out.

    Args:
        workspace: Whose.
        wanted: Which.
        limit: Most to give.
        now: For spans; the clock's time by default.

    Raises:
        UsageError: ``since`` is neither a time nor a span.
    """
    oldest = wanted.oldest(now or datetime.now(UTC))
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        log = read_log(workspace, session)
    found = [entry for entry in log.entries if wanted.matches(entry, oldest)]
    return Trail(tuple(found[-limit:]), len(found), log.size, log.signed, log.findings)
