"""A trusted set that holds poison itself is doubted, by name; one that does not is left in peace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from lazaretto.contract import parse_contract
from lazaretto.detectors.doubt import Doubt
from lazaretto.pipelines.scan import Options, judge

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

CONTRACT = """\
dataset: d
id: i
label: l
columns: {i: {type: integer}, a: {type: number}, b: {type: number}, l: {type: category}}
policy: {detectors: [margin, knn_label]}
"""


def test_a_trusted_set_is_doubted_where_an_estimate_gives_so_many_suspects_once_in_a_thousand_sets() -> None:
    p = np.full(1_000, 0.5)
    p[[7, 3]] = 1e-5, 1e-2
    assert Doubt.of(p, 0.01).suspects == (7, 3)
    assert not Doubt.of(p, 0.01).sentence
    p[:28] = 0.01
    assert not Doubt.of(p, 0.01).raised
    p[:29] = 0.01
    assert Doubt.of(p, 0.01).sentence.startswith(
        "29 of 1,000 trusted records look suspicious themselves, where about 10"
    )


def _records(count: int, start: int, flipped: int) -> pl.DataFrame:
    rng = np.random.default_rng(start)
    y = rng.integers(0, 2, count)
    x = rng.normal(size=(count, 2)) + 5.0 * y[:, None]
    given = np.where(np.arange(count) < flipped, 1 - y, y)
    return pl.DataFrame(
        {"i": np.arange(start, start + count), "a": x[:, 0], "b": x[:, 1], "l": np.array(["no", "yes"])[given]}
    )


def _null(folder: Path, flipped: int) -> dict[str, Any]:
    _records(800, 0, 8).write_parquet(folder / "b.parquet")
    _records(400, 10_000, flipped).write_parquet(folder / "t.parquet")
    options = Options(trusted=(str(folder / "t.parquet"),), device="cpu")
    null: dict[str, Any] = judge(
        [folder / "b.parquet"], parse_contract(CONTRACT, "c.yaml"), folder / "out", options
    ).summary["null"]
    return null


@pytest.mark.parametrize("flipped", [20, 30])
def test_trusted_records_that_carry_the_batch_s_own_poison_are_named(tmp_path: Path, flipped: int) -> None:
    null = _null(tmp_path, flipped)
    assert null["trusted_suspects"] >= 0.8 * flipped
    assert f"{null['trusted_suspects']} of 400 trusted records look suspicious" in null["doubt"]
    assert len(null["doubted"]) <= 20
    assert np.mean([int(name) < 10_000 + flipped for name in null["doubted"]]) >= 0.9


def test_a_clean_trusted_set_is_not_doubted_beside_a_poisoned_batch(tmp_path: Path) -> None:
    null = _null(tmp_path, 0)
    assert null["trusted_suspects"] <= 6
    assert null["doubt"] == ""
    assert null["doubted"] == []
