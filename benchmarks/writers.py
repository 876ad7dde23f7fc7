"""Many processes that bring small batches into one workspace at once, each batch twice: every one is in once.

Each writer sends its batches to one data set and some of them to one that all share, as `lazaretto ingest` would; where
another process is at work on the data set, it waits a moment and gives the command again. Great Expectations and the
detectors are left out (a judge that admits every record stands in): what is tried is the ledger, the audit log and the
store. A batch that was sent before must be answered with "already", whoever sent it first.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import forked
from benchmarks.gate import admit_all
from lazaretto.config import Workspace, init_workspace
from lazaretto.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED = "shared"
_CONTRACT = "dataset: {name}\nid: id\ncolumns:\n  id: {{type: category}}\n  x: {{type: integer}}\n"
_EACH = 4
"""Records of a batch."""
_SHARED_EVERY = 25
"""Every so manieth batch of a writer goes to the data set that all share."""
_PAUSE = 0.05
_SECONDS = 3600.0


@dataclass
class Written:
    """What came of it."""

    database: str
    writers: int
    batches: int
    """Different ones, of all writers together."""
    sent: int = 0
    waited: int = 0
    """Times a writer found another at work on the data set."""
    twice: int = 0
    missing: int = 0
    unanswered: int = 0
    """Second sendings that were not answered with "already"."""
    said: list[str] = field(default_factory=list)
    seconds: float = 0.0


def names(writer: int, number: int) -> tuple[str, list[str]]:
    """Data set and record ids of a writer's batch."""
    dataset = SHARED if number % _SHARED_EVERY == 0 else f"of-{writer}"
    return dataset, [f"w{writer}-b{number}-r{row}" for row in range(_EACH)]


def write(workspace: Workspace, scratch: Path, writer: int, batches: int) -> dict[str, int]:
    """One writer's work: every batch, and every batch again."""
    from lazaretto.pipelines import scan  # noqa: F401  so that what it imports is not counted as an ingest

    told = {"sent": 0, "waited": 0, "unanswered": 0}
    for number in range(batches):
        dataset, ids = names(writer, number)
        file = scratch / f"w{writer}-b{number}.csv"
        file.write_text("id,x\n" + "".join(f"{name},{row}\n" for row, name in enumerate(ids)))
        for again in (False, True):
            already = _sent(workspace, file, dataset, told)
            told["sent"] += 1
            told["unanswered"] += already != again
        file.unlink()
    return told


def _sent(workspace: Workspace, file: Path, dataset: str, told: dict[str, int]) -> bool:
    from lazaretto.pipelines.ingest import ingest

    while True:
        try:
            return ingest(workspace, [file], dataset, judge=admit_all).already
        except Unavailable as error:
            if "another lazaretto process" not in error.message:
                raise
            told["waited"] += 1
            time.sleep(_PAUSE)


def written(folder: Path, writers: int, batches: int, url: str | None = None) -> Written:
    """Let so many writers bring so many batches each into one workspace, then count.

    Args:
        folder: Where.
        writers: Processes.
        batches: Of each, every one sent twice.
        url: The ledger's database; SQLite by default.
    """
    workspace, _ = init_workspace(folder / "workspace")
    workspace = replace(workspace, ledger_url=url) if url else workspace
    for name in (SHARED, *(f"of-{writer}" for writer in range(writers))):
        workspace.contract(name).write_text(_CONTRACT.format(name=name))
    found = Written("PostgreSQL" if url else "SQLite", writers, writers * batches)
    made = forked.work(partial(_make_ledger, workspace))
    found.said += [made.refused or made.crashed] if made.value is None else []
    began = time.monotonic()
    running = [forked.start(partial(write, workspace, folder, number, batches)) for number in range(writers)]
    for number, (child, reading) in enumerate(running):
        ended = forked.finish(child, reading, _SECONDS)
        if ended.value is None:
            found.said.append(f"writer {number}: {ended.refused or ended.crashed or ended.status}"[:2000])
            continue
        found.sent += ended.value["sent"]
        found.waited += ended.value["waited"]
        found.unanswered += ended.value["unanswered"]
        print(f"writer {number + 1} of {writers} is done", file=sys.stderr, flush=True)
    found.seconds = time.monotonic() - began
    counted = forked.work(partial(_count, workspace, writers, batches))
    if counted.value is None:
        found.said.append(counted.refused or counted.crashed)
    else:
        found.twice, found.missing = counted.value["twice"], counted.value["missing"]
        found.said += counted.value["said"]
    return found


def _make_ledger(workspace: Workspace) -> bool:
    from lazaretto.ledger import open_ledger

    with open_ledger(workspace):
        return True


def _count(workspace: Workspace, writers: int, batches: int) -> dict[str, Any]:
    """How many records are missing or there more than once, in the store and in the ledger; and what `verify` finds."""
    from collections import Counter

    import polars as pl
    from sqlalchemy import func, select

    from lazaretto import gate
    from lazaretto.ledger import open_ledger
    from lazaretto.pipelines.publish import read_chain
    from lazaretto.pipelines.verify import verify
    from lazaretto.tables import AuditRow, BatchRow

    have: Counter[str] = Counter()
    for name in sorted(path.name for path in (workspace.state / "attestations").iterdir()):
        chain = read_chain(workspace, name)
        files = [workspace.store(name) / path for path in chain.files(len(chain.attestations))]
        for file in files:
            have.update(pl.read_parquet(file, columns=["_record_id"])["_record_id"])
        gate(name, workspace=workspace)
    want = Counter(name for writer in range(writers) for number in range(batches) for name in names(writer, number)[1])
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        known = session.scalar(select(func.count()).select_from(BatchRow)) or 0
        entries = session.scalar(select(func.count()).where(AuditRow.action == "batch.admitted")) or 0
    said = list(verify(workspace).findings)
    if known != writers * batches or entries != known:
        said.append(f"the ledger has {known} batches and {entries} audit entries of {writers * batches}")
    return {"twice": (have - want).total(), "missing": (want - have).total(), "said": said}


def postgres_missing() -> str:
    """Why no PostgreSQL server can be started here; empty where one can."""
    if None in _tools().values():
        return "no PostgreSQL server programs (initdb, pg_ctl) are installed"
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        return "PostgreSQL does not run as root, and there is no user postgres"
    return ""


def _tools() -> dict[str, str | None]:
    # Debian keeps the server's programs out of the search path, in a folder per version.
    debian = sorted(str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *reversed(debian)])
    return {name: shutil.which(name, path=path) for name in ("initdb", "pg_ctl")}


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a throw-away PostgreSQL server that syncs as it does by default."""
    user = "postgres" if os.geteuid() == 0 else None
    data = Path(tempfile.mkdtemp(prefix="lz-pg-"))
    if user:
        shutil.chown(data, user)

    def run(tool: str, *arguments: str) -> None:
        command = [str(_tools()[tool]), "-D", str(data), *arguments]
        # The server is not what is killed or refused, and its user may not read the library that does so.
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, env=environment)

    run("initdb", "-U", "lz", "-A", "trust")
    try:
        run("pg_ctl", "-o", f"-k {data} -c listen_addresses=", "-w", "-l", f"{data}/log", "start")
        yield f"postgresql+psycopg://lz@/postgres?host={data}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(data)
