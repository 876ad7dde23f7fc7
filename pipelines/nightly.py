"""One night: everything that waits is ingested, trend, drift and, where asked for, a drill are written down.

One data set's trouble does not keep the others waiting: it becomes that data set's outcome.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lazaretto.errors import LazarettoError
from lazaretto.observed import DRIFT, note
from lazaretto.operation import operation
from lazaretto.pipelines.alerting import alerting
from lazaretto.pipelines.drift import drift
from lazaretto.pipelines.heartbeat import note_night
from lazaretto.pipelines.ingest import IngestResult, ingest
from lazaretto.pipelines.landing import waiting
from lazaretto.pipelines.trend import trend
from lazaretto.records import OnRows, OnStep, no_rows, no_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.config import Workspace


@dataclass(frozen=True)
class Outcome:
    """What the night brought one data set."""

    dataset: str
    state: str
    """admitted, held, nothing (arrived), refused or failed."""
    sentence: str
    result: IngestResult | None = None
    trend: list[dict[str, Any]] = field(default_factory=list)
    """Recent batches, oldest first; see `lazaretto.pipelines.trend`."""
    drift: list[dict[str, Any]] = field(default_factory=list)
    """Columns of the newest admitted batch against all admitted before; see `lazaretto.pipelines.drift`."""
    drill: dict[str, Any] | None = None
    """What known attacks would have met tonight; see `lazaretto.pipelines.drill`. None where none was wanted."""
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        content = asdict(self)
        if self.result is not None:
            content["result"]["folder"] = str(self.result.folder)
        return content


def nightly(
    workspace: Workspace,
    *,
    take: Callable[[str], IngestResult] | None = None,
    drilled: bool = False,
    on_step: OnStep = no_step,
    on_rows: OnRows = no_rows,
) -> list[Outcome]:
    """Run one night over every data set that has a contract.

    Args:
        workspace: The workspace.
        take: Ingests what waits for a data set; the plain engine by default, a Prefect task in the flow.
        drilled: Whether each data set that something was admitted to is drilled, which takes minutes; of others it is
            said that they were not.
        on_step: Called with ``DATASET: STEP``.
        on_rows: Called with the number of records just handled.

    Returns:
        One outcome per data set, by name.

    Raises:
        Unavailable: That the night came to its end cannot be written down; what it did is done.
    """
    with alerting(workspace, missed_night=True), operation(workspace, "nightly") as told:
        outcomes = _whole_night(workspace, take, (on_step, on_rows), drilled=drilled)
        told.note(datasets=len(outcomes), findings=sum(outcome.exit_code != 0 for outcome in outcomes))
        for outcome in outcomes:
            _note_drift(workspace, outcome)
        note_night(workspace, {outcome.dataset: outcome.state for outcome in outcomes})
    return outcomes


def _whole_night(
    workspace: Workspace,
    take: Callable[[str], IngestResult] | None,
    hearers: tuple[OnStep, OnRows],
    *,
    drilled: bool,
) -> list[Outcome]:
    on_step, on_rows = hearers
    contracts = {path.stem for path in (workspace.root / "contracts").glob("*.yaml")}
    arrived = set(waiting(workspace))

    def plainly(name: str) -> IngestResult:
        return ingest(workspace, [], name, on_step=lambda step: on_step(f"{name}: {step}"), on_rows=on_rows)

    names = sorted(contracts | arrived)
    outcomes = [_night(workspace, n, take or plainly) if n in arrived else _quiet(workspace, n) for n in names]
    if drilled:
        outcomes = [_drilled(workspace, one, on_step) for one in outcomes]
    return outcomes


def _note_drift(workspace: Workspace, outcome: Outcome) -> None:
    """Keep in how many columns the newest admitted batch drifted."""
    if outcome.state == "admitted" and outcome.result is not None:
        columns = sum(bool(row["drifted"]) for row in outcome.drift)
        facts = {"batch": outcome.result.batch, "columns": columns, "at": outcome.result.ingested_at}
        note(workspace, DRIFT, outcome.dataset, facts)


def _drilled(workspace: Workspace, outcome: Outcome, on_step: OnStep) -> Outcome:
    """The outcome with a drill; one that cannot be held says why and stops nothing."""
    if outcome.state != "admitted":
        return replace(outcome, drill={"dataset": outcome.dataset, "error": "nothing was admitted tonight"})
    from lazaretto.pipelines.drill import NIGHTLY_RECORDS, drill

    try:
        found = drill(
            workspace,
            outcome.dataset,
            records=NIGHTLY_RECORDS,
            on_step=lambda step: on_step(f"{outcome.dataset}: drill, {step}"),
        ).as_json()
    except Exception as error:  # noqa: BLE001  whatever befell one drill, the night is written down
        found = {"dataset": outcome.dataset, "error": _ours(error).message}
    return replace(outcome, drill=found)


def _ours(error: Exception) -> LazarettoError:
    """The error as one with a sentence and an exit code."""
    if isinstance(error, LazarettoError):
        return error
    return LazarettoError(f"unexpected {type(error).__name__}: {error}")


def _quiet(workspace: Workspace, dataset: str) -> Outcome:
    return Outcome(dataset, "nothing", "nothing arrived", trend=trend(workspace, dataset))


def _night(workspace: Workspace, dataset: str, take: Callable[[str], IngestResult]) -> Outcome:
    try:
        result = take(dataset)
    except Exception as unexpected:  # noqa: BLE001  whatever befell one data set, the others' turn comes
        error = _ours(unexpected)
        state = "refused" if error.exit_code == 4 else "failed"  # noqa: PLR2004  the exit code of a refused input
        return Outcome(dataset, state, error.message, trend=trend(workspace, dataset), exit_code=error.exit_code)
    counts = result.counts
    sentence = (
        f"{counts['arrived']:,} arrived = {counts['admitted']:,} admitted + {counts['quarantined']:,} quarantined + "
        f"{counts['rejected']:,} rejected"
    )
    # Another judge than ours may leave no summary of a window.
    for finding in result.summary.get("window", {}).get("findings", []):
        sentence += f"; batches together show {finding['says']}"
    if result.held:
        reason = f"{sentence}; held: {'; '.join(result.hold_reasons)}"
        return Outcome(dataset, "held", reason, result, trend(workspace, dataset), exit_code=3)
    return Outcome(
        dataset, "admitted", sentence, result, trend(workspace, dataset), drift(workspace, dataset, result.batch)
    )
