"""Fairness of quarantine from the command line."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lazaretto import cli_shown
from lazaretto.cli_workspace import Json, Place


def fairness(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")], workspace: Place = None, json_: Json = False
) -> None:
    """How often records of each group are suspected and released, over all batches, and whether that is by chance."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.fairness import fairness as compare

    with cli_shown.progress(quiet=json_) as (_, on_rows):
        found = compare(enter(workspace, "fairness.see"), dataset, on_rows)
    if json_:
        cli_shown.print_json(asdict(found))
        return
    rows = [
        (
            f"{row.column} = {row.value}",
            row.judged,
            row.suspects,
            f"{row.suspects / row.judged:.1%}" if row.judged else "-",
            row.decided,
            row.released,
            f"{row.released / row.decided:.0%}" if row.decided else "-",
        )
        for row in found.rows
    ]
    batches = cli_shown.counted(found.batches, "batch").replace("batchs", "batches")
    columns = ("group", "judged", "suspects", "share", "decided", "released", "share")
    cli_shown.show_table(f"{dataset}, {batches}", columns, rows)
    said = [one.sentence("are suspected") for one in found.waiting]
    said += [one.sentence("are kept out for good") for one in found.kept_out]
    cli_shown.print_lines(*(said or ["no group differs from the others by more than chance and a quarter"]))
