"""Keys are changed for good: what an old one signed stays, what it signs later counts nowhere."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from lazaretto import attest
from lazaretto.attest import seal
from lazaretto.audit import Checkpoint, origin_of, read_checkpoint, sign_note
from lazaretto.cli import app
from lazaretto.errors import IntegrityViolated, LazarettoError, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.key_history import HISTORY, RECORD_TYPE, KeyRecord, history_file, read_history, signers_of
from lazaretto.keys import AUDIT, POLICY, PUBLISHER, SIGNING, create_keys, private_key
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines import change_keys
from lazaretto.pipelines.change_keys import finish, list_keys, reattest, revoke, rotate
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.sign_contract import sign_contract
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, NOW, publish

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace

BEFORE, AFTER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


def old_key(workspace: Workspace, name: str) -> Ed25519PrivateKey:
    """The key as somebody has it who took a copy."""
    return private_key(workspace.keys, name)


@pytest.mark.parametrize("name", SIGNING)
def test_after_a_rotation_everything_goes_on_and_verifies(name: str, workspace: Workspace) -> None:
    sign_contract(workspace, DATASET, NOW)
    publish(workspace)
    first = (workspace.keys / f"{name}.pub").read_bytes()
    rotate(workspace, name, "a year has passed", AFTER)
    assert gate(DATASET, workspace=workspace).epoch == 1
    publish(workspace, 100)
    rotate(workspace, name, "another", AFTER)
    publish(workspace, 200)
    assert gate(DATASET, workspace=workspace, run="train-7").epoch == 3
    verify(workspace).require()
    verify(workspace, public=True).require()
    assert (workspace.keys / f"{name}.pub").read_bytes() == first
    assert next(key.generations for key in list_keys(workspace) if key.name == name) == 3


def test_what_a_retired_publisher_key_signs_is_refused_wherever_it_stands(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    old, folder = old_key(workspace, PUBLISHER), workspace.attestations(DATASET)
    rotate(workspace, PUBLISHER, "", AFTER)
    chain = read_chain(workspace, DATASET).attestations
    forged = replace(chain[1], issued_at=BEFORE.isoformat())  # dated back: the history has pinned what stood there
    attest.sign(folder, forged, old)
    with pytest.raises(IntegrityViolated, match="is not the one the history of keys knows"):
        gate(DATASET, workspace=workspace)
    attest.sign(folder, chain[1], old)
    publish(workspace, 200)
    attest.sign(folder, read_chain(workspace, DATASET).attestations[2], old)
    with pytest.raises(IntegrityViolated, match="not signed with the publisher's key"):
        gate(DATASET, workspace=workspace)


def test_what_a_retired_audit_key_signs_is_refused(workspace: Workspace) -> None:
    publish(workspace)
    old = old_key(workspace, AUDIT)
    rotate(workspace, AUDIT, "", AFTER)
    origin = origin_of(workspace)
    newest = read_checkpoint(workspace.checkpoint, origin, signers_of(workspace, AUDIT))
    workspace.checkpoint.write_bytes(sign_note(newest.body, origin, old))
    assert any("not signed with the audit key" in found for found in verify(workspace).findings)
    workspace.checkpoint.write_bytes(sign_note(Checkpoint(origin, 1, "ab" * 32).body, origin, old))  # dated back
    assert any("was signed for" in found for found in verify(workspace).findings)


def test_a_training_machine_trusts_the_key_it_has_pinned_and_needs_no_other(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(workspace)
    (tmp_path / "own").mkdir()
    for name in ("publisher.pub", "policy.pub"):
        shutil.copy(workspace.keys / name, tmp_path / "own")
    rotate(workspace, PUBLISHER, "", AFTER)
    publish(workspace, 100)
    monkeypatch.setenv("LAZARETTO_KEYS", str(tmp_path / "own"))
    assert gate(DATASET, workspace=workspace.root).epoch == 2
    shutil.copy(history_file(workspace), tmp_path / "own")
    history_file(workspace).unlink()  # the machine's own copy is enough
    assert gate(DATASET, workspace=workspace.root).epoch == 2


def test_a_stolen_key_alone_endorses_no_other(workspace: Workspace) -> None:
    publish(workspace)
    old = old_key(workspace, PUBLISHER)
    rotate(workspace, PUBLISHER, "", AFTER)
    envelopes = json.loads(history_file(workspace).read_text())
    [record] = read_history(workspace)
    forged = replace(record, new=Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex())
    for keys in ((old,), (old, Ed25519PrivateKey.generate())):
        envelopes["records"] = [json.loads(seal(forged.payload(), RECORD_TYPE, *keys))]
        for path in (history_file(workspace), workspace.keys / HISTORY):
            path.write_text(json.dumps(envelopes))
        with pytest.raises(IntegrityViolated, match="not signed with the policy's key"):
            gate(DATASET, workspace=workspace)


def test_a_history_that_is_put_back_or_contradicted_is_noticed(workspace: Workspace) -> None:
    publish(workspace)
    rotate(workspace, AUDIT, "", AFTER)
    kept = history_file(workspace).read_bytes()
    rotate(workspace, AUDIT, "", AFTER)
    gate(DATASET, workspace=workspace)
    history_file(workspace).write_bytes(kept)
    gate(DATASET, workspace=workspace)  # the copy beside the keys is longer
    (workspace.keys / HISTORY).write_bytes(kept)
    with pytest.raises(IntegrityViolated, match="it was put back"):
        gate(DATASET, workspace=workspace)
    (workspace.keys / HISTORY).write_text('{"records": [{}]}')
    with pytest.raises(IntegrityViolated, match="tell different histories"):
        gate(DATASET, workspace=workspace)
    history_file(workspace).write_text("{")
    with pytest.raises(IntegrityViolated, match="is damaged"):
        gate(DATASET, workspace=workspace)


def test_a_revoked_key_closes_the_store_until_everything_was_verified(workspace: Workspace) -> None:
    publish(workspace)
    revoke(workspace, PUBLISHER, BEFORE, "the laptop was stolen", AFTER)
    for refused in (lambda: gate(DATASET, workspace=workspace), lambda: publish(workspace, 100)):
        with pytest.raises(IntegrityViolated, match=r"number 1 of flights was signed with .*stolen"):
            refused()
    assert any("stolen since" in found for found in verify(workspace).findings)
    assert [key.doubtful for key in list_keys(workspace)] == [{DATASET: 1}, {}, {}]
    assert reattest(workspace, PUBLISHER, AFTER) is not None
    assert reattest(workspace, PUBLISHER, AFTER) is None
    assert gate(DATASET, workspace=workspace).epoch == 1
    publish(workspace, 100)
    verify(workspace).require()


def test_what_a_thief_dates_back_is_in_doubt_all_the_same(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    newest = read_chain(workspace, DATASET).attestations[1]
    dated = replace(newest, issued_at=(BEFORE - timedelta(days=9)).isoformat())
    attest.sign(workspace.attestations(DATASET), dated, old_key(workspace, PUBLISHER))
    revoke(workspace, PUBLISHER, NOW, "", AFTER)  # of the one that was dated back the audit log does not tell
    with pytest.raises(IntegrityViolated, match="number 2 of flights was signed with"):
        gate(DATASET, workspace=workspace)
    with pytest.raises(IntegrityViolated, match="is not the one the audit log tells of"):
        reattest(workspace, PUBLISHER, AFTER)


def test_what_was_signed_before_the_theft_is_not_in_doubt(workspace: Workspace) -> None:
    publish(workspace)
    revoke(workspace, PUBLISHER, NOW, "", AFTER)
    assert gate(DATASET, workspace=workspace).epoch == 1
    with pytest.raises(UsageError, match="is in the future"):
        revoke(workspace, PUBLISHER, AFTER, "", NOW)


def test_nothing_is_vouched_for_when_something_is_found(workspace: Workspace) -> None:
    publish(workspace)
    revoke(workspace, PUBLISHER, BEFORE, "", AFTER)
    file = next(workspace.store(DATASET).glob("b-*/*.parquet"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(IntegrityViolated, match="is not the one that was attested"):
        reattest(workspace, PUBLISHER, AFTER)
    file.write_bytes(content)
    with pytest.raises(IntegrityViolated, match="stolen"):
        gate(DATASET, workspace=workspace)


def test_a_revoked_audit_key_is_vouched_for_before_anything_else(workspace: Workspace) -> None:
    publish(workspace)
    revoke(workspace, AUDIT, BEFORE, "", AFTER)
    revoke(workspace, PUBLISHER, BEFORE, "", AFTER)
    with pytest.raises(IntegrityViolated, match="of log was signed with the audit's key"):
        reattest(workspace, PUBLISHER, AFTER)
    reattest(workspace, AUDIT, AFTER)
    reattest(workspace, PUBLISHER, AFTER)
    verify(workspace).require()


def test_after_a_stolen_policy_key_each_contract_is_signed_again(workspace: Workspace) -> None:
    sign_contract(workspace, DATASET, NOW)
    publish(workspace)
    assert revoke(workspace, POLICY, BEFORE, "", AFTER).unsigned == (DATASET,)
    with pytest.raises(IntegrityViolated, match="revoked as stolen"):
        gate(DATASET, workspace=workspace)
    with pytest.raises(UsageError, match="not vouched for as a whole"):
        reattest(workspace, POLICY)
    assert sign_contract(workspace, DATASET, AFTER)[1]
    assert gate(DATASET, workspace=workspace).epoch == 1
    verify(workspace).require()


@pytest.mark.parametrize("name", SIGNING)
@pytest.mark.parametrize("step", ["append_once", "history_file", "envelope_texts"])
def test_a_change_that_was_killed_is_finished_and_nothing_is_signed_meanwhile(
    step: str, name: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    publish(workspace)
    with monkeypatch.context() as patch:
        patch.setattr(change_keys, step, killed)
        with pytest.raises(Killed):
            rotate(workspace, name, "", AFTER)
    with pytest.raises(UsageError, match="a change of keys is under way or was interrupted"):
        publish(workspace, 100)
    assert gate(DATASET, workspace=workspace).epoch == 1
    record = finish(workspace)
    assert record is not None
    assert record.name == name
    publish(workspace, 100)
    verify(workspace).require()
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        assert [entry.action for entry, _ in read_audit(session)].count("key.rotated") == 1


def test_a_forged_change_is_not_carried_out(workspace: Workspace) -> None:
    publish(workspace)
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes_raw().hex()
    record = KeyRecord(workspace.id, 1, "0" * 64, "rotated", PUBLISHER, NOW.isoformat(), "eve", raw, raw)
    workspace.changing_keys.parent.mkdir(exist_ok=True)
    workspace.changing_keys.write_bytes(seal(record.payload(), RECORD_TYPE, key, key))
    with pytest.raises(IntegrityViolated, match="is not signed with the publisher's key"):
        finish(workspace)


def test_a_retired_private_key_signs_nothing(workspace: Workspace) -> None:
    publish(workspace)
    old = (workspace.keys / "publisher.key").read_bytes()
    rotate(workspace, PUBLISHER, "", AFTER)
    (workspace.keys / "publisher.key").write_bytes(old)
    with pytest.raises(UsageError, match="is not the publisher's key in use"):
        publish(workspace, 100)
    (workspace.keys / "publisher.pub").unlink()
    with pytest.raises(UsageError, match="the first public key, is gone"):
        create_keys(workspace.keys)


def test_every_change_is_audited_without_its_reason_and_its_removal_found(workspace: Workspace) -> None:
    publish(workspace)
    rotate(workspace, POLICY, "ann left us", AFTER)
    revoke(workspace, AUDIT, NOW, "a stolen laptop", AFTER)
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        told = [(entry.action, entry.detail["name"]) for entry, _ in read_audit(session) if "key." in entry.action]
        said = str([entry.detail for entry, _ in read_audit(session)])
    assert told == [("key.rotated", POLICY), ("key.revoked", AUDIT)]
    assert "laptop" not in said
    envelopes = json.loads(history_file(workspace).read_text())
    envelopes["records"].pop()
    for path in (history_file(workspace), workspace.keys / HISTORY):
        path.write_text(json.dumps(envelopes))
    assert any("the history of keys does not" in found for found in verify(workspace).findings)


def run(workspace: Workspace, *arguments: str) -> tuple[int, str, LazarettoError | None]:
    done = CliRunner().invoke(app, ["keys", *arguments, "--workspace", str(workspace.root)])
    error = done.exception if isinstance(done.exception, LazarettoError) else None
    return done.exit_code, done.output, error


def test_the_commands_list_rotate_and_revoke(workspace: Workspace) -> None:
    publish(workspace)
    assert "publisher: " in run(workspace, "list")[1]
    assert "the publisher's key was rotated: record 1 of" in run(workspace, "rotate", "publisher")[1]
    code, said, _ = run(workspace, "revoke", "publisher", "--since", "2026-01-01", "--why", "stolen")
    assert (code, "was revoked: record 2 of" in said) == (0, True)
    assert gate(DATASET, workspace=workspace).epoch == 1  # it was verified, and vouched for
    assert "nothing that the publisher's key signed is in doubt" in run(workspace, "reattest", "publisher")[1]
    assert [key["generations"] for key in json.loads(run(workspace, "list", "--json")[1])] == [3, 1, 1]
    assert run(workspace, "rotate", "master")[2].exit_code == 2
    (workspace.keys / "policy.key").unlink()
    assert run(workspace, "rotate", "publisher")[2].exit_code == 2
