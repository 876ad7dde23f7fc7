"""Commands that work in a workspace: set up, ingest, the night, the gate, what waits."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lazaretto import cli_shown
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Place = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="The workspace; found from here upwards, or in LAZARETTO_WORKSPACE."),
]
Seed = Annotated[int, typer.Option(min=0, help="Fixes everything that is drawn.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def init(folder: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """Make a workspace: configuration, contracts, landing folder, keys. Never overwrites."""
    from lazaretto.config import init_workspace

    workspace, made = init_workspace(folder)
    for path in made:
        typer.echo(f"made {path}")
    if not made:
        typer.echo(f"{workspace.root} is complete; nothing was changed")
        return
    typer.echo(
        f"next: lazaretto infer FILE --out {workspace.root / 'contracts' / 'NAME.yaml'}, and read what it guessed"
    )


def ingest(
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE...]", help="By default what landed.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Whose contract applies.")] = None,
    workspace: Place = None,
    seed: Seed = 0,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """The main job: judge a batch, store what is admitted, quarantine what is not."""
    from lazaretto.config import find_workspace
    from lazaretto.pipelines.landing import waiting

    place = find_workspace(workspace)
    if files and dataset is None:
        raise UsageError("files were named but no data set", hint="add --dataset NAME")
    names = [dataset] if dataset else list(waiting(place))
    if not names:
        raise UsageError(f"nothing waits in {place.landing}", hint="put files into landing/DATASET/, or name them")
    run = _through_prefect if _prefect(quiet=json_) else _in_process
    results = [run(place, name, files or [], (seed, device), json_) for name in names]
    if json_:
        cli_shown.print_json(results[0] if dataset else results)
    if any(result["held"] for result in results):
        raise typer.Exit(3)


def nightly(workspace: Place = None, json_: Json = False) -> None:
    """Every data set once: ingest what waits, then trend and drift."""
    from lazaretto.config import find_workspace
    from lazaretto.pipelines.nightly import nightly as run_night

    place = find_workspace(workspace)
    if _prefect(quiet=json_):
        from lazaretto.pipelines.flows import NightBroken, nightly_flow

        try:
            outcomes = nightly_flow(str(place.root))
        except NightBroken as night:
            outcomes = [outcome.as_json() for outcome in night.outcomes]
    else:
        with cli_shown.progress(quiet=json_) as (on_step, on_rows):
            outcomes = [outcome.as_json() for outcome in run_night(place, on_step=on_step, on_rows=on_rows)]
    if json_:
        cli_shown.print_json(outcomes)
    else:
        rows = [(outcome["dataset"], outcome["state"], outcome["sentence"]) for outcome in outcomes]
        cli_shown.show_table("the night", ("data set", "state", "what happened"), rows)
    worst = max((outcome["exit_code"] for outcome in outcomes), default=0)
    if worst:
        raise typer.Exit(worst)


def serve(
    workspace: Place = None,
    cron: Annotated[str, typer.Option(help="When the night begins, as cron says it.")] = "0 2 * * *",
) -> None:
    """Serve nightly on a schedule with Prefect, until interrupted."""
    from lazaretto.config import find_workspace

    place = find_workspace(workspace)
    if not prefect_api():
        raise UsageError(
            "serve needs a Prefect API", hint="start one with 'prefect server start' and set PREFECT_API_URL to it"
        )
    from lazaretto.pipelines.flows import serve_nightly
    from lazaretto.pipelines.prefect_api import check_api

    check_api()
    serve_nightly(place.root, cron)


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

    age = None if max_age is None else duration(max_age)
    attestation = ask(dataset, version=version, max_age=age, batch=batch, run=run, workspace=workspace)
    if json_:
        cli_shown.print_json({"gate": "yes", **asdict(attestation)})
        return
    cli_shown.console().print(
        f"[bold green]yes[/]: {dataset} version {attestation.version}, {attestation.active_rows:,} records, "
        f"attested {attestation.issued_at}"
    )


def status(workspace: Place = None, json_: Json = False) -> None:
    """What waits, what is held, since when."""
    from lazaretto.config import find_workspace
    from lazaretto.pipelines.status import status as look

    found = look(find_workspace(workspace))
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


def report(
    batch: Annotated[str, typer.Argument(metavar="BATCH")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Copy the report here; never overwrites.")] = None,
    workspace: Place = None,
) -> None:
    """Where one batch's HTML report lies, or a copy of it."""
    from lazaretto.config import find_workspace

    place = find_workspace(workspace)
    known = {path.name for path in place.state.joinpath("batches").glob("b-*")}
    path = place.batch(batch) / "report.html" if batch in known else None
    if path is None or not path.exists():
        raise UsageError(f"there is no batch {batch!r} here", hint="lazaretto status lists what is held")
    if out is None:
        typer.echo(str(path))
        return
    try:
        with out.open("xb") as copy:
            copy.write(path.read_bytes())
    except FileExistsError:
        raise UsageError(f"{out} exists already", hint="name another file") from None
    typer.echo(f"wrote {out}")


