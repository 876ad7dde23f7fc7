from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lazaretto.contract import Contract, parse_contract
from lazaretto.errors import InputRefused, UsageError
from lazaretto.expectations.check import check
from lazaretto.pipelines.infer import infer
from lazaretto.pipelines.read import parse
from lazaretto.pipelines.snapshot import snapshot

SAMPLE_DATA = Path(__file__).parent.parent / "sample_data"


def table(rows: int = 60) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "flight_id": [f"F{i:04}" for i in range(rows)],
            "carrier": rng.choice(np.array(["AA", "UA"]), rows),
            "distance": rng.integers(80, 5000, rows),
            "delay": rng.normal(size=rows),
            "zip": ["00501"] * rows,
            "wet": rng.choice(np.array([True, False]), rows),
            "visib": [None if i % 7 == 0 else i / 4 for i in range(rows)],
            "when": ["2024-01-02T03:04:05Z"] * rows,
            "note": [f"a longer remark, number {i}, that nobody would call a category" for i in range(rows)],
            "email": [f"user{i}@example.org" for i in range(rows)],
            "late": rng.choice(np.array(["late", "on_time"]), rows),
            "nothing": [None] * rows,
        },
        schema_overrides={"nothing": pl.String},
    )


def write(frame: pl.DataFrame, path: Path) -> Path:
    {".csv": frame.write_csv, ".jsonl": frame.write_ndjson, ".parquet": frame.write_parquet}[path.suffix](path)
    return path


def inferred(path: Path) -> Contract:
    return parse_contract(infer([path]), "inferred")


def passes(path: Path, contract: Contract, into: Path) -> bool:
    """Whether a file holds to a contract without exception."""
    parsed = parse(snapshot([path], contract.dataset, into / "snapshot"), contract, into)
    checked = check(parsed.partitions, contract, into, expected=parsed.arrived)
    return not (parsed.rejected or parsed.holds or checked.failed or checked.holds)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_types_roles_and_ranges_are_found_in_every_format(suffix: str, tmp_path: Path) -> None:
    contract = inferred(write(table(), tmp_path / f"flights{suffix}"))
    types = {name: column.type for name, column in contract.columns.items()}
    assert types == {
        "flight_id": "category", "carrier": "category", "distance": "integer", "delay": "number", "zip": "category",
        "wet": "boolean", "visib": "number", "when": "timestamp", "note": "text", "email": "category",
        "late": "category",
    }  # fmt: skip
    assert (contract.dataset, contract.id, contract.label, contract.source) == (
        "flights",
        "flight_id",
        "late",
        "carrier",
    )
    assert contract.columns["distance"].min == table()["distance"].min()
    assert contract.columns["late"].values == ("late", "on_time")
    assert [name for name, column in contract.columns.items() if column.nullable] == ["visib"]
    assert [name for name, column in contract.columns.items() if column.pii] == ["email"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_very_same_data_passes(suffix: str, tmp_path: Path) -> None:
    path = write(table(), tmp_path / f"flights{suffix}")
    assert passes(path, inferred(path), tmp_path)


@pytest.mark.parametrize("pattern", ["flights/*.parquet", "fashion/*.parquet"])
def test_the_sample_data_passes_under_its_own_contract(pattern: str, tmp_path: Path) -> None:
    for place, path in enumerate(sorted(SAMPLE_DATA.glob(pattern))):
        assert passes(path, inferred(path), tmp_path / str(place))


def test_a_folder_of_images_gives_an_image_and_its_class(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (1200, 1000), i).save(tmp_path / "pets" / kind / f"{i}.png")
    contract = inferred(tmp_path / "pets")
    assert (contract.dataset, contract.label) == ("pets", "label")
    assert contract.columns["label"].values == ("cat", "dog")
    assert contract.columns["image"].max_pixels == 1_200_000
    assert passes(tmp_path / "pets", contract, tmp_path / "work")


def test_images_vectors_and_times_in_parquet_are_found(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("L", (4, 4)).save(out, "PNG")
    frame = pl.DataFrame(
        {
            "photo": [{"bytes": out.getvalue(), "path": "a.png"}] * 2,
            "vector": [[1.0, 2.0], [3.0, 4.0]],
            "day": [dt.date(2024, 1, 2)] * 2,
            "odd": [[1], [2, 3]],
            "stranger": [["a"], ["b"]],
            "_hidden": [1, 2],
        }
    )
    path = write(frame, tmp_path / "t.parquet")
    contract = inferred(path)
    assert {name: column.type for name, column in contract.columns.items()} == {
        "photo": "image", "vector": "vector", "day": "timestamp",
    }  # fmt: skip
    assert contract.columns["vector"].dimensions == 2
    for name in ("odd", "stranger", "_hidden"):
        assert f"{name!r} is left out" in infer([path]) or f"{name} is left out" in infer([path])


def test_an_id_whose_values_repeat_is_no_id(tmp_path: Path) -> None:
    frame = table().with_columns(pl.lit("same").alias("flight_id"))
    assert inferred(write(frame, tmp_path / "t.csv")).id is None


def test_a_number_of_an_order_whose_values_never_repeat_is_its_id(tmp_path: Path) -> None:
    frame = table().rename({"flight_id": "order_no"})
    assert inferred(write(frame, tmp_path / "t.csv")).id == "order_no"


def test_the_last_column_with_few_values_is_guessed_to_be_the_label_and_called_a_guess(tmp_path: Path) -> None:
    frame = table().select("distance", "carrier", pl.col("late").alias("came"))
    text = infer([write(frame, tmp_path / "t.csv")])
    assert "label: came  # a guess: the last column with few values; check it" in text


def test_prompts_and_responses_have_no_label(tmp_path: Path) -> None:
    frame = pl.DataFrame({"prompt": [f"p {i}" for i in range(9)], "response": ["yes", "no", "no"] * 3})
    contract = inferred(write(frame, tmp_path / "t.jsonl"))
    assert contract.label is None
    assert list(contract.columns) == ["prompt", "response"]


def test_records_that_cannot_be_read_are_counted_and_left_aside(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n4,5\n")
    text = infer([tmp_path / "t.csv"])
    assert "# 1 records could not be taken apart and will be rejected." in text
    assert parse_contract(text, "t").columns["b"].max == 5


def test_several_files_are_looked_at_together(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("a,b\n2.5,y\n")
    contract = parse_contract(infer([tmp_path / "*.csv"], dataset="mine"), "t")
    assert contract.dataset == "mine"
    assert (contract.columns["a"].type, contract.columns["a"].max) == ("number", 2.5)


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("_a\n1\n")
    with pytest.raises(InputRefused, match="no column to judge"):
        infer([tmp_path / "t.csv"])
    with pytest.raises(UsageError, match="does not exist"):
        infer([tmp_path / "none.csv"])


words = st.text(min_size=1, max_size=8)


@given(columns=st.dictionaries(words, st.lists(words | st.none(), min_size=3, max_size=3), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_any_names_and_values_give_a_contract_that_loads_and_parses_the_same_data(
    columns: dict[str, list[str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("infer")
    path = write(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), folder / "t.parquet")
    try:
        contract = inferred(path)
    except InputRefused:
        return
    parsed = parse(snapshot([path], "d", folder / "s"), contract, folder)
    frame = pl.concat([pl.read_parquet(part) for part in parsed.partitions])
    assert not parsed.rejected
    for name, column in contract.columns.items():
        assert column.values is None or set(frame[name].drop_nulls()) == set(column.values)
