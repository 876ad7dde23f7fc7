"""A git repository as a place for audit checkpoints: one commit each, pushed without force.

What was pushed once can be taken away again only by writing the branch's history anew, which a repository that refuses
forced pushes does not take, and which shows here: the tip seen last must be an ancestor of the one found now.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lazaretto.anchors import SUFFIX, Glance, Kept, Note, unreachable
from lazaretto.durable import make_folder
from lazaretto.errors import IntegrityViolated

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.anchor_settings import AnchorSettings

_SEEN = "refs/lazaretto/seen"
_FOUND = "refs/lazaretto/found"
_TRIES = 5
_NAME = {"GIT_AUTHOR_NAME": "lazaretto", "GIT_AUTHOR_EMAIL": "lazaretto@localhost"}
_NOT_OURS = {"GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"}
"""What a hook sets for a repository that is not ours."""
_COMMITTER = {"GIT_COMMITTER_NAME": "lazaretto", "GIT_COMMITTER_EMAIL": "lazaretto@localhost"}


@dataclass(frozen=True)
class GitAnchor:
    """A branch of a remote; see `lazaretto.anchors.Anchor`."""

    settings: AnchorSettings
    workspace: str
    copy: Path
    """A bare repository of our own, through which the remote is read and written."""

    def look(self) -> Glance:
        """What is there."""
        names = self._names() if self._fetch() else []
        return Glance(tuple(names), self._note(names[-1]) if names else None)

    def put(self, name: str, content: bytes) -> None:
        """Commit a checkpoint and push it; somebody else's push in between is built upon."""
        for attempt in range(_TRIES):
            tip = self._fetch()
            blob = self._git("hash-object", "-w", "--stdin", given=content).strip()
            tree = (
                [line for line in self._git("ls-tree", tip).splitlines() if line.partition("\t")[2] != name]
                if tip
                else []
            )
            made = self._git("mktree", given="\n".join([*tree, f"100644 blob {blob}\t{name}", ""]).encode()).strip()
            parent = ("-p", tip) if tip else ()
            commit = self._git("commit-tree", made, *parent, "-m", f"Checkpoint {name.removesuffix(SUFFIX)}").strip()
            done = self._run(
                "push", "--quiet", "--", self.settings.where, f"{commit}:refs/heads/{self.settings.branch}"
            )
            if done.returncode == 0:
                self._git("update-ref", _SEEN, commit)
                return
            if attempt == _TRIES - 1 or not _overtaken(done.stderr):
                raise unreachable(self.settings, _last_line(done.stderr))

    def everything(self) -> Kept:
        """All checkpoints that are there or ever were, and every change that took one away."""
        tip = self._fetch()
        if not tip:
            return Kept(())
        notes, findings = [], []
        log = self._git("log", "--format=%H", "--name-status", "--no-renames", "-m", "--first-parent", tip)
        commit = ""
        for line in log.splitlines():
            status, _, name = line.partition("\t")
            if not name:
                commit = status or commit
            elif name.startswith(f"{self.workspace}-") and name.endswith(SUFFIX):
                if status != "A":
                    what = "taken away" if status == "D" else "written over"
                    findings.append(f"checkpoint {name} was {what} in commit {commit[:12]} of {self.settings.name}")
                if status != "D":
                    notes.append(self._note(name, commit))
        return Kept(tuple(sorted(notes, key=lambda note: note.name)), tuple(findings))

    def _names(self) -> list[str]:
        done = self._run("ls-tree", "--name-only", _FOUND)
        names = done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else []
        return sorted(name for name in names if name.startswith(f"{self.workspace}-") and name.endswith(SUFFIX))

    def _note(self, name: str, commit: str = _FOUND) -> Note:
        content = self._run("cat-file", "blob", f"{commit}:{name}")
        if content.returncode:
            raise unreachable(self.settings, _last_line(content.stderr))
        return Note(name, f"{self.settings.where} {name}", content.stdout)

    def _fetch(self) -> str:
        """Bring the branch here; gives its tip, nothing where there is none yet.

        Raises:
            IntegrityViolated: Its history is no continuation of the one seen last.
        """
        if not (self.copy / "HEAD").exists():
            make_folder(self.copy)
            self._git("init", "--quiet", "--bare")
        branch = f"refs/heads/{self.settings.branch}"
        listed = self._run("ls-remote", "--", self.settings.where, branch)
        if listed.returncode:
            raise unreachable(self.settings, _last_line(listed.stderr))
        seen = self._run("rev-parse", "--quiet", "--verify", _SEEN).stdout.decode().strip()
        if not listed.stdout.strip():
            if seen:
                raise self._rolled_back("its branch is gone")
            return ""
        done = self._run("fetch", "--quiet", "--no-tags", "--", self.settings.where, f"+{branch}:{_FOUND}")
        if done.returncode:
            raise unreachable(self.settings, _last_line(done.stderr))
        tip = self._git("rev-parse", _FOUND).strip()
        if seen and self._run("merge-base", "--is-ancestor", seen, tip).returncode:
            raise self._rolled_back("its history no longer holds what was seen there before")
        self._git("update-ref", _SEEN, tip)
        return tip

    def _rolled_back(self, why: str) -> IntegrityViolated:
        return IntegrityViolated(
            f"{self.settings.name} was put back: {why}",
            hint=f"ask who may write it; if that was on purpose, remove {self.copy}",
        )

    def _git(self, *arguments: str, given: bytes | None = None) -> str:
        done = self._run(*arguments, given=given)
        if done.returncode:
            raise unreachable(self.settings, _last_line(done.stderr))
        return done.stdout.decode(errors="replace")

    def _run(self, *arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        given_ = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
        environment = {"GIT_SSH_COMMAND": "ssh -oBatchMode=yes", **given_, **_NAME, **_COMMITTER}
        # Nobody is there to answer a question, and a hook of a template has no business here.
        environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_DIR": str(self.copy), "LC_ALL": "C"}
        limit = self.settings.timeout.total_seconds()
        try:
            return subprocess.run(  # noqa: S603  every argument is ours or checked in the configuration
                ["git", "-c", "gc.auto=0", *arguments],  # noqa: S607  git is where the user has it
                input=given,
                stdin=None if given is not None else subprocess.DEVNULL,
                capture_output=True,
                check=False,
                env=environment,
                timeout=limit,
            )
        except subprocess.TimeoutExpired as error:
            raise unreachable(self.settings, f"git {arguments[0]} gave no answer within {limit:.0f} s") from error
        except OSError as error:
            raise unreachable(self.settings, f"git cannot be run: {error.strerror}") from error


def _overtaken(said: bytes) -> bool:
    return any(word in said for word in (b"fetch first", b"non-fast-forward", b"cannot lock ref", b"stale info"))


def _last_line(said: bytes) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:", "ssh:", " !"))]
    return " ".join((fatal or lines or ["git failed"])[0].split())[:200]
