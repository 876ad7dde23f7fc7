"""Commands that bring data in: one batch now, every data set each night, the night on a schedule."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lazaretto import cli_drill, cli_shown
from lazaretto.cli_workspace import Json, Place
from lazaretto.errors import LazarettoError, UsageError

Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Fixes everything that is drawn.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]


def ingest(
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE...]", help="By default what landed.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Whose contract applies.")] = None,
    workspace: Place = None,
    seed: Seed = 0,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """The main job: judge a batch, store what is admitted, quarantine what is not."""
    from lazaretto.contract import load_contract
    from lazaretto.entrance import enter
    from lazaretto.pipelines.landing import waiting

    place = enter(workspace, "ingest.run", dataset)
    if files and dataset is None:
        named = (place.root / "contracts" / f"{files[0]}.yaml").is_file() and Path(files[0]).name == files[0]
        hint = f"did you mean --dataset {files[0]}?" if named else "add --dataset NAME"
        raise UsageError("files were named but no data set", hint=hint)
    landed = waiting(place)
    if dataset and not files and dataset not in landed:
        load_contract(place.contract(dataset))  # of a data set that is none nothing waits either, which says too little
    names = [name for name in landed if dataset in (None, name)] if not files else [str(dataset)]
    if not names and not json_:
        where = place.landing / (dataset or "")
        cli_shown.print_lines(f"nothing waits in {where}; put files into landing/DATASET/, or name them")
    run = _through_prefect if names and _prefect(quiet=json_) else _in_process
    results, codes = [], [0]
    for name in names:
        try:
            results.append(run(place, name, files or [], (seed, device), json_))
            codes.append(3 if results[-1]["held"] else 0)
        except LazarettoError as error:
            if len(names) == 1:
                raise
            # One data set that is refused must not keep the others waiting.
            results.append({"dataset": name, "error": cli_shown.error_document(error)})
            codes.append(error.exit_code)
            cli_shown.print_error(error, as_json=False)
    if json_:
        cli_shown.print_json(results[0] if dataset and results else results)
    if max(codes):
        raise typer.Exit(max(codes))


def nightly(
    drill: Annotated[bool, typer.Option("--drill", help="Also drill what was admitted; takes minutes.")] = False,
    out: cli_drill.Out = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Every data set once: ingest what waits, then trend, drift and, with --drill, a drill."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.nightly import nightly as run_night

    place = enter(workspace, "nightly.run")
    cli_shown.require_page(out)
    if _prefect(quiet=json_):
        from lazaretto.pipelines.flows import NightBroken, nightly_flow

        try:
            outcomes = nightly_flow(str(place.root), drill=drill)
        except NightBroken as night:
            outcomes = [outcome.as_json() for outcome in night.outcomes]
    else:
        with cli_shown.progress(quiet=json_) as (on_step, on_rows):
            outcomes = [
                outcome.as_json() for outcome in run_night(place, drilled=drill, on_step=on_step, on_rows=on_rows)
            ]
    if json_:
        cli_shown.print_json(outcomes)
    else:
        rows = [(outcome["dataset"], outcome["state"], outcome["sentence"]) for outcome in outcomes]
        cli_shown.show_table("the night", ("data set", "state", "what happened"), rows)
        _show_drills(outcomes)
    if out is not None:
        from lazaretto.dashboards.night import render_night

        render_night(outcomes, out)
        if not json_:
            cli_shown.print_lines(f"page: {out}")
    worst = max((outcome["exit_code"] for outcome in outcomes), default=0)
    if worst:
        raise typer.Exit(worst)


def _show_drills(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        drill = outcome["drill"]
        if drill is None:
            continue
        if "error" in drill:
            cli_shown.print_lines(f"{outcome['dataset']} was not drilled: {drill['error']}")
            continue
        cli_drill.show(drill)


def serve(
    workspace: Place = None,
    cron: Annotated[str, typer.Option(help="When the night begins, as cron says it.")] = "0 2 * * *",
) -> None:
    """Serve nightly on a schedule with Prefect, until interrupted."""
    from lazaretto.entrance import enter

    place = enter(workspace, "nightly.run")
    if not prefect_api():
        raise UsageError(
            "serve needs a Prefect API", hint="start one with 'prefect server start' and set PREFECT_API_URL to it"
        )
    from lazaretto.pipelines.flows import serve_nightly
    from lazaretto.pipelines.prefect_api import check_api

    check_api()
    if place.monitoring.listen is not None:
        from lazaretto.pipelines.metrics import listen

        listen(place, place.monitoring.listen)
    serve_nightly(place.root, cron)


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
    from lazaretto.pipelines.summary import read_summary

    if shown["already"]:
        since = f", and records of it were recalled since ({shown['recalled']})" if shown["recalled"] else ""
        cli_shown.print_lines(f"batch {shown['batch']} was ingested before{since}; nothing was changed")
        return
    folder = Path(shown["folder"])
    cli_shown.show_summary(read_summary(folder), report=str(folder / "report.html"))
    if shown["version"] is not None:
        cli_shown.print_lines(f"  in the store as version {shown['version']} of {shown['dataset']}")
