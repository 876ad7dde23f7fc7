"""The readers under a fuzzer that is led by coverage: atheris, for a bounded time, in a process of its own.

    python -m benchmarks.hostile_fuzz --seconds 60 --folder FOLDER

The first byte of an input chooses the format. What is no error of ours, or loses a record, ends the fuzzer and is told.
Polars, Arrow and Pillow are not instrumented: it is our own code whose lines the inputs are chosen by.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

_CODE = (
    "read", "read_csv", "read_jsonl", "read_parquet", "read_images", "csv_records", "canonical", "formats", "images",
    "arrow_columns", "timestamps", "chunks", "digests", "look_alikes",
)  # fmt: skip
_KINDS = ("csv", "jsonl", "parquet", "images")
_MOST_BYTES = 8_192


class RecordLostError(Exception):
    """Fewer or more records came out than are in the file."""


def fuzzed(seconds: int, seed: int) -> tuple[str, bool]:
    """Fuzz in a process of its own; a line that tells of it, and whether nothing was found."""
    if seconds <= 0:
        return "Not fuzzed.", True
    if find_spec("atheris") is None:
        return "Not fuzzed: atheris is not installed (it is for Linux only).", True
    with tempfile.TemporaryDirectory(prefix="lazaretto-fuzz-") as place:  # atheris ends its process without a farewell
        command = [sys.executable, "-m", "benchmarks.hostile_fuzz", "--seconds", str(seconds), "--seed", str(seed)]
        done = subprocess.run([*command, "--folder", place], capture_output=True, text=True, check=False)
    runs = re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    covered = re.findall(r"cov: (\d+) ", done.stderr)
    if done.returncode or not runs:
        return f"Fuzzing found something:\n{done.stderr[-3_000:]}", False
    reached = covered[-1] if covered else "?"
    said = f"Fuzzed with atheris for {seconds} s: {int(runs[-1]):,} inputs, {reached} branches of the readers reached;"
    return f"{said} none ended in anything but a coded error or all of its records.", True


def _fuzz(seconds: int, seed: int, place: Path) -> None:
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

    with atheris.instrument_imports(
        include=[f"lazaretto.pipelines.{name}" for name in _CODE], enable_loader_override=False
    ):
        import lazaretto.pipelines.read  # noqa: F401  it brings the others
    from benchmarks.hostile_mutants import seeds

    corpus = place / "corpus"
    corpus.mkdir()
    for number, kind in enumerate(_KINDS):
        for which, content in enumerate(seeds()[kind]):
            (corpus / f"{kind}-{which}").write_bytes(bytes([number]) + content)
    arguments = [
        sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-seed={seed + 1}", f"-max_len={_MOST_BYTES}",
        "-rss_limit_mb=4096", "-timeout=30", f"-artifact_prefix={place}/",
    ]  # fmt: skip
    atheris.Setup(arguments, lambda data: _one(data, place / "work"))
    atheris.Fuzz()


def _one(data: bytes, place: Path) -> None:
    """One input: an exception that leaves this is a finding."""
    from benchmarks.hostile_counts import records
    from benchmarks.hostile_run import parsed
    from benchmarks.hostile_tables import contract_for
    from lazaretto.errors import LazarettoError
    from lazaretto.pipelines.snapshot import snapshot

    if len(data) < 2:  # noqa: PLR2004  a format and something of it
        return
    kind, content = _KINDS[data[0] % len(_KINDS)], data[1:]
    folder = kind == "images"
    name = "p/0.png" if folder else f"d.{kind}"
    path = place / "in" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        batch = snapshot([place / "in" if folder else path], "d", place / "snapshot")
        ended = parsed(batch, contract_for(kind, folder=folder), place / "out")
    except LazarettoError:
        return
    finally:
        shutil.rmtree(place / "in", ignore_errors=True)
        shutil.rmtree(place / "snapshot", ignore_errors=True)
    if ended.what == "fault":
        raise RecordLostError(ended.said)
    if ended.what != "refused":
        known = records({name: content}, folder=folder)
        if known not in {None, ended.arrived} or ended.arrived != ended.kept + ended.rejected:
            raise RecordLostError(
                f"{known} in {kind}, {ended.arrived} arrived, {ended.kept} + {ended.rejected} written"
            )


def main() -> None:
    """Fuzz for some seconds."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--folder", type=Path, required=True, help="for the corpus and what is found")
    chosen = options.parse_args()
    _fuzz(chosen.seconds, chosen.seed, chosen.folder)


if __name__ == "__main__":
    main()
