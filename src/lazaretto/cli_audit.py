"""The auditor's commands: what was done, by whom, and whether everything is as it was signed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lazaretto import cli_shown
from lazaretto.cli_workspace import Json, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN = ("counts", "remembered", "assignee", "version")


def audit(  # noqa: PLR0913, PLR0917  Typer reads one parameter per option
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Only of this data set.")] = None,
    action: Annotated[
        str | None, typer.Option(help="Only such entries: batch.held, or all that begin so, as case or batch.")
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this user did.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only of this batch, release, recall or training run.")] = None,
    since: Annotated[str | None, typer.Option(help="Only from this time on: ISO 8601, or a span such as 24h.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest at most.")] = 50,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """What was done and by whom, oldest first; the whole log is checked against its hashes and checkpoints."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.audit_trail import Wanted, read_trail

    found = read_trail(enter(workspace, "audit.see"), Wanted(dataset, action, actor, subject, since), limit)
    if json_:
        entries = [{**asdict(entry), "hash": entry.hash} for entry in found.entries]
        cli_shown.print_json({**asdict(found), "entries": entries})
        raise typer.Exit(5 if found.findings else 0)
    signed = f"the newest checkpoint is of entry {found.signed:,}" if found.signed else "no checkpoint is signed yet"
    cli_shown.print_lines(
        *(f"{e.seq} {e.at} {e.actor}: {e.action} {e.dataset} {e.subject}{_said(e.detail)}" for e in found.entries),
        f"{len(found.entries):,} of the {found.matching:,} entries that match, {found.size:,} in the log; {signed}",
        *(f"found: {finding}" for finding in found.findings[1:]),
    )
    found.require()


def _said(detail: Mapping[str, object]) -> str:
    """The parts of an entry that a person reads at a glance."""
    parts: list[str] = []
    for name in _SHOWN:
        value = detail.get(name)
        if isinstance(value, dict):
            parts += [f"{key} {count:,}" for key, count in value.items() if isinstance(count, int) and count]
        elif value is not None:
            parts.append(f"{name} {value}")
    return f" ({', '.join(parts)})" if parts else ""


def verify(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="With public keys alone, as an auditor: nothing is decrypted.")
    ] = False,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Re-hash store, quarantine, audit log and signatures."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.verify import verify as check

    with cli_shown.progress(quiet=json_) as (on_step, on_rows):
        found = check(enter(workspace, "verify.run"), dataset, public=public, on_step=on_step, on_rows=on_rows)
    if json_:
        cli_shown.print_json(asdict(found))
        if found.findings:
            raise typer.Exit(5)
        return
    cli_shown.print_lines(
        f"{found.files:,} store files with {found.records:,} records, {found.quarantined:,} quarantined batches"
        f"{' (their sealed manifests)' if public else ''} and {found.audit_entries:,} audit entries checked",
        *(f"note: {note}" for note in found.notes),
        *(f"found: {finding}" for finding in found.findings[1:]),
    )
    # The first of them is the error that this ends with.
    found.require()
    cli_shown.print_lines("everything is as it was signed")
