from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from lazaretto.config import load_workspace
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.pipelines.ingest import ingest
from lazaretto.pipelines.publish import read_chain
from lazaretto.pipelines.verify import verify
from lazaretto.seen import memory_file
from tests.crash import killed
from tests.harness import (
    DATASET,
    NOW,
    FakeJudge,
    FakeJudged,
    copy_workspace,
    make_workspace,
    publish,
    write_batch,
)
from tests.ledger_tampering import found, make_full
from tests.tampering import SEEN_BY_THE_GATE, SEEN_IN_THE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lazaretto.config import Workspace
    from lazaretto.contract import Contract
    from lazaretto.pipelines.ingest import Hooks


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_full(tmp_path_factory.mktemp("full")).root


@pytest.fixture
def full(template: Path, tmp_path: Path) -> Workspace:
    return copy_workspace(template, tmp_path)


def test_a_sound_workspace_is_found_sound(full: Workspace) -> None:
    steps: list[str] = []
    result = verify(full, on_step=steps.append)
    result.require()
    assert (result.findings, result.notes, result.datasets) == ((), (), (DATASET,))
    assert (result.records, result.quarantined, result.audit_entries) == (25, 3, 6)
    assert steps == ["audit log", "accounts and proposals", "flights: store", "flights: ledger", "flights: quarantine"]


def test_an_empty_workspace_is_sound(workspace: Workspace) -> None:
    assert verify(workspace).findings == ()


@pytest.mark.parametrize("tamper", [*SEEN_BY_THE_GATE, *SEEN_IN_THE_BYTES], ids=lambda tamper: tamper.__name__)
def test_every_tampering_with_the_store_is_found(
    tamper: Callable[[Workspace], None], two_batches: Path, tmp_path: Path
) -> None:
    workspace = copy_workspace(two_batches, tmp_path)
    tamper(workspace)
    assert found(workspace)


def test_a_file_laid_into_the_store_is_found(full: Workspace) -> None:
    path = next(full.store(DATASET).glob("b-*")) / "part-99999.parquet"
    path.write_bytes(b"PAR1")
    assert f"{path} lies in the store but was never attested" in found(full)


@pytest.mark.parametrize("name", ["manifest", "originals", "rejects.parquet", "records-00000.parquet", "key.json"])
def test_a_damaged_quarantine_is_found(name: str, full: Workspace) -> None:
    path = next((full.state / "quarantine" / DATASET).iterdir()) / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert name in found(full)


def test_a_quarantine_in_anothers_place_and_one_nobody_knows_are_found(full: Workspace) -> None:
    first, second, *_ = sorted((full.state / "quarantine" / DATASET).iterdir())
    first.rename(first.with_name("b-0"))
    second.rename(first)
    said = found(full)
    assert "b-0 lies in quarantine but the ledger does not know it" in said
    assert "was altered, or was made with another master key" in said


@pytest.mark.parametrize("name", ["verdicts.parquet", "evidence.parquet"])
def test_altered_verdicts_are_found(name: str, full: Workspace) -> None:
    path = next((full.state / "batches").iterdir()) / name
    path.write_bytes(path.read_bytes() + b"x")
    assert f"{name} is not what was judged" in found(full)


@pytest.mark.parametrize("change", ["changed", "removed", "added"])
def test_what_was_kept_of_a_judging_is_found_when_it_is_not_as_it_was(change: str, full: Workspace) -> None:
    folder = next((full.state / "batches").iterdir())
    path = folder / ("report.html" if change == "added" else "summary.json")
    path.unlink() if change == "removed" else path.write_text("{}")
    assert f"{path} was" in found(full) if change == "added" else f"{path} is not what was written" in found(full)


