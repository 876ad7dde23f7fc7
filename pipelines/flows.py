"""The Prefect flows: thin, few coarse tasks. What is true stands in the ledger; a run's state only says how it went."""

from __future__ import annotations

import warnings
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from prefect import flow, runtime, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from lazaretto.dashboards.night import UNUSUAL, hardest_first
from lazaretto.entrance import enter
from lazaretto.errors import LazarettoError, Unavailable
from lazaretto.pipelines.ingest import IngestResult, ingest, scan_judge
from lazaretto.pipelines.nightly import Outcome, nightly
from lazaretto.pipelines.prefect_api import TAGS, alone, label

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lazaretto.config import Workspace


class NightBroken(LazarettoError):  # noqa: N818  reads as what happened
    """A night in which data sets were refused or failed; what became of each is in ``outcomes``."""

    def __init__(self, message: str, outcomes: Sequence[Outcome] = ()) -> None:
        super().__init__(message)
        self.outcomes = tuple(outcomes)
        self.exit_code = max((outcome.exit_code for outcome in outcomes), default=1)


def _worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:  # noqa: ANN401  Prefect's own objects
    """A refused input or a broken contract is an answer, not an accident: running again would only repeat it."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, Unavailable) or not isinstance(error, LazarettoError)


_RETRIED: dict[str, Any] = {"retries": 2, "retry_delay_seconds": [5, 30], "retry_condition_fn": _worth_a_retry}


@task(name="open workspace", tags=TAGS, persist_result=False, **_RETRIED)
def open_workspace(workspace: str) -> Workspace:
    """The workspace, as a task of its own: its folder may be on a mount that is not there yet."""
    return enter(workspace, "nightly.run")


@task(name="ingest batch", task_run_name="ingest {dataset}", tags=TAGS, persist_result=False, **_RETRIED)
def ingest_batch(workspace: str, dataset: str, files: Sequence[str], seed: int, device: str) -> IngestResult:
    """Everything from snapshot to checkpoint, as one task: the engine's own journal makes it safe to run again."""
    logger = get_run_logger()
    place = enter(workspace, "ingest.run", dataset)
    with alone(place.id, dataset):
        return ingest(
            place,
            files,
            dataset,
            judge=scan_judge(seed, device),
            on_step=lambda step: logger.info("%s: %s", dataset, step),
        )


@task(name="publish artifacts", task_run_name="artifacts of {result.batch}", tags=TAGS, persist_result=False)
def publish_artifacts(result: IngestResult) -> None:
    """A table with the counts and a link to the report, beside the run."""
    key = f"{result.dataset}-{result.batch}".lower().replace("_", "-").replace(".", "-")
    create_table_artifact(
        key=f"{key}-summary",
        table=[{"what": name, "records": count} for name, count in result.counts.items()],
        description=f"{result.dataset}, batch {result.batch}: {'held' if result.held else 'admitted'}",
    )
    report = result.folder / "report.html"
    if report.exists():
        create_link_artifact(key=f"{key}-report", link=report.resolve().as_uri(), link_text=f"report of {result.batch}")


@flow(
    name="lazaretto-ingest",
    flow_run_name="ingest-{dataset}",
    description="One batch: snapshot, parse, validate, score, decide, store or quarantine, attest.",
    persist_result=False,
)
def ingest_flow(
    workspace: str, dataset: str, files: list[str] | None = None, seed: int = 0, device: str = "auto"
) -> dict[str, Any]:
    """Ingest one batch of a data set.

    Args:
        workspace: The workspace's folder, as the worker sees it.
        dataset: Whose contract applies.
        files: What to ingest; what waits in the landing folder by default.
        seed: Fixes everything that is drawn.
        device: auto, cpu, cuda or mps.

    Returns:
        The batch's id, counts and state, as plain values.
    """
    label(dataset)
    result = ingest_batch(workspace, dataset, files or [], seed, device)
    label(dataset, name=f"ingest-{dataset}-{result.batch}")
    publish_artifacts(result)
    return {
        "dataset": result.dataset,
        "batch": result.batch,
        "held": result.held,
        "already": result.already,
        "counts": result.counts,
        "version": result.version,
        "folder": str(result.folder),
    }


def _night_name() -> str:
    return f"nightly-{runtime.flow_run.scheduled_start_time:%Y-%m-%d}"


