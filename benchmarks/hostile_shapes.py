"""Files that are hostile as only one of their kind can be: bombs, headers that lie, tables no one would write."""

from __future__ import annotations

import io
import json
import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.hostile_tables import as_csv, as_jsonl, as_parquet, folder_of_pictures, picture, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Make = Callable[[], Mapping[str, bytes]]

_MILLION = 10**6
_LONG = 10**8
_PNG = b"\x89PNG\r\n\x1a\n"


def _csv(content: bytes) -> Mapping[str, bytes]:
    return {"d.csv": content}


def _renamed(old: str, new: str) -> list[dict[str, Any]]:
    return [{new if name == old else name: value for name, value in row.items()} for row in rows()]


def _with_more(count: int) -> list[dict[str, Any]]:
    more = {f"x{at}": at for at in range(count)}
    return [{**row, **more} for row in rows()]


_NAMES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "a column in Cyrillic": lambda: _renamed("t", "\u0442"),
    "a column's look-alike beside it": lambda: [{**row, "\u0443": "q"} for row in rows()],
    "a column reversed": lambda: [{**row, "\u202eeman": 1} for row in rows()],
    "a column without a name": lambda: [{**row, "": 1} for row in rows()],
    "a column called by a megabyte": lambda: [{**row, "x" * _MILLION: 1} for row in rows()],
    "a column called as the reader's own": lambda: [
        {**row, "_row": 1, "_record_id": "x", "_digest": "x"} for row in rows()
    ],
    "a column called like a path": lambda: [{**row, "../../etc/passwd": 1} for row in rows()],
    "ten thousand columns": lambda: _with_more(10_000),
    "none of the columns": lambda: [{"colour": "red"}],
    "a column missing": lambda: [{name: value for name, value in row.items() if name != "n"} for row in rows()],
    "nothing but nulls": lambda: [dict.fromkeys(row) for row in rows()],
    "one record a hundred thousand times": lambda: rows()[:1] * 100_000,
}
"""For every format that has column names."""
_HEAD = b"id,n,i,b,t,w,v,y\n"


def _named(kind: str, make: Callable[[], list[dict[str, Any]]]) -> Mapping[str, bytes]:
    write = {"csv": as_csv, "jsonl": as_jsonl, "parquet": as_parquet}[kind]
    return {f"d.{kind}": write(make())}


CSV: dict[str, Make] = {
    **{name: partial(_named, "csv", make) for name, make in _NAMES.items()},
    "no line but the header": lambda: _csv(_HEAD),
    "no header": lambda: _csv(as_csv(rows()).split(b"\n", 1)[1]),
    "a column twice": lambda: _csv(b"id,n,n,y\nr1,1,2,p\n"),
    "a hundred thousand columns and one": lambda: _csv(b",".join(b"x%d" % at for at in range(100_001)) + b"\n"),
    "a million commas a line": lambda: _csv(_HEAD + (b"," * _MILLION + b"\n") * 8),
    "too few and too many fields": lambda: _csv(as_csv(rows()) + b"r98,1\nr99,1,1,true,t,,,p,more\n"),
    "an open quote": lambda: _csv(as_csv(rows()) + b'r99,1,1,true,"open,,,p\n'),
    "an open quote at the start": lambda: _csv(b'"' + as_csv(rows())),
    "quotes in the wrong places": lambda: _csv(_HEAD + b'r1,1,1,true,a"b"c,,,p\nr2,1,1,true,"a"b,,,p\n' * 500),
    "a million quotes": lambda: _csv(_HEAD + b'"' * _MILLION),
    "semicolons": lambda: _csv(as_csv(rows()).replace(b",", b";")),
    "line ends of an old Macintosh": lambda: _csv(as_csv(rows()).replace(b"\n", b"\r")),
    "mixed line ends": lambda: _csv(as_csv(rows()).replace(b"\n", b"\r\n", 9)),
    "a field of a hundred million characters": lambda: _csv(_HEAD + b"r1,1,1,true," + b"x" * _LONG + b",,,p\n"),
    "a line that never ends": lambda: _csv(b"x" * (70 * 2**20)),
    "a quoted field of sixty megabytes": lambda: _csv(_HEAD + b'r1,1,1,true,"' + b"x\n" * (30 * 2**20) + b'",,,p\n'),
    "a million records without a value": lambda: _csv(_HEAD + b",,,,,,,\n" * _MILLION),
}  # fmt: skip


