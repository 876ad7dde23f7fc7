"""Traces for OpenTelemetry: one for each ingest, answer of the gate or night, a span for each stage.

Spans are kept until the outermost operation ends and are then sent at once by a thread of their own, waited for a few
seconds at most: no collector, however it fails, holds a batch up. The provider is ours alone; what the process around
us has set up for itself is left as it is, and where it has a span open, ours are its children.
"""

from __future__ import annotations

import os
import secrets
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lazaretto.monitoring import OTLP_VARIABLES
from lazaretto.operation import say_once
from lazaretto.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span, Tracer

    from lazaretto.monitoring import Monitoring
    from lazaretto.operation import Operation, Stage, Watcher

PATIENCE_SECONDS = 3.0
"""How long the end of an operation waits for the collector."""
_NANO = 1_000_000_000
_LOUD = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.common.http",
    "urllib3.connectionpool",
)
"""What says of each try to send, with a traceback, what we say once."""


def open_traces(wanted: Monitoring) -> list[Watcher]:
    """Who makes traces; nobody, which is said, where OpenTelemetry is not installed."""
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401  both are looked for
    except ImportError:
        say_once("traces are configured but OpenTelemetry is not installed: pip install 'lazaretto[telemetry]'")
        return []
    return [Traces(wanted.endpoint)]


class Traces:
    """Makes spans of operations and sends them when the outermost ends.

    Args:
        endpoint: The collector's address without the path; None leaves it to the ``OTEL_`` variables, which come first.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._endpoint = endpoint
        self._spans: dict[int, Span] = {}
        self._ended: list[ReadableSpan] = []
        self._tracer: Tracer | None = None

    def began(self, operation: Operation) -> None:
        """Open a span; a root begins a trace, unless the process around us has a span open."""
        from opentelemetry import trace

        if self._tracer is None:
            around = trace.get_current_span().get_span_context()
            if around.is_valid:
                operation.run = f"{around.trace_id:032x}"
            self._tracer = _tracer(operation.run, self._ended)
        parent = None if operation.parent is None else self._spans.get(id(operation.parent))
        self._spans[id(operation)] = self._tracer.start_span(
            f"lazaretto {operation.kind}",
            context=None if parent is None else _within(parent),
            start_time=_nanoseconds(operation.began),
        )

    def stage(self, operation: Operation, stage: Stage) -> None:
        """A span of what is over."""
        assert self._tracer is not None  # noqa: S101  the operation began
        around = self._spans[id(operation)]
        span = self._tracer.start_span(stage.name, context=_within(around), start_time=_nanoseconds(stage.began))
        span.set_attributes(_attributes(operation.told_of(stage)))
        _end(span, stage.ended, failed=stage.failed)

    def ended(self, operation: Operation) -> None:
        """Close the span."""
        span = self._spans.pop(id(operation))
        span.set_attributes(_attributes(operation.told()))
        _end(span, operation.ended, failed=operation.error is not None)

    def close(self) -> None:
        """Send everything, for as long as we have patience."""
        failed = ["no answer"]
        thread = threading.Thread(target=self._send, args=(failed,), daemon=True, name="lazaretto traces")
        thread.start()
        thread.join(PATIENCE_SECONDS)
        if failed:
            say_once("the collector of traces did not take them; going on without")

    def _send(self, failed: list[str]) -> None:
        try:
            with quiet(*_LOUD):
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
                from opentelemetry.sdk.trace.export import SpanExportResult

                exporter = OTLPSpanExporter(endpoint=_address(self._endpoint), timeout=PATIENCE_SECONDS)
                if exporter.export(self._ended) is SpanExportResult.SUCCESS:
                    failed.clear()
                exporter.shutdown()  # type: ignore[no-untyped-call]
        except Exception:  # noqa: BLE001, S110  it is said by whoever waits for us
            pass


def _tracer(run: str, ended: list[ReadableSpan]) -> Tracer:
    """A tracer whose traces have the run's id, and which hands over what is ended."""
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
    from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    release = version("lazaretto")  # not of the package itself, which would draw in all that it offers

    class Ids(IdGenerator):
        def generate_trace_id(self) -> int:
            return int(run, 16)

        def generate_span_id(self) -> int:
            return secrets.randbits(64) or 1  # the SDK's own would move the state of Python's shared generator

    class Kept(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span)

    name = os.environ.get("OTEL_SERVICE_NAME") or "lazaretto"
    resource = Resource.create({SERVICE_NAME: name, SERVICE_VERSION: release})
    provider = TracerProvider(resource=resource, id_generator=Ids(), span_limits=SpanLimits(), shutdown_on_exit=False)
    provider.add_span_processor(Kept())
    return provider.get_tracer("lazaretto", release)


def _address(endpoint: str | None) -> str | None:
    """Where to send to; None where the environment says it, which the exporter reads for itself."""
    said = any(os.environ.get(name) for name in OTLP_VARIABLES)
    return None if said or endpoint is None else f"{endpoint}/v1/traces"


def _within(span: Span) -> Context:
    from opentelemetry.trace import set_span_in_context

    return set_span_in_context(span)


def _attributes(told: Mapping[str, Any]) -> dict[str, Any]:
    return {f"lazaretto.{name}": value for name, value in told.items()}


def _end(span: Span, at: float, *, failed: bool) -> None:
    from opentelemetry.trace import Status, StatusCode

    if failed:
        span.set_status(Status(StatusCode.ERROR))  # without a description: an error's words may quote a value
    span.end(end_time=_nanoseconds(at))


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _NANO)
