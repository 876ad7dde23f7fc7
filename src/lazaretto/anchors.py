"""Where audit checkpoints are kept beside the ledger: a folder, and what is shared by every kind of place.

A place is asked for its newest checkpoint before anything is done, so that one that cannot be reached stops the work
before it begins, and gets each new checkpoint before the workspace keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lazaretto.durable import write_durably
from lazaretto.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from lazaretto.anchor_settings import AnchorSettings
    from lazaretto.config import Workspace

SUFFIX = ".checkpoint"


@dataclass(frozen=True)
class Note:
    """One checkpoint as it lies in a place."""

    name: str
    """Of its file or object, without folder or prefix."""
    where: str
    """What to call it in a message."""
    content: bytes


@dataclass(frozen=True)
class Glance:
    """What a place has, at a glance."""

    names: tuple[str, ...] = ()
    """Of every checkpoint of the workspace, oldest first."""
    newest: Note | None = None

    def count_with(self, name: str) -> int:
        """How many there are up to one that is to be put there."""
        return sum(one < name for one in self.names) + 1


@dataclass(frozen=True)
class Kept:
    """Everything that a place has."""

    notes: tuple[Note, ...]
    """By name, which is by age; of one that was written over, every version there is."""
    findings: tuple[str, ...] = ()
    """What the place itself shows: that something was taken away or written over."""


class Anchor(Protocol):
    """A place."""

    @property
    def settings(self) -> AnchorSettings:
        """Where it is."""
        ...

    def look(self) -> Glance:
        """What is there, and the newest of it.

        Raises:
            Unavailable: It cannot be reached.
        """
        ...

    def put(self, name: str, content: bytes) -> None:
        """Keep a checkpoint of which it has none yet.

        Raises:
            Unavailable: It cannot be reached or written.
        """
        ...

    def everything(self) -> Kept:
        """All checkpoints of the workspace.

        Raises:
            Unavailable: It cannot be reached.
        """
        ...


def anchor_name(workspace: Workspace, size: int) -> str:
    """Name of a checkpoint in every place: one file each, so that a write-once place will do."""
    return f"{workspace.id}-{size:012}{SUFFIX}"


def open_anchors(workspace: Workspace) -> list[Anchor]:
    """The places that ``lazaretto.toml`` names."""
    return [_open(workspace, settings) for settings in workspace.anchors]


def anchor_folders(workspace: Workspace) -> list[Path]:
    """Those of the anchors that are folders of this machine."""
    return [Path(one.where) for one in workspace.anchors if one.kind == "folder"]


def _open(workspace: Workspace, settings: AnchorSettings) -> Anchor:
    if settings.kind == "git":
        from lazaretto.anchor_git import GitAnchor

        return GitAnchor(settings, workspace.id, workspace.state / "anchors" / f"{settings.id}.git")
    if settings.kind == "s3":
        from lazaretto.anchor_s3 import BucketAnchor

        return BucketAnchor(settings, workspace.id)
    return FolderAnchor(settings, workspace.id)


def unreachable(settings: AnchorSettings, why: str) -> Unavailable:
    """The one sentence for a place that does not answer."""
    return Unavailable(
        f"{settings.name} cannot be used: {why}",
        hint="nothing is done without it; run the same command again once it answers, or correct lazaretto.toml",
    )


@dataclass(frozen=True)
class FolderAnchor:
    """A folder, best one that only takes new files."""

    settings: AnchorSettings
    workspace: str

    @property
    def _folder(self) -> Path:
        folder = Path(self.settings.where)
        if not folder.is_dir():
            raise Unavailable(
                f"the anchor folder {folder} is not there", hint="mount it, or correct it in lazaretto.toml"
            )
        return folder

    def look(self) -> Glance:
        """What is there; see `Anchor`."""
        paths = sorted(self._folder.glob(f"{self.workspace}-*{SUFFIX}"))
        return Glance(tuple(path.name for path in paths), self._note(paths[-1]) if paths else None)

    def put(self, name: str, content: bytes) -> None:
        """Keep a checkpoint; see `Anchor`."""
        path = self._folder / name
        try:
            write_durably(path, content)
        except OSError as error:
            raise UsageError(
                f"the audit checkpoint cannot be copied to {path.parent}: {error.strerror}",
                hint="make the anchor folder of lazaretto.toml writable, then run the same command again",
            ) from error

    def everything(self) -> Kept:
        """All checkpoints; see `Anchor`."""
        return Kept(tuple(map(self._note, sorted(self._folder.glob(f"{self.workspace}-*{SUFFIX}")))))

    def _note(self, path: Path) -> Note:
        try:
            return Note(path.name, str(path), path.read_bytes())
        except OSError as error:
            raise unreachable(self.settings, f"{path.name}: {error.strerror}") from error