def _lines(*lines: bytes) -> Mapping[str, bytes]:
    return {"d.jsonl": as_jsonl(rows()) + b"\n".join(lines) + b"\n"}


JSONL: dict[str, Make] = {
    **{name: partial(_named, "jsonl", make) for name, make in _NAMES.items()},
    "nested a hundred thousand deep": lambda: _lines(b'{"t": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "nested a hundred thousand deep, objects": lambda: _lines(b'{"t": ' * 100_000),
    "nested as deep as is read": lambda: _lines(b'{"t": ' + b"[" * 900 + b"]" * 900 + b"}"),
    "a key twice": lambda: _lines(b'{"id": "r9", "id": "s9"}'),
    "half a million keys, the last one twice": lambda: _lines(
        b"{" + b", ".join(b'"k%d": 1' % at for at in range(500_000)) + b', "k499999": 1}'
    ),
    "a million new keys": lambda: _lines(*(b'{"k%d": 1}' % at for at in range(100_000))),
    "one array": lambda: {"d.jsonl": json.dumps(rows()).encode()},
    "two objects a line": lambda: _lines(b'{"id": "a"} {"id": "b"}'),
    "single quotes and comments": lambda: _lines(b"{'id': 'a'}", b"// no", b'{"id": "a",}'),
    "values that are no objects": lambda: _lines(b"1", b'"a"', b"null", b"[1]", b"true"),
    "NaN in capitals": lambda: _lines(b'{"id": "a", "n": NAN}', b'{"id": "b", "n": Infinity}'),
    "a number of a hundred thousand digits": lambda: _lines(b'{"id": "a", "n": ' + b"9" * 100_000 + b"}"),
    "every type in one column": lambda: _lines(
        *(b'{"id": "s%d", "t": %s}' % pair for pair in enumerate((b"1", b"1.5", b"true", b'"a"', b"[]", b"{}")))
    ),
    "a text of a hundred million characters": lambda: _lines(b'{"id": "a", "t": "' + b"x" * _LONG + b'"}'),
    "sixty megabytes of brackets": lambda: _lines(b'{"t": [' + b"[]," * (20 * _MILLION) + b"[]]}"),
    "sixty megabytes of objects": lambda: _lines(b'{"t": [' + b"{}," * (20 * _MILLION) + b"{}]}"),
    "sixty megabytes of numbers": lambda: _lines(b'{"v": [' + b"1," * (30 * _MILLION) + b"1]}"),
    "escapes without end": lambda: _lines(b'{"t": "' + b"\\u0041" * _MILLION + b'"}'),
    "surrogates the wrong way round": lambda: _lines(b'{"id": "a", "t": "\\udc00\\ud800"}'),
    "blank lines": lambda: _lines(*[b"   \t"] * 100_000),
}  # fmt: skip


def _parquet(table: Any, **how: Any) -> Mapping[str, bytes]:  # noqa: ANN401  pyarrow ships no types
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(table, out, **{"compression": "zstd", "write_statistics": False, "store_schema": False, **how})
    return {"d.parquet": out.getvalue()}


def _same_text(count: int, size: int, codec: str = "zstd") -> Mapping[str, bytes]:
    import pyarrow as pa

    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["x" * size]))
    return _parquet(pa.table({"t": column}), compression=codec)


def _same_image(count: int) -> Mapping[str, bytes]:
    """Where pictures lie as Hugging Face writes them: the bytes in a field, beside a path."""
    import pyarrow as pa

    image = picture(1) + bytes(_MILLION)
    column = pa.array([{"bytes": image, "path": None}] * count)
    return _parquet(pa.table({"picture": column}), dictionary_pagesize_limit=10**8)


def _plain_text(count: int, size: int, codec: str) -> Mapping[str, bytes]:
    import pyarrow as pa

    return _parquet(pa.table({"t": pa.array(["x" * size] * count)}), compression=codec, use_dictionary=False)


def _nothing(count: int) -> Mapping[str, bytes]:
    import pyarrow as pa

    return _parquet(pa.table({"n": pa.nulls(count, pa.float64()), "t": pa.nulls(count, pa.string())}))


def _lists(count: int, length: int) -> Mapping[str, bytes]:
    import numpy as np
    import pyarrow as pa

    values = pa.array(np.zeros(count * length, dtype=np.float32))
    offsets = pa.array(range(0, count * length + 1, length), pa.int32())
    return _parquet(pa.table({"v": pa.ListArray.from_arrays(offsets, values)}))