def test_a_report_is_bound_like_everything_that_was_kept(workspace: Workspace, tmp_path: Path) -> None:
    class Reporting(FakeJudge):
        def __call__(self, files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> FakeJudged:
            judged = super().__call__(files, contract, into, hooks)
            (into / "report.html").write_text("<p>all good</p>")
            return judged

    result = ingest(workspace, [write_batch(tmp_path / "b.csv")], DATASET, judge=Reporting(), now=NOW)
    assert verify(workspace).findings == ()
    (result.folder / "report.html").write_text("<p>all better</p>")
    assert "report.html is not what was written" in found(workspace)


def test_a_state_put_back_as_a_whole_is_found_where_a_newer_one_was_seen(workspace: Workspace) -> None:
    publish(workspace)
    shutil.copytree(workspace.state, workspace.root / "old")
    publish(workspace, 100)
    gate(DATASET, workspace=workspace)
    shutil.rmtree(workspace.state)
    (workspace.root / "old").rename(workspace.state)
    assert "flights ends at epoch 1, but epoch 2 was seen here before" in found(workspace)
    with pytest.raises(IntegrityViolated, match="the store was put back"):
        publish(workspace, 200)
    assert len(read_chain(workspace, DATASET).attestations) == 1


def test_a_memory_of_what_was_seen_that_cannot_be_read_is_a_note(workspace: Workspace) -> None:
    publish(workspace)
    path = memory_file(workspace, DATASET)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    result = verify(workspace)
    assert result.findings == ()
    assert "is not known" in result.notes[0]


def test_a_journal_that_is_none_of_ours_is_found(full: Workspace) -> None:
    full.journal(DATASET).parent.mkdir(exist_ok=True)
    full.journal(DATASET).write_bytes(b"\xff{}")
    full.journal("trains").write_text("{}")
    said = found(full)
    assert f"{full.journal(DATASET)} is no signed envelope" in said
    assert f"{full.journal('trains')} is no signed envelope" in said


@pytest.mark.parametrize("content", [b"\xff\xfe", b"../../keys", b"", b"b-" + b"0" * 20])
def test_a_mark_of_what_was_begun_that_names_nothing_of_ours_is_passed_over(content: bytes, full: Workspace) -> None:
    mark = full.journal(DATASET).with_name(f"{DATASET}.begun")
    mark.write_bytes(content)
    publish(full, 300)
    assert not mark.exists()
    assert verify(full).findings == ()


def test_what_lies_among_the_data_sets_but_is_none_is_found(full: Workspace) -> None:
    (full.state / "store" / ".old").mkdir()
    assert "store has '.old', which is no data set's" in found(full)


def test_a_state_that_cannot_be_written_is_not_called_altered(full: Workspace) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    full.state.chmod(0o500)
    try:
        with pytest.raises(UsageError, match=r"nothing was verified: .* cannot be written"):
            verify(full)
    finally:
        full.state.chmod(0o700)


def test_a_forged_checkpoint_is_found(full: Workspace) -> None:
    full.checkpoint.write_bytes(full.checkpoint.read_bytes().replace(b"\n6\n", b"\n5\n"))
    assert "is not signed with the audit key" in found(full)


def test_entries_after_the_checkpoint_are_told(full: Workspace) -> None:
    full.checkpoint.unlink()
    assert "6 audit entries are newer than the signed checkpoint" in found(full)


def test_a_ledger_put_back_with_its_checkpoint_is_betrayed_by_the_anchor(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "worm").mkdir()
    config = workspace.root / "lazaretto.toml"
    config.write_text(config.read_text().replace('# anchor = "/mnt/worm/lazaretto"', f'anchor = "{tmp_path}/worm"'))
    workspace = load_workspace(workspace.root)
    publish(workspace, hold=True)
    kept = {path: path.read_bytes() for path in [*workspace.state.glob("ledger.db*"), workspace.checkpoint]}
    publish(workspace, 100, hold=True)
    for path in workspace.state.glob("ledger.db*"):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    assert "the audit log has 1 entries but checkpoint" in found(workspace)
    with pytest.raises(IntegrityViolated, match="not the one that checkpoint"):
        publish(workspace, 200)


def test_an_interrupted_publication_is_a_note_with_its_remedy(workspace: Workspace) -> None:
    write_batch(workspace.landing / DATASET / "night.csv")
    assert killed("admit", workspace.root, 11)  # all done but the clearing away
    result = verify(workspace)
    assert result.findings == ()
    assert "lazaretto ingest --dataset flights finishes it" in result.notes[0]


def test_one_data_set_can_be_asked_for(full: Workspace) -> None:
    assert verify(full, DATASET).datasets == (DATASET,)


def test_a_data_set_that_is_not_there_is_not_found_sound(full: Workspace, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "other")
    for name in ("trains", "", "../x"):
        with pytest.raises(UsageError, match="there is no data set") as error:
            verify(full, name)
        assert error.value.hint == "there are: flights"
    assert verify(workspace, DATASET).datasets == (DATASET,)  # it has a contract, but nothing came yet
    workspace.contract(DATASET).unlink()
    with pytest.raises(UsageError, match="there is no data set"):
        verify(workspace, DATASET)


def test_an_auditor_verifies_with_public_keys_alone(full: Workspace) -> None:
    for path in full.keys.glob("*.key"):
        path.unlink()
    result = verify(full, public=True)
    assert result.findings == ()
    assert result.records == 25
    assert result.quarantined == 3
    assert result.notes[-1].startswith("nothing was decrypted")
    with pytest.raises(UsageError, match=r"master.key cannot be read"):
        verify(full)
    manifest = next((full.state / "quarantine" / DATASET).glob("*/manifest"))
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"x")
    [finding] = verify(full, public=True).findings
    assert finding.startswith(f"{manifest} is not the one that was sealed")


@pytest.mark.parametrize("tamper", SEEN_BY_THE_GATE, ids=lambda tamper: tamper.__name__)
def test_an_auditor_finds_every_tampering_with_the_store(
    tamper: Callable[[Workspace], None], two_batches: Path, tmp_path: Path
) -> None:
    workspace = copy_workspace(two_batches, tmp_path)
    for path in workspace.keys.glob("*.key"):
        path.unlink()
    tamper(workspace)
    assert verify(workspace, public=True).findings
