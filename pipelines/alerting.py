"""Tells people: alerts go out by Apprise, each event once to each address, and again until that has worked.

What was told is written down after it was, address by address; a crash in between tells it once more rather than never.
What cannot be delivered is said, and tried again by the next run of anything. Nothing of it fails an ingest.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import queue
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lazaretto.config import lock_file
from lazaretto.durable import write_durably
from lazaretto.errors import LazarettoError
from lazaretto.operation import operation, say_once, under_way
from lazaretto.pipelines.addresses import addresses, service
from lazaretto.pipelines.alerts import TITLES, Alert, due, night_missed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lazaretto.config import Workspace
    from lazaretto.pipelines.addresses import Service

PATIENCE_SECONDS = 20.0
"""How long all deliveries of a run may take together."""
_LISTED = 10
"""Events that one message lists."""


@dataclass(frozen=True)
class Delivery:
    """What was told."""

    alerts: tuple[Alert, ...]
    """All that is so now, told before or not."""
    sent: int = 0
    """Events told now, to at least one address."""
    waiting: int = 0
    """Events that wait for the cool-down."""
    undelivered: int = 0
    """Events that could not be delivered to every address; the next run tries again."""
    busy: bool = False
    """Another process was at it; nothing was done."""


@contextmanager
def alerting(workspace: Workspace, *, missed_night: bool = False) -> Iterator[None]:
    """Tell what there is to tell once the block is over, however it ended.

    Args:
        workspace: Where. Nothing is done where no address is configured, or within another such block.
        missed_night: Before the block begins, tell that the night before it did not happen.

    Raises:
        UsageError: The addresses can be read by others, or not by us: before anything is begun.
    """
    if not workspace.monitoring.alerts or under_way(workspace) is not None:
        yield
        return
    addresses(workspace)
    within = workspace.monitoring.watch.nightly_within
    if missed_night and within is not None:
        tell_of_night(workspace, within, unless_first=True)
    try:
        yield
    except Exception:
        _tell(workspace)
        raise
    _tell(workspace)


def tell_of_night(workspace: Workspace, within: timedelta, *, unless_first: bool = False) -> None:
    """Tell that no nightly run ended within a span of time, if none did.

    Args:
        workspace: Where; nothing is done where no address is configured.
        within: The span.
        unless_first: Say nothing where there never was a nightly run.
    """
    missed = night_missed(workspace, within) if workspace.monitoring.alerts else None
    if missed is not None and not (unless_first and missed.subject == "never"):
        _tell(workspace, [missed])


def _tell(workspace: Workspace, alerts: Sequence[Alert] | None = None) -> None:
    """As `deliver`; whatever goes wrong is said and no more."""
    try:
        deliver(workspace, alerts)
    except Exception as error:  # noqa: BLE001  an alert that fails must not fail what it is about
        said = error.message if isinstance(error, LazarettoError) else type(error).__name__
        say_once(f"alerts could not be sent ({said}); the next run tries again")


def deliver(
    workspace: Workspace,
    alerts: Sequence[Alert] | None = None,
    *,
    folder: Path | None = None,
    now: datetime | None = None,
) -> Delivery:
    """Send what was not sent yet to every address.

    Args:
        workspace: Where.
        alerts: Only these; by default everything that is due.
        folder: Where to remember what was sent; the workspace's state by default.
        now: The clock's time by default.

    Raises:
        UsageError: The addresses cannot be used, or what was sent cannot be remembered.
    """
    moment = now or datetime.now(UTC)
    found = tuple(due(workspace, now=moment) if alerts is None else alerts)
    urls, place = addresses(workspace), (folder or workspace.state) / "alerts.json"
    with lock_file(place.with_suffix(".lock"), wait=False) as holder:
        if holder:
            return Delivery(found, busy=True)
        memory = _Memory.read(place)
        if alerts is None and not any(alert.kind == "ledger" for alert in found):
            memory.forget({alert.key for alert in found})
        posts, waiting = memory.posts(urls, found, moment, workspace.monitoring.watch.cooldown)
        if not posts:
            memory.write()
            return Delivery(found, waiting=len(waiting))
        with operation(workspace, "alert") as told:
            sent, failed = _post(workspace, posts, memory, moment)
            told.note(sent=len(sent), undelivered=len(failed))
    if failed:
        say_once(f"{len(failed)} alert(s) could not be delivered; the next run tries again")
    return Delivery(found, len(sent), len(waiting - sent), len(failed))


@dataclass(frozen=True)
class _Post:
    """One message to one address."""

    url: str
    address: str
    """What the address is remembered by."""
    alerts: tuple[Alert, ...]


def _post(workspace: Workspace, posts: Sequence[_Post], memory: _Memory, now: datetime) -> tuple[set[str], set[str]]:
    """Send; gives the keys that were delivered and those that were not. Every success is written down at once."""
    results: queue.Queue[tuple[_Post, bool]] = queue.Queue()

    def send_all(there: Service, mine: list[_Post]) -> None:
        for post in mine:
            title, body = message(workspace, post.alerts)
            ok = there.send(title, body)
            results.put((post, ok))
            if not ok:
                break  # an address that is out of reach keeps nobody waiting twice

    for url in dict.fromkeys(post.url for post in posts):
        mine = [post for post in posts if post.url == url]
        threading.Thread(target=send_all, args=(service(url), mine), daemon=True, name="lazaretto alerts").start()
    open_, sent = {post.url for post in posts}, set()
    missing = {(alert.key, post.address) for post in posts for alert in post.alerts}
    last = {post.url: post for post in posts}
    deadline = datetime.now(UTC) + timedelta(seconds=PATIENCE_SECONDS)
    while open_ and (left := (deadline - datetime.now(UTC)).total_seconds()) > 0:
        try:
            post, ok = results.get(timeout=left)
        except queue.Empty:
            break
        if ok:
            memory.remember(post, now)
            sent |= {alert.key for alert in post.alerts}
            missing -= {(alert.key, post.address) for alert in post.alerts}
        if not ok or post is last[post.url]:
            open_.discard(post.url)
    return sent, {key for key, _ in missing}


def message(workspace: Workspace, alerts: Sequence[Alert]) -> tuple[str, str]:
    """Title and text for alerts of one group."""
    first = alerts[0]
    title = f"Lazaretto: {TITLES[first.kind]}" + (f" ({first.dataset})" if first.dataset else "")
    lines = [line for alert in alerts[:_LISTED] for line in (alert.says, f"  {alert.hint}")]
    more = len(alerts) - _LISTED
    lines += [f"and {more:,} more"] if more > 0 else []
    return title, "\n".join([*lines, f"workspace {workspace.id}"])


@dataclass
class _Memory:
    """What was sent, to which addresses, and when a group was told last."""

    path: Path
    salt: str
    sent: dict[str, list[str]] = field(default_factory=dict)
    """Key -> addresses that were told."""
    told: dict[str, str] = field(default_factory=dict)
    """Group and address -> when."""

    @classmethod
    def read(cls, path: Path) -> _Memory:
        """What was written; nothing where it cannot be read, so that everything is told once more."""
        try:
            content: Mapping[str, Any] = json.loads(path.read_bytes())
            sent = {str(key): [str(one) for one in ones] for key, ones in content["sent"].items()}
            told = {str(key): str(at) for key, at in content["told"].items()}
            for at in told.values():
                datetime.fromisoformat(at)
            return cls(path, str(content["salt"]), sent, told)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(path, os.urandom(16).hex())

    def write(self) -> None:
        """Write it down, to last."""
        content = {"salt": self.salt, "sent": self.sent, "told": self.told}
        write_durably(self.path, json.dumps(content, sort_keys=True).encode() + b"\n")

    def forget(self, keys: set[str]) -> None:
        """Keep only what is still so: when it comes again, it is another event."""
        self.sent = {key: ones for key, ones in self.sent.items() if key in keys}

    def posts(
        self, urls: Sequence[str], alerts: Sequence[Alert], now: datetime, cooldown: timedelta
    ) -> tuple[list[_Post], set[str]]:
        """The messages to send now, and the keys of what waits for the cool-down."""
        found, waiting = [], set()
        for url in urls:
            address = hmac.digest(self.salt.encode(), url.encode(), hashlib.sha256).hex()[:16]
            for group in dict.fromkeys(alert.group for alert in alerts):
                mine = [a for a in alerts if a.group == group and address not in self.sent.get(a.key, ())]
                last = self.told.get(f"{group} {address}")
                if mine and last and timedelta() <= now - datetime.fromisoformat(last) < cooldown:
                    waiting |= {alert.key for alert in mine}
                elif mine:
                    found.append(_Post(url, address, tuple(mine)))
        return found, waiting

    def remember(self, post: _Post, now: datetime) -> None:
        """A message was delivered."""
        for alert in post.alerts:
            self.sent[alert.key] = sorted({*self.sent.get(alert.key, ()), post.address})
        self.told[f"{post.alerts[0].group} {post.address}"] = now.isoformat(timespec="seconds")
        self.write()
