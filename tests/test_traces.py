"""Traces arrive at a real collector; one that fails holds nothing up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from lazaretto import traces
from lazaretto.allowed import ALLOWED
from lazaretto.config import load_workspace
from lazaretto.errors import Blocked, InputRefused
from lazaretto.gatekeeper import gate
from lazaretto.pipelines.ingest import ingest
from lazaretto.pipelines.nightly import nightly
from tests.harness import DATASET, FakeJudge, publish, write_batch
from tests.test_log import CANARY, refused
from tests.watching import Received, closed_port, http_receiver, silent_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lazaretto.config import Workspace

pytest.importorskip("opentelemetry.sdk", reason="the telemetry extra is not installed")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the telemetry extra is not installed")


def traced(workspace: Workspace, port: int) -> Workspace:
    """The workspace, told of a collector."""
    file = workspace.root / "lazaretto.toml"
    file.write_text(file.read_text() + f'\n[telemetry]\nendpoint = "http://127.0.0.1:{port}"\n')
    return load_workspace(workspace.root)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("lazaretto.operation._said", set())


@pytest.fixture
def collector() -> Iterator[Received]:
    with http_receiver() as received:
        yield received


def spans(body: bytes) -> list[Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return [span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans]


def attributes(span: Any) -> dict[str, Any]:  # noqa: ANN401  a protobuf message
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_an_ingest_is_one_trace_with_a_span_for_each_stage(workspace: Workspace, collector: Received) -> None:
    result = publish(traced(workspace, collector.port))
    assert collector.paths == ["/v1/traces"]
    found = spans(collector.bodies[0])
    [root] = [span for span in found if not span.parent_span_id]
    assert root.name == "lazaretto ingest"
    assert {span.trace_id for span in found} == {root.trace_id}
    assert {span.parent_span_id for span in found if span is not root} == {root.span_id}
    assert {span.name for span in found} >= {"snapshot", "decide", "files", "commit", "attest", "ledger", "checkpoint"}
    told = attributes(root)
    assert (told["lazaretto.batch"], told["lazaretto.admitted"], told["lazaretto.held"]) == (result.batch, 8, False)
    assert all(root.start_time_unix_nano <= s.start_time_unix_nano <= s.end_time_unix_nano for s in found)


def test_the_log_and_the_trace_have_one_run(
    workspace: Workspace, collector: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = workspace.root.parent / "log"
    monkeypatch.setenv("LAZARETTO_LOG", "json")
    monkeypatch.setenv("LAZARETTO_LOG_FILE", str(file))
    publish(traced(workspace, collector.port))
    runs = {span.trace_id.hex() for span in spans(collector.bodies[0])}
    assert len(runs) == 1
    assert all(f'"run": "{run}"' in line for run in runs for line in file.read_text().splitlines())


def test_a_night_is_one_trace_around_its_ingests(workspace: Workspace, collector: Received) -> None:
    place = traced(workspace, collector.port)
    write_batch(place.landing / DATASET / "a.csv")
    nightly(place, take=lambda name: ingest(place, [], name, judge=FakeJudge()))
    assert len(collector.bodies) == 1
    named = {span.name: span for span in spans(collector.bodies[0])}
    assert named["lazaretto ingest"].parent_span_id == named["lazaretto nightly"].span_id


def test_the_gates_no_is_a_failed_span_with_its_reason(workspace: Workspace, collector: Received) -> None:
    place = traced(workspace, collector.port)
    with pytest.raises(Blocked):
        gate(DATASET, workspace=place)
    [span] = spans(collector.bodies[0])
    told = attributes(span)
    assert (told["lazaretto.answer"], told["lazaretto.reason"]) == ("no", "nothing_admitted")
    assert (span.status.code, span.status.message) == (2, "")


def test_an_error_that_quotes_a_value_leaves_no_word_of_it_in_the_trace(
    workspace: Workspace, collector: Received
) -> None:
    place = traced(workspace, collector.port)
    with pytest.raises(InputRefused):
        ingest(place, [write_batch(place.root.parent / f"{CANARY}.csv")], DATASET, judge=refused)
    [body] = collector.bodies
    assert CANARY.encode() not in body
    keys = {key for span in spans(body) for key in attributes(span)}
    assert {"lazaretto.error", "lazaretto.exit_code"} <= keys <= {f"lazaretto.{key}" for key in ALLOWED}


def test_a_span_that_is_open_around_us_is_the_parent(workspace: Workspace, collector: Received) -> None:
    from opentelemetry.sdk.trace import TracerProvider

    place = traced(workspace, collector.port)
    with TracerProvider(shutdown_on_exit=False).get_tracer("training").start_as_current_span("train") as around:
        publish(place)
    [root] = [span for span in spans(collector.bodies[0]) if span.name == "lazaretto ingest"]
    context = around.get_span_context()
    assert (int(root.trace_id.hex(), 16), int(root.parent_span_id.hex(), 16)) == (context.trace_id, context.span_id)


def test_the_environment_comes_first_and_can_turn_it_off(
    workspace: Workspace, collector: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = traced(workspace, closed_port())
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    publish(place)
    assert len(collector.bodies) == 1
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    publish(place, 100)
    assert len(collector.bodies) == 1


@pytest.mark.parametrize("kind", ["closed", "silent", "refusing"])
def test_a_collector_that_fails_is_said_once_and_holds_nothing_up(
    kind: str,
    workspace: Workspace,
    collector: Received,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(traces, "PATIENCE_SECONDS", 0.4)
    collector.status = 503
    with silent_receiver() as silent:
        place = traced(workspace, {"closed": closed_port(), "silent": silent, "refusing": collector.port}[kind])
        began = time.monotonic()
        assert [publish(place, start).version for start in (0, 100)] == [2, 3]
        assert time.monotonic() - began < 20  # without a bound it were a minute
    assert capsys.readouterr().err == "note: the collector of traces did not take them; going on without\n"
