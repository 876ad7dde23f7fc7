"""The structured log: one line for each beginning, stage and end of an operation, as JSON or for people to read."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import structlog

from lazaretto.allowed import screened
from lazaretto.durable import PRIVATE_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from pathlib import Path

    from lazaretto.operation import Operation, Stage


class LogLines:
    """Writes the log's lines.

    Args:
        shape: ``json`` or ``human``.
        file: Where to; standard error without one. A line is written at once, so that several processes may share it.
    """

    def __init__(self, shape: str, file: Path | None) -> None:
        renderer = (
            structlog.processors.JSONRenderer(sort_keys=True)
            if shape == "json"
            else structlog.processors.KeyValueRenderer(
                key_order=["timestamp", "level", "event", "dataset"], drop_missing=True, sort_keys=True
            )
        )
        # Wrapped here and configured nowhere: the process may be somebody else's, with a log of its own.
        self._logger = structlog.wrap_logger(
            _Lines(file),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                only_allowed,
                renderer,
            ],
            wrapper_class=structlog.BoundLogger,
            context_class=dict,
        )

    def began(self, operation: Operation) -> None:
        """An operation begins."""
        self._write("info", f"{operation.kind}.began", operation.told())

    def stage(self, operation: Operation, stage: Stage) -> None:
        """A stage came to its end."""
        self._write("info", f"{operation.kind}.stage", operation.told_of(stage))

    def ended(self, operation: Operation) -> None:
        """It came to its end."""
        told = operation.told()
        if operation.error is None:
            self._write("info", f"{operation.kind}.done", told)
        elif "answer" in told:  # a no of the gate is what it is there for
            self._write("warning", f"{operation.kind}.done", told)
        else:
            self._write("error", f"{operation.kind}.failed", told)

    def close(self) -> None:
        """Nothing is kept open between lines."""

    def _write(self, level: str, event: str, told: Mapping[str, Any]) -> None:
        getattr(self._logger, level)(event, **told)


def only_allowed(_logger: object, _method: str, said: MutableMapping[str, Any]) -> dict[str, Any]:
    """A processor of structlog: leaves in what is on the allow-list, whoever called the logger and with what."""
    return screened(said)


class _Lines:
    """What structlog writes with."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def msg(self, line: str) -> None:
        """Write one line, whole."""
        if self._file is None:
            sys.stderr.write(line + "\n")
            return
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
        try:
            os.write(descriptor, (line + "\n").encode())
        finally:
            os.close(descriptor)

    info = warning = error = msg
