from __future__ import annotations

import datetime as dt
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lazaretto.contract import Contract, parse_contract
from lazaretto.errors import InputRefused, UsageError
from lazaretto.expectations.check import check
from lazaretto.pipelines.fits import Fits
from lazaretto.pipelines.infer import contract_text
from lazaretto.pipelines.infer import infer as infer_in_a_process_of_its_own
from lazaretto.pipelines.ranges import widened
from lazaretto.pipelines.read import parse
from lazaretto.pipelines.snapshot import snapshot
from lazaretto.pipelines.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def infer(paths: Sequence[str | Path]) -> str:
    """What the child process does, here: it would take a second each time."""
    with tempfile.TemporaryDirectory() as scratch:
        batch = snapshot(paths, Path(paths[0]).stem, Path(scratch) / "snapshot")
        return contract_text(batch, Path(scratch), [str(path) for path in paths])


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
    assert (contract.columns["distance"].min, contract.columns["distance"].max) == (0, 5200)
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
    assert parse_contract(text, "t").columns["b"].max == 6


def test_several_files_are_looked_at_together(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "2.csv").write_text("a,b\n2.5,y\n")
    contract = parse_contract(infer_in_a_process_of_its_own([tmp_path / "*.csv"], dataset="mine"), "t")
    assert contract.dataset == "mine"
    assert (contract.columns["a"].type, contract.columns["a"].max) == ("number", 2.7)


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("_a\n1\n")
    with pytest.raises(InputRefused, match="no column to judge"):
        infer_in_a_process_of_its_own([tmp_path / "t.csv"])
    with pytest.raises(UsageError, match="does not exist"):
        infer([tmp_path / "none.csv"])


def dirty(good: list[str], dirt: str, times: int, name: str = "x") -> pl.DataFrame:
    """A column of text that is dirty at ``times`` places, beside one that is clean."""
    values = [*good, *[dirt] * times]
    return pl.DataFrame({name: values, "kind": ["a", "b"] * (len(values) // 2)})


GOOD = {
    "integer": [str(i * 37) for i in range(97)],
    "number": [str(i * 3.25) for i in range(97)],
    "boolean": [str(i % 3 == 0).lower() for i in range(97)],
    "timestamp": [f"2024-01-{1 + i % 28:02}T03:04:05Z" for i in range(97)],
}


@pytest.mark.parametrize("kind", list(GOOD))
def test_a_few_dirty_values_do_not_hide_the_type_and_are_counted_in_a_comment(kind: str, tmp_path: Path) -> None:
    path = write(dirty(GOOD[kind], "n/a", 3), tmp_path / "t.csv")
    contract = parse_contract(infer([path]), "inferred")
    assert contract.columns["x"].type == kind
    assert parse(snapshot([path], "t", tmp_path / "s"), contract, tmp_path).rejected == 3
    noted = next(line for line in infer([path]).splitlines() if line.startswith("  x:"))
    assert "3 of 100 values are n" in noted
    assert "and will be rejected, for instance 'n/a'" in noted


def test_numbers_among_which_json_has_a_few_texts_are_numbers(tmp_path: Path) -> None:
    lines = [f'{{"x": {i * 7}, "k": "a"}}' for i in range(97)] + ['{"x": "?", "k": "b"}'] * 3
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    assert inferred(tmp_path / "t.jsonl").columns["x"].type == "integer"


def test_a_tenth_of_dirt_or_too_few_numbers_are_no_number_column(tmp_path: Path) -> None:
    assert inferred(write(dirty(GOOD["integer"], "n/a", 11), tmp_path / "1.csv")).columns["x"].type == "category"
    assert inferred(write(dirty(GOOD["integer"][:19], "n/a", 1), tmp_path / "2.csv")).columns["x"].type == "category"


def test_a_number_written_with_a_point_makes_no_whole_numbers_of_its_column(tmp_path: Path) -> None:
    path = write(dirty([str(i) for i in range(97)], "2.0", 3), tmp_path / "t.csv")
    assert inferred(path).columns["x"].type == "number"
    assert "rejected" not in infer([path])


def test_codes_with_leading_zeros_stay_a_category_however_many_numbers_there_are(tmp_path: Path) -> None:
    assert inferred(write(dirty(GOOD["integer"], "007", 3), tmp_path / "t.csv")).columns["x"].type == "category"


def test_dirt_in_personal_data_is_counted_and_not_quoted(tmp_path: Path) -> None:
    frame = dirty([str(70_000 + i) for i in range(97)], "secret", 3, "phone")
    text = infer([write(frame, tmp_path / "t.csv")])
    assert "3 of 100 values are no whole number and will be rejected" in text
    assert "secret" not in text


def test_the_values_of_personal_data_are_not_listed(tmp_path: Path) -> None:
    frame = pl.DataFrame({"surname": ["Moreau", "Okafor"] * 30, "label": ["a", "b"] * 30})
    assert "Moreau" not in infer([write(frame, tmp_path / "t.csv")])


def test_dirt_in_a_label_is_one_of_its_values(tmp_path: Path) -> None:
    frame = dirty(GOOD["boolean"], "unknown", 3, "label").with_columns(x=pl.int_range(100))
    contract = inferred(write(frame, tmp_path / "t.csv"))
    assert contract.columns["label"].values == ("false", "true", "unknown")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (3, 4983, (0, 5500)),
        (-20, 30, (-25, 35)),
        (1, 12, (0, 14)),
        (0, 1, (0, 1)),
        (0, 0, (0, 1)),
        (2013, 2013, (1800, 2300)),
        (-(2**63), 2**63 - 1, (-(2**63), 2**63 - 1)),
        (0.003, 0.98, (0.0, 1.0)),
        (0.1, 0.2, (0.09, 0.21)),
        (-5.5, -0.1, (-6.1, 0.0)),
        (-1.7e308, 1.7e308, (-1.7976931348623157e308, 1.7976931348623157e308)),
    ],
)
def test_a_range_is_widened_outward_to_readable_numbers(low: float, high: float, expected: tuple[float, float]) -> None:
    assert widened(low, high, whole=isinstance(low, int))[:2] == expected


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)


