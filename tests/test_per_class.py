"""Calibrated class by class, the false-quarantine rate holds within every class; what has no class still waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from lazaretto.calibrate import PerClassNull, TrustedNull
from lazaretto.contract import Contract, parse_contract
from lazaretto.errors import ContractError, UsageError
from lazaretto.pipelines.scan import Judged, Options, judge

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = "columns: {i: {type: integer}, a: {type: number}, b: {type: number}, l: {type: category}}\n"
POLICY = "policy: {detectors: [mahalanobis], false_quarantine_rate: 0.05, calibration: per_class}\n"


def test_each_record_is_counted_among_the_calibration_records_of_its_class() -> None:
    scores, labels = np.array([1.0, 2.0, 3.0, 10.0, 20.0, 30.0]), np.array([0, 0, 0, 1, 1, 1])
    null = PerClassNull.of(scores, labels, 2, fewest=3)
    asked = np.array([2.5, 2.5, 15.0, 15.0])
    assert null.p_value(asked, np.array([0, 1, 0, 1])).tolist() == [0.5, 1.0, 0.25, 0.75]


@pytest.mark.parametrize(
    ("counts", "groups"),
    [
        ([200, 150], [(0,), (1,)]),
        ([200, 5, 150], [(0,), (1, 2)]),  # the smallest of the others joins what has too few
        ([200, 60, 0, 50, 120], [(0,), (4,), (1, 2, 3)]),
        ([300, 4], [(0, 1)]),
    ],
)
def test_classes_with_too_few_calibration_records_are_one_group(counts: list[int], groups: list[tuple[int]]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    null = PerClassNull.of(np.arange(len(labels), dtype=np.float64), labels, len(counts), fewest=99)
    assert list(null.members) == groups
    assert all(len(group.calibration) >= 99 for group in null.groups)
    # Whatever its class, a record beyond all that was seen has a p-value that makes it wait.
    assert (null.p_value(np.full(len(counts), np.nan), np.arange(len(counts))) <= 0.01).all()


def test_a_record_of_no_class_is_compared_with_all() -> None:
    scores = np.arange(99.0)
    null = PerClassNull.of(scores, np.repeat([0, -1], [90, 9]), 1, fewest=50)
    assert null.p_value(np.array([np.inf]), np.array([-1]))[0] == pytest.approx(0.01)
    assert len(null.groups[0].calibration) == 90


def _rates(seed: int) -> list[float]:
    """Share of an odd class that waits at 0.05, calibrated together and by itself; 1 in 5 records is of that class."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(2_500) % 5 == 0).astype(np.int64)
    scores = rng.gamma(2, size=2_500) * np.where(labels == 1, 2, 1)
    known, asked, odd = scores[:500], scores[500:], labels[500:] == 1
    p = (
        TrustedNull(np.sort(known)).p_value(asked),
        PerClassNull.of(known, labels[:500], 2, 99).p_value(asked, labels[500:]),
    )
    return [float((each[odd] <= 0.05).mean()) for each in p]


def test_the_rate_holds_in_an_odd_class_only_where_it_is_calibrated_by_itself() -> None:
    together, apart = np.array([_rates(seed) for seed in range(100)]).T
    assert together.mean() > 0.1
    error = apart.std() / np.sqrt(len(apart))
    assert 0.04 < apart.mean() <= 0.05 + 2 * error


def _records(count: int, start: int) -> pl.DataFrame:
    """Two classes, of which one in four records is of the wide one."""
    rng = np.random.default_rng(start)
    wide = np.arange(count) % 4 == 0
    x = rng.standard_t(3, size=(count, 2)) * np.where(wide, 3, 1)[:, None] + 20.0 * wide[:, None]
    label = np.where(wide, "wide", "narrow")
    return pl.DataFrame({"i": np.arange(start, start + count), "a": x[:, 0], "b": x[:, 1], "l": label})


def _contract(policy: str = POLICY) -> Contract:
    return parse_contract(f"dataset: d\nid: i\nlabel: l\n{COLUMNS}{policy}", "c.yaml")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder: Path = tmp_path_factory.mktemp("per_class")
    batch = _records(600, 0)
    strange = pl.when(pl.col("i") < 5).then(pl.lit("strange")).otherwise("l")
    batch.with_columns(strange.alias("l")).write_parquet(folder / "b.parquet")
    _records(400, 10_000).write_parquet(folder / "t.parquet")
    options = Options(trusted=(str(folder / "t.parquet"),), device="cpu")
    return judge([folder / "b.parquet"], _contract(), folder / "out", options)


def test_a_scan_says_on_which_records_each_class_is_calibrated(judged: Judged) -> None:
    null = judged.summary["null"]
    groups = {tuple(group["classes"]): group["calibration_records"] for group in null["calibrated_apart"]}
    assert set(groups) == {("narrow",), ("wide",)}
    assert sum(groups.values()) == null["calibration_records"]
    assert groups["narrow",] > 2 * groups["wide",] >= 2 * 19
    assert "of the same class" in null["meaning"]


def test_a_label_that_no_trusted_record_has_waits_as_ever(judged: Judged) -> None:
    verdicts = pl.read_parquet(judged.folder / "verdicts.parquet")
    assert (verdicts["decision"][:5] == "quarantine").all()
    assert (verdicts["decision"] == "admit").mean() > 0.85


def test_classes_are_calibrated_apart_on_a_trusted_set_or_not_at_all(tmp_path: Path) -> None:
    _records(600, 0).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(UsageError, match="calibration is per_class, and there is no trusted set"):
        judge([tmp_path / "b.parquet"], _contract(), tmp_path / "out", Options(device="cpu"))
    assert not (tmp_path / "out" / "snapshot").exists()


def test_a_contract_without_a_label_has_no_classes_to_calibrate() -> None:
    with pytest.raises(ContractError, match=r"line 2: policy\.calibration is 'per_class', and there is no label"):
        parse_contract(f"dataset: d\n{POLICY}{COLUMNS}", "c.yaml")
    with pytest.raises(ContractError, match="did you mean 'per_class'"):
        _contract("policy: {calibration: perclass}")
