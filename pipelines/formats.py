"""What a file is, by its name and its first bytes, and which files are refused for what they are."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

from lazaretto.errors import InputRefused

Kind = Literal["csv", "jsonl", "parquet"]

DATA_SUFFIXES: dict[str, Kind] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"

HEAD_BYTES = 512
"""Bytes of a file's beginning that tell what it is; the tar mark lies at 257."""

_CODE = "can run code when it is opened"
_PACKED = "must be unpacked first"
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "gzip", _PACKED),
    (b"PK\x03\x04", "a zip archive", _PACKED),
    (b"PK\x05\x06", "a zip archive", _PACKED),
    (b"BZh", "bzip2", _PACKED),
    (b"\xfd7zXZ\x00", "xz", _PACKED),
    (b"(\xb5/\xfd", "zstd", _PACKED),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", _PACKED),
    (b"Rar!\x1a\x07", "RAR", _PACKED),
    (b"ARROW1", "Arrow IPC", "can crash the process that reads it; save it as Parquet"),
    (b"FEA1", "Feather", "is Arrow IPC of old; save it as Parquet"),
    (b"\xff\xff\xff\xff", "an Arrow IPC stream", "can crash the process that reads it; save it as Parquet"),
    (b"\x93NUMPY", "NumPy", "may hold pickles; save it as Parquet"),
    (b"\x89HDF\r\n\x1a\n", "HDF5", "is no format this reads; save it as Parquet"),
    (b"SQLite format 3\x00", "an SQLite database", "is no format this reads; export it as Parquet"),
    (b"\x7fELF", "a program", _CODE),
    (b"MZ", "a program", _CODE),
    (b"\xff\xfe", "UTF-16 text", "must be UTF-8; save it again"),
    (b"\xfe\xff", "UTF-16 text", "must be UTF-8; save it again"),
)
_PICKLE_PROTOCOLS = range(2, 6)
_TAR_MARK = slice(257, 262)
_REFUSED_SUFFIXES = {
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy", ".npz"), ("a pickle", _CODE)),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), ("Arrow IPC", "can crash the process that reads it")),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz"), ("a packed file", _PACKED)),
}
_HINT = "give Parquet, CSV (UTF-8), JSON lines or a folder of PNG/JPEG images"


def data_kind(name: str) -> Kind | None:
    """The data format a file's name claims, or None."""
    return DATA_SUFFIXES.get(PurePath(name).suffix.lower())


def is_image_name(name: str) -> bool:
    """Whether a file's name claims to be a PNG or JPEG."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def refuse_by_name(name: str) -> None:
    """Refuse a data file whose name says that it is none.

    Raises:
        InputRefused: A pickle, Arrow IPC, an archive, a lone image, or a name that claims nothing known.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in _REFUSED_SUFFIXES:
        what, why = _REFUSED_SUFFIXES[suffix]
        raise InputRefused(f"{name} is refused: {what} {why}", hint=_HINT)
    if is_image_name(name):
        raise InputRefused(f"{name} is a single image", hint="give the folder that holds one sub-folder per class")
    if data_kind(name) is None:
        raise InputRefused(f"{name} is refused: {suffix or 'no suffix'} is no data format", hint=_HINT)


def refuse_by_content(name: str, head: bytes) -> None:
    """Refuse a data file whose first bytes say that it is something else than its name claims.

    Args:
        name: The file as the user knows it; its suffix is one of ``DATA_SUFFIXES``.
        head: The first ``HEAD_BYTES`` bytes, or fewer if the file is shorter.

    Raises:
        InputRefused: The file is empty, dangerous, packed, or not what it is called.
    """
    if not head:
        raise InputRefused(f"{name} is empty", hint="was it copied in full?")
    for mark, what, why in _MAGIC:
        if head.startswith(mark):
            raise InputRefused(f"{name} is refused: it is {what}, which {why}", hint=_HINT)
    if head[:1] == b"\x80" and len(head) > 1 and head[1] in _PICKLE_PROTOCOLS:
        raise InputRefused(f"{name} is refused: it is a pickle, which {_CODE}", hint=_HINT)
    if head[_TAR_MARK] == b"ustar":
        raise InputRefused(f"{name} is refused: it is a tar archive, which {_PACKED}", hint=_HINT)
    parquet = head.startswith((b"PAR1", b"PARE"))
    if (data_kind(name) == "parquet") != parquet:
        what = "is Parquet but is not called so" if parquet else "is called Parquet but is not"
        raise InputRefused(f"{name} {what}", hint="rename the file to what it is")
    if head.startswith((PNG, JPEG)):
        raise InputRefused(f"{name} is an image, not a table", hint=_HINT)
