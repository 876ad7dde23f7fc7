"""The benchmark of crashes, faults and clocks, in small; that it sees what is wrong; and what it found, kept mended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import boundaries, syscalls
from benchmarks.boundaries import FAIL, KILL, TEAR
from benchmarks.faults import ERRORS
from benchmarks.invariants import account, faults
from benchmarks.journeys import JOURNEYS
from benchmarks.reliability import Figure, report
from benchmarks.syscalls import Call
from benchmarks.unsynced import Disk
from lazaretto import gate
from lazaretto.ledger import checkpoint, open_ledger, read_audit
from lazaretto.pipelines.recalled import REPORT
from lazaretto.store import ensure_table
from tests.crash import Fatal, killed, work
from tests.harness import DATASET, contract, publish, write_batch

if TYPE_CHECKING:
    from lazaretto.config import Workspace

HERE = Path(__file__).parent.parent
SCRIPT = """
import os, sys, time
from pathlib import Path
from benchmarks import boundaries
folder, at, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
boundaries.arm(folder, at, how, 28)
(folder / "a").write_bytes(b"0123456789")
os.rename(folder / "a", folder / "b")
(folder.parent / "outside").write_bytes(b"x")
boundaries.shift_clock(86400)
print(boundaries.passed(), time.time())
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if boundaries.missing():
        pytest.skip(boundaries.missing())
    return boundaries.build(tmp_path_factory.mktemp("library"))


def between(library: Path, folder: Path, at: int, how: int) -> subprocess.CompletedProcess[str]:
    (folder / "in").mkdir()
    command = [sys.executable, "-c", SCRIPT, str(folder / "in"), str(at), str(how)]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    return subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("at", "how", "left"),
    [(1, KILL, {}), (2, KILL, {"a": b""}), (2, TEAR, {"a": b"01234"}), (3, KILL, {"a": b"0123456789"})],
)
def test_a_process_is_killed_before_the_call_that_was_meant_or_in_the_midst_of_it(
    library: Path, tmp_path: Path, at: int, how: int, left: dict[str, bytes]
) -> None:
    assert between(library, tmp_path, at, how).returncode == -9
    assert {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()} == left


def test_a_call_is_refused_and_the_clock_is_moved(library: Path, tmp_path: Path) -> None:
    assert "[Errno 28] No space left on device" in between(library, tmp_path, 2, FAIL).stderr
    (tmp_path / "in" / "a").unlink()
    (tmp_path / "in").rmdir()
    count, moved = between(library, tmp_path, 0, FAIL).stdout.split()
    assert count == "3"
    assert float(moved) - (tmp_path / "outside").stat().st_mtime == pytest.approx(86_400, abs=10)


