"""Files that are damaged, are not what their name says, or are no files at all; the same for every format."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import tarfile
import zipfile
from typing import TYPE_CHECKING

from benchmarks.hostile_tables import as_csv, as_jsonl, as_parquet, picture, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

    Change = Callable[[bytes, np.random.Generator], bytes]

_MOST_FLIPPED = 64


def _flip(where: float) -> Change:
    def change(data: bytes, rng: np.random.Generator) -> bytes:
        content = bytearray(data)
        at = min(int(len(content) * where) + int(rng.integers(8)), len(content) - 1)
        content[at] ^= 1 << int(rng.integers(8))
        return bytes(content)

    return change


def _many_flips(data: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(data)
    for at in rng.integers(0, len(content), _MOST_FLIPPED).tolist():
        content[at] ^= int(rng.integers(1, 256))
    return bytes(content)


def _zeros(data: bytes, _rng: np.random.Generator) -> bytes:
    third = len(data) // 3
    return data[:third] + bytes(third) + data[2 * third :]


def _swapped(data: bytes, _rng: np.random.Generator) -> bytes:
    half = len(data) // 2
    return data[half:] + data[:half]


def _zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../d.csv", data)
    return out.getvalue()


def _tar(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("/etc/d.csv")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _arrow(*, stream: bool) -> bytes:
    import pyarrow as pa

    table = pa.table({"id": ["r1"], "y": ["p"]})
    out = io.BytesIO()
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def _numpy_objects() -> bytes:
    import numpy as np

    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return out.getvalue()


CHANGES: dict[str, Change] = {
    "empty": lambda _data, _rng: b"",
    "one byte": lambda data, _rng: data[:1],
    "a tenth": lambda data, _rng: data[: len(data) // 10],
    "half": lambda data, _rng: data[: len(data) // 2],
    "without its last byte": lambda data, _rng: data[:-1],
    "without its last eight bytes": lambda data, _rng: data[:-8],
    "without its first byte": lambda data, _rng: data[1:],
    "garbage before it": lambda data, rng: rng.bytes(64) + data,
    "garbage behind it": lambda data, rng: data + rng.bytes(64),
    "NULs behind it": lambda data, _rng: data + bytes(4_096),
    "itself behind it": lambda data, _rng: data + data,
    "zeros within": _zeros,
    "halves exchanged": _swapped,
    "a bit of its beginning flipped": _flip(0.02),
    "a bit of its middle flipped": _flip(0.5),
    "a bit of its end flipped": _flip(0.98),
    "many bytes changed": _many_flips,
    "all bits flipped": lambda data, _rng: bytes(byte ^ 255 for byte in data),
    "backwards": lambda data, _rng: data[::-1],
    "random": lambda data, rng: rng.bytes(len(data)),
    "a megabyte of one byte": lambda _data, _rng: b"\xff" * 2**20,
    "a megabyte of line ends": lambda _data, _rng: b"\n" * 2**20,
    "UTF-16": lambda data, _rng: data.decode("latin-1").encode("utf-16"),
    "UTF-16 without a mark": lambda data, _rng: data.decode("latin-1").encode("utf-16-le"),
    "gzip": lambda data, _rng: gzip.compress(data),
    "gzip of ten megabytes": lambda _data, _rng: gzip.compress(bytes(10**7)),
    "bzip2": lambda data, _rng: bz2.compress(data),
    "xz": lambda data, _rng: lzma.compress(data),
    "zip that leaves its folder": lambda data, _rng: _zip(data),
    "tar that leaves its folder": lambda data, _rng: _tar(data),
    "pickle": lambda _data, _rng: pickle.dumps({"a": [1]}, protocol=4),
    "pickle of old": lambda _data, _rng: pickle.dumps({"a": [1]}, protocol=0),
    "NumPy objects": lambda _data, _rng: _numpy_objects(),
    "Arrow file": lambda _data, _rng: _arrow(stream=False),
    "Arrow stream": lambda _data, _rng: _arrow(stream=True),
    "HDF5": lambda data, _rng: b"\x89HDF\r\n\x1a\n" + data,
    "SQLite": lambda data, _rng: b"SQLite format 3\x00" + data,
    "program of Linux": lambda data, _rng: b"\x7fELF" + data,
    "program of Windows": lambda data, _rng: b"MZ" + data,
    "shell script": lambda _data, _rng: b"#!/bin/sh\nid > /tmp/owned\n",
    "web page": lambda _data, _rng: b"<!doctype html><script>alert(1)</script>",
    "YAML that builds objects": lambda _data, _rng: b"!!python/object/apply:os.system ['true']\n",
    "CSV": lambda _data, _rng: as_csv(rows()),
    "JSON lines": lambda _data, _rng: as_jsonl(rows()),
    "Parquet": lambda _data, _rng: as_parquet(rows()),
    "an image": lambda _data, _rng: picture(1),
}
"""Class -> what becomes of a sound file's bytes."""


def _link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


def _link_out(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    import socket

    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        try:  # a socket's path may have hundred bytes
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _gone(path: Path) -> None:
    path.unlink()


PLACES: dict[str, Callable[[Path], None]] = {
    "a link": _link,
    "a link out of the folder": _link_out,
    "a pipe": _pipe,
    "a socket": _socket,
    "an empty folder": _folder,
    "gone": _gone,
}
"""Class -> what becomes of the file in its folder."""
