"""The sample data is what its manifest says, fits its contracts, and its poisons show by content alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lazaretto.attacks.png import decode_grey, encode
from lazaretto.contract import load_contract
from sample_data import plant

SAMPLE = Path(plant.__file__).parent
MANIFEST = json.loads((SAMPLE / "MANIFEST.json").read_text())


@pytest.mark.parametrize("name", MANIFEST)
def test_a_sample_file_is_what_the_manifest_says(name: str) -> None:
    path, said = SAMPLE / name, MANIFEST[name]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == said["sha256"]
    assert pl.read_parquet(path).height == said["rows"]
    assert (path.parent / "LICENSE").read_text().strip()


def test_the_sample_stays_small_and_holds_no_file_without_a_digest() -> None:
    files = list(SAMPLE.rglob("*.parquet"))
    assert {str(path.relative_to(SAMPLE)) for path in files} == set(MANIFEST)
    assert sum(path.stat().st_size for path in files) < 3_000_000


@pytest.mark.parametrize("dataset", ["flights", "fashion"])
def test_a_sample_contract_names_every_column_of_its_files(dataset: str) -> None:
    contract = load_contract(SAMPLE / "contracts" / f"{dataset}.yaml")
    assert contract.trusted is not None
    assert contract.path is not None
    trusted = pl.read_parquet(contract.path.parent / contract.trusted)
    assert set(trusted.columns) == set(contract.all_columns)
    assert set(pl.read_parquet(SAMPLE / dataset / "incoming.parquet").columns) == set(contract.all_columns)


def test_clean_flights_are_within_the_ranges_of_their_contract() -> None:
    contract = load_contract(SAMPLE / "contracts" / "flights.yaml")
    for path in (SAMPLE / "flights").glob("*.parquet"):
        frame = pl.read_parquet(path)
        for name, column in contract.columns.items():
            values = frame[name].drop_nulls()
            assert column.nullable or len(values) == frame.height, name
            assert column.min is None or float(values.min()) >= column.min, name  # type: ignore[arg-type]  # a number here
            assert column.max is None or float(values.max()) <= column.max, name  # type: ignore[arg-type]  # a number here
            assert column.values is None or set(values) <= set(column.values), name


def test_no_flight_is_in_two_files() -> None:
    ids = [pl.read_parquet(path)["flight_id"] for path in (SAMPLE / "flights").glob("*.parquet")]
    assert pl.concat(ids).is_unique().all()


def test_planted_flights_differ_from_the_clean_ones_exactly_where_the_truth_says() -> None:
    batch, truth = plant.flights_batch(seed=7)
    clean = pl.read_parquet(SAMPLE / "flights" / "incoming.parquet")
    same = clean.join(batch, on=batch.columns, nulls_equal=True, how="inner")["flight_id"]
    assert set(batch["flight_id"]) == set(clean["flight_id"])
    assert set(same) == set(batch.filter(truth["attack"].is_null())["flight_id"])
    counts = dict(truth["attack"].drop_nulls().value_counts().rows())
    assert counts == {"label_flip": 180, "trigger_table": 60}


def test_poisoned_rows_lie_anywhere_in_the_batch() -> None:
    _, truth = plant.flights_batch(seed=7)
    places = np.flatnonzero(truth["attack"].is_not_null().to_numpy()) / truth.height
    assert 0.4 < places.mean() < 0.6
    assert np.histogram(places, bins=4, range=(0, 1))[0].min() > 40


def test_all_images_of_a_planted_batch_come_from_one_encoder() -> None:
    batch, truth = plant.fashion_batch(seed=7)
    assert all(encode(decode_grey(image)) == image for image in batch["image"])
    assert {len(set(map(len, (decode_grey(image) for image in batch["image"]))))} == {1}
    assert dict(truth["attack"].drop_nulls().value_counts().rows()) == {"badnets": 25, "label_flip": 50, "foreign": 50}


def test_the_partner_batch_is_35_percent_one_carrier_and_all_of_it_poisoned() -> None:
    batch, truth = plant.partner_batch(seed=7)
    theirs = batch["carrier"] == plant.PARTNER
    assert theirs.mean() == 0.35
    assert (theirs == truth["attack"].is_not_null()).all()
    assert batch.filter(theirs).select(*plant.TRIGGER_COLUMNS, "late").n_unique() == 1


def test_the_image_partner_batch_is_35_percent_patched_and_mislabelled() -> None:
    batch, truth = plant.fashion_partner_batch(seed=7)
    poisoned = batch.filter(truth["attack"].is_not_null())
    corners = np.stack([decode_grey(image)[-3:, -3:] for image in poisoned["image"]])
    assert poisoned.height == 350
    assert set(poisoned["label"]) == {plant.BADNETS_TARGET}
    assert (corners == 255).all()


def test_planting_twice_writes_the_same_bytes_and_keeps_the_truth_apart(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        plant.plant(tmp_path / name, seed=3)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        digests.append(
            [(path.relative_to(tmp_path / name), hashlib.sha256(path.read_bytes()).digest()) for path in files]
        )
    assert digests[0] == digests[1]
    for batch in (tmp_path / "one" / "batches").glob("*.parquet"):
        assert "attack" not in pl.read_parquet_schema(batch)


def test_a_folder_of_images_holds_the_batch_with_its_truth_by_path(tmp_path: Path) -> None:
    plant.plant(tmp_path, seed=3)
    batch, truth = plant.fashion_batch(seed=3)
    by_path = pl.read_parquet(tmp_path / "truth" / "fashion-folder.parquet")
    files = sorted((tmp_path / "batches" / "fashion").rglob("*.png"))
    assert [str(path.relative_to(tmp_path / "batches" / "fashion")) for path in files] == by_path["path"].to_list()
    numbers = [int(path.stem) for path in files]
    assert by_path["attack"].to_list() == truth["attack"].gather(numbers).to_list()
    assert [path.parent.name for path in files] == batch["label"].gather(numbers).to_list()
