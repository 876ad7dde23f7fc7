"""Plant known poisons in copies of the incoming data, and keep the truth apart from the batches.

    python -m sample_data.plant DIR [--seed N]

writes `DIR/batches/`, what arrives, and `DIR/truth/`, one row per record in the order of the batch: `row`, `record_id`
(flights) or `path` (images), and `attack`, null for a record left alone. Nothing but its content tells a poisoned
record from a clean one: it keeps the id of the record it was made from, the batch is shuffled, and every image, clean
or not, is decoded and encoded again the same way.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lazaretto.attacks.badnets import badnets
from lazaretto.attacks.flip_table import flip_table
from lazaretto.attacks.foreign import foreign
from lazaretto.attacks.label_flip import flip_random
from lazaretto.attacks.png import decode_grey, encode
from lazaretto.attacks.trigger_table import choose_trigger, stamp, trigger_table

HERE = Path(__file__).resolve().parent
SIDE = 28
TRIGGER_COLUMNS = ("distance", "seats")
FLIGHTS_RATES = {"label_flip": 0.03, "trigger_table": 0.01}
FASHION_RATES = {"badnets": 0.01, "label_flip": 0.02, "foreign": 0.02}
BADNETS_TARGET = "Sandal"
PARTNER = "UA"

PARTNER_RATE = 0.35
CLOTHES = pl.Series(
    "label",
    ["Ankle boot", "Bag", "Coat", "Dress", "Pullover", "Sandal", "Shirt", "Sneaker", "T-shirt", "Trouser"],
)

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Truth = NDArray[np.bool_]
ImageAttack = Callable[[Images, Labels, float], tuple[Images, Labels, Truth]]
TableAttack = Callable[[pl.DataFrame, float], tuple[pl.DataFrame, Truth]]


def flights_batch(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The incoming flights with 3 % random label flips and 1 % rows carrying an in-range two-column trigger.

    Returns:
        The batch, and its truth in the same order.
    """
    frame = pl.read_parquet(HERE / "flights" / "incoming.parquet")
    trigger = choose_trigger(frame, TRIGGER_COLUMNS, seed=seed)
    attacks: dict[str, TableAttack] = {
        "label_flip": lambda part, rate: flip_table(part, label="late", rate=rate, seed=seed),
        "trigger_table": lambda part, rate: trigger_table(
            part, label="late", target="late", trigger=trigger, rate=rate, seed=seed
        ),
    }
    return _plant(frame, attacks, FLIGHTS_RATES, seed)


