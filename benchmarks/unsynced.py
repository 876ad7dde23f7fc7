"""What a power cut could still take away when something vouches for it.

A model of what has reached the disk, fed with the calls of a traced run: a file that was written is not there for sure
until it is synced, nor a new name until its folder is. Whoever vouches for others must find them all synced:

- the plan in the journal: what was kept of the judging, the quarantine, the store's files;
- a Delta commit: the store's files; the attestation: the log, too;
- the ledger's transaction: the attestation; the audit checkpoint: the ledger;
- taking the plan away, and the command's end: everything.

What a killed process left unsynced stays so in the model when another process goes on, until that one syncs it.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

from benchmarks import boundaries, syscalls
from benchmarks.kills import Prepared, caches

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.syscalls import Call

_WRITES = {"write", "pwrite64", "writev", "sendfile", "copy_file_range", "ftruncate", "truncate", "fallocate"}
_SCRATCH = re.compile(
    r"/state/(?:work|locks)(?:/|$)|\.db-shm$|/journal/\.?[\w.]*\.begun(?:\.new)?$|/landing(?:/|$)"
    r"|/_delta_log/\d+\.json#\d+$|/\.[^/]+\.new$|/\.b-[0-9a-f]+\.part(?:/|$)"
)
"""What may be lost: scratch, locks, SQLite's index of its log, the note of what to clear away, drafts."""
_LEDGER = re.compile(r"/ledger\.db(?:-wal|-journal)?$")
_VOUCHERS = (
    ("the plan", "rename", re.compile(r"/journal/[^/]+\.dsse\.json$")),
    # Commits 0 and 1 make an empty table, which vouches for nothing; the plan that builds on it does.
    ("the Delta commit", "link", re.compile(r"/_delta_log/0*(?:[2-9]|[1-9]\d+)\.json$")),
    ("the attestation", "rename", re.compile(r"/attestations/.*\.dsse\.json$")),
    ("the audit checkpoint", "rename", re.compile(r"/audit/checkpoint$")),
    ("taking the plan away", "unlink", re.compile(r"/journal/[^/]+\.dsse\.json$")),
)


@dataclass
class Disk:
    """What has not reached the disk."""

    root: str
    files: set[str] = field(default_factory=set)
    """Written since they were last synced."""
    names: dict[str, set[str]] = field(default_factory=dict)
    """Folder -> names made in it since it was last synced."""
    found: list[str] = field(default_factory=list)
    """Something vouched for what was not synced: one sentence each."""
    vouched: int = 0
    """Times something vouched."""
    calls: int = 0
    """Calls of the last command that change a file, as strace sees them."""
    unseen: int = 0
    """Of those, the ones that ``boundaries.c`` did not see, and could not kill before."""

    def follow(self, calls: Iterable[Call], end: str = "") -> None:
        """Take in the calls of one process.

        Args:
            calls: In their order; failed ones change nothing.
            end: What its end vouches for everything as; empty when it was killed or refused.
        """
        for call in calls:
            if call.result >= 0 and call.path.startswith(self.root + "/"):
                self._check(call)
                self._take(call)
        if end:
            self._vouch(end, ())

    def _check(self, call: Call) -> None:
        for what, name, path in _VOUCHERS:
            if call.name.startswith(name) and path.search(call.path):
                self._vouch(what, (call.path, call.old))
        if call.name == "pwrite64" and call.path.endswith(".db-wal"):
            # The rest of the ledger follows from its log.
            self._vouch("the ledger's transaction", [path for path in self.unsynced() if _LEDGER.search(path)])

    def _vouch(self, what: str, own: Iterable[str]) -> None:
        self.vouched += 1
        for path in sorted(self.unsynced() - {str(path) for path in own}):
            self.found.append(f"{what} vouches for {path.removeprefix(self.root)}, which is not synced")

    def unsynced(self) -> set[str]:
        """Files and names that could be gone after a power cut, but for scratch."""
        names = {f"{folder}/{name}" for folder, made in self.names.items() for name in made}
        return {path for path in self.files | names if not _SCRATCH.search(path)}

    def _take(self, call: Call) -> None:
        path = call.path
        if call.name in _WRITES:
            self.files.add(path)
        elif call.name in {"fsync", "fdatasync"}:
            self.files.discard(path)
            self.names.pop(path, None)
        elif call.name.startswith(("unlink", "rmdir")):
            self._forget(path)
        elif call.name.startswith(("rename", "link")):
            self._move(call)
        elif call.name.startswith("mkdir") or (call.name in {"open", "openat", "creat"} and call.changes):
            self._open(call)

    def _open(self, call: Call) -> None:
        parent = str(PurePath(call.path).parent)
        # strace does not tell whether O_CREAT made a file: one that is opened so without being emptied was there.
        if call.name.startswith("mkdir") or "O_EXCL" in call.flags or "O_TRUNC" in call.flags:
            self.names.setdefault(parent, set()).add(PurePath(call.path).name)
        if "O_TRUNC" in call.flags:
            self.files.add(call.path)

    def _forget(self, path: str) -> None:
        self.files = {file for file in self.files if file != path and not file.startswith(f"{path}/")}
        kept = {here for here in self.names if here != path and not here.startswith(f"{path}/")}
        self.names = {here: self.names[here] for here in kept}
        parent = str(PurePath(path).parent)
        self.names.get(parent, set()).discard(PurePath(path).name)

    def _move(self, call: Call) -> None:
        old, new = call.old, call.path
        moved = {file for file in self.files if file == old or file.startswith(f"{old}/")}
        below = {here: made for here, made in self.names.items() if here == old or here.startswith(f"{old}/")}
        self._forget(new)
        if call.name.startswith("rename"):
            self._forget(old)
        self.files |= {new + file.removeprefix(old) for file in moved}
        self.names.update({new + here.removeprefix(old): set(made) for here, made in below.items()})
        self.names.setdefault(str(PurePath(new).parent), set()).add(PurePath(new).name)


