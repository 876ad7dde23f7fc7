"""What of a workspace's configuration concerns those who watch it: logs, metrics, traces, alerts. Holds no secret."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lazaretto.errors import UsageError
from lazaretto.timespan import timespan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KNOWN: dict[str, tuple[str, ...]] = {
    "log": ("format", "file"),
    "metrics": ("listen",),
    "telemetry": ("endpoint",),
    "alerts": ("urls", "file", "cooldown", "nightly_within", "published_within", "decided_within"),
}
"""Tables of ``lazaretto.toml`` and their keys."""
LOG_VARIABLE = "LAZARETTO_LOG"
LOG_FILE_VARIABLE = "LAZARETTO_LOG_FILE"
ALERTS_VARIABLE = "LAZARETTO_ALERT_URLS"
FORMATS = ("json", "human")
OTLP_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PORTS = 65_535

TEMPLATE = """\

# Watching over it is off until it is asked for; docs/observability.md says all of it.
# [log]
# format = "json"               # or "human"; one line for each stage, decision and answer, without content
# file = "/var/log/lazaretto.jsonl"   # standard error by default
# [metrics]
# listen = "127.0.0.1:9464"     # where `lazaretto serve` answers Prometheus
# [telemetry]
# endpoint = "http://127.0.0.1:4318"  # an OpenTelemetry collector, OTLP over HTTP
# [alerts]
# file = "keys/alerts"          # Apprise addresses, one a line, mode 0600: they hold passwords
# nightly_within = "26h"
# published_within = "2d"
# decided_within = "3d"
"""


@dataclass(frozen=True)
class Watch:
    """When the alerts that depend on a span of time are due; None for those that are not wanted."""

    cooldown: timedelta = timedelta(hours=1)
    """Alerts of one kind and data set come no closer than this; those in between wait and are told together."""
    nightly_within: timedelta | None = None
    published_within: timedelta | None = None
    decided_within: timedelta | None = None


@dataclass(frozen=True)
class Monitoring:
    """Who is told what."""

    log_format: str = ""
    """`FORMATS`; nothing is logged without one."""
    log_file: Path | None = None
    """Standard error by default."""
    listen: tuple[str, int] | None = None
    endpoint: str | None = None
    """Of an OpenTelemetry collector, without the path; the ``OTEL_`` variables of the environment come first."""
    alerts: bool = False
    """Whether addresses for alerts are configured."""
    alerts_file: Path | None = None
    """A file with some of them."""
    watch: Watch = field(default_factory=Watch)

    @property
    def traced(self) -> bool:
        """Whether traces are wanted."""
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return False
        if os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none":
            return False
        return bool(self.endpoint or any(os.environ.get(name) for name in OTLP_VARIABLES))


def read_monitoring(path: Path, content: Mapping[str, Any]) -> Monitoring:
    """What ``lazaretto.toml`` and the environment say; the environment comes first.

    Args:
        path: The file, for messages and for the paths in it.
        content: What is in it, its keys known to be some of `KNOWN`.

    Raises:
        UsageError: A value is not what it must be.
    """
    said = os.environ.get(LOG_VARIABLE) or text_in(path, content, "log", "format") or ""
    if said not in ("", *FORMATS):
        where = LOG_VARIABLE if os.environ.get(LOG_VARIABLE) else f"{path}: 'format' in [log]"
        raise UsageError(f"{where} must be one of {', '.join(FORMATS)}, not {said!r}")
    log_file = os.environ.get(LOG_FILE_VARIABLE) or text_in(path, content, "log", "file")
    alerts, file = content.get("alerts", {}), text_in(path, content, "alerts", "file")
    urls = alerts.get("urls", [])
    if not isinstance(urls, list) or not all(isinstance(url, str) and url.strip() for url in urls):
        # Never with the value: these hold passwords.
        raise UsageError(f"{path}: 'urls' in [alerts] must be a list of texts")
    spans = {
        name: _span(path, content, name)
        for name in ("cooldown", "nightly_within", "published_within", "decided_within")
    }
    return Monitoring(
        log_format=said or ("human" if log_file else ""),
        log_file=path.parent / log_file if log_file else None,
        listen=_listen(path, text_in(path, content, "metrics", "listen")),
        endpoint=_endpoint(path, text_in(path, content, "telemetry", "endpoint")),
        alerts=bool(urls or file or os.environ.get(ALERTS_VARIABLE, "").strip()),
        alerts_file=path.parent / file if file else None,
        watch=Watch(**{name: span for name, span in spans.items() if span is not None}),
    )


def address(text: str) -> tuple[str, int]:
    """Host and port of ``127.0.0.1:9464``, ``[::1]:9464`` or ``9464``; without a host, of this machine alone.

    Raises:
        UsageError: It is no such address.
    """
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isdecimal() or int(port) > _PORTS or any(not c.isprintable() or c.isspace() for c in host):
        raise UsageError(f"{text[:60]!r} is no address to listen at", hint="write for instance 127.0.0.1:9464")
    return host, int(port)


def _span(path: Path, content: Mapping[str, Any], key: str) -> timedelta | None:
    """A span of time of the table of alerts.

    Raises:
        UsageError: It is none.
    """
    text = text_in(path, content, "alerts", key)
    try:
        return None if text is None else timespan(text)
    except UsageError as error:
        raise UsageError(f"{path}: {key!r} in [alerts]: {error.message}", hint=error.hint) from error


def _listen(path: Path, text: str | None) -> tuple[str, int] | None:
    try:
        return None if text is None else address(text)
    except UsageError as error:
        raise UsageError(f"{path}: 'listen' in [metrics]: {error.message}", hint=error.hint) from error


def _endpoint(path: Path, text: str | None) -> str | None:
    if text is None:
        return None
    where = f"{path}: 'endpoint' in [telemetry]"
    try:
        parts = urlsplit(text)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        sound = False
    else:
        if parts.username or parts.password:
            hint = "leave them out, and set OTEL_EXPORTER_OTLP_HEADERS"
            raise UsageError(f"{where} holds a user or a password, which this file must not", hint=hint)
    if not sound:
        raise UsageError(f"{where} is no address of a collector", hint="write for instance http://127.0.0.1:4318")
    return text.rstrip("/")


def text_in(path: Path, content: Mapping[str, Any], section: str, key: str) -> str | None:
    """A text of one of the tables; None where it is not given.

    Raises:
        UsageError: It is no text.
    """
    value = content.get(section, {}).get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise UsageError(f"{path}: {key!r} in [{section}] must be text, not {value!r}")
    return value
