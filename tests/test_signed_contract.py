"""A contract that was signed is the only one records are judged by, and the only one the gate takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from lazaretto.cli import app
from lazaretto.config import init_workspace, load_workspace
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.keys import POLICY, PUBLISHER, private_key
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.loader import open_admitted
from lazaretto.pipelines import sign_contract as module
from lazaretto.pipelines.sign_contract import draft, put_in_force, sign_contract
from lazaretto.pipelines.verify import verify
from lazaretto.signed_contract import STATEMENT, parse_statement
from tests.harness import CONTRACT, DATASET, NOW, publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.config import Workspace

LAXER = CONTRACT + "policy: {false_quarantine_rate: 0.001}\n"


def change(workspace: Workspace, text: str = LAXER) -> None:
    workspace.contract(DATASET).write_text(text)


def required(workspace: Workspace) -> Workspace:
    config = workspace.root / "lazaretto.toml"
    config.write_text(config.read_text().replace("# require_signed_contract", "require_signed_contract"))
    return load_workspace(workspace.root)


def test_an_attestation_names_the_signed_contract_and_everything_passes(workspace: Workspace) -> None:
    statement, new = sign_contract(workspace, DATASET, NOW)
    assert (new, sign_contract(workspace, DATASET)[1]) == (True, False)
    publish(workspace)
    digests = gate(DATASET, workspace=workspace).digests
    assert digests[STATEMENT] == statement.digest
    assert (digests["contract"], digests["policy"]) == (statement.contract, statement.policy)
    verify(workspace).require()


def test_a_contract_that_is_not_the_signed_one_judges_nothing_and_closes_the_gate(workspace: Workspace) -> None:
    sign_contract(workspace, DATASET, NOW)
    publish(workspace)
    change(workspace)
    for refused in (lambda: publish(workspace, 100), lambda: gate(DATASET, workspace=workspace)):
        with pytest.raises(IntegrityViolated, match=r"flights\.yaml is not the one that was signed"):
            refused()
    with pytest.raises(IntegrityViolated):
        open_admitted(DATASET, workspace=workspace)
    assert any("is not the one that was signed" in found for found in verify(workspace).findings)
    change(workspace, CONTRACT)
    assert publish(workspace, 100).version == 3


def test_a_new_version_is_added_and_what_the_older_one_let_in_stays(workspace: Workspace) -> None:
    first, _ = sign_contract(workspace, DATASET, NOW)
    publish(workspace)
    change(workspace)
    second, _ = sign_contract(workspace, DATASET, NOW)
    assert (second.epoch, second.previous) == (2, first.digest)
    assert gate(DATASET, workspace=workspace).digests[STATEMENT] == first.digest
    publish(workspace, 100)
    assert gate(DATASET, workspace=workspace).digests[STATEMENT] == second.digest
    verify(workspace).require()


def test_what_was_admitted_before_anything_was_signed_stays_readable(workspace: Workspace) -> None:
    publish(workspace)
    assert sign_contract(workspace, DATASET, NOW)[0].after == 1
    assert gate(DATASET, workspace=required(workspace)).version == 2
    publish(workspace, 100)
    verify(workspace).require()


def test_records_judged_by_an_unsigned_contract_are_refused_though_the_publisher_signed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_contract(workspace, DATASET, NOW)
    publish(workspace)
    change(workspace)
    with monkeypatch.context() as patch:  # somebody who holds the publisher's key and leaves out the question
        patch.setattr("lazaretto.pipelines.ingest.judged_by", lambda _w, contract: {"contract": contract.digest})
        publish(workspace, 100)
    change(workspace, CONTRACT)
    with pytest.raises(IntegrityViolated, match=r"attestation 2 of flights is of records .* never signed"):
        gate(DATASET, workspace=workspace)


def test_where_signing_is_required_nothing_goes_without(workspace: Workspace) -> None:
    publish(workspace)
    workspace = required(workspace)
    with pytest.raises(UsageError, match=r"is not signed, and lazaretto\.toml says that it must be"):
        publish(workspace, 100)
    with pytest.raises(IntegrityViolated, match="was never signed"):
        gate(DATASET, workspace=workspace)


def _removed(workspace: Workspace) -> None:
    shutil.rmtree(workspace.signed_contracts(DATASET))


def _put_back(workspace: Workspace) -> None:
    (workspace.signed_contracts(DATASET) / "000002.dsse.json").unlink()
    change(workspace, CONTRACT)


def _edited(workspace: Workspace) -> None:
    path = workspace.signed_contracts(DATASET) / "000001.dsse.json"
    envelope = json.loads(path.read_text())
    envelope["payload"] = envelope["payload"][:200] + "AAAA" + envelope["payload"][204:]
    path.write_text(json.dumps(envelope))


def _by_the_publisher(workspace: Workspace) -> None:
    change(workspace)
    payload = draft(workspace, DATASET, "eve", NOW.isoformat())
    envelope = module.sign_statement(payload, private_key(workspace.keys, PUBLISHER))
    (workspace.signed_contracts(DATASET) / "000003.dsse.json").write_bytes(envelope)


def _contract_gone(workspace: Workspace) -> None:
    workspace.contract(DATASET).unlink()


@pytest.mark.parametrize("tamper", [_removed, _put_back, _edited, _by_the_publisher, _contract_gone])
def test_tampering_with_what_was_signed_closes_the_gate(
    tamper: Callable[[Workspace], None], workspace: Workspace
) -> None:
    sign_contract(workspace, DATASET, NOW)
    publish(workspace)
    change(workspace)
    sign_contract(workspace, DATASET, NOW)
    gate(DATASET, workspace=workspace)
    tamper(workspace)
    with pytest.raises(IntegrityViolated):
        gate(DATASET, workspace=workspace)
    assert verify(workspace).findings


def test_the_trusted_set_is_signed_with_the_contract(workspace: Workspace) -> None:
    change(workspace, CONTRACT + "trusted: good/*.csv\n")
    good = workspace.root / "contracts" / "good"
    good.mkdir()
    (good / "a.csv").write_text("id,x,late\n")
    sign_contract(workspace, DATASET, NOW)
    publish(workspace)
    (good / "b.csv").write_text("id,x,late\npoison,1,true\n")
    with pytest.raises(IntegrityViolated, match="the trusted set of flights is not the one that was signed"):
        publish(workspace, 100)
    assert any("trusted set" in found for found in verify(workspace).findings)


def test_a_draft_is_signed_later_by_another_and_not_once_the_contract_was_changed(workspace: Workspace) -> None:
    payload = draft(workspace, DATASET, "ann", NOW.isoformat())
    key = private_key(workspace.keys, POLICY)
    change(workspace)
    with pytest.raises(UsageError, match="was changed since the statement was drafted"):
        put_in_force(workspace, payload, key, "bob")
    change(workspace, CONTRACT)
    assert put_in_force(workspace, payload, key, "bob") == parse_statement(payload, "it")
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        assert [(entry.action, entry.actor) for entry, _ in read_audit(session)] == [("contract.signed", "bob")]


def test_a_signing_that_was_killed_after_its_entry_is_finished_by_the_same_command(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(self: Path, _target: Path) -> None:
        if self.name.startswith(".next"):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _only_next(killed))
        with pytest.raises(Killed):
            sign_contract(workspace, DATASET, NOW)
    assert not list(workspace.signed_contracts(DATASET).glob("0*"))
    statement, _ = sign_contract(workspace, DATASET)
    assert (statement.epoch, statement.at) == (1, NOW.isoformat())
    publish(workspace)
    verify(workspace).require()


def _only_next(killed: Callable[[Path, Path], None]) -> Callable[[Path, Path], Path]:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        killed(self, target)
        return real(self, target)

    return replace


def test_the_gate_of_a_machine_with_its_own_keys_needs_the_policy_key_too(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_contract(workspace, DATASET, NOW)
    publish(workspace)
    (tmp_path / "own").mkdir()
    shutil.copy(workspace.keys / "publisher.pub", tmp_path / "own")
    monkeypatch.setenv("LAZARETTO_KEYS", str(tmp_path / "own"))
    with pytest.raises(UsageError, match=r"policy\.pub cannot be read"):
        gate(DATASET, workspace=workspace.root)
    shutil.copy(workspace.keys / "policy.pub", tmp_path / "own")
    assert gate(DATASET, workspace=workspace.root).version == 2


def test_a_workspace_from_before_there_was_a_policy_key_works_and_is_completed_by_init(workspace: Workspace) -> None:
    for name in ("policy.key", "policy.pub"):
        (workspace.keys / name).unlink()
    publish(workspace)
    gate(DATASET, workspace=workspace, run="train-7")
    verify(workspace).require()
    with pytest.raises(UsageError, match=r"policy\.key is not there yet") as error:
        sign_contract(workspace, DATASET, NOW)
    assert "lazaretto init" in str(error.value.hint)
    assert {path.name for path in init_workspace(workspace.root)[1]} == {"policy.key", "policy.pub"}
    sign_contract(workspace, DATASET, NOW)
    publish(workspace, 100)
    verify(workspace).require()


def test_the_command_signs_and_says_so(workspace: Workspace) -> None:
    said = ["contract", "sign", DATASET, "--workspace", str(workspace.root)]
    assert "version 1 of the contract of flights was signed" in CliRunner().invoke(app, said).output
    again = json.loads(CliRunner().invoke(app, [*said, "--json"]).output)
    assert (again["epoch"], again["new"]) == (1, False)
    (workspace.keys / "policy.key").unlink()
    assert CliRunner().invoke(app, said).exit_code != 0
