"""The flows run the engine through a real Prefect API and leave artifacts behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import DATASET, FakeJudge, make_workspace, write_batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=120):
            yield


async def _look() -> tuple[list[Any], list[Any], list[Any]]:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return await client.read_flow_runs(), await client.read_artifacts(), await client.read_task_runs()


@pytest.mark.prefect
@pytest.mark.filterwarnings("ignore")  # Prefect's own server warns while it starts and stops
def test_an_ingest_flow_ingests_names_its_run_and_leaves_artifacts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: None
) -> None:
    from lazaretto.pipelines import flows

    workspace = make_workspace(tmp_path)
    monkeypatch.setattr(flows, "scan_judge", lambda *_how: FakeJudge())
    batch = write_batch(tmp_path / "batch.csv", rows=20)
    result = flows.ingest_flow(str(workspace.root), DATASET, [str(batch)])
    assert result["counts"]["arrived"] == 20
    again = flows.ingest_flow(str(workspace.root), DATASET, [str(batch)])
    assert again["already"]
    assert again["batch"] == result["batch"]
    runs, artifacts, _ = asyncio.run(_look())
    assert {run.name for run in runs} == {f"ingest-{DATASET}"}
    assert {run.state_name for run in runs} == {"Completed"}
    assert any((artifact.key or "").endswith("-summary") for artifact in artifacts)


@pytest.mark.prefect
@pytest.mark.filterwarnings("ignore")  # as above
def test_a_refused_input_fails_the_run_with_our_sentence_and_is_not_tried_again(
    tmp_path: Path, prefect_api: None
) -> None:
    from lazaretto.errors import InputRefused
    from lazaretto.pipelines.flows import ingest_flow

    workspace = make_workspace(tmp_path)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputRefused, match="empty"):
        ingest_flow(str(workspace.root), DATASET, [str(tmp_path / "empty.csv")])
    _, _, tasks = asyncio.run(_look())
    assert [task.run_count for task in tasks if task.state_name == "Failed"] == [1]
