"""The command line. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from lazaretto import (
    cli_audit,
    cli_drill,
    cli_export,
    cli_fairness,
    cli_ingest,
    cli_keys,
    cli_people,
    cli_recall,
    cli_review,
    cli_shown,
    cli_trusted,
    cli_watch,
    cli_window,
    cli_workspace,
)
from lazaretto.durable import refusal
from lazaretto.errors import Interrupted, LazarettoError, UsageError, first_line, is_panic

app = typer.Typer(
    name="lazaretto",
    help="Keeps poisoned records out of training data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
contract_app = typer.Typer(help="Look at a data set's contract, or put it into force.", no_args_is_help=True)
app.add_typer(contract_app, name="contract")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on an unexpected error.")] = False,
) -> None:
    """Keeps poisoned records out of training data."""


@app.command()
def infer(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Parquet, CSV, JSONL or an image folder.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here; never overwrites.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="Name of the data set.")] = None,
    json_: Json = False,
) -> None:
    """Write a first contract from data, for a person to edit."""
    from lazaretto.pipelines.infer import infer as infer_contract

    text = infer_contract(files, dataset=dataset)
    if out is not None:
        cli_shown.write_new(out, text.encode())
    if json_:
        cli_shown.print_json({"contract": text, "written": None if out is None else str(out)})
        return
    if out is None:
        sys.stdout.write(text)
        return
    typer.echo(f"wrote {out}; read it, correct the guesses, then: lazaretto scan FILE --contract {out} --out report")


@app.command()
def scan(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, globs or an image folder.")],
    contract: Annotated[Path, typer.Option("--contract", "-c", help="The contract, a YAML file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for verdicts, summary and report.")],
    trusted: Annotated[list[str] | None, typer.Option("--trusted", "-t", help="Records known good.")] = None,
    seed: cli_ingest.Seed = 0,
    device: cli_ingest.Device = "auto",
    json_: Json = False,
) -> None:
    """Judge files with no workspace and no store."""
    from lazaretto.contract import load_contract
    from lazaretto.pipelines.scan import Options
    from lazaretto.pipelines.standalone import scan_files

    with cli_shown.progress(quiet=json_) as (on_step, on_rows):
        summary = scan_files(
            files,
            load_contract(contract),
            out,
            Options(seed, device, tuple(trusted or ())),
            on_step=on_step,
            on_rows=on_rows,
        )
    if json_:
        cli_shown.print_json(summary)
    else:
        cli_shown.show_summary(summary, report=str(out / "report.html"))
    if summary["hold"]:
        raise typer.Exit(3)


for command in (
    cli_workspace.init,
    cli_ingest.ingest,
    cli_ingest.nightly,
    cli_ingest.serve,
    cli_drill.drill,
    cli_recall.recall,
    cli_fairness.fairness,
    cli_export.export,
    cli_window.findings,
    cli_workspace.gate,
    cli_workspace.status,
    cli_workspace.report,
    cli_audit.verify,
    cli_audit.audit,
    cli_people.login,
    cli_people.logout,
    cli_people.whoami,
    cli_watch.metrics,
):
    app.command()(command)
app.add_typer(cli_review.review, name="review")
app.add_typer(cli_people.accounts, name="accounts")
app.add_typer(cli_people.tokens, name="tokens")
app.add_typer(cli_people.proposals, name="proposals")
app.add_typer(cli_keys.keys, name="keys")
app.add_typer(cli_trusted.trusted, name="trusted")
app.add_typer(cli_watch.alerts, name="alerts")
contract_app.command("show")(cli_workspace.contract_show)
contract_app.command("sign")(cli_keys.contract_sign)


def main() -> None:
    """Run the command line and exit with the code that says what happened."""
    arguments = sys.argv[1:]
    debug, as_json = "--debug" in arguments, "--json" in arguments
    # Accepted anywhere on the line: the person who needs it has just seen the command fail.
    arguments = [argument for argument in arguments if argument != "--debug"]
    signal.signal(signal.SIGTERM, _as_interrupt)
    if not debug:
        # Of columns without a value, or of the largest numbers there are; what comes of them is judged like all else.
        warnings.filterwarnings("ignore", category=RuntimeWarning)
    try:
        # Not standalone: what is wrong with the line itself is then raised, to be said like any other error.
        code = app(args=arguments, prog_name="lazaretto", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = Interrupted.exit_code
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        said = _sentence(error)
        if debug and not isinstance(said, _LineError):
            raise
        code = _fail(said, as_json=as_json)
    if code == Interrupted.exit_code:  # Typer catches Ctrl-C and returns the same number
        _fail(Interrupted(), as_json=as_json)
    sys.exit(code)


def _as_interrupt(_number: int, _frame: object) -> None:
    """A service that is stopped cleans up like a person's Ctrl-C does; SIGTERM alone would leave scratch files."""
    raise KeyboardInterrupt


class _LineError(UsageError):
    """A command line that is wrong in itself; there is no traceback worth showing."""


def _sentence(error: BaseException) -> LazarettoError:
    if isinstance(error, LazarettoError):
        return error
    if not isinstance(error, Exception):
        return LazarettoError(f"Polars broke off: {first_line(error)}", hint="run again with --debug for the traceback")
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return _wrong_line(error)
    unexpected = f"unexpected {type(error).__name__}: {error}"
    return refusal(error) or LazarettoError(unexpected, hint="run again with --debug for the traceback")


def _wrong_line(error: Any) -> _LineError:  # noqa: ANN401  Typer brings its own copy of Click, or uses Click's
    context = getattr(error, "ctx", None)
    command = "lazaretto" if context is None else context.command_path
    if type(error).__name__ == "NoArgsIsHelpError":
        return _LineError(f"{command} needs a command", hint=error.format_message())
    text = " ".join(error.format_message().split()).rstrip(".")
    return _LineError(text[:1].lower() + text[1:], hint=f"{command} --help says what it takes")


def _fail(error: LazarettoError, *, as_json: bool) -> int:
    cli_shown.print_error(error, as_json=as_json)
    return error.exit_code
