from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from lazaretto.errors import InputRefused, IntegrityViolated, LazarettoError, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.ledger import open_ledger, read_audit
from lazaretto.pipelines.cases import list_cases, open_quarantine
from lazaretto.pipelines.ingest import Hooks, ingest
from lazaretto.pipelines.landing import waiting
from lazaretto.pipelines.review import discard, word
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, NOW, FakeJudge, FakeJudged, make_workspace, publish, stored, write_batch
from tests.tampering import SEEN_BY_THE_GATE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lazaretto.config import Workspace
    from lazaretto.contract import Contract


def listing(workspace: Workspace) -> list[str]:
    ignored = {"ledger.db-wal", "ledger.db-shm"}
    return sorted(
        str(path)
        for path in workspace.root.rglob("*")
        if path.name not in ignored and path.suffix != ".lock" and path.name not in {"locks", "ledger.db", "work"}
    )


def test_every_record_goes_where_its_verdict_says(workspace: Workspace) -> None:
    result = publish(workspace)
    assert result.counts == {"arrived": 10, "admitted": 8, "quarantined": 1, "rejected": 1, "suspects": 1, "files": 1}
    assert (result.held, result.already, result.version, result.epoch) == (False, False, 2, 1)
    frame = stored(workspace)
    assert frame["_record_id"].to_list() == ["r0", "r1", "r2", "r3", "r4", "r7", "r8", "r9"]
    assert set(frame["_batch_id"]) == {result.batch}
    assert set(frame["_verdict"]) == {"admit"}
    quarantined = open_quarantine(workspace, DATASET, result.batch)
    assert [row for part in quarantined.records() for row in part["id"]] == ["r5"]
    assert [row for part in quarantined.rejects() for row in part["record_id"]] == ["r6"]
    (original,) = quarantined.manifest.originals
    assert b"".join(quarantined.original(original)) == (workspace.root.parent / "batch-0.csv").read_bytes()
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "evidence.parquet",
        "summary.json",
        "verdicts.parquet",
    ]
    assert verify(workspace).findings == ()


def test_nothing_of_a_held_batch_enters_the_store(workspace: Workspace) -> None:
    result = publish(workspace, hold=True)
    assert result.held
    assert result.hold_reasons == ("more is suspicious than the contract allows",)
    assert (result.counts["admitted"], result.counts["quarantined"]) == (0, 9)
    assert not workspace.store(DATASET).exists()
    assert [case.record_id for case in list_cases(workspace)] == ["r5"]


def test_the_same_bytes_again_change_nothing(workspace: Workspace, tmp_path: Path) -> None:
    first = publish(workspace)
    before = listing(workspace)
    renamed = tmp_path / "other name.csv"
    renamed.write_bytes((tmp_path / "batch-0.csv").read_bytes())
    again = ingest(workspace, [renamed], DATASET, judge=FakeJudge())
    assert again.already
    assert replace(again, already=False) == first
    assert listing(workspace) == before
    with open_ledger(workspace) as ledger, ledger.reading() as session:
        assert len(list(read_audit(session))) == 1


def test_what_waits_in_the_landing_folder_is_one_batch_and_leaves_it(workspace: Workspace) -> None:
    write_batch(workspace.landing / DATASET / "a.csv")
    write_batch(workspace.landing / DATASET / "later" / "b.csv", 100)
    assert waiting(workspace) == (DATASET,)
    result = ingest(workspace, [], DATASET, judge=FakeJudge(), now=NOW)
    assert result.counts["files"] == 2
    assert waiting(workspace) == ()
    assert list((workspace.landing / DATASET).iterdir()) == []
    with pytest.raises(UsageError, match="nothing waits"):
        ingest(workspace, [], DATASET, judge=FakeJudge())


def test_a_file_that_came_while_its_name_was_ingested_stays(workspace: Workspace) -> None:
    path = write_batch(workspace.landing / DATASET / "a.csv")

    def on_step(name: str) -> None:
        if name == "commit":
            write_batch(path, 100)

    ingest(workspace, [], DATASET, judge=FakeJudge(), on_step=on_step)
    assert path.read_text().startswith("id,x,late\nr100,")


def test_known_bytes_that_land_again_are_taken_out(workspace: Workspace) -> None:
    publish(workspace)
    write_batch(workspace.landing / DATASET / "again.csv")
    assert ingest(workspace, [], DATASET, judge=FakeJudge()).already
    assert waiting(workspace) == ()


def test_a_file_given_by_name_stays_where_it_is(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace)
    assert (tmp_path / "batch-0.csv").exists()


