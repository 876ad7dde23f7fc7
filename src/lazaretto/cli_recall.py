"""Recall from the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lazaretto import cli_shown
from lazaretto.cli_workspace import Json, Place
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.config import Workspace
    from lazaretto.pipelines.recalled import Reader, Recall
    from lazaretto.pipelines.selection import Selection

_NAMED = 5
"""Ids that are named of those that are not there."""


def recall(  # noqa: PLR0913, PLR0917  Typer reads one parameter per option
    source: Annotated[str | None, typer.Option(help="Every record of this source.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", "-b", help="Every record of this batch.")] = None,
    records: Annotated[
        Path | None,
        typer.Option(help="The records listed in this file: an id a line, or a column record_id of Parquet or CSV."),
    ] = None,
    finding: Annotated[
        str | None, typer.Option("--finding", help="The records that carry what a window of batches showed.")
    ] = None,
    after_version: Annotated[
        int | None, typer.Option("--after-version", min=0, help="Roll back: every record that came after this version.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="The data set; needed but for a batch.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", "-r", help="Why; kept for good.")] = None,
    may_return: Annotated[
        bool, typer.Option("--may-return", help="Do not refuse the same content when it arrives again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be taken out, and change nothing.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the recalls that were made.")] = False,
    show: Annotated[
        str | None, typer.Option("--show", metavar="RECALL", help="One recall that was made; its page is made anew.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the report here, HTML.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Take admitted records out of the store again, and list the training runs that read them."""
    from lazaretto.entrance import acting, enter

    place = enter(workspace, "recall.see" if list_ or show is not None or dry_run else "recall.make", dataset)
    given = [one for one in (source, batch, records, finding, after_version) if one is not None]
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already", hint="name another file, or remove it first")
    if list_ or show is not None:
        if given or dry_run or reason is not None or (list_ and (out is not None or show is not None)):
            raise UsageError(
                "--list goes with nothing but --dataset, and --show with nothing but --out",
                hint="leave out the other options",
            )
        _made(place, dataset, show, out, json_=json_)
        return
    if len(given) != 1:
        raise UsageError(
            "name what is to be recalled, in one way", hint="--source, --batch, --records, --finding or --after-version"
        )
    cli_shown.require_page(out)
    if finding is not None:
        selection, dataset = _found(place, dataset, finding)
    else:
        selection, dataset = _selected(place, dataset, source, batch, records, after_version)
    if dry_run:
        _look(place, dataset, selection, json_=json_)
        return
    if reason is None:
        raise UsageError("a recall needs a reason", hint="say why with --reason; it is kept for good")
    from lazaretto.pipelines.recall import absent
    from lazaretto.pipelines.recall import recall as take_out
    from lazaretto.pipelines.review import word

    with cli_shown.progress(quiet=json_) as (on_step, on_rows):
        said = word(reason, acting(place).name)
        made = take_out(place, dataset, selection, said, may_return=may_return, on_step=on_step, on_rows=on_rows)
    page = _page(place, made, out)
    missed = absent(place, made, selection)
    if json_:
        cli_shown.print_json({**asdict(made), "absent": missed, "report": str(page)})
        return
    what = cli_shown.counted(made.records, "record")
    cli_shown.print_lines(
        f"{what} of {dataset} recalled ({made.unit}): version {made.version} is without",
        *_not_there(missed, selection),
        *_read_by(made.readers),
        f"report: {page}",
    )


def _found(place: Workspace, dataset: str | None, finding: str) -> tuple[Selection, str]:
    from lazaretto.ledger import open_ledger
    from lazaretto.pipelines.past import carriers_of
    from lazaretto.pipelines.selection import carrying

    with open_ledger(place) as ledger, ledger.reading() as session:
        own, carriers = carriers_of(place, session, finding)
    if dataset not in {None, own}:
        raise UsageError(f"finding {finding} is of {own}, not of {dataset}", hint="leave out --dataset")
    return carrying(finding, carriers), own


