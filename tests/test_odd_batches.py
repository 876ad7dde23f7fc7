"""Batches at the edges of what a contract allows: judged or held, and never by an error of ours."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from PIL import Image

from lazaretto.attacks.ground import Ground, read_images
from lazaretto.contract import parse_contract
from lazaretto.detectors.facts import facts
from lazaretto.detectors.views.images import decode
from lazaretto.detectors.views.vectors import Vectors
from lazaretto.errors import ContractError, UsageError
from lazaretto.pipelines.look_alikes import look_alikes
from lazaretto.pipelines.scan import Options, judge

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

TABLE = "dataset: d\nid: id\nlabel: y\ncolumns:\n  id: {type: category}\n  x: {type: number}\n  y: {type: category%s}\n"
RNG = np.random.default_rng


def _judged(
    frame: pl.DataFrame, contract: str, folder: Path, trusted: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    frame.write_parquet(folder / "batch.parquet")
    named: tuple[str, ...] = ()
    if trusted is not None:
        trusted.write_parquet(folder / "trusted.parquet")
        named = (str(folder / "trusted.parquet"),)
    out = folder / "out"
    found = judge([folder / "batch.parquet"], parse_contract(contract, "d.yaml"), out, Options(trusted=named))
    return pl.read_parquet(out / "verdicts.parquet"), found.summary


def test_a_missing_vector_hides_no_other(tmp_path: Path) -> None:
    rng = RNG(0)
    vectors = rng.normal(size=(600, 6))
    vectors[:12] = 40 + rng.normal(size=(12, 6))
    frame = pl.DataFrame(
        {
            "id": [f"r{i}" for i in range(600)],
            "x": rng.normal(size=600),
            "v": [None if i == 300 else row.tolist() for i, row in enumerate(vectors)],
        }
    )
    contract = (
        "dataset: d\nid: id\ncolumns:\n  id: {type: category}\n  x: {type: number}\n"
        "  v: {type: vector, dimensions: 6, nullable: true}\n"
    )
    verdicts, _ = _judged(frame, contract, tmp_path)
    waits = (verdicts["decision"] == "quarantine").to_numpy()
    assert waits[:12].all()
    assert waits[300]


def test_a_missing_vector_is_marked_and_the_more_where_none_was_missing() -> None:
    seen = pl.Series([[1.0, 2.0], [3.0, 5.0], None], dtype=pl.List(pl.Float64))
    fitted, unseen = Vectors.fit("v", seen), Vectors.fit("v", seen[:2])
    assert fitted.names == ("v[0]", "v[1]", "v missing")
    np.testing.assert_allclose(fitted.encode(seen)[2], [0, 0, 3**0.5])
    np.testing.assert_allclose(unseen.encode(seen)[2], [0, 0, 8])
    nothing = Vectors.fit("v", pl.Series([None, None], dtype=pl.List(pl.Float64)))
    assert np.isfinite(nothing.encode(pl.Series([None], dtype=pl.List(pl.Float64)))).all()


@pytest.mark.parametrize("labels", [0, 30, 79, 240])
def test_few_labels_are_judged_without_an_error(labels: int, tmp_path: Path) -> None:
    rng = RNG(labels)
    names = [None if i >= labels else "ab"[int(rng.integers(2))] for i in range(400)]
    frame = pl.DataFrame(
        {"id": [f"r{i}" for i in range(400)], "x": rng.normal(size=400), "y": pl.Series(names, dtype=pl.String)}
    )
    verdicts, _ = _judged(frame, TABLE % ", nullable: true", tmp_path)
    unlabelled = pl.Series(names).is_null().to_numpy()
    assert len(verdicts) == 400
    # Where some have a label, one without is nobody's to judge.
    assert not labels or (verdicts["decision"] != "admit").to_numpy()[unlabelled].all()


def test_few_different_records_many_times_are_judged_without_an_error(tmp_path: Path) -> None:
    rng = RNG(1)
    frame = pl.DataFrame({name: rng.integers(0, 3, 1_000) for name in "abc"} | {"y": rng.integers(0, 2, 1_000)})
    columns = "".join(f"  {name}: {{type: category}}\n" for name in "abcy")
    verdicts, _ = _judged(frame.cast(pl.String), f"dataset: d\nlabel: y\ncolumns:\n{columns}", tmp_path)
    assert len(verdicts) == 1_000


def test_an_image_column_without_an_image_is_held_or_judged(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "id": [f"r{i}" for i in range(300)],
            "x": RNG(2).normal(size=300),
            "p": pl.Series([None] * 300, dtype=pl.Binary),
        }
    )
    columns = "  id: {type: category}\n  x: {type: number}\n  p: {type: image, nullable: true}\n"
    contract = f"dataset: d\nid: id\ncolumns:\n{columns}"
    verdicts, summary = _judged(frame, contract, tmp_path)
    assert len(verdicts) == 300
    assert summary["arrived"] == summary["admitted"] + summary["quarantined"] + summary["rejected"]


def test_grey_of_sixteen_bits_is_read_as_it_looks() -> None:
    grey = (np.arange(144).reshape(12, 12) * 400).astype(np.uint16)
    target = io.BytesIO()
    Image.fromarray(grey).save(target, format="PNG")
    read = pl.Series([target.getvalue()])
    expected = np.rint(grey / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode(read, 12, 1)[0, :, :, 0], expected)
    np.testing.assert_array_equal(read_images(read)[0], expected)


def test_the_order_of_the_trusted_set_changes_nothing(tmp_path: Path) -> None:
    rng = RNG(3)

    def records(count: int, prefix: str) -> pl.DataFrame:
        labels = rng.integers(5, size=count)
        ids = [f"{prefix}{i}" for i in range(count)]
        return pl.DataFrame({"id": ids, "x": labels + rng.normal(size=count), "y": [f"c{label}" for label in labels]})

    batch, trusted = records(300, "b"), records(400, "t")
    first, again = tmp_path / "first", tmp_path / "again"
    first.mkdir()
    again.mkdir()
    one, told = _judged(batch, TABLE % "", first, trusted)
    other, retold = _judged(batch, TABLE % "", again, trusted[rng.permutation(400)])
    assert one["p_value"].to_list() == other["p_value"].to_list()
    assert one["decision"].to_list() == other["decision"].to_list()
    assert told["null"]["trusted_suspects"] == retold["null"]["trusted_suspects"]


def test_a_batch_that_is_its_own_trusted_set_under_other_ids_is_refused(tmp_path: Path) -> None:
    rng = RNG(5)
    frame = pl.DataFrame(
        {"id": [f"r{i}" for i in range(300)], "x": rng.normal(size=300), "y": rng.choice(["a", "b"], 300)}
    )
    renamed = frame.with_columns(pl.format("t{}", pl.int_range(pl.len())).alias("id"))
    with pytest.raises(
        UsageError, match="300 of 300 records of the batch are also in the trusted set, under other ids"
    ):
        _judged(frame, TABLE % "", tmp_path, renamed)


def test_records_that_are_alike_by_nature_may_be_in_both(tmp_path: Path) -> None:
    rng = RNG(6)

    def records(count: int, prefix: str) -> pl.DataFrame:
        ids = [f"{prefix}{i}" for i in range(count)]
        return pl.DataFrame(
            {"id": ids, "x": rng.integers(0, 20, count).astype(float), "y": rng.choice(["a", "b"], count)}
        )

    verdicts, _ = _judged(records(300, "b"), TABLE % "", tmp_path, records(400, "t"))
    assert len(verdicts) == 300


def test_a_withheld_label_is_in_no_reason(tmp_path: Path) -> None:
    rng = RNG(4)

    def records(count: int, prefix: str, share: float) -> pl.DataFrame:
        odd = rng.random(count) < share
        ids = [f"{prefix}{i}" for i in range(count)]
        return pl.DataFrame({"id": ids, "x": rng.normal(size=count), "y": np.where(odd, "SECRET0", "SECRET1")})

    batch, trusted = records(400, "b", 0.3), records(400, "t", 0.9)
    _, summary = _judged(batch, TABLE % ", pii: true", tmp_path, trusted)
    assert any("not distributed like the trusted set's" in reason for reason in summary["hold_reasons"])
    assert not any("SECRET" in reason for reason in summary["hold_reasons"])


def test_a_rate_that_no_p_value_could_meet_is_refused() -> None:
    with pytest.raises(ContractError, match="false_quarantine_rate"):
        parse_contract(TABLE % "" + "policy: {false_quarantine_rate: 1.0e-13}\n", "d.yaml")


def test_images_of_another_size_become_like_the_ground() -> None:
    def image(side: int) -> bytes:
        target = io.BytesIO()
        Image.fromarray(RNG(side).integers(0, 255, (side, side), dtype=np.uint8)).save(target, format="PNG")
        return target.getvalue()

    contract = parse_contract("dataset: d\nlabel: y\ncolumns: {p: {type: image}, y: {type: category}}\n", "d.yaml")
    ground = Ground.of(pl.DataFrame({"p": [image(100)] * 3, "y": ["a", "b", "a"]}), contract)
    other = ground.alike(pl.DataFrame({"p": [image(30), None], "y": ["a", "b"]}))
    assert other["p"].null_count() == 1
    assert read_images(other["p"].drop_nulls()).shape == (1, 64, 64)


def test_labels_that_only_look_alike_hold_the_batch_unless_the_contract_lists_them(tmp_path: Path) -> None:
    rng = RNG(8)
    labels = rng.choice(["ham", "spam"], 400).astype(object)
    labels[:20], labels[20:30] = "ham ", "ham\u200b"
    frame = pl.DataFrame({"id": [f"r{i}" for i in range(400)], "x": rng.normal(size=400), "y": labels.tolist()})
    for name in ("", ", pii: true"):
        _, summary = _judged(frame, TABLE % name, tmp_path)
        [reason] = [reason for reason in summary["hold_reasons"] if "look like others" in reason]
        assert "30 records have the rarer one" in reason
        assert ("'ham ' beside 'ham'" in reason) == (not name)
    _, summary = _judged(frame, TABLE % ', values: [ham, spam, "ham ", "ham\\u200b"]', tmp_path)
    assert not any("look like others" in reason for reason in summary["hold_reasons"])


def test_marks_that_change_a_letter_make_another_label() -> None:
    assert look_alikes({"\u0915\u0940": 5, "\u0915\u093f": 5, "a": 5, "A": 5}) is None
    assert look_alikes({"e\u0301": 5, "\u00e9": 7}) is not None


@pytest.mark.parametrize("role", ["feature", "label"])
def test_a_column_may_be_called_count(role: str, tmp_path: Path) -> None:
    rng = RNG(9)
    frame = pl.DataFrame({"count": rng.choice(["a", "b"], 300), "other": rng.choice(["c", "d"], 300)})
    label = "count" if role == "label" else "other"
    contract = f"dataset: d\nlabel: {label}\ncolumns:\n  count: {{type: category}}\n  other: {{type: category}}\n"
    _, summary = _judged(frame, contract, tmp_path)
    assert summary["arrived"] == 300
    assert not summary["failed_detectors"]


def test_facts_of_the_smallest_numbers_there_are() -> None:
    contract = parse_contract("dataset: d\ncolumns:\n  x: {type: number}\n", "c")
    values = np.where(np.arange(200) < 20, 5e-324, RNG(10).normal(size=200))
    found = facts(pl.DataFrame({"x": values}), np.arange(200) < 20, contract, {})
    assert found
    assert all(fact.holds[:20].any() for fact in found)


@pytest.mark.parametrize("times", [2, 4])
def test_a_trusted_set_of_copies_is_refused(times: int, tmp_path: Path) -> None:
    # In development four copies of each had three times as many clean records wait as the contract asked for.
    rng = RNG(11)

    def some(rows: int, name: str) -> pl.DataFrame:
        x = rng.normal(size=rows)
        return pl.DataFrame({"id": [f"{name}{i}" for i in range(rows)], "x": x, "y": np.where(x > 0, "a", "b")})

    once = some(300, "t")
    copied = pl.concat([once.with_columns(id=pl.col("id") + f"-{number}") for number in range(times)])
    _judged(some(500, "b"), TABLE % "", tmp_path, once)
    with pytest.raises(UsageError, match=r"of the trusted records are copies of others under other ids"):
        _judged(some(500, "b"), TABLE % "", tmp_path, copied)
