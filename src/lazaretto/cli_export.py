"""An attested version for other tools."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from lazaretto import cli_shown
from lazaretto.cli_workspace import Json, Place


def export(
    dataset: Annotated[str, typer.Argument(metavar="DATASET")],
    form: Annotated[str, typer.Option("--format", "-f", help="in-toto, croissant or cyclonedx.")],
    version: Annotated[int | None, typer.Option(min=0, help="A store version; the newest by default.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here; never overwrites.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Say what a store version holds in a format of others: files, digests, columns; no value of a record."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.export import export as write

    content = write(enter(workspace, "export.make", dataset), dataset, form, version)
    if out is not None:
        cli_shown.write_new(out, content)
    if json_:
        written = None if out is None else str(out)
        digest = hashlib.sha256(content).hexdigest()
        cli_shown.print_json({"format": form, "content": content.decode(), "sha256": digest, "written": written})
    elif out is None:
        sys.stdout.write(content.decode())
    else:
        cli_shown.print_lines(f"wrote {out}")
