"""The analyst's work from a terminal."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lazaretto import cli_people, cli_shown
from lazaretto.cli_workspace import Json, Place
from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.config import Workspace

_EVERY = 10**9
"""More cases than any batch has."""

review = typer.Typer(help="Decide on what waits in quarantine.", no_args_is_help=True)

Cases = Annotated[list[str] | None, typer.Argument(metavar="[CASE...]", help="Ids of cases.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; kept for good.")]
OfBatch = Annotated[str | None, typer.Option("--batch", "-b", help="A held batch: all of it that is no case.")]
OfCluster = Annotated[
    int | None, typer.Option("--cluster", "-c", min=1, help="With --batch: the open cases of this cluster of it.")
]
OfDataset = Annotated[str | None, typer.Option("--dataset", "-d", help="Only of this data set.")]


@review.command("list")
def list_(
    dataset: OfDataset = None,
    batch: Annotated[str | None, typer.Option("--batch", "-b", help="Only of this batch.")] = None,
    state: Annotated[str, typer.Option(help="open, released, discarded or all.")] = "open",
    cluster: Annotated[
        int | None, typer.Option("--cluster", "-c", min=1, help="Only of this one of the batch.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="Most to list.")] = 20,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """List cases, the most suspicious first."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.cases import count_cases, list_cases, require_batch
    from lazaretto.pipelines.waiting import list_cluster

    place = enter(workspace, "case.list")
    require_batch(place, batch)
    chosen = None if state == "all" else state
    if cluster is None:
        cases = list_cases(place, dataset=dataset, batch=batch, state=chosen, limit=limit)
    elif batch is None:
        raise UsageError("a cluster is one of a batch", hint="name the batch too: --batch")
    else:
        cases = list_cluster(place, batch, cluster, state=chosen, limit=limit)
    if json_:
        cli_shown.print_json([asdict(case) for case in cases])
        return
    total = count_cases(place, dataset=dataset, batch=batch)
    if not cases:
        cli_shown.print_lines(f"no case is {state}; {total['released']:,} released, {total['discarded']:,} discarded")
        return
    rows = [
        (
            case.id,
            case.record_id[:24],
            "" if case.p_value is None else f"{case.p_value:.3g}",
            case.assignee or "",
            case.cluster or "",
            _why(case),
        )
        for case in cases
    ]
    waiting = "case waits" if total["open"] == 1 else "cases wait"
    title = f"{total['open']:,} {waiting}; the first {len(cases)}" if state == "open" else f"{len(cases)} cases"
    cli_shown.show_table(title, ("case", "record", "p", "for", "cluster", "why"), rows)
    cli_shown.print_lines("", f"next: lazaretto review show {cases[0].id}")
    if any(case.cluster for case in cases):
        cli_shown.print_lines("the clusters, each with a rule that describes it: lazaretto review clusters")


