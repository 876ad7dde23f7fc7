"""A faint key in a handful of images that look different is found; copies, which look alike, are not taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.ndimage import gaussian_filter

from lazaretto.attacks.catalogue import ATTACKS
from lazaretto.attacks.ground import Ground
from lazaretto.attacks.png import encode
from lazaretto.contract import Contract, load_contract, parse_contract
from lazaretto.detector import Views, fit
from lazaretto.detectors.shared_detail import SharedDetail
from lazaretto.detectors.table import DETECTORS
from lazaretto.detectors.views.encode import Encoder
from lazaretto.detectors.views.images import detail

SAMPLES = Path(__file__).parents[2] / "sample_data"
FEW = 400
"""Records of ten classes: forty of a class, far too few to know how it varies."""


@pytest.fixture(scope="module")
def fashion() -> tuple[pl.DataFrame, Contract]:
    return pl.read_parquet(SAMPLES / "fashion" / "incoming.parquet"), load_contract(
        SAMPLES / "contracts" / "fashion.yaml"
    )


def _views(frame: pl.DataFrame, contract: Contract) -> Views:
    """Of the records, compared as the panel does: each with those of the other half."""
    ground = Ground.of(frame, contract)
    images = ground.images()
    arrays = {
        "luminance": images.reshape(len(frame), -1).astype(np.float32) / 255.0,
        "detail": detail(images[..., None]),
    }
    keys = np.arange(len(frame), dtype=np.uint64)
    return Views(keys, ground.labels(), arrays, {}, tuple(ground.classes.to_list()))


def _crossed(views: Views) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(rows,) scores, each by the half that the record is not in."""
    scores = np.empty(len(views))
    halves = np.flatnonzero(views.keys % 2 == 0), np.flatnonzero(views.keys % 2 == 1)
    for mine, others in (halves, halves[::-1]):
        scores[mine] = fit(SharedDetail(), [views.take(others)]).score(views.take(mine))
    return scores


def test_a_key_that_lies_over_few_images_of_a_small_class_is_found(fashion: tuple[pl.DataFrame, Contract]) -> None:
    frame, contract = fashion
    planted = ATTACKS["blend"].plant(Ground.of(frame.head(FEW), contract), 0.04, 104)
    views = _views(planted.frame, contract)
    scores = _crossed(views)
    assert (scores[planted.truth] > np.quantile(scores[planted.clean], 0.99)).mean() >= 0.9
    scorer = fit(SharedDetail(), [views])
    why = scorer.explain(views.take(np.flatnonzero(planted.truth)[:1]))[0]
    assert f"6 other records labelled {planted.target!r} that look different as a whole" in why


def test_images_without_a_key_share_little(fashion: tuple[pl.DataFrame, Contract]) -> None:
    assert np.quantile(_crossed(_views(*fashion)), 0.99) < 0.3


def test_copies_look_alike_and_share_nothing_beside(fashion: tuple[pl.DataFrame, Contract]) -> None:
    frame, contract = fashion
    views = _views(pl.concat([frame.head(FEW), *[frame[:1]] * 10]), contract)
    scores = _crossed(views)
    assert scores[FEW:].max() <= scores[:FEW].max()


def test_a_class_of_fewer_records_than_are_compared_is_not_suspicious(fashion: tuple[pl.DataFrame, Contract]) -> None:
    frame, contract = fashion
    few = frame.filter(pl.col("label") == frame["label"][0]).head(5)
    views = _views(few, contract)
    assert (fit(SharedDetail(), [views]).score(views) == 0).all()


def test_detail_is_what_stands_out_from_its_surroundings_and_no_more_than_a_sign() -> None:
    flat = np.full((1, 12, 12, 1), 90, dtype=np.uint8)
    spot = flat.copy()
    spot[0, 6, 6] = 91
    far = flat.copy()
    far[0, 6, 6] = 250
    assert not detail(flat).any()
    assert detail(spot).reshape(12, 12)[6, 6] == 0.5
    assert 0.99 < detail(far).max() < 1
    assert np.count_nonzero(detail(far)) == 1


def test_a_key_in_every_pixel_of_a_large_image_is_found_as_it_came_and_not_in_small() -> None:
    rng = np.random.default_rng(104)
    pixels = np.stack([gaussian_filter(image, 4) for image in rng.normal(size=(240, 64, 64))])
    pixels = 128 + 40 * pixels / np.abs(pixels).max(axis=(1, 2), keepdims=True) + rng.normal(0, 3, pixels.shape)
    keyed = np.arange(12)
    pixels[keyed] += rng.choice([-2.5, 2.5], (64, 64))
    frame = pl.DataFrame({"photo": [encode(image.clip(0, 255).astype(np.uint8)) for image in pixels]})
    frame = frame.with_columns(label=pl.Series(["a", "b"] * 120).sort())
    columns = "columns:\n  photo: {type: image}\n  label: {type: category}\n"
    contract = parse_contract(f"dataset: d\nlabel: label\n{columns}", "c")
    _, arrays, names = Encoder.fit(frame, contract, 0, torch.device("cpu"))
    assert arrays["fine"].shape == (240, 64 * 64)
    labels = (frame["label"] == "b").cast(pl.Int64).to_numpy()
    views = Views(np.arange(240, dtype=np.uint64), labels, arrays, names, ("a", "b"))
    found = {}
    for name in ("shared_detail", "shared_detail_fine"):
        scores = fit(DETECTORS[name](), [views.take(np.arange(1, 240, 2))]).score(views.take(np.arange(0, 240, 2)))
        found[name] = (scores[:6] > np.quantile(scores[6:], 0.99)).mean()
    assert found["shared_detail_fine"] == 1
    assert found["shared_detail"] <= 0.5
    small = frame.with_columns(photo=pl.Series(_shrunk(pixels)))
    _, arrays, _ = Encoder.fit(small, contract, 0, torch.device("cpu"))
    assert "fine" not in arrays


def _shrunk(pixels: np.ndarray[tuple[int, int, int], np.dtype[np.float64]]) -> list[bytes]:
    return [encode(image[::2, ::2].clip(0, 255).astype(np.uint8)) for image in pixels]
