"""What the command line shows: tables, progress, errors; JSON when asked."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lazaretto.durable import refusal
from lazaretto.errors import UsageError
from lazaretto.fairness import Inequality
from lazaretto.named_sources import named_sources, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console

    from lazaretto.errors import LazarettoError
    from lazaretto.records import OnRows, OnStep


_CLUSTERS = 3


def console(*, stderr: bool = False) -> Console:
    """A console that does not break long paths or guess at colours in values."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


def print_error(error: LazarettoError, *, as_json: bool) -> None:
    """One sentence and a hint, on standard error; as JSON also on standard output."""
    if as_json:
        print_json({"error": error_document(error)})
    shown = console(stderr=True)
    # A contract's faults are one a line; what is quoted from data stands as `repr` shows it, on one line.
    shown.print(f"[bold red]error:[/] {_lines(error.message)}")
    if error.hint:
        shown.print(f"[dim]{_lines(error.hint)}[/]")


def error_document(error: LazarettoError) -> dict[str, Any]:
    """An error as JSON shows it."""
    return {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not be there yet.

    Raises:
        UsageError: It is there, its folder is not, or it cannot be written.
    """
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise UsageError(f"{path} exists already", hint="name another file, or remove it first") from None
    except FileNotFoundError:
        raise UsageError(f"the folder {path.parent} does not exist", hint="make it first, or name another") from None
    except OSError as error:
        raise refusal(error, path) or UsageError(f"{path} cannot be written: {error.strerror}") from error


def require_page(path: Path | None) -> None:
    """Refuse a page that could not be written, before the work that it is to show; one that is there is replaced.

    Raises:
        UsageError: It is a folder, or its folder is not there or may not be written to.
    """
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint=f"name a file, such as {path / 'page.html'}")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist", hint="make it first, or name another")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"the folder {path.parent} may not be written to", hint="name another")


def counted(count: int, thing: str) -> str:
    """``1 record``, ``2,000 records``."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


@contextmanager
def progress(*, quiet: bool) -> Iterator[tuple[OnStep, OnRows]]:
    """Callbacks that draw one bar per step on standard error; nothing where that is no terminal."""
    shown = console(stderr=True)
    if quiet or not shown.is_terminal:
        yield (lambda _name: None), (lambda _count: None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=shown, transient=True) as bars:
        state: dict[str, Any] = {"task": None, "seen": 0, "arrived": None}

        def step(name: str) -> None:
            if state["task"] is not None:
                bars.update(state["task"], total=state["seen"], completed=state["seen"])
                state["arrived"] = max(state["arrived"] or 0, state["seen"]) or None
            state["task"], state["seen"] = bars.add_task(name, total=state["arrived"]), 0

        def rows(count: int) -> None:
            state["seen"] += count
            if state["task"] is not None:
                bars.update(state["task"], completed=state["seen"])

        yield step, rows


def show_summary(summary: Mapping[str, Any], *, report: str | None = None) -> None:
    """A judged batch at a glance: what arrived, where it went, why, what to look at next."""
    shown = console()
    arrived, rate = summary["arrived"], summary["false_quarantine_rate"]
    state = "[bold red]HELD[/]" if summary["hold"] else "[bold green]judged[/]"
    shown.print(f"\n[bold]{_escaped(summary['dataset'])}[/] batch {summary['batch']}: {state}")
    shown.print(
        f"  {arrived:,} arrived = [green]{summary['admitted']:,} admitted[/] + "
        f"[yellow]{summary['quarantined']:,} quarantined[/] + [red]{summary['rejected']:,} rejected[/]"
    )
    for reason in summary["hold_reasons"]:
        shown.print(f"  [red]held:[/] {_escaped(reason)}")
    null = summary["null"]
    if null["kind"] == "trusted":
        how = ", class by class" if null.get("calibrated_apart") else ""
        count = null["calibration_records"]
        shown.print(f"  false-quarantine rate {rate:g}, calibrated on {count} trusted records{how}")
        if null.get("doubt"):
            shown.print(f"  [yellow]trusted set:[/] {_escaped(null['doubt'])}")
    elif null["kind"] == "estimated":
        shown.print(f"  false-quarantine rate {rate:g}, [yellow]estimated[/]: no trusted set was given")
    hidden = summary.get("groups_withheld") or []
    _show_sources(summary["per_source"], withheld=bool(summary.get("source_withheld")))
    for row in (summary.get("unequal") or [])[:_CLUSTERS]:
        said = Inequality.of_row(row).sentence("wait", None if row["column"] not in hidden else "(withheld)")
        shown.print(f"  [yellow]groups:[/] {_escaped(said)}")
    for cluster in (summary.get("clusters") or [])[:_CLUSTERS]:
        shown.print(f"  cluster {cluster['id']}: {_escaped(cluster['says'])}")
    _show_window(summary.get("window"))
    if summary["ignored_columns"]:
        shown.print(
            f"  not in the contract, neither judged nor stored: {_escaped(', '.join(summary['ignored_columns']))}"
        )
    seconds = sum(stage["seconds"] for stage in summary["stages"])
    stages = ", ".join(f"{stage['name']} {stage['seconds']:.1f} s" for stage in summary["stages"])
    shown.print(f"  [dim]{arrived / max(seconds, 1e-9):,.0f} records/s ({stages})[/]")
    if report:
        shown.print(f"  report: {_escaped(report)}")


def _show_window(window: Mapping[str, Any] | None) -> None:
    """What the batches before show together with this one, and what is over a cap."""
    if window is None:
        return
    for finding in window["findings"][:_CLUSTERS]:
        console().print(f"  [bold red]{window['batches']} batches together:[/] {_escaped(finding['says'])}")
        console().print(f"    who of the store carries it: lazaretto recall --finding {finding['id']} --dry-run")
    if window["capped"]:
        console().print(
            f"  [yellow]caps:[/] {window['capped']:,} records wait because a cap of the contract is reached"
        )


def _show_sources(rows: Sequence[Mapping[str, Any]], *, withheld: bool) -> None:
    """The sources whose labels look wrong, and the three that have most more suspects than chance gives."""

    def name(at: int) -> str:
        return f"(withheld: row {at} of per_source)" if withheld else _escaped(rows[at]["name"])

    for at, row in named_sources(rows):
        console().print(f"  [bold red]source {name(at)}:[/] {sentence(row)}")
    suspicious = [at for at, row in enumerate(rows) if row["p_value"] < 1e-3 and row["suspects"] > 1]  # noqa: PLR2004  one in a thousand
    for at in sorted(suspicious, key=lambda at: float(rows[at]["p_value"]))[:3]:
        row = rows[at]
        console().print(
            f"  source [bold]{name(at)}[/]: {row['suspects']:,} of {row['arrived']:,} suspicious, "
            f"more than clean records would be (p = {row['p_value']:.1g})"
        )


def print_lines(*lines: str) -> None:
    """Lines of plain text, control characters of a user's data replaced."""
    for line in lines:
        console().print(_escaped(line))


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table; numbers right-aligned."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and isinstance(rows[0][index], int | float)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else _escaped(str(cell)) for cell in row))
    console().print(table)


def _escaped(text: str) -> str:
    """Text of a user's data: no markup of theirs, no control characters, no line that could pass for one of ours."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() else "\ufffd" for c in text))


def _lines(text: str) -> str:
    return "\n".join(map(_escaped, text.split("\n")))
