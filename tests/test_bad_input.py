"""What a user gets wrong gets one sentence, the right exit code, and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest
from PIL import Image

from lazaretto.cli import main

if TYPE_CHECKING:
    from pathlib import Path

CONTRACT = "dataset: d\nid: id\nlabel: y\ncolumns:\n  id: {type: category}\n  x: {type: number}\n"
GOOD = "id,x,y\na,1,p\nb,2,q\n"


def _run(
    folder: Path,
    data: bytes | str | None,
    contract: str,
    monkeypatch: pytest.MonkeyPatch,
    *extra: str,
    name: str = "d.csv",
) -> int:
    if data is not None:
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    (folder / "c.yaml").write_text(contract)
    monkeypatch.chdir(folder)
    arguments = ["lazaretto", "scan", name, "--contract", "c.yaml", "--out", "out", *extra]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (None, 2, "does not exist"),
        ("", 4, "empty"),
        ("id,x,y\n", 4, "no record"),
        ('id,x,y\na,1,p\nb,"2,q\n', 4, "quote"),
        ("id,x,x,y\na,1,2,p\n", 4, "x"),
        ("colour,size\nred,1\n", 4, "column"),
        ("id,x,y\na,one,p\nb,two,q\n", 4, "all 2 records"),
        ("id,x,y\na,1,p\na,2,q\n", 4, "all 2 records"),
        ("id,x,y\na,inf,p\nb,-inf,q\n", 4, "all 2 records"),
        ("id,x,y\na,,p\nb,nan,q\n", 4, "all 2 records"),
        (b"\x80\x04K\x01.", 4, ""),
    ],
)
def test_input_that_is_no_data_is_refused_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    data: bytes | str | None, code: int, says: str,
) -> None:  # fmt: skip
    assert _run(tmp_path, data, CONTRACT, monkeypatch) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert says in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_a_truncated_parquet_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pl.DataFrame({"id": ["a"], "x": [1.0], "y": ["p"]}).write_parquet(tmp_path / "whole.parquet")
    cut = (tmp_path / "whole.parquet").read_bytes()[:-20]
    assert _run(tmp_path, cut, CONTRACT, monkeypatch, name="d.parquet") == 4
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("contract", "says"),
    [
        ("", "is empty"),
        ("dataset: d\ncolums: {}\n", "did you mean 'columns'"),
        (CONTRACT.replace("number", "numbr"), "line 6"),
        (CONTRACT + "expectations: [{type: expect_colum_to_exist, column: x}]\n", "expect_column_to_exist"),
        (CONTRACT + "policy: {detectors: [iforrest]}\n", "iforest"),
    ],
)
def test_a_wrong_contract_is_a_matter_of_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, contract: str, says: str
) -> None:
    assert _run(tmp_path, GOOD, contract, monkeypatch) == 2
    assert says in capsys.readouterr().err


def test_too_small_a_batch_is_held_and_every_record_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(tmp_path, "id,x,y\na,1,p\nb,2,q\nc,oops,p\nd,4\n", CONTRACT, monkeypatch) == 3
    verdicts = pl.read_parquet(tmp_path / "out" / "verdicts.parquet")
    assert verdicts["decision"].to_list() == ["quarantine", "quarantine", "reject", "reject"]
    assert all(verdicts["reasons"].list.len() > 0)
    assert "fields" in verdicts["reasons"][3][0]
    originals = pl.read_parquet(tmp_path / "out" / "rejects.parquet")["original"].to_list()
    assert [original.rstrip() for original in originals] == [b"c,oops,p", b"d,4"]


def test_a_batch_of_one_record_many_times_over_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = "dataset: d\nlabel: y\ncolumns:\n  x: {type: number}\n"
    assert _run(tmp_path, "x,y\n" + "1,p\n" * 300, contract, monkeypatch) == 3
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["hold_reasons"] == [
        "300 records, 1 of them different, are fewer than the 20 a batch needs to be judged"
    ]
    assert (summary["arrived"], summary["admitted"], summary["quarantined"]) == (300, 0, 300)


def test_ids_do_not_make_equal_records_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = "dataset: d\nid: i\nlabel: y\ncolumns:\n  x: {type: number}\n"
    lines = "".join(f"{number},{number % 3},p\n" for number in range(300))
    assert _run(tmp_path, "i,x,y\n" + lines, contract, monkeypatch) == 3
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["hold_reasons"] == [
        "300 records, 3 of them different, are fewer than the 20 a batch needs to be judged"
    ]


@pytest.mark.parametrize(
    ("trusted", "says"),
    [
        (GOOD, "also in the trusted set"),
        ("id,x,y\nz,1,p\nw,oops,q\n", "do not parse"),
        ("id,x,y\nz,,p\n", "breaks the contract"),
    ],
)
def test_a_trusted_set_that_cannot_be_trusted_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trusted: str, says: str
) -> None:
    (tmp_path / "t.csv").write_text(trusted)
    assert _run(tmp_path, GOOD, CONTRACT, monkeypatch, "--trusted", "t.csv") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["abacus", "cuda:", "cuda:999", "cpu:1", ""])
def test_a_device_that_is_not_there_is_named_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    assert _run(tmp_path, None, CONTRACT, monkeypatch, "--device", device) == 2
    assert f"device {device!r} is not" in capsys.readouterr().err


def test_a_misspelt_detector_is_named_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run(tmp_path, None, CONTRACT + "policy: {detectors: [iforrest]}\n", monkeypatch) == 2
    assert "iforest" in capsys.readouterr().err


def test_an_unreadable_image_is_rejected_with_its_bytes_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    for number in range(4):
        Image.new("L", (8, 8), number).save(tmp_path / "pictures" / "cat" / f"{number}.png")
    broken = (tmp_path / "pictures" / "cat" / "3.png").read_bytes()[:40]
    (tmp_path / "pictures" / "cat" / "3.png").write_bytes(broken)
    contract = "dataset: d\nlabel: y\ncolumns:\n  picture: {type: image}\n  y: {type: category}\n"
    assert _run(tmp_path, None, contract, monkeypatch, name="pictures") == 3
    decisions = pl.read_parquet(tmp_path / "out" / "verdicts.parquet")["decision"].to_list()
    assert decisions == ["quarantine", "quarantine", "quarantine", "reject"]
    assert pl.read_parquet(tmp_path / "out" / "rejects.parquet")["original"].to_list() == [broken]
    evidence = pl.read_parquet(tmp_path / "out" / "evidence.parquet")
    assert evidence["file"].to_list() == ["cat/0.png", "cat/1.png", "cat/2.png"]


@pytest.mark.parametrize("out", ["/proc/none/out", "d.csv/out"])
def test_out_that_cannot_be_made_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    assert _run(tmp_path, GOOD, CONTRACT, monkeypatch, "--out", out) == 2
    assert "cannot write to" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "d.csv"]


@pytest.mark.parametrize(
    ("nullable", "code", "says"), [("true", 3, "holds no value in any"), ("false", 4, "is missing")]
)
def test_a_column_without_any_value_is_held_where_nulls_are_allowed_and_refused_where_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    nullable: str, code: int, says: str,
) -> None:  # fmt: skip
    rows = "id,x,y\n" + "".join(f"r{i},,p\n" for i in range(40))
    contract = CONTRACT.replace("type: number", f"type: number, nullable: {nullable}")
    assert _run(tmp_path, rows, contract, monkeypatch) == code
    captured = capsys.readouterr()
    assert says in " ".join((captured.out + captured.err).split())


def test_out_that_is_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_text("mine")
    assert _run(tmp_path, GOOD, CONTRACT, monkeypatch) == 2
    assert (tmp_path / "out").read_text() == "mine"
    assert "is a file" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, lazaretto.cli\n"
        "names = 'torch polars pandas prefect great_expectations sklearn sqlalchemy'.split()\n"
        "heavy = set(names) & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