def _deep(depth: int) -> Mapping[str, bytes]:
    import pyarrow as pa

    kind: Any = pa.int32()
    for _ in range(depth):
        kind = pa.struct([("a", kind)])
    return _parquet(pa.table({"t": pa.nulls(2, kind)}))


def _of(**columns: Any) -> Mapping[str, bytes]:  # noqa: ANN401  pyarrow arrays
    import pyarrow as pa

    return _parquet(pa.table(columns))


def _groups(count: int) -> Mapping[str, bytes]:
    import pyarrow as pa

    return _parquet(pa.table({"n": [1.0] * count}), row_group_size=1)


def _pages(count: int) -> Mapping[str, bytes]:
    import pyarrow as pa

    table = pa.table({"t": [str(at) for at in range(count)]})
    return _parquet(table, data_page_size=1, write_batch_size=1, use_dictionary=False)


def _footer(length: int) -> Mapping[str, bytes]:
    return {"d.parquet": as_parquet(rows())[:-8] + struct.pack("<I", length) + b"PAR1"}


def _twice() -> Mapping[str, bytes]:
    import pyarrow as pa

    return _parquet(pa.table([pa.array([1.0]), pa.array([2.0])], names=["n", "n"]))


def _moments() -> Mapping[str, bytes]:
    import pyarrow as pa

    far = pa.array([2**62, -(2**62), 0], pa.timestamp("us"))
    return _parquet(pa.table({"w": far}), store_schema=True)


def _arrow(make: Callable[[Any], Any]) -> Any:  # noqa: ANN401  pyarrow ships no types
    import pyarrow as pa

    return make(pa)


PARQUET: dict[str, Make] = {
    **{name: partial(_named, "parquet", make) for name, make in _NAMES.items()},
    "one text of a megabyte in 65,536 rows": lambda: _same_text(65_536, _MILLION),
    "one text of a megabyte in a million rows": lambda: _same_text(_MILLION, _MILLION, "snappy"),
    "three hundred texts of a megabyte, zstd": lambda: _plain_text(300, _MILLION, "zstd"),
    "three hundred texts of a megabyte, snappy": lambda: _plain_text(300, _MILLION, "snappy"),
    "three hundred texts of a megabyte, gzip": lambda: _plain_text(300, _MILLION, "gzip"),
    "three hundred texts of a megabyte, brotli": lambda: _plain_text(300, _MILLION, "brotli"),
    "three hundred texts of a megabyte, lz4": lambda: _plain_text(300, _MILLION, "lz4"),
    "a million nulls": lambda: _nothing(_MILLION),
    "a hundred million nulls": lambda: _nothing(_LONG),
    "lists of a million zeros": lambda: _lists(100, _MILLION),
    "structs ninety deep": lambda: _deep(90),
    "ten thousand row groups": lambda: _groups(10_000),
    "a page for each of twenty thousand values": lambda: _pages(20_000),
    "a footer of four gigabytes": lambda: _footer(2**32 - 1),
    "a footer of no length": lambda: _footer(0),
    "a footer longer than the file": lambda: _footer(10**6),
    "an encrypted footer": lambda: {"d.parquet": b"PARE" + as_parquet(rows())[4:-4] + b"PARE"},
    "the marks and nothing else": lambda: {"d.parquet": b"PAR1PAR1"},
    "no rows": lambda: _of(n=_arrow(lambda pa: pa.array([], pa.float64()))),
    "a column twice": _twice,
    "moments beyond the calendar": _moments,
    "decimals of 76 digits": lambda: _of(n=_arrow(lambda pa: pa.array([1], pa.decimal256(76, 0)))),
    "a map where text is due": lambda: _of(
        t=_arrow(lambda pa: pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())))
    ),
    "a struct where a number is due": lambda: _of(n=_arrow(lambda pa: pa.array([{"a": 1}]))),
    "unsigned beyond 64 bits": lambda: _of(i=_arrow(lambda pa: pa.array([2**64 - 1], pa.uint64()))),
    "half floats": lambda: _of(n=_arrow(lambda pa: pa.array([1.0, float("nan")], pa.float32()).cast(pa.float16()))),
}  # fmt: skip


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *extra: bytes, data: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = data or zlib.compress((b"\0" + bytes(3 * min(width, 900))) * min(height, 900))
    return _PNG + header + b"".join(extra) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _scans(count: int, side: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (side, side), 128).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def _saved(kind: str, mode: str = "RGB", **how: Any) -> bytes:  # noqa: ANN401  Pillow's own options
    from PIL import Image

    out = io.BytesIO()
    Image.new(mode, (16, 16)).save(out, kind, **how)
    return out.getvalue()


