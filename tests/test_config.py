from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lazaretto.config import dataset_lock, find_workspace, init_workspace, load_workspace
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.keys import AUDIT, PUBLISHER, create_keys, derived_key, master_key, private_key, public_key
from tests.harness import DATASET, FakeJudge, publish, write_batch

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace


def test_init_makes_everything_private(tmp_path: Path) -> None:
    workspace, made = init_workspace(tmp_path / "w")
    assert {path.name for path in made} >= {"lazaretto.toml", "contracts", "landing", "trusted", "master.key"}
    for path in workspace.root.rglob("*"):
        expected = 0o700 if path.is_dir() else 0o644 if path.suffix == ".pub" else 0o600
        assert path.stat().st_mode & 0o777 == expected, path


def test_init_never_changes_what_exists(tmp_path: Path) -> None:
    workspace, _ = init_workspace(tmp_path / "w")
    before = {path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()}
    again, made = init_workspace(tmp_path / "w")
    assert made == ()
    assert again == workspace
    assert {path: path.read_bytes() for path in workspace.root.rglob("*") if path.is_file()} == before


def test_init_completes_a_workspace_that_lacks_a_folder(tmp_path: Path) -> None:
    workspace, _ = init_workspace(tmp_path / "w")
    (workspace.root / "trusted").rmdir()
    assert init_workspace(tmp_path / "w")[1] == (workspace.root / "trusted",)


def test_init_makes_no_new_keys_for_data_published_with_lost_ones(workspace: Workspace) -> None:
    publish(workspace)
    for path in workspace.keys.iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="its keys are gone"):
        init_workspace(workspace.root)


def test_init_in_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        init_workspace(tmp_path / "w")


def test_the_workspace_is_found_from_below_by_variable_or_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, _ = init_workspace(tmp_path / "w")
    monkeypatch.chdir(workspace.root / "landing")
    assert find_workspace() == workspace
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no lazaretto\.toml") as error:
        find_workspace()
    assert "LAZARETTO_WORKSPACE" in str(error.value.hint)
    monkeypatch.setenv("LAZARETTO_WORKSPACE", str(workspace.root))
    assert find_workspace() == find_workspace(workspace.root / "lazaretto.toml") == workspace


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('id = "abc"\n[ledgr]\n', "unknown key 'ledgr'; did you mean 'ledger'"),
        ('id = "abc"\n[audit]\nancor = "x"\n', "unknown key 'ancor' in .audit.; did you mean 'anchor'"),
        ("id = 3\n", "'id' must be 3 to 40"),
        ('id = "abc"\n[ledger]\nurl = 5\n', "'url' in .ledger. must be text"),
        ("id = \n", "is not valid TOML"),
        ('id = "abc"\nledger = 1\n', "'ledger' must be a table"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "lazaretto.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        load_workspace(tmp_path)


def test_the_environment_names_the_ledger(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZARETTO_LEDGER_URL", "postgresql://somewhere/else")
    assert load_workspace(workspace.root).ledger_url == "postgresql://somewhere/else"


def test_the_environment_names_keys_that_the_workspaces_writers_cannot_exchange(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(workspace)
    (tmp_path / "own").mkdir()
    shutil.copy(workspace.keys / "publisher.pub", tmp_path / "own")
    monkeypatch.setenv("LAZARETTO_KEYS", str(tmp_path / "own"))
    shutil.copy(workspace.keys / "audit.pub", workspace.keys / "publisher.pub")
    assert gate(DATASET, workspace=workspace.root).version == 2
    monkeypatch.delenv("LAZARETTO_KEYS")
    with pytest.raises(IntegrityViolated, match="not signed"):
        gate(DATASET, workspace=workspace.root)


@pytest.mark.parametrize("name", ["publisher.key", "audit.key", "master.key"])
def test_a_key_that_others_can_read_is_refused(name: str, workspace: Workspace) -> None:
    (workspace.keys / name).chmod(0o640)
    with pytest.raises(UsageError, match="can be read or written by others"):
        publish(workspace)


def test_keys_that_are_damaged_or_missing_are_one_sentence(workspace: Workspace) -> None:
    (workspace.keys / "master.key").write_text("short")
    with pytest.raises(UsageError, match="is no master key"):
        master_key(workspace.keys)
    (workspace.keys / "publisher.key").write_text("no pem")
    with pytest.raises(UsageError, match="is no private key"):
        private_key(workspace.keys, PUBLISHER)
    (workspace.keys / "audit.pub").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        public_key(workspace.keys, AUDIT)


def test_a_lost_public_key_is_made_again_and_a_lost_private_one_is_not(workspace: Workspace) -> None:
    before = (workspace.keys / "audit.pub").read_bytes()
    (workspace.keys / "audit.pub").unlink()
    assert create_keys(workspace.keys) == (workspace.keys / "audit.pub",)
    assert (workspace.keys / "audit.pub").read_bytes() == before
    (workspace.keys / "audit.key").unlink()
    with pytest.raises(UsageError, match=r"audit\.pub is there but .* is not"):
        create_keys(workspace.keys)


def test_keys_for_two_purposes_differ() -> None:
    assert derived_key(bytes(32), "a") != derived_key(bytes(32), "b")


@pytest.mark.parametrize("name", ["../flights", "", ".hidden", "a/b", "a" * 101])
def test_a_data_set_name_that_is_a_path_is_refused(name: str, workspace: Workspace) -> None:
    for place in (workspace.store, workspace.contract, workspace.attestations, workspace.journal):
        with pytest.raises(UsageError, match="is no name of a data set"):
            place(name)


def test_two_ingests_at_once_the_second_is_told_so(workspace: Workspace) -> None:
    script = (
        "import sys; from pathlib import Path; from lazaretto.config import dataset_lock, load_workspace\n"
        "with dataset_lock(load_workspace(Path(sys.argv[1])), 'flights'): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(workspace.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=rf"worked on by another lazaretto process \({other.pid}\)"):
            publish(workspace)
        other.communicate()
    assert publish(workspace).version == 2


def test_the_lock_goes_with_its_holder(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match="x"), dataset_lock(workspace, DATASET):
        raise ValueError("x")
    with dataset_lock(workspace, DATASET):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_an_unwritable_workspace_is_one_sentence(workspace: Workspace) -> None:
    workspace.state.chmod(0o500)
    with pytest.raises(UsageError, match="cannot"):
        publish(workspace)


def test_a_full_disk_is_one_sentence_and_changes_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from lazaretto.pipelines import ingest as module

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = write_batch(workspace.root.parent / "b.csv")
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_files", full)
        with pytest.raises(UsageError, match="no space left"):
            module.ingest(workspace, [file], DATASET, judge=FakeJudge())
    assert not list((workspace.state / "batches").iterdir())
    assert not list(workspace.work(DATASET).parent.iterdir())
    assert module.ingest(workspace, [file], DATASET, judge=FakeJudge()).version == 2
