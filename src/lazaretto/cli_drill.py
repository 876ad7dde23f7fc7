"""The drill from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lazaretto import cli_shown
from lazaretto.cli_workspace import Json, Place

if TYPE_CHECKING:
    from collections.abc import Mapping

Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it as a page, HTML, to this file.")]


def drill(  # noqa: PLR0913, PLR0917  Typer reads one parameter per option
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    attack: Annotated[list[str] | None, typer.Option(help="Only this one; may be given several times.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.0001, max=0.5, help="Share to poison; each attack's own.")] = None,
    records: Annotated[int, typer.Option(min=200, help="Most records of the copy.")] = 4_000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Draws the copy and the poison.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    out: Out = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Plant known attacks in a copy of the latest batch and say how much would be caught."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.drill import drill as run_drill

    place = enter(workspace, "drill.run", dataset)
    cli_shown.require_page(out)
    with cli_shown.progress(quiet=json_) as (on_step, _):
        found = run_drill(
            place, dataset, attacks=attack or (), rate=rate, records=records, how=(seed, device), on_step=on_step
        ).as_json()
    if json_:
        cli_shown.print_json(found)
    else:
        show(found)
    if out is not None:
        from lazaretto.dashboards.night import render_drill

        render_drill(found, out)
        if not json_:
            cli_shown.print_lines(f"page: {out}")


def show(found: Mapping[str, Any]) -> None:
    """The drill as a table, the hardest attack first, and its weakest spot as a sentence."""
    from lazaretto.dashboards.night import hardest_first, weakest_spot

    rows = [
        (
            one["title"],
            f"{one['rate']:.1%}",
            one["poisons"],
            one["caught"],
            f"{one['recall']:.0%}",
            f"{one['low']:.0%}-{one['high']:.0%}",
            f"{one['ranked']:.0%}",
            "whole batch waits" if one["held"] else "",
        )
        for one in hardest_first(found)
    ]
    columns = ("attack", "rate", "planted", "caught", "recall", "95 %", "top 1 %", "")
    cli_shown.show_table(
        f"drill of {found['dataset']}, {found['records']:,} records of {found['batch']}", columns, rows
    )
    null = "a trusted set" if found["null"] == "trusted" else "no trusted set"
    cli_shown.print_lines(
        f"with {null}; with nothing planted {found['false_quarantines']:.1%} of these admitted records would wait"
    )
    for why in found["hold_reasons"]:
        cli_shown.print_lines(f"and all of them would: {why}")
    if weakest := weakest_spot(found):
        cli_shown.print_lines(weakest)
    for name, why in found["left_out"].items():
        cli_shown.print_lines(f"not planted: {name}, for {why}")
