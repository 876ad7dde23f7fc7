"""One digest per record over the contract's columns: equal content, equal digest, whatever format it came in."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from lazaretto.contract import Column

_SIZE = 16
_TAG = 8
_KINDS = {"category": "text"}
"""A text column that becomes a category keeps its digests."""
_PERSON = b"lazaretto-rec-1"


def digests(frame: pl.DataFrame, columns: Mapping[str, Column]) -> pl.Series:
    """BLAKE2b-128 (hex) of every record (records,), String.

    What is hashed is one cell of 24 bytes for each value that is not null, in the order of the columns' names: eight
    bytes that stand for name and type, then the value itself (8 bytes, little-endian) or, where its length varies, its
    own BLAKE2b-128. So no two different records serialise alike, the contract's column order does not matter, and a
    column added later leaves the digests of records that have no value there alone.

    Args:
        frame: Canonical columns.
        columns: The contract's, each of them in ``frame``.
    """
    names = sorted(columns)
    cells = np.zeros((frame.height, len(names), _TAG + _SIZE), dtype=np.uint8)
    present = np.zeros((frame.height, len(names)), dtype=bool)
    for place, name in enumerate(names):
        kind = _KINDS.get(columns[name].type, columns[name].type)
        tag = hashlib.blake2b(f"{kind}\0{name}".encode(), digest_size=_TAG).digest()
        cells[:, place, :_TAG] = np.frombuffer(tag, dtype=np.uint8)
        values = _cells(frame[name], columns[name].type)
        cells[:, place, _TAG : _TAG + values.shape[1]] = values
        present[:, place] = frame[name].is_not_null().to_numpy()
    flat = memoryview(cells[present].tobytes())
    ends = np.cumsum(present.sum(axis=1, dtype=np.int64)) * (_TAG + _SIZE)
    blake2b, size, person = hashlib.blake2b, _SIZE, _PERSON
    found, start = [], 0
    for end in ends.tolist():
        found.append(blake2b(flat[start:end], digest_size=size, person=person).hexdigest())
        start = end
    return pl.Series(found, dtype=pl.String)


def _cells(values: pl.Series, kind: str) -> NDArray[np.uint8]:
    """The fixed-size bytes that stand for each value (records, 8 or 16); any bytes where it is null."""
    if kind in {"integer", "timestamp", "boolean"}:
        return _bytes_of(values.to_physical().cast(pl.Int64).fill_null(0).to_numpy().astype("<i8"))
    if kind == "number":
        # Adding zero turns -0.0 into 0.0: equal values, equal bytes.
        return _bytes_of(values.fill_null(0.0).to_numpy().astype("<f8") + 0.0)
    if kind == "category":
        unique = values.unique(maintain_order=True)
        codes = values.to_frame("value").join(
            pl.DataFrame([unique.alias("value")]).with_row_index("code"),
            on="value",
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )["code"]
        hashed = _hashed((text or "").encode() for text in unique.to_list())
        return np.take(hashed, codes.to_numpy(), axis=0)
    if kind == "vector":
        return _hashed(np.asarray(row or (), dtype="<f4").tobytes() for row in values.to_list())
    return _hashed(value.encode() if isinstance(value, str) else value or b"" for value in values.to_list())


def _bytes_of(numbers: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, 8)


def _hashed(values: Iterable[bytes]) -> NDArray[np.uint8]:
    blake2b, size = hashlib.blake2b, _SIZE
    joined = b"".join([blake2b(value, digest_size=size).digest() for value in values])
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, size)