def _beside(name: str, content: bytes) -> Make:
    return lambda: {**folder_of_pictures(), name: content}


def _among(make: Callable[[], bytes], name: str = "p/odd.png") -> Make:
    return lambda: {**folder_of_pictures(), name: make()}


IMAGES: dict[str, Make] = {
    "81 megapixels in a few kilobytes": _among(lambda: _png(9_000, 9_000)),
    "four thousand million pixels a side": _among(lambda: _png(2**31 - 1, 2**31 - 1)),
    "no pixels": _among(lambda: _png(0, 0)),
    "far more pixels than its header says": _among(lambda: _png(8, 8, data=zlib.compress(bytes(10**8)))),
    "a text that unpacks to a hundred megabytes": _among(
        lambda: _png(8, 8, _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(_LONG))))
    ),
    "a colour profile that unpacks to a hundred megabytes": _among(
        lambda: _png(8, 8, _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(_LONG))))
    ),
    "a hundred thousand empty chunks": _among(lambda: _png(8, 8, *[_chunk(b"teXt", b"a\0")] * 100_000)),
    "a chunk of two gigabytes": _among(lambda: _PNG + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(64)),
    "a wrong checksum": _among(lambda: picture(1)[:-20] + b"\0" + picture(1)[-19:]),
    "pixels cut short": _among(lambda: _png(900, 900, data=zlib.compress(b"\0")[:4])),
    "fifty thousand scans": _among(lambda: _scans(50_000, 1_000), "p/odd.jpg"),
    "a JPEG of 65,500 a side": _among(
        lambda: picture(1, "JPEG").replace(struct.pack(">HH", 16, 16), struct.pack(">HH", 65_500, 65_500), 1),
        "p/odd.jpg",
    ),
    "GIF": _among(lambda: _saved("GIF")),
    "BMP": _among(lambda: _saved("BMP")),
    "TIFF": _among(lambda: _saved("TIFF")),
    "WebP": _among(lambda: _saved("WEBP"), "p/odd.jpg"),
    "SVG": _among(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"),
    "PostScript": _among(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(id) run\n"),
    "an image with an archive behind it": _among(lambda: picture(1) + b"PK\x03\x04" + bytes(64)),
    "a JPEG that goes on as PNG": _among(lambda: picture(1, "JPEG")[:-2] + picture(1), "p/odd.jpg"),
    "CMYK": _among(lambda: _saved("JPEG", "CMYK"), "p/odd.jpg"),
    "sixteen bits": _among(lambda: _saved("PNG", "I;16")),
    "transparent": _among(lambda: _saved("PNG", "RGBA")),
    "a palette": _among(lambda: _saved("PNG", "P")),
    "a film": _among(lambda: _saved("PNG", save_all=True)),
    "Exif without end": _among(
        lambda: picture(1, "JPEG")[:2] + b"\xff\xe1\xff\xffExif\0\0MM\0*" + b"\xff" * 65_519 + picture(1, "JPEG")[2:],
        "p/odd.jpg",
    ),
    "a class called like a formula": _beside("=cmd|calc/0.png", picture(1)),
    "a class in reverse": _beside("\u202ep/0.png", picture(1)),
    "a class in Cyrillic": _beside("\u0440/0.png", picture(1)),
    "a name of 250 bytes": _beside("p/" + "x" * 246 + ".png", picture(1)),
    "a name with a line feed": _beside("p/a\nb.png", picture(1)),
    "forty folders deep": _beside("p/" + "d/" * 40 + "0.png", picture(1)),
    "a table among them": _beside("p/d.csv", as_csv(rows())),
    "a pickle among them": _beside("p/d.pkl", b"\x80\x04."),
    "what a file manager leaves": _beside("p/Thumbs.db", b"\xd0\xcf\x11\xe0"),
    "two thousand images": lambda: {f"p/{at}.png": picture(at % 7) for at in range(2_000)},
    "no image that can be read": lambda: {f"p/{at}.png": b"\x89PNG" for at in range(50)},
}
IMAGE_TABLES: dict[str, Make] = {"one image of a megabyte in three hundred rows": lambda: _same_image(300)}
"""Parquet with a column of images."""
SHAPES: dict[str, dict[str, Make]] = {"csv": CSV, "jsonl": JSONL, "parquet": PARQUET, "images": IMAGES}
"""Format -> class -> file name -> content; of images a folder."""