@review.command()
def clusters(
    dataset: OfDataset = None,
    batch: Annotated[str | None, typer.Option("--batch", "-b", help="Only of this batch.")] = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """List the clusters of what waits, each with a rule that describes it."""
    from lazaretto.entrance import enter
    from lazaretto.pipelines.cases import require_batch
    from lazaretto.pipelines.waiting import list_clusters

    where = enter(workspace, "case.list")
    require_batch(where, batch)
    found = list_clusters(where, dataset=dataset, batch=batch)
    if json_:
        cli_shown.print_json([asdict(one) for one in found])
        return
    if not found:
        cli_shown.print_lines("nothing that waits belongs together")
        return
    for place, one in enumerate(found):
        if not place or found[place - 1].batch != one.batch:
            cli_shown.print_lines("", f"{one.dataset}, batch {one.batch}")
        cli_shown.print_lines(f"  {one.cluster.id}: {cli_shown.counted(one.open, 'case')} by {one.cluster.driver}")
        cli_shown.print_lines(f"     {one.cluster.says}")
    first = found[0]
    chosen = f"--batch {first.batch} --cluster {first.cluster.id}"
    cli_shown.print_lines("", f"next: lazaretto review list {chosen}; release and discard take the same")


@review.command()
def show(
    case: Annotated[str, typer.Argument(metavar="CASE")],
    personal: Annotated[bool, typer.Option("--personal", help="Also show columns of personal data.")] = False,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Show one case: the record, why it waits, what was decided."""
    from lazaretto.authorisation import authorise
    from lazaretto.entrance import acting, enter
    from lazaretto.pipelines.cases import show_case

    place = enter(workspace, "case.see_personal" if personal else "case.see")
    found = show_case(place, case, personal=personal)
    if personal:
        own = found.case.assignee in {None, acting(place).name}
        authorise(acting(place), "case.see_personal", own=own, dataset=found.case.dataset)
    record = {name: _readable(value) for name, value in found.record.items()}
    if json_:
        cli_shown.print_json({**asdict(found), "record": record})
        return
    one = found.case
    p_value = "not scored" if one.p_value is None else f"p {one.p_value:.3g}, q {one.q_value or 1:.3g}"
    cli_shown.print_lines(
        f"case {one.id} ({one.state}), record {one.record_id} of {one.dataset}, batch {one.batch}, row {one.row:,}"
        + (f", file {found.file}" if found.file else ""),
        f"waits since {one.waiting_since}, {p_value}" + (f", for {one.assignee}" if one.assignee else ""),
        "",
        "why:",
        *(f"  {reason}" for reason in one.reasons),
        "",
        *((f"cluster {found.cluster.id}:", f"  {found.cluster.says}", "") if found.cluster else ()),
        *_near(found.nearest),
        "record:",
        *(f"  {name}: {value}" for name, value in record.items()),
        *(["", "decisions:"] if found.decisions else []),
        *(
            f"  {d.at} {d.actor}: {d.action}" + (f" to {d.assignee}" if d.assignee else "") + f": {d.reason}"
            for d in found.decisions
        ),
    )


@review.command()
def release(
    reason: Reason,
    cases: Cases = None,
    batch: OfBatch = None,
    cluster: OfCluster = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Let records into the store, judged by today's contract, each exactly once."""
    from lazaretto.entrance import acting, enter
    from lazaretto.pipelines.review import release as release_cases
    from lazaretto.pipelines.review import release_batch, word
    from lazaretto.pipelines.two_persons import NeedsApproval

    place = enter(workspace, "batch.decide" if batch and cluster is None else "case.decide")
    said = word(reason, acting(place).name)
    cases, batch = _chosen(place, cases, batch, cluster)
    try:
        released = [release_batch(place, batch, said)] if batch else release_cases(place, cases, said)
    except NeedsApproval as needed:
        cli_people.proposed(place, needed, json_=json_)
    if json_:
        cli_shown.print_json([asdict(one) for one in released])
        return
    for one in released:
        are = "is" if one.records == 1 else "are"
        what = cli_shown.counted(one.records, "record")
        cli_shown.print_lines(f"{what} of {one.batch} {are} in {one.dataset} version {one.version}")


@review.command()
def discard(
    reason: Reason,
    cases: Cases = None,
    batch: OfBatch = None,
    cluster: OfCluster = None,
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Keep records out for good; the same content is refused when it arrives again."""
    from lazaretto.entrance import acting, enter
    from lazaretto.pipelines.review import discard as discard_cases
    from lazaretto.pipelines.review import discard_batch, word

    place = enter(workspace, "batch.decide" if batch and cluster is None else "case.decide")
    said = word(reason, acting(place).name)
    cases, batch = _chosen(place, cases, batch, cluster)
    count = discard_batch(place, batch, said) if batch else len(discard_cases(place, cases, said))
    if json_:
        cli_shown.print_json({"discarded": count})
    else:
        what = cli_shown.counted(count, "record")
        cli_shown.print_lines(f"{what} discarded; the same content will be refused when it arrives again")


@review.command()
def assign(
    to: Annotated[str, typer.Option("--to", help="Who shall decide.")],
    cases: Annotated[list[str], typer.Argument(metavar="CASE...")],
    reason: Reason = "assigned from the command line",
    workspace: Place = None,
    json_: Json = False,
) -> None:
    """Hand cases to someone."""
    from lazaretto.entrance import acting, enter
    from lazaretto.pipelines.review import assign as assign_cases
    from lazaretto.pipelines.review import word

    place = enter(workspace, "case.assign")
    done = assign_cases(place, cases, to, word(reason, acting(place).name))
    if json_:
        cli_shown.print_json({"assigned": list(done), "to": to})
    else:
        cli_shown.print_lines(f"{cli_shown.counted(len(done), 'case')} assigned to {to}")


def _chosen(
    place: Workspace, cases: list[str] | None, batch: str | None, cluster: int | None
) -> tuple[list[str], str | None]:
    """The cases that are named, one by one or as a cluster; or none, and a batch."""
    from lazaretto.pipelines.waiting import list_cluster

    if cluster is not None:
        if cases or batch is None:
            raise UsageError("a cluster is one of a batch", hint="name the batch, --batch, and no cases beside it")
        found = [case.id for case in list_cluster(place, batch, cluster, limit=_EVERY)]
        if not found:
            raise UsageError(f"no case of cluster {cluster} of batch {batch} is open", hint="lazaretto review clusters")
        return found, None
    if bool(cases) == bool(batch):
        raise UsageError("name either cases or one --batch", hint="lazaretto review list shows the ids of cases")
    return cases or [], batch


def _near(nearest: Sequence[dict[str, Any]]) -> list[str]:
    """The nearest records, to compare with."""
    if not nearest:
        return []
    kind = "trusted records" if nearest[0].get("trusted") else "records of the batch that are no suspects"
    said = [
        f"  {one.get('record_id')}"
        + (f", labelled {one['label']!r}" if one.get("label") is not None else "")
        + f", at distance {one.get('distance')}"
        for one in nearest
    ]
    return [f"nearest {kind}:", *said, ""]


def _why(case: Any) -> str:  # noqa: ANN401  a Case, imported late
    return shorten(str(case.reasons[0]), 200, placeholder=" ...") if case.reasons else "held with its batch"


def _readable(value: object) -> object:
    """Bytes are described, not printed."""
    return f"({len(value):,} bytes)" if isinstance(value, bytes) else value