def kept(one: Prepared, log: Path, at: int = 0) -> Disk:
    """Trace a command, killed at a boundary and repeated where one is given, and tell what was not synced in time."""
    one.again()
    disk = Disk(str(one.root))
    if at:
        syscalls.traced(one.go, log, before=partial(boundaries.arm, one.root, at, boundaries.KILL))
        disk.follow(syscalls.read(log))
    own = log.with_name("own")
    ended = syscalls.traced(one.go, log, before=partial(boundaries.arm, one.root, log=own))
    if ended.crashed or ended.status:
        disk.found.append(f"the command ended with {ended.status}: {ended.crashed[-300:]}")
    calls = syscalls.read(log)
    disk.follow(calls, "its end")
    mine = Counter(call.path for call in calls if call.path.startswith(disk.root + "/") and call.changes)
    disk.calls = mine.total()
    disk.unseen = (mine - Counter(disk.root + point.path for point in boundaries.read(own))).total()
    return disk


@dataclass
class Unsynced:
    """What came of it."""

    vouched: int = 0
    calls: int = 0
    unseen: int = 0
    whole: int = 0
    """Commands that were let alone."""
    repeated: int = 0
    """Commands that finished a killed one."""
    wanted: int = 0
    """Commands that were to be traced."""
    said: list[str] = field(default_factory=list)


def searched(journeys: list[Prepared], log: Path, seed: int, each: int = 1, minutes: float = math.inf) -> Unsynced:
    """Trace every command whole, and killed at every boundary, or every so manieth, and given again.

    Those that are killed come in any order, for the time there is.
    """
    killed = [(one, at) for one in journeys for at in range(1, len(one.points) + 1, each)]
    random.Random(seed).shuffle(killed)  # noqa: S311  which comes first is no secret
    found, began = Unsynced(wanted=len(journeys) + len(killed)), time.monotonic()
    for one, at in [*((one, 0) for one in journeys), *killed]:
        if at and time.monotonic() - began > 60 * minutes:
            break
        caches(one.folder / "run")
        disk = kept(one, log, at)
        found.vouched += disk.vouched
        found.calls += disk.calls
        found.unseen += disk.unseen
        found.whole += not at
        found.repeated += at > 0
        where = f"{one.journey.name}{f', killed before call {at}' if at else ''}"
        found.said += [f"{where}: {said}" for said in disk.found]
    return found