def test_a_batch_of_which_nothing_is_admitted_needs_no_store(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("id,x,late\na,1000,true\nb,-1,true\n")
    result = ingest(workspace, [tmp_path / "b.csv"], DATASET, judge=FakeJudge())
    assert (result.version, result.held) == (None, False)
    assert verify(workspace).findings == ()


def test_a_discarded_record_is_rejected_when_it_comes_again(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace)
    discard(workspace, [list_cases(workspace)[0].id], word("planted"))
    (tmp_path / "b.csv").write_text((tmp_path / "batch-0.csv").read_text() + "new,3,true\n")
    result = ingest(workspace, [tmp_path / "b.csv"], DATASET, judge=FakeJudge())
    assert (result.counts["arrived"], result.counts["suspects"], result.counts["rejected"]) == (11, 0, 2)


@pytest.mark.parametrize("tamper", SEEN_BY_THE_GATE[2:7], ids=lambda tamper: tamper.__name__)
def test_nothing_is_built_on_a_store_that_was_tampered_with(
    tamper: Callable[[Workspace], None], workspace: Workspace
) -> None:
    publish(workspace)
    publish(workspace, 100)
    tamper(workspace)
    before = listing(workspace)
    with pytest.raises(IntegrityViolated):
        publish(workspace, 200)
    assert listing(workspace) == before


def test_nothing_is_built_on_a_ledger_that_was_put_back(workspace: Workspace) -> None:
    publish(workspace)
    for path in workspace.state.glob("ledger.db*"):
        path.unlink()
    with pytest.raises(IntegrityViolated, match="the ledger does not know b-"):
        publish(workspace)
    with pytest.raises(IntegrityViolated, match="the ledger does not know b-"):
        publish(workspace, 100)
    assert stored(workspace).height == 8


class Lying(FakeJudge):
    """A judge with one fault, to see that it is noticed."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        object.__setattr__(self, "fault", fault)

    def __call__(self, files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> FakeJudged:
        judged = super().__call__(files, contract, into, hooks)
        getattr(self, self.fault)(judged)  # type: ignore[attr-defined]  # set above, past the frozen dataclass
        return judged

    def _verdicts(self, judged: FakeJudged, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        path = judged.folder / "verdicts.parquet"
        change(pl.read_parquet(path)).write_parquet(path)

    def lost_verdict(self, judged: FakeJudged) -> None:
        self._verdicts(judged, lambda frame: frame[:-1])

    def unscored(self, judged: FakeJudged) -> None:
        self._verdicts(judged, lambda frame: frame.with_columns(p_value=pl.lit(float("nan"))))

    def shifted(self, judged: FakeJudged) -> None:
        self._verdicts(judged, lambda frame: frame.with_columns(pl.col("record_id").shift(1, fill_value="x")))

    def unknown_verdict(self, judged: FakeJudged) -> None:
        self._verdicts(judged, lambda frame: frame.with_columns(pl.col("decision").replace("quarantine", "maybe")))

    def lost_reject(self, judged: FakeJudged) -> None:
        pl.read_parquet(judged.parsed.rejects)[:0].write_parquet(judged.parsed.rejects)

    def lost_evidence(self, judged: FakeJudged) -> None:
        path = judged.folder / "evidence.parquet"
        pl.read_parquet(path)[:0].write_parquet(path)

    def lost_partition_row(self, judged: FakeJudged) -> None:
        path = judged.parsed.partitions[0]
        pl.read_parquet(path)[:-1].write_parquet(path)

    def admits_while_held(self, judged: FakeJudged) -> None:
        judged.summary.update(hold=True, hold_reasons=["x"])

    def wrong_count(self, judged: FakeJudged) -> None:
        judged.summary.update(admitted=7)


FAULTS = [name for name, value in vars(Lying).items() if not name.startswith("_") and callable(value)]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_judging_that_does_not_add_up_publishes_nothing(fault: str, workspace: Workspace, tmp_path: Path) -> None:
    file = write_batch(tmp_path / "b.csv")
    with pytest.raises(LazarettoError) as error:
        ingest(workspace, [file], DATASET, judge=Lying(fault))
    assert "b-" in error.value.message or "nothing was published" in error.value.message
    assert not list((workspace.state / "batches").glob("*"))
    assert not list(workspace.store(DATASET).glob("b-*"))
    assert ingest(workspace, [file], DATASET, judge=FakeJudge()).version == 2


def test_refused_input_leaves_nothing_behind(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace)
    before = listing(workspace)
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04")
    for file, error in ((tmp_path / "x.pkl", InputRefused), (tmp_path / "none.csv", UsageError)):
        with pytest.raises(error):
            ingest(workspace, [file], DATASET, judge=FakeJudge())
    assert listing(workspace) == before


def test_a_contract_is_needed_and_must_be_the_data_sets(workspace: Workspace, tmp_path: Path) -> None:
    file = write_batch(tmp_path / "b.csv")
    with pytest.raises(UsageError, match=r"trains\.yaml does not exist"):
        ingest(workspace, [file], "trains", judge=FakeJudge())
    workspace.contract("trains").write_text(workspace.contract(DATASET).read_text())
    with pytest.raises(UsageError, match="is the contract of 'flights', not of 'trains'"):
        ingest(workspace, [file], "trains", judge=FakeJudge())


def test_a_contract_whose_columns_changed_is_refused_before_judging(workspace: Workspace, tmp_path: Path) -> None:
    publish(workspace)
    path = workspace.contract(DATASET)
    path.write_text(path.read_text().replace("x: {type: number}", "x: {type: text}"))

    def never(*_: Any) -> FakeJudged:  # noqa: ANN401  any call is one too many
        raise AssertionError("judged")

    with pytest.raises(UsageError, match="differ in x"):
        ingest(workspace, [write_batch(tmp_path / "b.csv", 100)], DATASET, judge=never)


def test_the_gate_opens_for_what_was_ingested(workspace: Workspace) -> None:
    result = publish(workspace)
    attestation = gate(DATASET, batch=result.batch, workspace=workspace)
    assert attestation.counts == result.counts
    assert set(attestation.digests) == {"contract", "policy", "verdicts", "evidence", "summary", "quarantine"}


def test_what_a_judge_draws_by_is_each_workspaces_own(tmp_path: Path) -> None:
    secrets: list[bytes] = []

    def judge(files: Sequence[Path], contract: Contract, into: Path, hooks: Hooks) -> FakeJudged:
        secrets.append(hooks.secret)
        return FakeJudge()(files, contract, into, hooks)

    for name in ("one", "two"):
        workspace = make_workspace(tmp_path / name)
        for start in (0, 100):
            ingest(workspace, [write_batch(tmp_path / f"{name}-{start}.csv", start)], DATASET, judge=judge)
    assert [len(secret) for secret in secrets] == [32] * 4
    assert secrets[0] == secrets[1] != secrets[2] == secrets[3]