def test_an_ingest_that_is_killed_anywhere_and_given_again_ends_as_if_nothing_had_happened(
    library: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.killed_small", str(tmp_path), "6"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["runs"], found["said"], found["wrong"]) == (6, [], {})
    assert found["during_recovery"] >= 1
    assert found["points"] > 100


def test_what_is_lost_or_twice_or_unscored_or_taken_back_is_seen(workspace: Workspace) -> None:
    publish(workspace)
    before = account(workspace)
    assert faults(workspace, before, before) == []
    more = {**before, "stored": [*before["stored"], ["r99", "b-x"]]}
    assert {kind for kind, _ in faults(workspace, more, None)} == {"lost"}
    assert {kind for kind, _ in faults(workspace, more, more)} == {"acknowledged and gone"}
    once = {**before, "audit": before["audit"][:1], "chain": []}
    assert {kind for kind, _ in faults(workspace, once, None)} == {"otherwise another end"}
    fewer = {**before, "cases": []}
    assert {kind for kind, _ in faults(workspace, fewer, None)} == {"otherwise another end"}
    (workspace.batch(before["batches"][0][0]) / "verdicts.parquet").unlink()
    assert {"admitted unscored", "not verified"} <= {kind for kind, _ in faults(workspace, before, None)}


LOG = """\
7 openat(AT_FDCWD</w>, "/w/state/store/d/b-1/p.parquet", O_WRONLY|O_CREAT, 0600) = 3</w/state/store/d/b-1/p.parquet>
7 write(3</w/state/store/d/b-1/p.parquet>, "P"..., 12) = 12
8 fsync(4</w/state/journal> <unfinished ...>
7 fsync(3</w/state/store/d/b-1/p.parquet>) = -1 EIO (Input/output error) (INJECTED)
8 <... fsync resumed>) = 0
7 unlinkat(5</w/state/work>, "scratch", 0) = 0
7 rename("/w/state/journal/.d.dsse.json.new", "/w/state/journal/d.dsse.json") = 0
7 +++ exited with 0 +++
"""


def test_the_lines_of_strace_are_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(LOG)
    calls = syscalls.read(tmp_path / "log")
    assert [(call.thread, call.name) for call in calls[2:5]] == [(7, "fsync"), (8, "fsync"), (7, "unlinkat")]
    assert calls[2].injected
    assert calls[2].result == -1
    assert calls[4].path == "/w/state/work/scratch"
    assert (calls[5].old, calls[5].path) == ("/w/state/journal/.d.dsse.json.new", "/w/state/journal/d.dsse.json")


def test_a_plan_that_vouches_for_a_file_that_is_not_synced_is_seen(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(LOG)
    disk = Disk("/w")
    disk.follow(syscalls.read(tmp_path / "log"))
    assert disk.found == [
        "the plan vouches for /state/store/d/b-1/p.parquet, which is not synced",
    ]
    synced = [Call(7, "fsync", 1, path) for path in ("/w/state/store/d/b-1/p.parquet", "/w/state/store/d/b-1")]
    disk.found.clear()
    disk.follow([*synced, Call(7, "fsync", 1, "/w/state/journal")], "its end")
    assert disk.found == []


def test_a_missed_target_is_told_as_missed() -> None:
    text = report([Figure("lost", "0", "3", met=False), Figure("runs", ">= 2", "2", met=True)], ["this was lost"], 7)
    assert "| lost | 0 | 3 | MISSED |" in text
    assert "1 of 2 targets met." in text
    assert "- this was lost" in text
    assert "seed 7" in text


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Python code syncs, and what the test notes in between."""
    done: list[str] = []
    whole = os.fsync

    def fsync(descriptor: int) -> None:
        done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        whole(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return done


def test_what_a_killed_process_did_not_sync_is_synced_before_anything_is_built_on_it(
    workspace: Workspace, synced: list[str]
) -> None:
    write_batch(workspace.landing / DATASET / "night.csv", rows=20)
    assert killed("admit", workspace.root, 9)  # the store and its attestation are there, the ledger knows nothing

    class Noting(Fatal):
        def __call__(self, name: str) -> None:
            synced.append(name)

    work("admit", str(workspace.root), Noting())
    before = synced[: synced.index("commit")]
    state = workspace.state
    assert str(state) in before
    for folder in (state / "journal", workspace.attestations(DATASET), workspace.store(DATASET)):
        assert {str(folder), str(folder.parent)} <= set(before), folder


def test_the_log_of_the_ledger_that_a_killed_process_left_is_synced_before_it_is_read(
    workspace: Workspace, synced: list[str]
) -> None:
    write_batch(workspace.landing / DATASET / "night.csv", rows=20)
    assert killed("admit", workspace.root, 11)  # the ledger's transaction is in its log
    log = workspace.state / "ledger.db-wal"
    assert log.stat().st_size
    with open_ledger(workspace):
        assert synced == [str(log)]


def test_a_table_that_holds_nothing_yet_is_synced_whoever_made_it(workspace: Workspace, synced: list[str]) -> None:
    store = workspace.store(DATASET)
    ensure_table(store, contract())
    synced.clear()
    assert ensure_table(store, contract()) == 1
    assert {str(store / "_delta_log" / f"{version:020}.json") for version in (0, 1)} <= set(synced)


def test_a_checkpoint_that_is_there_is_synced_before_it_counts(workspace: Workspace, synced: list[str]) -> None:
    publish(workspace)
    synced.clear()
    with open_ledger(workspace) as ledger:
        checkpoint(ledger)
    assert str(workspace.checkpoint.parent) in synced


def test_the_report_of_a_recall_is_on_the_disk_before_its_plan_is_taken_away(
    workspace: Workspace, synced: list[str]
) -> None:
    publish(workspace, rows=20)
    steps: dict[str, bool] = {}

    class Looking(Fatal):
        def __call__(self, name: str) -> None:
            pages = list(workspace.recall(DATASET, "any").parent.glob(f"*/{REPORT}"))
            steps[name] = bool(pages) and {str(pages[0]), str(pages[0].parent)} <= set(synced)

    work("recall", str(workspace.root), Looking())
    assert steps["clean"]
    assert not steps["checkpoint"]


def test_what_a_commit_staged_and_could_not_remove_does_not_close_the_gate(workspace: Workspace) -> None:
    staged = workspace.store(DATASET) / "_delta_log" / "00000000000000000002.json#7"

    class Staging(Fatal):
        def __call__(self, name: str) -> None:
            if name == "commit":
                staged.write_text("{}")

    write_batch(workspace.landing / DATASET / "night.csv", rows=20)
    work("admit", str(workspace.root), Staging())
    assert gate(DATASET, workspace=workspace).epoch == 1
    assert not staged.exists()


def locks(file: Path) -> list[str]:
    """Locks that this process has on a file."""
    held = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    mine = [line for line in held if line[4] == str(os.getpid())]
    return [" ".join(line[3:]) for line in mine if line[5].endswith(f":{file.stat().st_ino}")]


def test_a_ledger_that_is_opened_a_second_time_in_a_process_keeps_the_locks_of_the_first(workspace: Workspace) -> None:
    file = workspace.state / "ledger.db"
    with open_ledger(workspace) as first, first.reading() as session:
        assert list(read_audit(session)) == []
        before = locks(file)
        with open_ledger(workspace) as second, second.reading() as again:
            assert list(read_audit(again)) == []
        assert locks(file) == before != []


def test_the_page_names_every_command_and_every_error_and_tells_what_was_missed() -> None:
    text = (HERE / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text.replace("\n", " ") for name in JOURNEYS)
    assert all(error in text for error in ERRORS)
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.endswith((" met |", " MISSED |"))]
    assert len(rows) > 10
    assert all(one.split("|")[2].strip() for one in rows), "every figure stands beside its target"
