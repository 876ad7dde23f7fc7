"""Commands that look at a workspace: set it up, ask the gate, see what waits, what was judged, what was promised."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lazaretto import cli_shown
from lazaretto.errors import LazarettoError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Place = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="The workspace; found from here upwards, or in LAZARETTO_WORKSPACE."),
]


def init(folder: Annotated[Path, typer.Argument(metavar="DIR")], json_: Json = False) -> None:
    """Make a workspace: configuration, contracts, landing folder, keys. Never overwrites."""
    from lazaretto.config import init_workspace

    workspace, made = init_workspace(folder)
    if json_:
        cli_shown.print_json({"workspace": str(workspace.root), "made": [str(path) for path in made]})
        return
    for path in made:
        typer.echo(f"made {path}")
    if not made:
        typer.echo(f"{workspace.root} is complete; nothing was changed")
        return
    typer.echo(
        f"next: lazaretto infer FILE --out {workspace.root / 'contracts' / 'NAME.yaml'}, and read what it guessed"
    )


def gate(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    version: Annotated[int | None, typer.Option(min=0, help="A store version; the newest by default.")] = None,
    max_age: Annotated[str | None, typer.Option("--max-age", help="For instance 90m, 24h or 7d.")] = None,
    run: Annotated[str | None, typer.Option(help="Id of the training run, to be written down.")] = None,
    batch: Annotated[str | None, typer.Option(help="Also require that this batch is in it.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Say whether a data set may be trained on; the exit code is 0 only for yes."""
    from lazaretto.gatekeeper import gate as ask

    attestation = ask(dataset, version=version, max_age=max_age, batch=batch, run=run, workspace=workspace)
    if json_:
        cli_shown.print_json({"gate": "yes", **asdict(attestation)})
        return
    cli_shown.console().print(
        f"[bold green]yes[/]: {dataset} version {attestation.version}, "
        f"{cli_shown.counted(attestation.active_rows, 'record')}, "
        f"attested {attestation.issued_at}"
    )


def status(
    nightly_within: Annotated[
        str | None, typer.Option("--nightly-within", help="Exit with 3 if no nightly run ended within this span: 26h.")
    ] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """What waits, what is held, since when."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.alerting import tell_of_night
    from lazaretto.pipelines.heartbeat import last_night, require_night
    from lazaretto.pipelines.sandbox import offered
    from lazaretto.pipelines.status import status as look
    from lazaretto.timespan import timespan

    place = enter(workspace, "status.see")
    within = None if nightly_within is None else timespan(nightly_within)
    if within is not None:
        try:
            require_night(place, within)
        except LazarettoError:
            tell_of_night(place, within)
            raise
    found = look(place)
    if json_:
        cli_shown.print_json([asdict(one) for one in found])
        return
    if not found:
        typer.echo("no data set yet; lazaretto infer FILE --out contracts/NAME.yaml makes the first contract")
    for one in found:
        said = f"version {one.version}, {one.admitted_records:,} records" if one.version is not None else one.gate
        cli_shown.print_lines(
            f"{one.dataset}: gate {'yes' if one.version is not None else 'no'} ({said})",
            f"  {one.open_cases:,} cases wait" + (f", the oldest since {one.oldest_case}" if one.oldest_case else ""),
            *(
                f"  held since {h['since']}: {h['batch']}, {h['records']:,} records: {h['reasons'][0]}"
                for h in one.held
            ),
            *(["  files wait in the landing folder: lazaretto ingest"] if one.landing else []),
        )
    night = last_night(place)
    if night is not None:
        cli_shown.print_lines(night.sentence)
    cli_shown.print_lines(f"sandbox of the reader: {offered().words}")


def report(
    batch: Annotated[str, typer.Argument(metavar="BATCH")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Copy the report here; never overwrites.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Where one batch's HTML report lies, or a copy of it."""
    from lazaretto.entrance import enter

    place = enter(workspace, "report.see")
    known = {path.name for path in place.state.joinpath("batches").glob("b-*")}
    path = place.batch(batch) / "report.html" if batch in known else None
    if path is None or not path.exists():
        raise UsageError(f"there is no batch {batch!r} here", hint="lazaretto ingest prints its id")
    if out is not None:
        cli_shown.write_new(out, path.read_bytes())
    if json_:
        cli_shown.print_json({"batch": batch, "report": str(out or path)})
    else:
        typer.echo(str(path) if out is None else f"wrote {out}")


def contract_show(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A data set of the workspace, or a YAML file.")],
    docs: Annotated[Path | None, typer.Option(help="Write Great Expectations Data Docs here; needs --data.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="Files to hold against the suite for the Data Docs.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Print the suite that a contract stands for: every expectation, its scope and its severity."""
    from lazaretto.contract import load_contract
    from lazaretto.entrance import enter
    from lazaretto.expectations.suite import build_suite

    path = Path(dataset)
    found = path if path.suffix in (".yaml", ".yml") else enter(workspace, "contract.see").contract(dataset)
    contract = load_contract(found)
    suite = build_suite(contract)
    if docs is not None:
        if not data:
            raise UsageError(
                "--docs says how data fares under the suite, and no data was named", hint="add --data FILE"
            )
        from lazaretto.pipelines.data_docs import write_data_docs

        typer.echo(f"wrote {write_data_docs(contract, data, docs, datetime.now(UTC))}")
        return
    if json_:
        sys.stdout.write(suite.to_json())
        return
    rows = [(e.type, _arguments(e.kwargs), e.scope, e.severity, e.origin) for e in suite.expectations]
    cli_shown.show_table(f"suite {suite.name}", ("expectation", "arguments", "scope", "severity", "from"), rows)


def _arguments(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
