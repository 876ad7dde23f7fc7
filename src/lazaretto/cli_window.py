"""What windows of batches showed, from the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from lazaretto import cli_shown
from lazaretto.cli_workspace import Json, Place


def findings(
    dataset: Annotated[str | None, typer.Argument(metavar="DATASET", help="By default all.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """List what several batches together showed and no single one did, newest first."""
    from lazaretto.entrance import enter
    from lazaretto.ledger import open_ledger
    from lazaretto.pipelines.datasets import find_datasets
    from lazaretto.pipelines.past import list_findings

    place = enter(workspace, "report.see", dataset)
    with open_ledger(place) as ledger:
        if dataset is not None:
            with ledger.reading() as session:
                dataset = find_datasets(place, session).require(dataset)
        found = list_findings(ledger, dataset)
    if json_:
        cli_shown.print_json(found)
        return
    if not found:
        cli_shown.print_lines("no window of batches showed anything")
    for one in found:
        admitted = cli_shown.counted(one["admitted"], "record")
        cli_shown.print_lines(
            f"{one['id']} {one['at']} {one['dataset']}, batch {one['batch']}: {one['says']}",
            f"  {admitted} in the store by then"
            + (f": lazaretto recall --finding {one['id']} --dry-run" if one["admitted"] else ""),
        )
