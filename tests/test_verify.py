from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from lazaretto.config import load_workspace
from lazaretto.errors import IntegrityViolated
from lazaretto.gatekeeper import gate
from lazaretto.ledger import open_ledger
from lazaretto.pipelines.cases import list_cases
from lazaretto.pipelines.review import discard, release, word
from lazaretto.pipelines.verify import verify
from tests.crash import killed
from tests.harness import DATASET, copy_workspace, make_workspace, no_fault, publish, write_batch
from tests.tampering import SEEN_BY_THE_GATE, SEEN_IN_THE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lazaretto.config import Workspace

SAID = word("looked at it", "ann")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which everything happened once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        workspace = make_workspace(tmp_path_factory.mktemp("full"))
        publish(workspace, rows=20)
        publish(workspace, 100)
        publish(workspace, 200, hold=True)
        one, two, *_ = (case.id for case in list_cases(workspace))
        release(workspace, [one], SAID, check=no_fault)
        discard(workspace, [two], SAID)
        gate(DATASET, run="train-7", workspace=workspace)
    return workspace.root


@pytest.fixture
def full(template: Path, tmp_path: Path) -> Workspace:
    return copy_workspace(template, tmp_path)


def found(workspace: Workspace) -> str:
    result = verify(workspace)
    with pytest.raises(IntegrityViolated) as error:
        result.require()
    assert error.value.exit_code == 5
    return "\n".join(result.findings)


@pytest.mark.parametrize(
    "change", ["row = row + 1000", "p_value = 0.9", "evidence = '[]'", "reasons = '['", "record_id = 'zz'"]
)
def test_a_case_that_was_made_to_say_something_else_is_found(change: str, full: Workspace) -> None:
    case = list_cases(full)[0].id
    with open_ledger(full) as ledger, ledger.writing() as session:
        session.execute(text(f"UPDATE cases SET {change} WHERE id = :case"), {"case": case})  # noqa: S608  ours
    assert f"case {case} is not what was judged" in found(full)


def test_a_case_that_points_at_another_record_is_not_released(full: Workspace) -> None:
    case = list_cases(full)[0].id
    with open_ledger(full) as ledger, ledger.writing() as session:
        session.execute(text("UPDATE cases SET row = row + 1000 WHERE id = :case"), {"case": case})
    with pytest.raises(IntegrityViolated, match="another record"):
        release(full, [case], SAID, check=no_fault)


@pytest.mark.parametrize("digests", ["[]", "x", "{}"])
def test_digests_of_a_batch_that_cannot_be_read_are_found(digests: str, full: Workspace) -> None:
    with open_ledger(full) as ledger, ledger.writing() as session:
        session.execute(text("UPDATE batches SET digests = :said"), {"said": digests})
    assert "cannot be read" in found(full)


def test_a_sound_workspace_is_found_sound(full: Workspace) -> None:
    steps: list[str] = []
    result = verify(full, on_step=steps.append)
    result.require()
    assert (result.findings, result.notes, result.datasets) == ((), (), (DATASET,))
    assert (result.records, result.quarantined, result.audit_entries) == (25, 3, 6)
    assert steps == ["audit log", "flights: store", "flights: ledger", "flights: quarantine"]


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


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE batches SET admitted = admitted + 1, rejected = rejected - 1", "is not the one the audit log tells"),
        ("UPDATE batches SET digests = '{}'", "is not the one the audit log tells"),
        ("UPDATE batches SET version = 9", "is not the one the audit log tells"),
        ("UPDATE cases SET state = 'released' WHERE state = 'open'", "its decisions say open"),
        ("UPDATE cases SET state = 'open'", "its decisions say"),
        ("DELETE FROM cases WHERE state = 'open'", "has 0 cases where it had 1"),
        ("DELETE FROM decisions", "the decision to release"),
        ("UPDATE decisions SET action = 'release'", "the decision to discard"),
        ("DELETE FROM training_runs", "training run train-7"),
        ("DELETE FROM discards", "remembers 0 discarded records"),
        ("UPDATE audit SET actor = 'eve' WHERE seq = 2", "audit entry 2 .batch.admitted"),
        ("UPDATE audit SET detail = '{' WHERE seq = 2", "audit entry 2 .batch.admitted"),
        ("DELETE FROM audit WHERE seq = 3", "audit entry 3 is missing"),
        ("DELETE FROM audit WHERE seq = 6", "has 5 entries but checkpoint"),
        ("DELETE FROM audit", "has 0 entries but checkpoint"),
    ],
)
def test_every_change_of_the_ledger_is_found(statement: str, said: str, full: Workspace) -> None:
    with open_ledger(full) as ledger, ledger.writing() as session:
        for table in ("audit", "decisions"):
            for verb in ("update", "delete"):
                session.execute(text(f"DROP TRIGGER {table}_no_{verb}"))
        session.execute(text(statement))
    assert re.search(said, found(full))


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
    assert verify(full, "trains").records == 0
