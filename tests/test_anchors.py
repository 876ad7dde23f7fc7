"""Audit checkpoints are kept in a git remote and in a locked bucket, and what was put back shows there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from lazaretto.config import load_workspace
from lazaretto.errors import IntegrityViolated, Unavailable, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lazaretto.config import Workspace

FOLDER_LINE = '# anchor = "/mnt/worm/lazaretto"'


def anchored(workspace: Workspace, value: str) -> Workspace:
    """The workspace with ``anchor`` in its configuration."""
    config = workspace.root / "lazaretto.toml"
    config.write_text(config.read_text().replace(FOLDER_LINE, f"anchor = {value}"))
    return load_workspace(workspace.root)


def git(where: Path, *arguments: str) -> str:
    name = ("-c", "user.name=eve", "-c", "user.email=eve@example.org")
    done = subprocess.run(["git", "-C", str(where), *name, *arguments], capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout.strip()


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    path = tmp_path / "audit.git"
    path.mkdir()
    git(path, "init", "--quiet", "--bare", "--initial-branch=main")
    git(path, "config", "receive.denyNonFastForwards", "true")
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[Any, str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    client = boto3.client("s3", endpoint_url=server, region_name="us-east-1")
    name = f"b{abs(hash(request.node.name)) % 10**12}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return client, name


def table(server: str, name: str) -> str:
    return f'{{s3 = "{name}", prefix = "audit/", endpoint = "{server}", retain = "30d"}}'


def test_every_checkpoint_is_pushed_as_a_commit_of_its_own(workspace: Workspace, remote: Path) -> None:
    workspace = anchored(workspace, f'{{git = "{remote}"}}')
    publish(workspace)
    publish(workspace, 100)
    names = [f"{workspace.id}-{n:012}.checkpoint" for n in (1, 2)]
    assert git(remote, "ls-tree", "--name-only", "main").split() == names
    assert git(remote, "log", "--format=%s", "main").split("\n")[0] == f"Checkpoint {workspace.id}-000000000002"
    assert git(remote, "show", f"main:{names[1]}") == workspace.checkpoint.read_text().strip()
    verify(workspace).require()


def test_two_workspaces_may_push_to_the_same_branch(workspace: Workspace, remote: Path, tmp_path: Path) -> None:
    workspace = anchored(workspace, f'{{git = "{remote}"}}')
    publish(workspace)
    git(tmp_path, "clone", "--quiet", str(remote), "other")
    (tmp_path / "other" / "theirs").write_text("x")
    git(tmp_path / "other", "add", "theirs")
    git(tmp_path / "other", "commit", "--quiet", "-m", "theirs")
    git(tmp_path / "other", "push", "--quiet", "origin", "HEAD:main")
    publish(workspace, 100)
    assert len(git(remote, "ls-tree", "--name-only", "main").split()) == 3
    verify(workspace).require()


def test_a_checkpoint_taken_away_by_a_later_commit_shows(workspace: Workspace, remote: Path, tmp_path: Path) -> None:
    workspace = anchored(workspace, f'{{git = "{remote}"}}')
    publish(workspace)
    publish(workspace, 100)
    git(tmp_path, "clone", "--quiet", str(remote), "other")
    git(tmp_path / "other", "rm", "--quiet", f"{workspace.id}-000000000001.checkpoint")
    git(tmp_path / "other", "commit", "--quiet", "-m", "tidy up")
    git(tmp_path / "other", "push", "--quiet", "origin", "HEAD:main")
    assert any("was taken away in commit" in found for found in verify(workspace).findings)


def test_a_branch_whose_history_was_written_anew_shows(workspace: Workspace, remote: Path) -> None:
    workspace = anchored(workspace, f'{{git = "{remote}"}}')
    publish(workspace)
    publish(workspace, 100)
    git(remote, "update-ref", "refs/heads/main", "main~1")
    assert any("its history no longer holds" in found for found in verify(workspace).findings)
    with pytest.raises(IntegrityViolated, match="was put back"):
        publish(workspace, 200)
    shutil.rmtree(workspace.state / "anchors")  # whoever remembers nothing sees what the signed checkpoint says
    assert any("has no longer the checkpoint" in found for found in verify(workspace).findings)


def test_a_bucket_without_object_lock_is_refused(workspace: Workspace, server: str, bucket: tuple[Any, str]) -> None:
    client, name = bucket
    client.create_bucket(Bucket=f"{name}-open")
    workspace = anchored(workspace, table(server, f"{name}-open"))
    with pytest.raises(UsageError, match="has no object lock"):
        publish(workspace)
    assert not workspace.store(DATASET).exists()


def test_a_checkpoint_in_the_bucket_cannot_be_taken_away_nor_written_over(
    workspace: Workspace, server: str, bucket: tuple[Any, str]
) -> None:
    client, name = bucket
    workspace = anchored(workspace, table(server, name))
    publish(workspace)
    publish(workspace, 100)
    key = f"audit/{workspace.id}-000000000002.checkpoint"
    kept = client.get_object(Bucket=name, Key=key)
    assert (kept["ObjectLockMode"], kept["Body"].read()) == ("COMPLIANCE", workspace.checkpoint.read_bytes())
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=name, Key=key, VersionId=kept["VersionId"])
    verify(workspace).require()
    client.put_object(Bucket=name, Key=key, Body=b"another")
    found = verify(workspace).findings
    assert any("was written over in" in one for one in found)
    assert any("not signed with the audit key" in one for one in found)
    publish(workspace, 200)  # what was put there first still counts


def test_a_checkpoint_hidden_by_a_delete_marker_shows(
    workspace: Workspace, server: str, bucket: tuple[Any, str]
) -> None:
    client, name = bucket
    workspace = anchored(workspace, table(server, name))
    publish(workspace)
    client.delete_object(Bucket=name, Key=f"audit/{workspace.id}-000000000001.checkpoint")
    assert any("was taken away from the anchor bucket" in found for found in verify(workspace).findings)


def test_several_anchors_each_get_every_checkpoint_and_one_that_is_added_goes_on_from_there(
    workspace: Workspace, remote: Path, tmp_path: Path, server: str, bucket: tuple[Any, str]
) -> None:
    (tmp_path / "worm").mkdir()
    config, first = workspace.root / "lazaretto.toml", f'"{tmp_path}/worm"'
    workspace = anchored(workspace, f'[{first}, {{git = "{remote}"}}]')
    publish(workspace)
    config.write_text(config.read_text().replace(f"[{first}", f"[{table(server, bucket[1])}, {first}"))
    workspace = load_workspace(workspace.root)
    publish(workspace, 100)
    gate(DATASET, run="train-7", workspace=workspace)
    verify(workspace).require()
    assert len(list((tmp_path / "worm").iterdir())) == 3
    assert len(git(remote, "ls-tree", "--name-only", "main").split()) == 3
    assert bucket[0].list_objects_v2(Bucket=bucket[1])["KeyCount"] == 3  # the first as well: it was due


@pytest.mark.parametrize("gone", [1, 2, 3])
def test_a_checkpoint_gone_from_a_folder_is_missed(gone: int, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "worm").mkdir()
    workspace = anchored(workspace, f'"{tmp_path}/worm"')
    for start in (0, 100, 200):
        publish(workspace, start)
    (tmp_path / "worm" / f"{workspace.id}-{gone:012}.checkpoint").unlink()
    assert any("the anchor folder" in found for found in verify(workspace).findings)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{git = "/nowhere/audit.git"}', "the anchor /nowhere/audit.git cannot be used: "),
        ('{s3 = "b", endpoint = "http://127.0.0.1:9", timeout = "1s"}', "the anchor bucket b cannot be used: "),
        ('"/nowhere"', "the anchor folder /nowhere is not there"),
    ],
)
def test_without_an_anchor_nothing_is_done_and_nothing_is_written(
    value: str, said: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    workspace = anchored(workspace, value)
    for refused in (lambda: publish(workspace), lambda: verify(workspace)):
        with pytest.raises(Unavailable) as error:
            refused()
        assert error.value.message.startswith(said)
    assert not workspace.store(DATASET).exists()
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        assert list(read_audit(session)) == []


def test_without_the_package_for_buckets_it_is_said_what_to_install(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError, match="needs a package that is not installed") as error:
        publish(anchored(workspace, '{s3 = "b"}'))
    assert "lazaretto[s3]" in str(error.value.hint)


def test_a_remote_that_never_answers_is_given_up_after_the_time_that_was_set(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec sleep 20\n")
    ssh.chmod(0o700)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    workspace = anchored(workspace, '{git = "ssh://nobody@example.invalid/audit.git", timeout = "1s"}')
    with pytest.raises(Unavailable, match="git ls-remote gave no answer within 1 s"):
        publish(workspace)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("3", "must be a folder, or a table"),
        ('{git = "x", s3 = "y"}', "must be a folder, or a table"),
        ('{git = "x", brnch = "y"}', "unknown key 'brnch' in an anchor of git; did you mean 'branch'"),
        ('{git = "https://ann:secret@example.org/x"}', "without a password"),
        ('{git = "--upload-pack=evil"}', "without a password"),
        ('{git = "x", branch = "a..b"}', "no name of a branch"),
        ('{git = "x", timeout = 3}', "'timeout' of an anchor in .audit. must be text"),
        ('{s3 = "x", retain = "soon"}', "'soon' is no time span"),
        ('{s3 = "x", timeout = "0s"}', "longer than nothing"),
        ('["/a", "/a"]', "is named twice"),
    ],
)
def test_an_anchor_that_is_none_is_one_sentence(value: str, said: str, workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=said) as error:
        anchored(workspace, value)
    assert "secret" not in error.value.message
