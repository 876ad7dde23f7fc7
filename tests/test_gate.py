from __future__ import annotations

import ast
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

import lazaretto
from lazaretto.errors import Blocked, IntegrityViolated, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.tables import RunRow
from tests.crash import killed
from tests.harness import DATASET, NOW, copy_workspace, publish, write_batch
from tests.tampering import SEEN_BY_THE_GATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.config import Workspace

_PLAIN = {"PYTHONPATH": str(Path(lazaretto.__file__).parent.parent)}


def test_the_gate_gives_the_attestation_of_the_newest_version(workspace: Workspace) -> None:
    publish(workspace)
    batch = publish(workspace, 100)
    attestation = gate(DATASET, workspace=workspace)
    assert (attestation.version, attestation.epoch, attestation.unit) == (3, 2, batch.batch)
    assert attestation.active_rows == 16
    assert gate(DATASET, workspace=workspace.root) == attestation
    assert lazaretto.gate(DATASET, workspace=workspace) == attestation


def test_an_older_version_can_be_asked_for_and_one_that_never_was_cannot(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    assert gate(DATASET, version=2, workspace=workspace).active_rows == 8
    for version in (0, 1, 4):
        with pytest.raises(Blocked, match=f"version {version} of flights was never published"):
            gate(DATASET, version=version, workspace=workspace)


def test_nothing_was_ever_admitted(workspace: Workspace) -> None:
    for path in workspace.state.glob("ledger.db*"):
        path.unlink()
    with pytest.raises(Blocked, match=r"nothing of flights was ever admitted$"):
        gate(DATASET, workspace=workspace)
    assert not (workspace.state / "ledger.db").exists()


def test_a_held_batch_is_named_with_its_reason(workspace: Workspace) -> None:
    held = publish(workspace, hold=True)
    said = f"batch {held.batch} is held since {NOW.isoformat()} because more is suspicious"
    with pytest.raises(Blocked, match=f"nothing of flights was ever admitted; {said}".replace("+", r"\+")):
        gate(DATASET, workspace=workspace)
    publish(workspace, 100)
    assert gate(DATASET, workspace=workspace).version == 2
    with pytest.raises(Blocked, match=said.replace("+", r"\+")):
        gate(DATASET, batch=held.batch, workspace=workspace)


def test_a_batch_is_asked_for_by_name(workspace: Workspace) -> None:
    first, second = publish(workspace), publish(workspace, 100)
    assert gate(DATASET, batch=first.batch, workspace=workspace).version == 3
    with pytest.raises(Blocked, match="came with version 3, after version 2"):
        gate(DATASET, batch=second.batch, version=2, workspace=workspace)
    with pytest.raises(Blocked, match="no batch b-0 of flights was ever ingested"):
        gate(DATASET, batch="b-0", workspace=workspace)


@pytest.mark.parametrize(("hours", "passes"), [(1, True), (24, True), (25, False), (-1, False)])
def test_an_attestation_may_be_too_old_and_must_not_come_from_the_future(
    hours: int, passes: bool, workspace: Workspace
) -> None:
    publish(workspace)
    asked = {
        "max_age": "24h" if hours % 2 else timedelta(hours=24),
        "now": NOW + timedelta(hours=hours),
        "workspace": workspace,
    }
    if passes:
        gate(DATASET, **asked)
        return
    with pytest.raises(Blocked, match=r"longer ago than|in the future"):
        gate(DATASET, **asked)


@pytest.mark.parametrize("tamper", SEEN_BY_THE_GATE, ids=lambda tamper: tamper.__name__)
def test_the_gate_closes_on_what_was_tampered_with(
    tamper: Callable[[Workspace], None], two_batches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    workspace = copy_workspace(two_batches, tmp_path)
    gate(DATASET, workspace=workspace)
    tamper(workspace)
    for version in (None, 2):
        with pytest.raises(IntegrityViolated):
            gate(DATASET, version=version, workspace=workspace)


def test_another_publishers_signature_is_refused(workspace: Workspace) -> None:
    publish(workspace)
    (workspace.keys / "publisher.pub").write_bytes((workspace.keys / "audit.pub").read_bytes())
    with pytest.raises(IntegrityViolated, match="not signed with the publisher's key"):
        gate(DATASET, workspace=workspace)


def test_the_gate_needs_the_public_key_and_no_other(workspace: Workspace) -> None:
    publish(workspace)
    for path in workspace.keys.iterdir():
        if path.name != "publisher.pub":
            path.unlink()
    assert gate(DATASET, workspace=workspace).version == 2
    (workspace.keys / "publisher.pub").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        gate(DATASET, workspace=workspace)


def test_between_commit_and_attestation_the_gate_waits(workspace: Workspace) -> None:
    publish(workspace)
    gate(DATASET, workspace=workspace)
    write_batch(workspace.landing / DATASET / "night.csv", 100)
    assert killed("admit", workspace.root, 8)  # the commit is made, the attestation is not
    with pytest.raises(Blocked, match="is under way or was interrupted"):
        gate(DATASET, workspace=workspace)


def test_a_run_is_written_down_once_with_what_it_read(workspace: Workspace) -> None:
    publish(workspace)
    for _ in range(2):
        gate(DATASET, run="train-7", workspace=workspace, now=NOW)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        rows = [(row.run, row.version, row.epoch) for row in session.scalars(select(RunRow))]
        told = [(entry.action, entry.subject) for entry, _ in read_audit(session)]
    assert rows == [("train-7", 2, 1)]
    assert told[1:] == [("run.passed", "train-7")]


def test_a_run_that_cannot_be_written_down_does_not_begin(workspace: Workspace) -> None:
    publish(workspace)
    (workspace.keys / "audit.key").unlink()
    with pytest.raises(UsageError, match=r"audit\.key cannot be read"):
        gate(DATASET, run="train-7", workspace=workspace)


def test_asking_loads_nothing_heavy(workspace: Workspace) -> None:
    publish(workspace)
    heavy = "{'polars', 'pandas', 'torch', 'sqlalchemy', 'prefect', 'great_expectations', 'pyarrow', 'pydantic'}"
    script = (
        f"import lazaretto, sys; lazaretto.gate('flights', workspace={str(workspace.root)!r}); "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_importing_the_package_loads_the_standard_library_at_most() -> None:
    script = "import sys; import lazaretto; print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True, env=_PLAIN)
    assert {*ast.literal_eval(done.stdout)} - sys.stdlib_module_names <= {"lazaretto", "__main__"}


def test_the_packages_names_are_there(workspace: Workspace) -> None:
    import lazaretto.gatekeeper

    assert callable(lazaretto.gate)
    assert callable(lazaretto.open_admitted)
    assert lazaretto.Blocked is Blocked
    assert lazaretto.__version__
    assert set(dir(lazaretto)) >= {"gate", "open_admitted", "Blocked"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lazaretto.nothing  # noqa: B018  the lookup is the test
