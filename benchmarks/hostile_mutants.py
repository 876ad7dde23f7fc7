"""Small sound files, and seeded ways to damage them: bytes, and the structure that their kind has."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from benchmarks.hostile_tables import as_csv, as_jsonl, as_parquet, picture, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import numpy as np

    Mutate = Callable[[bytes, np.random.Generator], bytes]

_MOST_CHANGES = 6
_BOUNDARIES = (0, 1, 127, 128, 255, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_CSV_TOKENS = (
    b",",
    b'"',
    b'""',
    b"\n",
    b"\r\n",
    b"\r",
    b"\x00",
    b"nan",
    b"-inf",
    b"1e999",
    b"\xff",
    b"\xef\xbb\xbf",
    b"=1+1",
)
_JSON_TOKENS = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"9" * 30, b'"\\ud800"',
    b"\\u0000", b"\n", b"\x00", b"\xff", b'{"id": 1}', b"[[[[[[[[",
)  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """Format -> sound files; of images single ones."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    few = rows()[:6]
    odd = [{**row, "t": 'a "quoted"\ntext, with all'} for row in few]
    table = pq.read_table(io.BytesIO(as_parquet(few)))
    written: tuple[dict[str, Any], ...] = (
        {"compression": "none"}, {"compression": "zstd", "data_page_version": "2.0"}, {"compression": "gzip"},
        {"compression": "snappy", "use_dictionary": False, "data_page_size": 64, "write_batch_size": 2},
        {"row_group_size": 2, "write_page_checksum": True},
        {"use_dictionary": False, "column_encoding": {"i": "DELTA_BINARY_PACKED", "t": "DELTA_BYTE_ARRAY"}},
    )  # fmt: skip
    parquet = [as_parquet(few), as_parquet(few, [picture(at) for at in range(6)])]
    for options in written:
        out = io.BytesIO()
        pq.write_table(table, out, **options)
        parquet.append(out.getvalue())
    out = io.BytesIO()
    pq.write_table(pa.table({"n": pa.array([1.0, None] * 40), "y": pa.array(["p"] * 80).dictionary_encode()}), out)
    parquet.append(out.getvalue())
    images = [picture(1), picture(2, "JPEG")]
    for mode, kind, progressive in (
        ("P", "PNG", False), ("RGBA", "PNG", False), ("I;16", "PNG", False), ("1", "PNG", False),
        ("L", "JPEG", True), ("CMYK", "JPEG", False),
    ):  # fmt: skip
        out = io.BytesIO()
        Image.new(mode, (12, 12), 1).save(out, kind, progressive=progressive)
        images.append(out.getvalue())
    return {
        "csv": [as_csv(few), as_csv(odd)],
        "jsonl": [as_jsonl(few), as_jsonl(odd)],
        "parquet": parquet,
        "images": images,
    }


def mutant(kind: str, known: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """A sound file of a kind, changed in one place or a few."""
    data = known[int(rng.integers(len(known)))]
    for _ in range(int(rng.integers(1, _MOST_CHANGES))):
        ways = [*_BYTES, *_STRUCTURE[kind] * 2]
        data = ways[int(rng.integers(len(ways)))](data, rng)
    if rng.random() < 0.02:  # noqa: PLR2004  now and then the end of another
        other = known[int(rng.integers(len(known)))]
        data = data[: int(rng.integers(len(data) + 1))] + other[int(rng.integers(len(other))) :]
    return data


def _place(data: bytes, rng: np.random.Generator) -> int:
    return int(rng.integers(max(len(data), 1)))


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes(byte ^ (1 << int(rng.integers(8))) for byte in data[at : at + 1]) + data[at + 1 :]


def _byte(data: bytes, rng: np.random.Generator) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.bytes(1) + data[at + 1 :]


def _delete(data: bytes, rng: np.random.Generator) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + int(rng.geometric(0.2)) :]


def _repeat(data: bytes, rng: np.random.Generator) -> bytes:
    at, length = _place(data, rng), int(rng.geometric(0.05))
    return data[: at + length] + data[at : at + length] * int(rng.integers(1, 20)) + data[at + length :]