def contract_show(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A data set of the workspace, or a YAML file.")],
    docs: Annotated[Path | None, typer.Option(help="Write Great Expectations Data Docs here; needs --data.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="Files to hold against the suite for the Data Docs.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Print the suite that a contract stands for: every expectation, its scope and its severity."""
    from lazaretto.config import find_workspace
    from lazaretto.contract import load_contract
    from lazaretto.expectations.suite import build_suite

    path = Path(dataset)
    found = path if path.suffix in (".yaml", ".yml") else find_workspace(workspace).contract(dataset)
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


def prefect_api() -> bool:
    """Whether a Prefect API is configured, found without importing Prefect (which takes a second)."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", str(home / "profiles.toml")))
    if not profiles.is_file():
        return False
    import tomllib

    try:
        content = tomllib.loads(profiles.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{profiles} cannot be read: {error}", hint="mend it, or set PREFECT_API_URL") from error
    active = os.environ.get("PREFECT_PROFILE", content.get("active", ""))
    return bool(content.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"))


def _prefect(*, quiet: bool) -> bool:
    """Whether to run through Prefect: where an API is configured it is used, and has to answer; else we say so."""
    if prefect_api():
        from lazaretto.pipelines.prefect_api import check_api, hide_tracebacks

        check_api()
        hide_tracebacks()
        return True
    if not quiet:
        cli_shown.console(stderr=True).print("[dim]no Prefect API is configured: running the same steps in process[/]")
    return False


def duration(text: str) -> timedelta:
    """The time span of ``90m``, ``24h``, ``7d`` or ``30s``.

    Raises:
        UsageError: If the text is none.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdecimal():
        raise UsageError(f"--max-age {text!r} is no time span", hint="write for instance 90m, 24h or 7d")
    return timedelta(seconds=int(number) * _UNITS[unit])


def _in_process(place: Any, dataset: str, files: list[str], how: tuple[int, str], quiet: bool) -> dict[str, Any]:  # noqa: ANN401  a Workspace, imported late
    from lazaretto.pipelines.ingest import ingest as run_ingest
    from lazaretto.pipelines.ingest import scan_judge

    with cli_shown.progress(quiet=quiet) as (on_step, on_rows):
        result = run_ingest(place, files, dataset, judge=scan_judge(*how), on_step=on_step, on_rows=on_rows)
    shown = {**asdict(result), "folder": str(result.folder)}
    if not quiet:
        _show_ingest(shown)
    return shown


def _through_prefect(place: Any, dataset: str, files: list[str], how: tuple[int, str], quiet: bool) -> dict[str, Any]:  # noqa: ANN401  a Workspace, imported late
    from lazaretto.pipelines.flows import ingest_flow

    shown = ingest_flow(str(place.root), dataset, [str(Path(file).absolute()) for file in files], *how)
    if not quiet:
        _show_ingest(shown)
    return shown


def _show_ingest(shown: dict[str, Any]) -> None:
    from lazaretto.pipelines.outcome import read_summary

    if shown["already"]:
        cli_shown.print_lines(f"batch {shown['batch']} was ingested before; nothing was changed")
        return
    folder = Path(shown["folder"])
    cli_shown.show_summary(read_summary(folder), report=str(folder / "report.html"))
    if shown["version"] is not None:
        cli_shown.print_lines(f"  in the store as version {shown['version']} of {shown['dataset']}")


def _arguments(kwargs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
