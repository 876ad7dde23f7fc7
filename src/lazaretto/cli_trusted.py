"""The trusted set from the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lazaretto import cli_people, cli_shown
from lazaretto.cli_workspace import Json, Place
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from lazaretto.config import Workspace

trusted = typer.Typer(help="Add admitted records to the trusted set, and take them out again.", no_args_is_help=True)

Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; kept for good.")]
OfDataset = Annotated[str | None, typer.Option("--dataset", "-d", help="The data set; needed if there are several.")]


@trusted.command()
def add(
    reason: Reason,
    source: Annotated[str | None, typer.Option(help="Every admitted record of this source.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", "-b", help="Every admitted record of this batch.")] = None,
    records: Annotated[
        Path | None, typer.Option(help="The records listed in this file, as for lazaretto recall.")
    ] = None,
    dataset: OfDataset = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Add admitted records to the trusted set; one person and one source may have added a share of it at most."""
    from lazaretto.entrance import acting, enter
    from lazaretto.pipelines.review import word
    from lazaretto.pipelines.selection import Selection, listed
    from lazaretto.pipelines.two_persons import NeedsApproval
    from lazaretto.pipelines.vouching import add as vouch

    place = enter(workspace, "trusted.change", dataset)
    given = [one for one in (source, batch, records) if one is not None]
    if len(given) != 1:
        raise UsageError("name what is to be added, in one way", hint="--source, --batch or --records")
    if records is not None:
        selection = listed(records)
    else:
        selection = Selection("source", source) if source is not None else Selection("batch", str(batch))
    try:
        done = vouch(place, _one(place, dataset), selection, word(reason, acting(place).name))
    except NeedsApproval as needed:
        cli_people.proposed(place, needed, json_=json_)
    if json_:
        cli_shown.print_json(asdict(done))
        return
    what = cli_shown.counted(done.records, "record")
    cli_shown.print_lines(f"{what} added to the trusted set of {done.dataset} ({done.id}, version {done.version})")


@trusted.command("list")
def list_(dataset: OfDataset = None, workspace: Place = None, json_: Json = False) -> None:
    """List what was added to trusted sets and taken out again, oldest first."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.vouching import list_acts

    place = enter(workspace, "trusted.see", dataset)
    found = list_acts(place, None if dataset is None else _one(place, dataset))
    if json_:
        cli_shown.print_json([asdict(act) for act in found])
        return
    if not found:
        cli_shown.print_lines("nothing was added to a trusted set; those that contracts name are not listed here")
    for act in found:
        what = cli_shown.counted(act.records, "record")
        done = f"{what} added" + ("" if act.active else ", taken out since") if act.of is None else f"{act.of} reverted"
        cli_shown.print_lines(
            f"{act.id} {act.at} {act.actor}: {done} (version {act.version} of {act.dataset})", f"  because {act.reason}"
        )


@trusted.command()
def revert(
    reason: Reason,
    by: Annotated[str | None, typer.Option(help="Everything that this person added.")] = None,
    act: Annotated[str | None, typer.Option(help="One addition, by its id.")] = None,
    dataset: OfDataset = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Take additions out of the trusted set again."""
    from lazaretto.entrance import acting, enter
    from lazaretto.pipelines.review import word
    from lazaretto.pipelines.vouching import revert as take_out

    place = enter(workspace, "trusted.change", dataset)
    if (by is None) == (act is None):
        raise UsageError("name what is to be taken out, in one way", hint="--by or --act")
    done = take_out(place, _one(place, dataset), word(reason, acting(place).name), act=act, by=by)
    if json_:
        cli_shown.print_json([asdict(one) for one in done])
        return
    for one in done:
        what = cli_shown.counted(one.records, "record")
        cli_shown.print_lines(f"{what} of {one.of} taken out of the trusted set (version {one.version})")


def _one(place: Workspace, dataset: str | None) -> str:
    from lazaretto.ledger import open_ledger
    from lazaretto.pipelines.datasets import find_datasets

    with open_ledger(place) as ledger, ledger.reading() as session:
        found = find_datasets(place, session)
    if dataset is None and len(found.names) != 1:
        raise UsageError("name the data set, --dataset", hint=f"there are: {', '.join(found.names) or 'none yet'}")
    return found.require(dataset) if dataset is not None else found.names[0]