def _insert(data: bytes, rng: np.random.Generator) -> bytes:
    at = _place(data, rng)
    return data[:at] + rng.bytes(int(rng.geometric(0.2))) + data[at:]


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: _place(data, rng)] if rng.random() < 0.2 else data  # noqa: PLR2004  else most would be short


def _number(data: bytes, rng: np.random.Generator) -> bytes:
    at = _place(data, rng)
    value = _BOUNDARIES[int(rng.integers(len(_BOUNDARIES)))]
    width, order = ("BHI"[int(rng.integers(3))], "<>"[int(rng.integers(2))])
    packed = struct.pack(f"{order}I", value)
    size = struct.calcsize(width)
    packed = packed[:size] if order == "<" else packed[-size:]
    return data[:at] + packed + data[at + size :]


def _tokens(choice: Sequence[bytes]) -> Mutate:
    def mutate(data: bytes, rng: np.random.Generator) -> bytes:
        at = _place(data, rng)
        token = choice[int(rng.integers(len(choice)))]
        gone = len(token) if rng.random() < 0.5 else 0  # noqa: PLR2004  put in, or written over
        return data[:at] + token + data[at + gone :]

    return mutate


def _lines(data: bytes, rng: np.random.Generator) -> bytes:
    """Two lines exchanged, one of them twice, or one gone."""
    lines = data.split(b"\n")
    first, second = (int(at) for at in rng.integers(0, len(lines), 2))
    lines[first] = lines[second]
    if rng.random() < 0.3:  # noqa: PLR2004  as it comes
        del lines[second]
    return b"\n".join(lines)


def _footer(data: bytes, rng: np.random.Generator) -> bytes:
    """A byte of Parquet's metadata, which says where and how everything lies."""
    if len(data) < 12:  # noqa: PLR2004  no room for one
        return data
    length = min(int.from_bytes(data[-8:-4], "little"), len(data) - 8)
    at = len(data) - 8 - int(rng.integers(1, length + 1)) if length else 0
    return data[:at] + rng.bytes(1) + data[at + 1 :]


def _page(data: bytes, rng: np.random.Generator) -> bytes:
    """A byte near the beginning of a column, where page headers lie."""
    at = min(4 + int(rng.geometric(0.02)), max(len(data) - 1, 0))
    return data[:at] + rng.bytes(1) + data[at + 1 :]


def _chunk(data: bytes, rng: np.random.Generator) -> bytes:
    """Something within a PNG's chunk, its checksum made right again; a JPEG's segment."""
    starts = _chunks(data)
    if not starts:
        return _segment(data, rng)
    at, length = starts[int(rng.integers(len(starts)))]
    body = bytearray(data[at + 8 : at + 8 + length])
    if body:
        body[int(rng.integers(len(body)))] = int(rng.integers(256))
    kind = data[at + 4 : at + 8]
    made = struct.pack(">I", length) + kind + body + struct.pack(">I", zlib.crc32(kind + bytes(body)))
    copies = int(rng.integers(0, 3))
    return data[:at] + made * copies + data[at + 12 + length :]


def _chunks(data: bytes) -> list[tuple[int, int]]:
    found, at = [], 8
    while data.startswith(b"\x89PNG") and at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if at + 12 + length > len(data):
            break
        found.append((at, length))
        at += 12 + length
    return found


def _segment(data: bytes, rng: np.random.Generator) -> bytes:
    marks = [at for at in range(len(data) - 4) if data[at] == 0xFF and data[at + 1] not in {0x00, 0xFF}]  # noqa: PLR2004  a mark
    if not marks:
        return data
    at = marks[int(rng.integers(len(marks)))]
    place = at + 1 + int(rng.integers(12))
    return data[:place] + rng.bytes(1) + data[place + 1 :]


_BYTES: list[Mutate] = [_flip, _byte, _delete, _repeat, _insert, _cut, _number]
_STRUCTURE: dict[str, list[Mutate]] = {
    "csv": [_tokens(_CSV_TOKENS), _lines],
    "jsonl": [_tokens(_JSON_TOKENS), _lines],
    "parquet": [_footer, _page],
    "images": [_chunk, _segment],
}
