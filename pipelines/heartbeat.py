"""That a night was: each nightly run leaves a small file at its end, so that one that did not happen is noticed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lazaretto.durable import writable, write_durably
from lazaretto.errors import Blocked, IntegrityViolated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lazaretto.config import Workspace

_SKEW = timedelta(minutes=10)


@dataclass(frozen=True)
class Night:
    """The last nightly run that came to its end."""

    ended_at: str
    """UTC, ISO 8601."""
    states: dict[str, str]
    """Data set -> admitted, held, nothing, refused or failed."""

    @property
    def sentence(self) -> str:
        """In words."""
        counted = {state: list(self.states.values()).count(state) for state in sorted(set(self.states.values()))}
        what = ", ".join(f"{count} {state}" for state, count in counted.items()) or "no data set"
        return f"the last nightly run ended {self.ended_at}: {what}"


def note_night(workspace: Workspace, states: Mapping[str, str], now: datetime | None = None) -> None:
    """Write down that a night came to its end.

    Raises:
        Unavailable: The state cannot be written.
    """
    content = {"ended_at": (now or datetime.now(UTC)).isoformat(timespec="seconds"), "states": dict(states)}
    with writable(workspace.state):
        write_durably(_file(workspace), json.dumps(content, sort_keys=True).encode() + b"\n")


def last_night(workspace: Workspace) -> Night | None:
    """The last night that came to its end; None before the first.

    Raises:
        IntegrityViolated: What was written down cannot be read.
    """
    path = _file(workspace)
    try:
        content = json.loads(path.read_bytes())
        datetime.fromisoformat(content["ended_at"])
        return Night(content["ended_at"], {str(name): str(state) for name, state in content["states"].items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityViolated(
            f"{path} does not say when the last nightly run ended", hint="lazaretto nightly writes it anew"
        ) from error


def require_night(workspace: Workspace, within: timedelta, now: datetime | None = None) -> Night:
    """The last night, if it is no longer ago than that.

    Raises:
        Blocked: None was, or it is longer ago, or it is said to be in the future.
        IntegrityViolated: What was written down cannot be read.
    """
    night = last_night(workspace)
    if night is None:
        raise Blocked(
            "no nightly run has ended here yet", hint="start lazaretto serve, or schedule lazaretto nightly otherwise"
        )
    age = (now or datetime.now(UTC)) - datetime.fromisoformat(night.ended_at)
    if age > within:
        raise Blocked(
            f"{night.sentence}, longer ago than the {within} allowed", hint="see whether lazaretto serve still runs"
        )
    if age < -_SKEW:
        raise Blocked(f"{night.sentence}, which is in the future", hint="set this machine's clock")
    return night


def _file(workspace: Workspace) -> Path:
    return workspace.state / "nightly.json"
