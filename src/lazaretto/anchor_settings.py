"""What ``anchor`` in ``lazaretto.toml`` may say: a folder, a git remote, a bucket, or a list of them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from lazaretto.errors import UsageError
from lazaretto.timespan import timespan

if TYPE_CHECKING:
    from pathlib import Path

_KNOWN: dict[str, tuple[str, ...]] = {
    "folder": ("folder",),
    "git": ("git", "branch", "timeout"),
    "s3": ("s3", "prefix", "region", "endpoint", "retain", "timeout"),
}
_TIMEOUT = "30s"
_RETAIN = "3650d"
_PASSWORD = re.compile(r"://[^/@:]*:[^/@]+@")
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


@dataclass(frozen=True)
class AnchorSettings:
    """One place that gets a copy of every audit checkpoint. Credentials come from the environment alone."""

    kind: str
    """folder, git or s3."""
    where: str
    """Path, URL of the remote, or bucket."""
    written: str
    """The same as the configuration has it: a path may be relative, and a workspace may move."""
    branch: str = "main"
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None
    """URL of a store that is not Amazon's."""
    retain: timedelta = timedelta(0)
    """How long an object cannot be deleted."""
    timeout: timedelta = timedelta(seconds=30)
    """Longest that one exchange with it may take."""

    @property
    def id(self) -> str:
        """Eight digits by which a signed checkpoint says that it went there."""
        said = "\0".join((self.kind, self.written, self.branch if self.kind == "git" else "", self.prefix))
        return hashlib.sha256(said.encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """What to call it in a message."""
        at = f"/{self.prefix}" if self.prefix else ""
        return {"folder": "the anchor folder", "git": "the anchor", "s3": "the anchor bucket"}[
            self.kind
        ] + f" {self.where}{at}"


def anchor_settings(path: Path, root: Path, value: object) -> tuple[AnchorSettings, ...]:
    """Read the value of ``anchor``.

    Args:
        path: The configuration file, for messages.
        root: What a folder's path counts from.
        value: What stands there; None where nothing does.

    Raises:
        UsageError: It is nothing that an anchor can be.
    """
    items = value if isinstance(value, list) else [] if value is None else [value]
    found = tuple(_one(path, root, item) for item in items)
    twice = next((one.name for one in found if [other.id for other in found].count(one.id) > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: {twice} is named twice in 'anchor' of [audit]")
    return found


def _one(path: Path, root: Path, item: object) -> AnchorSettings:
    table: dict[str, Any] = {"folder": item} if isinstance(item, str) else item if isinstance(item, dict) else {}
    kinds = [kind for kind in _KNOWN if kind in table]
    if len(kinds) != 1:
        raise UsageError(
            f"{path}: 'anchor' in [audit] must be a folder, or a table with one of git, s3 and folder, not {item!r}"
        )
    [kind] = kinds
    for key, value in table.items():
        if key not in _KNOWN[kind]:
            near = get_close_matches(key, _KNOWN[kind], n=1)
            did = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"{path}: unknown key {key!r} in an anchor of {kind}{did}",
                hint=f"known keys: {', '.join(_KNOWN[kind])}",
            )
        if not isinstance(value, str) or not value:
            raise UsageError(f"{path}: {key!r} of an anchor in [audit] must be text, not {value!r}")
    if kind == "folder":
        return AnchorSettings(kind, str(root / table["folder"]), table["folder"])
    timeout = _span(path, "timeout", table.get("timeout", _TIMEOUT))
    if kind == "git":
        return _git(path, table, timeout)
    return AnchorSettings(
        kind,
        table["s3"],
        table["s3"],
        prefix=table.get("prefix", ""),
        region=table.get("region"),
        endpoint=table.get("endpoint"),
        retain=_span(path, "retain", table.get("retain", _RETAIN)),
        timeout=timeout,
    )


def _git(path: Path, table: dict[str, Any], timeout: timedelta) -> AnchorSettings:
    where, branch = table["git"], table.get("branch", "main")
    if where.startswith("-") or _PASSWORD.search(where):
        raise UsageError(
            f"{path}: the git anchor in [audit] must be a URL or path without a password",
            hint="give the password to git itself: a credential helper, an SSH key",
        )
    if not _BRANCH.fullmatch(branch) or ".." in branch:
        raise UsageError(f"{path}: {branch!r} is no name of a branch")
    return AnchorSettings("git", where, where, branch=branch, timeout=timeout)


def _span(path: Path, key: str, text: str) -> timedelta:
    try:
        found = timespan(text)
    except UsageError as error:
        raise UsageError(f"{path}: {key!r} of an anchor in [audit]: {error.message}", hint=error.hint) from error
    if not found:
        raise UsageError(f"{path}: {key!r} of an anchor in [audit] must be longer than nothing")
    return found
