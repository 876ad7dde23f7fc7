"""Names that mean something to a tool, a database or a person: paths, columns, ids."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest

from lazaretto.cli import main
from lazaretto.config import init_workspace, load_workspace
from lazaretto.contract import parse_contract
from lazaretto.errors import ContractError, UsageError
from lazaretto.gatekeeper import gate
from lazaretto.pipelines.cases import list_cases
from lazaretto.pipelines.landing import from_landing
from lazaretto.pipelines.review import release, word
from lazaretto.pipelines.snapshot import snapshot
from lazaretto.pipelines.trusted import read_trusted
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, make_workspace, no_fault, publish, write_batch
from tests.reading import contract_of, read_files

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace

ROWS = 240


def scan(folder: Path, out: Path, contract: str, monkeypatch: pytest.MonkeyPatch) -> int:
    lines = [f"r{i},{i % 11},{i * 7 % 13},{'ab'[i % 2]},{'pq'[i % 3 % 2]}" for i in range(ROWS)]
    (folder / "d.csv").write_text("\n".join(["id,x,z,decision,suspect", *lines]) + "\n")
    (folder / "c.yaml").write_text(contract)
    line = ["lazaretto", "scan", str(folder / "d.csv"), "--contract", str(folder / "c.yaml"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", line)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_columns_may_be_called_as_a_verdicts_are_and_paths_may_look_like_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a [b] *{c}"
    folder.mkdir()
    contract = (
        "dataset: d\nid: id\nlabel: decision\nsource: suspect\ncolumns:\n  x: {type: number}\n  z: {type: number}\n"
        "groups: [decision]\npolicy: {detectors: [hbos, knn_distance]}\n"
    )
    assert scan(folder, folder / "out [x]", contract, monkeypatch) == 0
    verdicts = pl.read_parquet(folder / "out [x]" / "verdicts.parquet", glob=False)
    assert verdicts["record_id"].to_list() == [f"r{i}" for i in range(ROWS)]
    assert (folder / "out [x]" / "report.html").exists()


@pytest.mark.parametrize("name", ["50%", "a#b", "a?b", "a[b]", "a\tb", "a^b", "a|b"])
def test_a_workspace_cannot_lie_where_its_store_would_be_looked_for_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its path has"):
        init_workspace(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_a_workspace_that_was_moved_to_such_a_place_is_refused(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    moved = workspace.root.rename(tmp_path / "50%")
    with pytest.raises(UsageError, match="its path has '%'"):
        load_workspace(moved)


def test_a_workspace_may_lie_in_a_folder_with_a_star_or_a_space(tmp_path: Path) -> None:
    root = tmp_path / "a *{b} c"
    root.mkdir()
    workspace = make_workspace(root)
    publish(workspace, rows=20)
    release(workspace, [list_cases(workspace)[0].id], word("fine"), check=no_fault)
    assert gate(DATASET, workspace=workspace).active_rows == 17
    assert verify(workspace).findings == ()


def test_one_file_by_two_spellings_counts_once_and_leaves_the_landing_folder(workspace: Workspace) -> None:
    file = write_batch(workspace.landing / DATASET / "d.csv")
    twice = [file, file.parent / ".." / DATASET / "d.csv"]
    batch = snapshot(twice[::-1], DATASET, workspace.root / "snapshot")
    assert len(batch.files) == 1
    assert [name for name, _ in from_landing(workspace, batch)] == ["landing/flights/d.csv"]


def test_trusted_records_are_found_beside_a_contract_whose_folder_looks_like_a_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "a[bc]"
    folder.mkdir()
    (folder / "t1.csv").write_text("x,y\n1,a\n2,b\n")
    contract = contract_of("x: number", label="y").model_copy(update={"trusted": "t*.csv"})
    contract._path = folder / "c.yaml"
    found = read_trusted(contract, (), tmp_path / "work")
    assert found is not None
    assert found["x"].to_list() == [1.0, 2.0]


@pytest.mark.parametrize("trusted", ["nothing.csv", "none-*.csv"])
def test_a_trusted_set_that_is_not_there_says_from_where_it_counts(trusted: str, tmp_path: Path) -> None:
    contract = contract_of("x: number", label="y").model_copy(update={"trusted": trusted})
    contract._path = tmp_path / "c.yaml"
    with pytest.raises(UsageError, match="is not there") as error:
        read_trusted(contract, (), tmp_path / "work")
    assert f"counts from {tmp_path}" in (error.value.hint or "")


@pytest.mark.parametrize("odd", ["a\x1b[31mb", "a\nb", "a\x85b"])
def test_an_id_with_control_characters_rejects_its_record(odd: str) -> None:
    data = f'id,x\n"{odd}",1\nfine,2\n'.encode()
    read = read_files({"d.csv": data}, contract_of("id: {type: category}; x: number", id="id"))
    assert list(read.reasons) == [0]
    assert "holds control characters" in read.reasons[0]
    assert read.frame["id"].to_list() == ["fine"]


def test_an_id_with_a_nul_rejects_its_record() -> None:
    lines = [json.dumps({"id": name, "x": 1.0}) for name in ("a\0b", "fine")]
    read = read_files({"d.jsonl": "\n".join(lines).encode()}, contract_of("id: {type: category}; x: number", id="id"))
    assert read.reasons == {0: "id: 'a\\x00b' holds control characters"}
    assert read.frame["id"].to_list() == ["fine"]


def test_a_personal_id_is_in_no_verdict_yet_must_not_repeat() -> None:
    data = b'mail,x\nann@b.c,1\nbob@b.c,2\nann@b.c,3\n"eve\x01@b.c",4\n'
    read = read_files({"d.csv": data}, contract_of("mail: {type: category, pii: true}; x: number", id="mail"))
    assert read.frame["mail"].to_list() == ["bob@b.c"]
    assert read.frame["_record_id"].to_list() == read.frame["_digest"].to_list()
    said = " ".join([*read.reasons.values(), *read.rejects["record_id"].to_list()])
    assert "@b.c" not in said
    assert sorted(read.reasons) == [0, 2, 3]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("policy: {detectors: [hbos, hbos]}", "detector 'hbos' is listed twice"),
        ('expectations: [{type: expect_x, value: "\\ud800"}]', "no text that UTF-8 can write"),
        (f"policy: {{min_records: 1{'0' * 390}}}", "policy.min_records"),
        (f"  X: {{type: number, max: 1{'0' * 390}}}", "max must be finite"),
        ("  X: {type: number}", "columns 'x' and 'X' differ only in case"),
    ],
)
def test_a_contract_that_could_only_fail_later_is_refused(line: str, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        parse_contract(f"dataset: d\ncolumns:\n  x: {{type: number}}\n{line}\n", "c.yaml")
