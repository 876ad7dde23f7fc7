"""Keys from the command line, and the contract that is in force."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lazaretto import cli_people, cli_shown
from lazaretto.cli_workspace import Json, Place
from lazaretto.errors import IntegrityViolated, UsageError

if TYPE_CHECKING:
    from lazaretto.config import Workspace
    from lazaretto.pipelines.change_keys import Change

keys = typer.Typer(help="The keys that sign: list, rotate, revoke.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="publisher, audit or policy.")]


@keys.command("list")
def list_(workspace: Place = None, json_: Json = False) -> None:
    """Every key that signs, and whether it is here; finishes a change that was interrupted."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.change_keys import finish, list_keys

    place = enter(workspace, "key.see")
    finish(place)
    found = list_keys(place)
    if json_:
        cli_shown.print_json([asdict(one) for one in found])
        return
    for one in found:
        made = f"number {one.generations}, in use since {one.since}" if one.since else "the first"
        cli_shown.print_lines(
            f"{one.name}: {one.current[:16]}..., {made}; its private key is {'here' if one.here else 'not here'}",
            *(f"  in doubt: {cli_shown.counted(n, 'signature')} of {what}" for what, n in one.doubtful.items()),
        )


@keys.command()
def rotate(
    name: Name,
    why: Annotated[str, typer.Option(help="Why; kept for good.")] = "",
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Put a new key in the place of one; what was signed before stays valid."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.change_keys import rotate as change

    place = enter(workspace, "key.change")
    _show(place, change(place, name, why), json_=json_)


@keys.command()
def revoke(
    name: Name,
    since: Annotated[
        str, typer.Option(help="From when on it may have been in other hands: ISO 8601, or how long ago, as 36h.")
    ],
    why: Annotated[str, typer.Option(help="Why; kept for good.")],
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Replace a stolen key: what it signed since then counts no more until everything was verified."""
    from lazaretto.entrance import enter
    from lazaretto.keys import POLICY
    from lazaretto.pipelines.audit_trail import Wanted
    from lazaretto.pipelines.change_keys import reattest as vouch
    from lazaretto.pipelines.change_keys import revoke as change

    place = enter(workspace, "key.change")
    if not why.strip():
        raise UsageError("--why says nothing", hint="say what happened: it is kept for good")
    moment = Wanted(since=since).oldest(datetime.now(UTC))
    assert moment is not None  # noqa: S101  it was given
    made = change(place, name, moment, why)
    if name != POLICY:
        try:
            vouch(place, name)
        except IntegrityViolated as fault:
            raise IntegrityViolated(
                f"the {name}'s key was revoked, and nothing it signed since {made.record.since} is vouched for:"
                f" {fault.message}",
                hint=f"put right what was found, then: lazaretto keys reattest {name}",
            ) from fault
    _show(place, made, json_=json_)


@keys.command()
def reattest(name: Name, workspace: Place = None, json_: Json = False) -> None:
    """After a revocation: verify everything, and vouch with the new key for what the stolen one signed."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.change_keys import reattest as vouch

    place = enter(workspace, "key.change")
    made = vouch(place, name)
    if made is not None:
        _show(place, made, json_=json_)
    elif json_:
        cli_shown.print_json(None)
    else:
        cli_shown.print_lines(f"nothing that the {name}'s key signed is in doubt")


def _show(place: Workspace, made: Change, *, json_: bool) -> None:
    from lazaretto.key_history import history_file

    record = made.record
    if json_:
        cli_shown.print_json({**asdict(record), "digest": record.digest, "unsigned": list(made.unsigned)})
        return
    cli_shown.print_lines(
        f"the {record.name}'s key was {record.kind}: record {record.number} of {history_file(place)}",
        "copy that file beside the public keys of every machine that has its own",
        *(f"its contract counts no more: lazaretto contract sign {dataset}" for dataset in made.unsigned),
    )


def contract_sign(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="A data set of the workspace.")],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; kept with a proposal.")] = "",
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Put today's contract of a data set into force: sign it, with its policy and its trusted set."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.sign_contract import sign_contract
    from lazaretto.pipelines.two_persons import NeedsApproval

    place = enter(workspace, "contract.sign", dataset)
    try:
        statement, new = sign_contract(place, dataset, reason=reason)
    except NeedsApproval as needed:
        cli_people.proposed(place, needed, json_=json_)
    if json_:
        cli_shown.print_json({**asdict(statement), "digest": statement.digest, "new": new})
        return
    said = "was signed" if new else "was signed before, and nothing was changed"
    cli_shown.print_lines(
        f"version {statement.epoch} of the contract of {dataset} {said} ({statement.at}, {statement.by})"
    )
