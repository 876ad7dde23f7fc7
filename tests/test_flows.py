"""The flows run the engine through a real Prefect API and leave artifacts behind."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from lazaretto.entrance import enter
from lazaretto.errors import Unavailable
from tests.harness import DATASET, FakeJudge, make_workspace, write_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.pipelines.ingest import Hooks
    from tests.harness import FakeJudged


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
    assert {run.name for run in runs} == {f"ingest-{DATASET}-{result['batch']}"}
    assert {tuple(run.tags) for run in runs} == {(DATASET, "lazaretto")}
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


@pytest.mark.prefect
@pytest.mark.filterwarnings("ignore")  # as above
def test_two_batches_of_a_data_set_at_once_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: None
) -> None:
    from lazaretto.pipelines import flows

    workspace, spans = make_workspace(tmp_path), []
    contract = workspace.contract(DATASET).read_text()
    workspace.contract("first").write_text(contract.replace(f"dataset: {DATASET}", "dataset: first"))

    def slow(files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> FakeJudged:
        began = time.monotonic()
        time.sleep(1)
        judged = FakeJudge()(files, contract, into, hooks)
        spans.append((began, time.monotonic()))
        return judged

    monkeypatch.setattr(flows, "scan_judge", lambda *_how: slow)
    batches = [[str(write_batch(tmp_path / f"{start}.csv", start))] for start in (0, 10)]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda files: flows.ingest_flow(str(workspace.root), "first", files), batches))
    assert len({result["batch"] for result in done}) == 2
    assert max(began for began, _ in spans) >= min(ended for _, ended in spans)
    assert [task.run_count for task in asyncio.run(_look())[2] if task.name == "ingest first"] == [1, 1]


@pytest.mark.prefect
@pytest.mark.filterwarnings("ignore")  # as above
def test_an_accident_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: None) -> None:
    from lazaretto.pipelines import flows

    accidents: list[Exception] = [Unavailable("cannot write to /mnt: Stale file handle"), OSError("stale file handle")]

    def judge(files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> FakeJudged:
        if accidents:
            raise accidents.pop()
        return FakeJudge()(files, contract, into, hooks)

    workspace = make_workspace(tmp_path)
    monkeypatch.setattr(flows, "scan_judge", lambda *_how: judge)
    monkeypatch.setattr(flows, "ingest_batch", flows.ingest_batch.with_options(retry_delay_seconds=0))
    result = flows.ingest_flow(str(workspace.root), DATASET, [str(write_batch(tmp_path / "batch.csv", 50))])
    assert result["counts"]["arrived"] == 10
    assert max(task.run_count for task in asyncio.run(_look())[2]) == 3


@pytest.mark.prefect
@pytest.mark.filterwarnings("ignore")  # as above
def test_a_workspace_whose_mount_comes_late_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: None
) -> None:
    from lazaretto.pipelines import flows

    workspace = make_workspace(tmp_path)
    away = workspace.root.rename(tmp_path / "away")

    def come(root: str, action: str) -> Workspace:
        try:
            return enter(root, action)
        finally:
            if away.exists():
                away.rename(root)

    monkeypatch.setattr(flows, "enter", come)
    monkeypatch.setattr(flows, "open_workspace", flows.open_workspace.with_options(retry_delay_seconds=0))
    assert [outcome["state"] for outcome in flows.nightly_flow(str(workspace.root))] == ["nothing"]


@pytest.mark.prefect
@pytest.mark.filterwarnings("ignore")  # as above
def test_a_night_with_a_refused_data_set_says_so_and_prints_one_document(tmp_path: Path, prefect_api: None) -> None:
    from prefect.settings import PREFECT_API_URL

    workspace = make_workspace(tmp_path)
    (workspace.landing / DATASET).mkdir(parents=True)
    (workspace.landing / DATASET / "empty.csv").write_text("")
    done = _lazaretto(workspace, PREFECT_API_URL.value(), "nightly", "--json")
    assert done.returncode == 4
    assert [outcome["state"] for outcome in json.loads(done.stdout)] == ["refused"]
    assert "Finished in state Failed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.prefect
@pytest.mark.filterwarnings("ignore")  # as above
def test_a_night_and_its_tasks_are_one_run_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: None
) -> None:
    from lazaretto.pipelines import flows

    for name, value in (("LOG", "json"), ("LOG_FILE", str(tmp_path / "log"))):
        monkeypatch.setenv(f"LAZARETTO_{name}", value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(flows, "scan_judge", lambda *_how: FakeJudge())
    workspace = make_workspace(tmp_path)
    write_batch(workspace.landing / DATASET / "batch.csv", rows=20)
    assert [outcome["state"] for outcome in flows.nightly_flow(str(workspace.root))] == ["admitted"]
    told = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"nightly.began", "ingest.stage", "ingest.done", "nightly.done"} <= {line["event"] for line in told}
    assert len({line["run"] for line in told}) == 1


@pytest.mark.prefect
@pytest.mark.filterwarnings("ignore")  # as above
def test_a_schedule_becomes_runs(tmp_path: Path, prefect_api: None) -> None:
    from prefect.client.orchestration import get_client

    from lazaretto.pipelines.flows import nightly_flow

    deployment = nightly_flow.to_deployment(name="test", cron="0 2 * * *", parameters={"workspace": str(tmp_path)})
    made = deployment.apply()
    with get_client(sync_client=True) as client:
        client.request("POST", "/deployments/{id}/schedule", path_params={"id": made}, json={})
        assert [run for run in client.read_flow_runs() if run.deployment_id == made and run.state_name == "Scheduled"]


def test_an_api_that_does_not_answer_is_one_sentence_and_nothing_is_changed(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    file = write_batch(workspace.landing / DATASET / "batch.csv")
    done = _lazaretto(workspace, "http://127.0.0.1:9/api", "ingest")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the Prefect API at http://127.0.0.1:9/api cannot be used")
    assert file.exists()
    assert not list(workspace.state.glob("batches/*"))


def _lazaretto(workspace: Workspace, api: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PREFECT_API_URL": api or "", "LAZARETTO_WORKSPACE": str(workspace.root)}
    command = [sys.executable, "-m", "lazaretto", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
