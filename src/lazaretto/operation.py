"""What is under way, told to those who watch: a log, a collector of traces. Costs nothing where nobody does.

An operation is an ingest, a review's decision, an answer of the gate, a verification, a recall, a night. One begun
inside another belongs to the same run. Who watches cannot stand in the way: what goes wrong in telling is said once,
and the operation goes on.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lazaretto.allowed import screened
from lazaretto.errors import LazarettoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lazaretto.config import Workspace
    from lazaretto.records import OnRows, OnStep

_current: ContextVar[Operation | None] = ContextVar("lazaretto_operation", default=None)
_said: set[str] = set()
_IDENTITY = ("dataset", "batch", "unit")
"""Facts that are said of each stage too."""


class Watcher(Protocol):
    """Is told of operations. What it is given went through the allow-list."""

    def began(self, operation: Operation) -> None:
        """An operation begins."""

    def stage(self, operation: Operation, stage: Stage) -> None:
        """A stage of it came to its end."""

    def ended(self, operation: Operation) -> None:
        """It came to its end; `Operation.error` says how."""

    def close(self) -> None:
        """The outermost operation came to its end."""


@dataclass(frozen=True)
class Stage:
    """One stage of an operation."""

    name: str
    began: float
    """Seconds since the epoch, as `ended`."""
    ended: float
    rows: int
    """Records handled, where it counts them."""
    failed: bool = False

    @property
    def seconds(self) -> float:
        """How long it took."""
        return round(max(self.ended - self.began, 0.0), 3)


@dataclass
class Operation:
    """One thing under way."""

    workspace: str
    kind: str
    run: str
    """32 hex digits; those of the operation around it, where there is one. Traces have it as their id."""
    watchers: tuple[Watcher, ...]
    parent: Operation | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)
    error: BaseException | None = None
    began: float = field(default_factory=time.time)
    ended: float = 0.0
    _open: tuple[str, float] | None = None
    _rows: int = 0

    @property
    def seconds(self) -> float:
        """How long it took, or has taken."""
        return round(max((self.ended or time.time()) - self.began, 0.0), 3)

    @property
    def exit_code(self) -> int:
        """What a command that ends so exits with."""
        if self.error is None:
            return 0
        return self.error.exit_code if isinstance(self.error, LazarettoError) else 1

    def told_of(self, stage: Stage) -> dict[str, Any]:
        """Everything that may be said of a stage."""
        what = {name: self.facts[name] for name in _IDENTITY if name in self.facts}
        said = {"workspace": self.workspace, "run": self.run, **what, "stage": stage.name, "seconds": stage.seconds}
        return screened({**said, "rows": stage.rows or None, "failed": stage.failed or None})

    def told(self) -> dict[str, Any]:
        """Everything that may be said of it."""
        said = {"workspace": self.workspace, "run": self.run, **self.facts}
        said |= {"seconds": self.seconds} if self.ended else {}
        if self.error is not None:
            # Its class and nothing of its words.
            said |= {"error": type(self.error).__name__, "exit_code": self.exit_code}
        return screened(said)

    def note(self, **facts: Any) -> None:  # noqa: ANN401  as above
        """Add what became known."""
        self.facts.update({name: value for name, value in facts.items() if value is not None})

    def steps(self, on_step: OnStep) -> OnStep:
        """The callback, with each step told as a stage."""

        def step(name: str) -> None:
            self._close_stage()
            self._open, self._rows = (name, time.time()), 0
            on_step(name)

        return step

    def rows(self, on_rows: OnRows) -> OnRows:
        """The callback, with the records of each stage counted."""

        def rows(count: int) -> None:
            self._rows += count
            on_rows(count)

        return rows

    def end(self, error: BaseException | None) -> None:
        """It is over."""
        self.error = error
        self._close_stage(failed=error is not None)
        self.ended = time.time()
        self.tell(lambda watcher: watcher.ended(self))
        if self.parent is None:
            self.tell(lambda watcher: watcher.close())

    def tell(self, what: Callable[[Watcher], None]) -> None:
        """Tell everyone; who cannot be told is told no more, which is said once."""
        for watcher in self.watchers:
            try:
                what(watcher)
            except Exception as error:  # noqa: BLE001  whatever is wrong with a log, it is no reason to lose a batch
                self.watchers = tuple(one for one in self.watchers if one is not watcher)
                say_once(f"{type(watcher).__name__} cannot be told what happens ({type(error).__name__}); going on")

    def _close_stage(self, *, failed: bool = False) -> None:
        if self._open is None:
            return
        stage = Stage(*self._open, time.time(), self._rows, failed)
        self._open = None
        self.stages.append(stage)
        self.tell(lambda watcher: watcher.stage(self, stage))


@contextmanager
def operation(workspace: Workspace, kind: str, **facts: Any) -> Iterator[Operation]:  # noqa: ANN401  what is known of it
    """Tell of what the block does.

    Args:
        workspace: Where; its configuration says who watches.
        kind: A word of ours: ingest, gate, verify.
        **facts: What is known from the beginning.
    """
    parent = under_way(workspace)
    run = parent.run if parent else os.urandom(16).hex()
    one = Operation(workspace.id, kind, run, parent.watchers if parent else _watchers(workspace), parent)
    one.note(**facts)
    token = _current.set(one)
    try:
        one.tell(lambda watcher: watcher.began(one))
        yield one
    except BaseException as error:
        one.end(error)
        raise
    else:
        one.end(None)
    finally:
        _current.reset(token)


def under_way(workspace: Workspace) -> Operation | None:
    """The innermost operation of a workspace that is under way here."""
    around = _current.get()
    return around if around is not None and around.workspace == workspace.id else None


def say_once(sentence: str) -> None:
    """Say something on standard error, once in the life of this process."""
    if sentence not in _said:
        _said.add(sentence)
        sys.stderr.write(f"note: {sentence}\n")


def _watchers(workspace: Workspace) -> tuple[Watcher, ...]:
    found: list[Watcher] = []
    wanted = workspace.monitoring
    if wanted.traced:
        from lazaretto.traces import open_traces

        found += open_traces(wanted)  # first: a trace around us may give the run its id
    if wanted.log_format:
        from lazaretto.log import LogLines

        found.append(LogLines(wanted.log_format, wanted.log_file))
    return tuple(found)
