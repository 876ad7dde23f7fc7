"""Commands for those who watch: metrics for Prometheus, alerts for people."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lazaretto import cli_shown
from lazaretto.cli_workspace import Json, Place
from lazaretto.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from lazaretto.config import Workspace
    from lazaretto.pipelines.alerting import Delivery

alerts = typer.Typer(
    help="Tell people what they should know: held batches, missed nights, failed verifications.", no_args_is_help=True
)

_METRICS_FILE = 0o644
"""node_exporter is another user, and nothing in it is secret."""


def metrics(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write them here instead, whole or not at all.")
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Answer Prometheus over HTTP until interrupted.")] = False,
    listen: Annotated[
        str | None, typer.Option(help="Where, with --serve: 127.0.0.1:9464; by default what [metrics] says.")
    ] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Metrics of the workspace in Prometheus' text format: printed, written to a file, or served."""
    from lazaretto.entrance import enter
    from lazaretto.monitoring import address

    place = enter(workspace, "metrics.see")
    if serve:
        if out is not None or json_:
            raise UsageError("--serve goes with neither --out nor --json", hint="leave them out")
        _serve(place, address(listen) if listen else place.monitoring.listen or address("9464"))
        return
    if listen is not None:
        raise UsageError("--listen says where --serve answers", hint="add --serve")
    cli_shown.require_page(out)
    from lazaretto.durable import writable, write_durably
    from lazaretto.pipelines.metrics import exposition, samples

    if out is not None:
        content = exposition(place)
        with writable(out.parent):
            write_durably(out, content, mode=_METRICS_FILE, unlocked=True)
    if json_:
        cli_shown.print_json([{**asdict(one), "labels": dict(one.labels)} for one in samples(place)])
    elif out is None:
        typer.echo(exposition(place).decode(), nl=False)


def _serve(place: Workspace, where: tuple[str, int]) -> None:
    from lazaretto.pipelines.metrics import listen

    host, port = listen(place, where)
    shown = f"[{host}]" if ":" in host else host
    cli_shown.print_lines(f"metrics of {place.id} at http://{shown}:{port}/metrics, until interrupted")
    while True:
        time.sleep(3600)


@alerts.command()
def check(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is so, and send nothing.")] = False,
    state: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to remember what was sent, if the workspace cannot be written."),
    ] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Send what is to be told and was not told yet; to be run by cron, also from another machine."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.alerting import Delivery, deliver
    from lazaretto.pipelines.alerts import due

    place = enter(workspace, "alerts.send")
    found = Delivery(tuple(due(place))) if dry_run else deliver(place, folder=state)
    if json_:
        cli_shown.print_json(asdict(found))
    else:
        _show(found, dry_run=dry_run)
    if found.undelivered:
        raise Unavailable(
            f"{cli_shown.counted(found.undelivered, 'alert')} could not be delivered; the next run tries again",
            hint="lazaretto alerts test says which address does not work",
        )


def _show(found: Delivery, *, dry_run: bool) -> None:
    for alert in found.alerts:
        cli_shown.print_lines(alert.says, f"  {alert.hint}")
    if not found.alerts:
        cli_shown.print_lines("nothing to tell")
    if found.busy:
        cli_shown.print_lines("another process is sending; nothing was done")
    elif not dry_run:
        later = f", {found.waiting:,} wait for the cool-down" if found.waiting else ""
        cli_shown.print_lines(f"{found.sent:,} sent now{later}")


@alerts.command("test")
def send_test(workspace: Place = None, json_: Json = False) -> None:
    """Send a test to every address, and say which of them took it."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.addresses import addresses, service
    from lazaretto.pipelines.alerting import message
    from lazaretto.pipelines.alerts import Alert

    place = enter(workspace, "alerts.send")
    one = Alert("test", "", "", "this is a test of Lazaretto's alerts", "nothing is to be done")
    title, body = message(place, [one])
    outcomes = []
    for number, url in enumerate(addresses(place), 1):
        there = service(url)
        outcomes.append({"address": number, "service": there.name, "delivered": there.send(title, body)})
    if json_:
        cli_shown.print_json(outcomes)
    else:
        for outcome in outcomes:
            said = "delivered" if outcome["delivered"] else "not delivered"
            what = outcome["service"] or "none that Apprise knows"
            # By its number: an address holds passwords.
            cli_shown.print_lines(f"address {outcome['address']} ({what}): {said}")
    failed = [str(outcome["address"]) for outcome in outcomes if not outcome["delivered"]]
    if failed:
        which = f"address {failed[0]}" if len(failed) == 1 else f"addresses {', '.join(failed)}"
        raise Unavailable(f"{which} did not take the test", hint="check it, its password and the way there")
