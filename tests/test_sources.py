"""A source whose labels are wrong is named, and honest sources are not, however they differ otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from lazaretto import cli_shown
from lazaretto.attacks.source import flip_source
from lazaretto.contract import load_contract
from lazaretto.named_sources import named_sources
from lazaretto.pipelines.scan import Options
from lazaretto.pipelines.sources import SourceCounts, judged_sources
from lazaretto.pipelines.standalone import scan_files

SAMPLES = Path(__file__).parents[1] / "sample_data"
SIZES = {"a": 900, "b": 900, "c": 600, "d": 300, "e": 100}
Rows = tuple[pl.Series, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def read(seed: int, classes: int = 2, *, shift: float = 0.0, sizes: dict[str, int] | None = None) -> Rows:
    """Sources, labels, predicted classes and sureness of a probe that is right; source a has more of class 0."""
    rng = np.random.default_rng(seed)
    names = np.repeat(list(sizes or SIZES), list((sizes or SIZES).values()))
    logits = rng.normal(size=(len(names), classes)) * 1.5
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    logits[names == "a", 0] += shift
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return pl.Series(names), labels, chances.argmax(axis=1), chances.max(axis=1)


def flipped(rows: Rows, source: str, share: float, classes: int = 2) -> Rows:
    names, labels, *rest = rows
    rng = np.random.default_rng(1)
    hit = (names == source).to_numpy() & (rng.random(len(labels)) < share)
    wrong = (labels + rng.integers(1, classes, len(labels))) % classes
    return (names, np.where(hit, wrong, labels), *rest)


def named(rows: Rows, classes: int = 2) -> list[str]:
    return [name for name, row in judged_sources(SourceCounts.of(*rows), classes).items() if row["named"]]


@pytest.mark.parametrize("classes", [2, 10])
def test_the_source_with_wrong_labels_is_named_with_their_share(classes: int) -> None:
    rows = flipped(read(0, classes), "b", 0.2, classes)
    found = judged_sources(SourceCounts.of(*rows), classes)
    assert [name for name, row in found.items() if row["named"]] == ["b"]
    assert 0.12 <= found["b"]["share"] <= 0.28


@pytest.mark.parametrize("classes", [2, 10])
def test_of_clean_batches_hardly_any_names_a_source(classes: int) -> None:
    assert sum(len(named(read(seed, classes), classes)) for seed in range(100)) <= 3


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("shift", [-1.5, 1.0, 3.0])
def test_a_source_that_honestly_has_more_of_one_class_is_not_named(shift: float, classes: int) -> None:
    assert not any(named(read(seed, classes, shift=shift), classes) for seed in range(20))


def test_a_source_that_is_all_one_label_is_not_named() -> None:
    names, labels, *rest = read(0)
    one = np.where((names == "a").to_numpy(), 1, labels)
    assert named((names, one, *rest)) == []


def test_beside_a_large_source_that_agrees_with_itself_no_honest_one_is_named() -> None:
    # What the others show is then mostly what that one shows: it agrees, whatever the probe is sure of.
    found = 0
    for seed in range(20):
        names, labels, predicted, sure = read(seed, sizes={"odd": 700, "b": 400, "c": 400, "d": 300, "e": 200})
        odd = (names == "odd").to_numpy()
        found += bool(named((names, np.where(odd, predicted, labels), predicted, sure)))
    assert found <= 2


def test_where_a_large_source_has_one_label_and_no_other_does_nobody_is_tested() -> None:
    names, labels, predicted, sure = flipped(read(0), "c", 0.4)
    one = (names == "a").to_numpy()
    assert named((names, labels, predicted, sure)) == ["c"]
    rows = names, np.where(one, 1, labels), np.where(one, 1, predicted), sure
    assert judged_sources(SourceCounts.of(*rows), 2) == {}


def test_a_probe_that_is_too_sure_of_itself_accuses_nobody() -> None:
    names, labels, predicted, sure = read(0)
    assert named((names, labels, predicted, 1 - (1 - sure) / 4)) == []


def test_too_few_records_no_other_source_or_no_label_is_not_tested() -> None:
    tiny = flipped(read(0, sizes={"a": 900, "b": 29}), "b", 1.0)
    assert set(judged_sources(SourceCounts.of(*tiny), 2)) == {"a"}
    alone = flipped(read(0, sizes={"a": 900}), "a", 0.3)
    assert judged_sources(SourceCounts.of(*alone), 2) == {}
    assert judged_sources(None, 2) == {}
    assert judged_sources(SourceCounts.of(*read(0)), 1) == {}


def test_records_without_a_source_are_compared_with_and_never_named() -> None:
    names, *rest = flipped(read(0), "b", 0.3)
    some = pl.DataFrame({"s": names}).select(pl.when(pl.col("s") != "a").then(pl.col("s")))["s"]
    found = judged_sources(SourceCounts.of(some, *rest), 2)
    assert set(found) == {"b", "c", "d", "e"}
    assert found["b"]["named"]


def test_records_with_an_unknown_label_or_no_probe_are_not_counted() -> None:
    names, labels, predicted, sure = read(0)
    counts = SourceCounts.of(names, np.full_like(labels, -1), predicted, sure)
    assert counts.frame.is_empty()
    assert SourceCounts.of(names, labels, predicted, np.full_like(sure, np.nan)).frame.is_empty()
    assert judged_sources(counts, 2) == {}


def test_partitions_in_any_order_give_what_one_gives() -> None:
    rows = flipped(read(0), "c", 0.3)
    parts = [SourceCounts.of(*(column[start::3] for column in rows)) for start in range(3)]  # type: ignore[arg-type]  a list of mixed columns
    merged = parts[2].merge(parts[0]).merge(parts[1])
    assert judged_sources(merged, 2) == judged_sources(SourceCounts.of(*rows), 2)


def test_two_poisoned_sources_are_both_named() -> None:
    assert set(named(flipped(flipped(read(0), "a", 0.3), "b", 0.3))) == {"a", "b"}


@pytest.mark.parametrize("pii", [False, True])
def test_a_scan_names_the_poisoned_carrier_and_no_clean_one(
    pii: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    contract = load_contract(SAMPLES / "contracts" / "flights.yaml")
    columns = {
        name: c.model_copy(update={"pii": pii}) if name == "carrier" else c for name, c in contract.columns.items()
    }
    policy = contract.policy.model_copy(update={"detectors": ("margin", "hbos")})
    contract = contract.model_copy(update={"policy": policy, "columns": columns, "trusted": None})
    clean = pl.read_parquet(SAMPLES / "flights" / "incoming.parquet")
    poisoned, _, name = flip_source(clean, source="carrier", label="late", seed=0, share=0.3, name="UA")
    for title, frame, expected in (("clean", clean, []), ("poisoned", poisoned, [name])):
        frame.write_parquet(tmp_path / f"{title}.parquet")
        out = tmp_path / title
        summary = scan_files([str(tmp_path / f"{title}.parquet")], contract, out, Options(device="cpu"))
        assert [row["name"] for _, row in named_sources(summary["per_source"])] == expected
        cli_shown.show_summary(summary)
        said, page = capsys.readouterr().out, (out / "report.html").read_text()
        assert ("of its labels look wrong" in said) == ("of its labels look wrong" in page) == bool(expected)
        assert ("source UA: about" in said) == ("carrier = UA</b>: about" in page) == (bool(expected) and not pii)
        assert not summary["hold"]
