from __future__ import annotations

import io
import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lazaretto.contract import Contract, parse_contract
from lazaretto.errors import InputRefused
from lazaretto.pipelines import read_images as module
from lazaretto.pipelines.images import image_faults
from tests.reading import contract_of, read_files, read_parquet


def encoded(size: tuple[int, int] = (8, 8), kind: str = "PNG", seed: int = 0) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


CONTRACT = contract_of("photo: image", label="kind")
PNG, JPEG = encoded(), encoded(kind="JPEG")


def test_a_folder_gives_bytes_and_class_whatever_the_contract_calls_them() -> None:
    read = read_files({"dog/b.png": PNG, "cat/a.jpg": JPEG}, CONTRACT, folder=True)
    assert read.frame.select("photo", "kind").rows() == [(JPEG, "cat"), (PNG, "dog")]
    assert not read.parsed.holds


def test_a_path_column_gets_the_path_in_the_folder() -> None:
    read = read_files({"dog/deep/b.png": PNG}, contract_of("photo: image; path: text", label="kind"), folder=True)
    assert read.frame.select("path", "kind").rows() == [("dog/deep/b.png", "dog")]


def test_images_work_without_a_label() -> None:
    read = read_files({"b.png": PNG, "a.png": JPEG}, contract_of("photo: image"), folder=True)
    assert read.frame["photo"].to_list() == [JPEG, PNG]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cat/x.png", PNG[:-30], "photo: image cannot be decoded: "),
        ("cat/x.png", PNG[:20], "photo: image cannot be decoded: "),
        ("cat/x.jpg", JPEG[:-100], "photo: image cannot be decoded: "),
        ("cat/x.png", b"", "photo: no image: neither PNG nor JPEG"),
        ("cat/x.png", b"GIF89a", "photo: no image: neither PNG nor JPEG"),
        ("cat/notes.txt", b"hello", "photo: no image: neither PNG nor JPEG"),
        ("cat/x.png", encoded((1001, 1000)), "photo: an image of 1001x1000, more than the 1,000,000 pixels allowed"),
    ],
)
def test_what_is_no_usable_image_is_rejected_with_its_bytes(name: str, content: bytes, reason: str) -> None:
    read = read_files({"cat/a.png": PNG, name: content}, CONTRACT, folder=True)
    assert read.reasons[1].startswith(reason)
    assert read.originals == {1: content}
    assert read.rejects["file"].to_list() == [name]
    assert read.frame["photo"].to_list() == [PNG]


def test_a_huge_image_in_a_small_file_is_refused_by_its_header_without_a_warning() -> None:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faults = image_faults([out.getvalue(), None, PNG], 10**12)
    assert faults[0] is not None
    assert faults[1:] == [None, None]


def test_parquet_holds_images_as_bytes_or_as_bytes_with_a_path() -> None:
    plain = read_parquet(pl.DataFrame({"photo": [PNG, None]}), contract_of("photo: image"))
    nested = pl.DataFrame({"photo": [{"bytes": PNG, "path": "a.png"}, {"bytes": None, "path": "b.png"}]})
    read = read_parquet(nested, contract_of("photo: image"))
    assert plain.frame["photo"].to_list() == [PNG, None]
    assert read.frame["photo"].to_list() == [PNG]
    assert read.reasons == {1: "photo: only the path of an image, without its bytes"}
    assert read.frame["_digest"][0] == plain.frame["_digest"][0]


def test_a_column_of_numbers_is_no_image() -> None:
    read = read_parquet(pl.DataFrame({"photo": [1], "k": [1]}), contract_of("photo: image; k: integer"))
    assert "is int64 where the contract says image" in read.parsed.holds[0]


@pytest.mark.parametrize("columns", ["k: integer", "a: image; b: image"])
def test_a_contract_without_exactly_one_image_cannot_take_a_folder(columns: str) -> None:
    with pytest.raises(InputRefused, match="image column"):
        read_files({"cat/a.png": PNG}, contract_of(columns), folder=True)


def test_other_columns_of_the_contract_are_missing_from_a_folder() -> None:
    contract: Contract = parse_contract("dataset: d\nlabel: y\nsource: s\ncolumns: {p: {type: image}}", "c")
    read = read_files({"cat/a.png": PNG}, contract, folder=True)
    assert [hold.rsplit(": ", 1)[-1] for hold in read.parsed.holds] == ["the column 's' of the contract is missing"]


def test_pieces_are_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"c{i % 3}/{i}.png": encoded(seed=i) for i in range(12)}
    whole = read_files(files, CONTRACT, folder=True)
    monkeypatch.setattr(module, "PIECE_BYTES", len(PNG) * 2)
    assert read_files(files, CONTRACT, folder=True).frame.equals(whole.frame)


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_damage_to_an_image_is_a_fault_or_still_an_image(place: int, damage: bytes, jpeg: bool) -> None:
    raw = JPEG if jpeg else PNG
    place %= len(raw)
    fault = image_faults([raw[:place] + damage + raw[place + len(damage) :]], 1_000)[0]
    assert fault is None or fault.startswith(("image cannot", "no image", "an image of"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_an_image_with_colours_beneath_transparent_pixels_is_refused_unless_the_contract_allows_it(mode: str) -> None:
    out = io.BytesIO()
    image = Image.new("RGBA", (8, 8), (255, 255, 255, 255))
    opaque = io.BytesIO()
    image.save(opaque, format="PNG")
    image.putpixel((3, 3), (255, 0, 0, 0))
    if mode == "P":
        flat = image.convert("RGB").convert("P")
        flat.save(out, format="PNG", transparency=flat.getpixel((3, 3)))
    else:
        image.convert(mode).save(out, format="PNG")
    said = image_faults([out.getvalue(), opaque.getvalue()], 1_000)
    assert str(said[0]).startswith("the image has transparent pixels")
    assert said[1] is None
    assert image_faults([out.getvalue()], 1_000, transparent=True) == [None]
