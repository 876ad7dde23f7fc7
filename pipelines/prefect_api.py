"""What the flows ask of Prefect's API beyond running: is it there, whose turn is it, what is the run called."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from lazaretto.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

TAGS = ["lazaretto"]
LEASE_SECONDS = 120
"""A killed run's place is free again after this long at most; a living one renews it in time, however long it takes."""
PATIENCE_SECONDS = 3600
_LIMIT = "lazaretto-{workspace}-{dataset}"
"""Name of the concurrency limit that lets one batch of a data set through at a time, on any worker."""
_API_SECONDS = 10


def check_api() -> None:
    """Ask the configured Prefect API for a sign of life, before anything is begun.

    Raises:
        UsageError: It gives none within seconds, or it is none that we can use.
    """
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(httpx_settings={"timeout": _API_SECONDS}, sync_client=True) as client,
        ):
            client.api_version()
    except Exception as error:
        said = str(error.__cause__ or error).partition("\n")[0].partition(" - ")[0] or type(error).__name__
        raise UsageError(
            f"the Prefect API at {PREFECT_API_URL.value()} cannot be used ({said}); nothing was changed",
            hint="start one with 'prefect server start', or unset PREFECT_API_URL: the same steps run in process",
        ) from error


def hide_tracebacks() -> None:
    """Keep Prefect's tracebacks off this process's console: its caller says in a sentence what failed.

    The run's own log at the API keeps them.
    """
    import prefect.main  # noqa: F401  it sets the console up, and would do so again if it came later

    def plain(record: logging.LogRecord) -> bool:
        if record.name.startswith("prefect"):
            record.exc_info = record.exc_text = None
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(plain)


@contextmanager
def alone(workspace: str, dataset: str) -> Iterator[None]:
    """Wait for the turn of this data set of the workspace with that id, and keep it.

    Raises:
        UsageError: It did not come.
    """
    name = _LIMIT.format(workspace=workspace, dataset=dataset)
    # An absent limit would limit nothing. Two runs may make it at once; either's will do.
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.upsert_global_concurrency_limit_by_name(name, 1)
    with ExitStack() as stack:
        try:
            stack.enter_context(
                concurrency(name, occupy=1, timeout_seconds=PATIENCE_SECONDS, lease_duration=LEASE_SECONDS)
            )
        except TimeoutError:
            raise UsageError(
                f"the concurrency limit {name} was taken all of the {PATIENCE_SECONDS // 60} minutes we waited",
                hint=f"if no run of {dataset} is at work, free it: prefect gcl update {name} --active-slots 0",
            ) from None
        yield


def label(dataset: str | None = None, name: str | None = None) -> None:
    """Tag the flow run with what it is about, and name it as soon as that is known."""
    tags = {*runtime.flow_run.tags, *TAGS, *([dataset] if dataset else [])}
    with get_client(sync_client=True) as client:
        client.update_flow_run(runtime.flow_run.id, name=name, tags=sorted(tags))