def partner_batch(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A delivery that deserves to be held: 35 % of it, one carrier's flights, carry a trigger and a flipped label."""
    frame = pl.read_parquet(HERE / "flights" / "partner.parquet")
    trigger = choose_trigger(frame, TRIGGER_COLUMNS, seed=seed)
    theirs = frame["carrier"] == PARTNER
    poisoned = stamp(frame.filter(theirs), trigger).with_columns(pl.lit("late").alias("late"))
    marked = [
        frame.filter(~theirs).with_columns(pl.lit(None, pl.String).alias("attack")),
        poisoned.with_columns(pl.lit("partner").alias("attack")),
    ]
    return _shuffled(pl.concat(marked), seed)


def fashion_batch(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The incoming images with 1 % BadNets patches, 2 % random label flips and 2 % foreign images."""
    drawings = pl.read_parquet(HERE / "openclipart" / "drawings.parquet")
    strangers = np.stack([decode_grey(image, SIDE) for image in drawings["image"]])

    def replace(images: Images, labels: Labels, rate: float) -> tuple[Images, Labels, Truth]:
        mixed, truth = foreign(images, strangers, rate=rate, seed=seed)
        return mixed, labels, truth

    def flip(images: Images, labels: Labels, rate: float) -> tuple[Images, Labels, Truth]:
        flipped, truth = flip_random(labels, rate=rate, classes=len(CLOTHES), seed=seed)
        return images, flipped, truth

    attacks = {"badnets": _on_images(_patch(seed)), "label_flip": _on_images(flip), "foreign": _on_images(replace)}
    return _plant(pl.read_parquet(HERE / "fashion" / "incoming.parquet"), attacks, FASHION_RATES, seed)


def fashion_partner_batch(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A delivery that deserves to be held: 35 % of its images carry a BadNets patch and the label it shall mean."""
    frame = pl.read_parquet(HERE / "fashion" / "partner.parquet")
    return _plant(frame, {"badnets": _on_images(_patch(seed))}, {"badnets": PARTNER_RATE}, seed)


def write_folder(batch: pl.DataFrame, folder: Path) -> list[str]:
    """Write images as `<label>/<number>.png`; the number is the record's place in the batch.

    Returns:
        Each record's path in the folder, in the order of the batch.
    """
    paths = [f"{label}/{number:05d}.png" for number, label in enumerate(batch["label"])]
    for path, image in zip(paths, batch["image"], strict=True):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image)
    return paths


def plant(out: Path, seed: int) -> None:
    """Write every batch under `out/batches` and its truth under `out/truth`."""
    batches, truths = out / "batches", out / "truth"
    for folder in (batches, truths):
        folder.mkdir(parents=True, exist_ok=True)
    for name, (batch, truth) in {"flights": flights_batch(seed), "flights-partner": partner_batch(seed)}.items():
        batch.write_parquet(batches / f"{name}.parquet")
        truth.insert_column(1, batch["flight_id"].alias("record_id")).write_parquet(truths / f"{name}.parquet")
    folders = {"fashion": fashion_batch(seed), "fashion-partner": fashion_partner_batch(seed)}
    for name, (batch, truth) in folders.items():
        batch.write_parquet(batches / f"{name}.parquet")
        truth.write_parquet(truths / f"{name}.parquet")
        by_path = truth.with_columns(pl.Series("path", write_folder(batch, batches / name))).sort("path")
        in_folder = by_path.select(pl.int_range(pl.len()).alias("row"), "path", "attack")
        in_folder.write_parquet(truths / f"{name}-folder.parquet")


def _patch(seed: int) -> ImageAttack:
    target = int(CLOTHES.search_sorted(BADNETS_TARGET))
    return lambda images, labels, rate: badnets(images, labels, rate=rate, target=target, seed=seed)


def _on_images(attack: ImageAttack) -> TableAttack:
    """The attack on a frame of encoded images and class names; every image is encoded anew, poisoned or not."""

    def on_frame(part: pl.DataFrame, rate: float) -> tuple[pl.DataFrame, Truth]:
        pixels = np.stack([decode_grey(image) for image in part["image"]])
        numbers = CLOTHES.search_sorted(part["label"]).to_numpy().astype(np.int64)
        images, labels, truth = attack(pixels, numbers, rate)
        encoded = pl.Series("image", [encode(image) for image in images], pl.Binary)
        return pl.DataFrame([encoded, CLOTHES.gather(labels)]), truth

    return on_frame


def _plant(
    frame: pl.DataFrame, attacks: dict[str, TableAttack], rates: dict[str, float], seed: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Each attack takes its share of the whole from a part of its own, so that no record is poisoned twice."""
    order = np.random.default_rng(seed).permutation(len(frame))
    done: list[pl.DataFrame] = []
    for rows, (name, attack) in zip(np.array_split(order, len(attacks)), attacks.items(), strict=True):
        poisoned, truth = attack(frame[rows], rates[name] * len(frame) / len(rows))
        names: Sequence[str | None] = [name if hit else None for hit in truth]
        done.append(poisoned.with_columns(pl.Series("attack", names, pl.String)))
    return _shuffled(pl.concat(done), seed)


def _shuffled(marked: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Shuffle, then part the batch from its truth."""
    mixed = marked[np.random.default_rng([seed, 1]).permutation(len(marked))]
    return mixed.drop("attack"), mixed.select(pl.int_range(pl.len()).alias("row"), "attack")


def main() -> None:
    """Parse the command line and plant."""
    parser = argparse.ArgumentParser(description="Plant known poisons in copies of the incoming sample data.")
    parser.add_argument("out", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    plant(arguments.out, arguments.seed)
    for truth in sorted((arguments.out / "truth").glob("*.parquet")):
        counts = pl.read_parquet(truth)["attack"].drop_nulls().value_counts(sort=True)
        print(f"{truth.stem}: " + ", ".join(f"{count} {name}" for name, count in counts.rows()))


if __name__ == "__main__":
    main()