@flow(
    name="lazaretto-nightly",
    flow_run_name=_night_name,
    description="Every data set once: ingest what waits, then trend, drift and, where asked for, a drill.",
    persist_result=False,
)
def nightly_flow(workspace: str, seed: int = 0, device: str = "auto", drill: bool = False) -> list[dict[str, Any]]:
    """Run one night; fails at its end if a data set was refused or failed, held batches do not fail it.

    Args:
        workspace: The workspace's folder, as the worker sees it.
        seed: Fixes everything that is drawn.
        device: auto, cpu, cuda or mps.
        drill: Also plant known attacks in a copy of what was admitted, and say what would be caught.

    Raises:
        NightBroken: Naming the data sets that could not be judged, after all the others were.
    """
    label()
    place = open_workspace(workspace)

    def take(dataset: str) -> IngestResult:
        result = ingest_batch(workspace, dataset, [], seed, device)
        publish_artifacts(result)
        return result

    outcomes = nightly(place, take=take, drilled=drill)
    create_markdown_artifact(
        key="lazaretto-nightly", markdown=as_markdown(outcomes), description="the night at a glance"
    )
    broken = [outcome for outcome in outcomes if outcome.state in ("refused", "failed")]
    if broken:
        raise NightBroken("; ".join(f"{outcome.dataset}: {outcome.sentence}" for outcome in broken), outcomes)
    return [outcome.as_json() for outcome in outcomes]


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """The night as a table, with what drifted or stands out below it."""
    lines = ["| data set | state | what happened |", "|---|---|---|"]
    lines += [f"| {o.dataset} | {o.state} | {o.sentence.replace('|', '/')} |" for o in outcomes]
    for outcome in outcomes:
        moved = [f"{row['column']} ({row['psi']:.2f})" for row in outcome.drift if row["drifted"]]
        if moved:
            lines.append(f"\n**{outcome.dataset}** drifted in {', '.join(moved[:5])} (population stability index).")
        if outcome.drill is not None:
            lines.append("\n" + _drill_table(outcome.dataset, outcome.drill))
        last = outcome.trend[-1] if outcome.trend else None
        if last and last["unusual"] is not None and last["unusual"] < UNUSUAL:
            lines.append(f"\n**{outcome.dataset}**: {last['suspects']} suspects are more than its history explains.")
    return "\n".join(lines) + "\n"


def _drill_table(dataset: str, drill: dict[str, Any]) -> str:
    """The drill with the hardest attack first, and the weakest spot named."""
    if "error" in drill:
        return f"**{dataset}** was not drilled: {drill['error']}"
    lines = [f"**{dataset}**, drilled with known attacks in a copy of {drill['records']:,} admitted records:", ""]
    lines += ["| attack | rate | planted | caught | recall | 95 % |", "|---|---|---|---|---|---|"]
    for one in hardest_first(drill):
        caught = f"{one['recall']:.0%} | {one['low']:.0%} to {one['high']:.0%}"
        lines.append(f"| {one['title']} | {one['rate']:.1%} | {one['poisons']} | {one['caught']} | {caught} |")
    weakest = next((one["title"] for one in drill["found"] if one["attack"] == drill["weakest"]), "none")
    quiet = f"with nothing planted {drill['false_quarantines']:.1%} would wait"
    return "\n".join([*lines, "", f"Weakest: {weakest}; {quiet}."])


def serve_nightly(workspace: Path, cron: str) -> None:
    """Serve the nightly flow on a schedule, and ingest for runs asked for, until interrupted.

    The schedule stays, however this process ends: nights missed meanwhile run, one by one, when it is served again.
    """
    from prefect import serve
    from prefect.types.entrypoint import EntrypointType

    # Not the names of prefect.yaml: a deployment of the same name would keep its work pool and be served by nobody.
    shared: dict[str, Any] = {"name": "served", "tags": TAGS, "entrypoint_type": EntrypointType.MODULE_PATH}
    place = {"workspace": str(workspace.resolve())}
    night = nightly_flow.to_deployment(cron=cron, parameters=place, concurrency_limit=1, **shared)
    one = ingest_flow.to_deployment(parameters={**place, "dataset": ""}, **shared)
    if isinstance(night, Coroutine) or isinstance(one, Coroutine):
        raise LazarettoError("serve was called from a running event loop", hint="call it from plain code")
    with warnings.catch_warnings():
        # Prefect's own at SIGTERM: it does not await its stop there, and stops all the same.
        warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)
        serve(night, one, pause_on_shutdown=False, print_starting_message=True, limit=1)