@given(numbers, numbers)
@settings(deadline=None)
def test_a_widened_range_holds_what_was_seen_keeps_its_sign_and_parses(one: float, other: float) -> None:
    whole = isinstance(one, int) and isinstance(other, int)
    one, other = (one, other) if whole else (float(one), float(other))
    low, high = min(one, other), max(one, other)
    found = widened(low, high, whole=whole)
    kind = "integer" if whole else "number"
    text = f"dataset: d\ncolumns: {{x: {{type: {kind}, min: {found.low!r}, max: {found.high!r}}}}}"
    column = parse_contract(text, "t").columns["x"]
    assert column.min == found.low <= low <= high <= found.high == column.max
    assert low < 0 or found.low >= 0
    assert high >= 0 or found.high <= 0


def test_the_comment_says_what_was_seen(tmp_path: Path) -> None:
    text = infer([write(pl.DataFrame({"x": [3, 4983, 7], "y": ["a"] * 3}), tmp_path / "t.csv")])
    assert "x: {type: integer, min: 0, max: 5500}  # seen 3 to 4,983; widened by a tenth" in text


HARDLY = "hardly any value repeats: if it names a record, make it the id or leave it out of features"


@pytest.mark.parametrize("rows", [60, 4_000])
def test_a_column_whose_values_hardly_repeat_is_warned_of_unless_it_is_the_id(rows: int, tmp_path: Path) -> None:
    names = [f"host-{i - (i % 50 == 0)}" for i in range(rows)]
    frame = table(rows).with_columns(machine=pl.Series(names))
    warned = [line for line in infer([write(frame, tmp_path / "t.parquet")]).splitlines() if HARDLY in line]
    named = {line.split(":", maxsplit=1)[0].strip() for line in warned}
    assert {"machine", "note", "email"} <= named
    assert not named & {"flight_id", "carrier", "zip", "late"}


def test_a_value_of_the_label_that_is_there_once_among_many_is_pointed_at(tmp_path: Path) -> None:
    frame = table(300)
    late = pl.Series("late", ["lat", *frame["late"].to_list()[1:]])
    assert "'lat': there only once or twice; misspelt?" in infer([write(frame.with_columns(late), tmp_path / "t.csv")])
    assert "misspelt" not in infer([write(frame, tmp_path / "u.csv")])


def test_where_trusted_records_lie_counts_from_the_contract(tmp_path: Path) -> None:
    assert "counts from this file's folder" in infer([write(table(), tmp_path / "t.csv")])


def test_a_spread_over_many_values_is_estimated_from_few() -> None:
    spread = Spread()
    for start in range(0, 100_000, 10_000):
        spread.add(pl.Series([str(i // 4) for i in range(start, start + 10_000)]))
    assert spread.hashes.size <= 512
    assert spread.distinct_share == pytest.approx(0.25, abs=0.01)


def test_a_type_that_most_values_do_not_fit_is_given_up_before_any_is_converted() -> None:
    fits = Fits()
    fits.add((pl.Series([f"v{i}" for i in range(200)]),), written=True)
    assert [kind for kind, fit in fits.by.items() if fit.possible] == ["text"]
    assert not any(fit.rejected for fit in fits.by.values())


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