def _selected(
    place: Workspace,
    dataset: str | None,
    source: str | None,
    batch: str | None,
    records: Path | None,
    after: int | None,
) -> tuple[Selection, str]:
    from lazaretto.ledger import open_ledger
    from lazaretto.pipelines.datasets import find_datasets
    from lazaretto.pipelines.selection import Selection, listed
    from lazaretto.pipelines.undecided import batch_by_id

    with open_ledger(place) as ledger, ledger.reading() as session:
        if batch is not None:
            own = batch_by_id(session, batch).dataset
            if dataset not in (None, own):
                raise UsageError(f"batch {batch} is of {own}, not of {dataset}", hint="leave out --dataset")
            return Selection("batch", batch), own
        found = find_datasets(place, session)
        if dataset is None and len(found.names) != 1:
            raise UsageError("name the data set, --dataset", hint=f"there are: {', '.join(found.names) or 'none yet'}")
        name = found.require(dataset) if dataset is not None else found.names[0]
    if records is not None:
        return listed(records), name
    return (Selection("source", source) if source is not None else Selection("after", str(after))), name


def _look(place: Workspace, dataset: str, selection: Selection, *, json_: bool) -> None:
    from lazaretto.pipelines.recall import look

    with cli_shown.progress(quiet=json_) as (_, on_rows):
        found = look(place, dataset, selection, on_rows)
    if json_:
        cli_shown.print_json({"dataset": dataset, **asdict(found)})
        return
    what = cli_shown.counted(found.records, "record")
    cli_shown.print_lines(
        f"{what} of {dataset} {selection.said} would be recalled; nothing was changed",
        *(f"  {count:,} of {batch}" for batch, count in found.batches.items()),
        *_not_there(found.absent, selection),
        *_read_by(found.readers),
    )


def _made(place: Workspace, dataset: str | None, unit: str | None, out: Path | None, *, json_: bool) -> None:
    """Recalls that were made; of one the page, too."""
    from lazaretto.dashboards.recalled import described
    from lazaretto.pipelines.recall import list_recalls, shown_again

    found = list_recalls(place, dataset)
    if unit is not None:
        found = [one for one in found if one.unit == unit]
        if not found:
            raise UsageError(f"there is no recall {unit}", hint="lazaretto recall --list names them")
        shown_again(place, found[0])
    page = None if unit is None else _page(place, found[0], out)
    if json_:
        shown = [asdict(one) for one in found]
        cli_shown.print_json(shown if page is None else {**shown[0], "report": str(page)})
        return
    if not found:
        cli_shown.print_lines("nothing was recalled")
    for one in found:
        cli_shown.print_lines(
            f"{one.unit} {one.at} {one.actor}: {described(one.selection)} of {one.dataset},"
            f" {cli_shown.counted(one.records, 'record')}; version {one.version} is without",
            f"  because {one.reason}",
            *_read_by(one.readers),
        )
    if page is not None:
        cli_shown.print_lines(f"report: {page}")


def _not_there(missed: Sequence[str], selection: Selection) -> list[str]:
    if not missed:
        return []
    few = ", ".join(repr(one) for one in missed[:_NAMED]) + (", ..." if len(missed) > _NAMED else "")
    return [f"  {len(missed):,} of the {len(selection.ids):,} listed are not in the store: {few}"]


def _read_by(readers: Sequence[Reader]) -> list[str]:
    if not readers:
        return ["  read by no training run that gave its id to the gate"]
    return ["  read by:", *(f"    {one.run}, version {one.version}, {one.at}" for one in readers)]


def _page(place: Workspace, made: Recall, out: Path | None) -> Path:
    """Where the report is; with ``out`` a copy of it."""
    from lazaretto.pipelines.recalled import REPORT

    page = place.recall(made.dataset, made.unit) / REPORT
    if out is None:
        return page
    cli_shown.write_new(out, page.read_bytes())
    return out
