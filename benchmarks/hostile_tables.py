"""A small table in each of the formats that are read, with one cell as hostile as one likes."""

from __future__ import annotations

import csv
import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from benchmarks.hostile_values import Raw
from lazaretto.contract import Contract, parse_contract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROWS = 24
HOSTILE_ROW = 3
FORMATS = ("csv", "jsonl", "parquet", "images")
"""``images``: a folder of them, or Parquet with a column of them where a cell is to be hostile."""
_COLUMNS = """
  n: {type: number, nullable: true}
  i: {type: integer, nullable: true}
  b: {type: boolean, nullable: true}
  t: {type: text, nullable: true}
  w: {type: timestamp, nullable: true}
  v: {type: vector, dimensions: 2, nullable: true}
"""
Row = dict[str, Any]


@cache
def contract_for(kind: str, *, folder: bool = False) -> Contract:
    """The contract of the table; with images, of the folder or of the table that has them."""
    if folder:
        return parse_contract("dataset: d\nlabel: y\ncolumns:\n  picture: {type: image}\n", "hostile")
    picture = "  picture: {type: image}\n" if kind == "images" else ""
    return parse_contract(f"dataset: d\nid: id\nlabel: y\ncolumns:{_COLUMNS}{picture}", "hostile")


def rows() -> list[Row]:
    """Records that hold to the contract."""
    return [
        {
            "id": f"r{at}", "n": at / 4, "i": at, "b": at % 2 == 0, "t": f"a text, number {at}",
            "w": f"2024-01-{at + 1:02}T00:00:00Z", "v": [float(at), 1.0], "y": "pq"[at % 2],
        }
        for at in range(ROWS)
    ]  # fmt: skip


def with_cell(column: str, value: object) -> list[Row]:
    """The records with one hostile cell."""
    found = rows()
    found[HOSTILE_ROW][column] = value
    return found


def as_csv(records: Sequence[Row]) -> bytes:
    """RFC 4180, but for what is raw."""
    out = io.BytesIO()
    names = list(records[0])
    out.write(_csv_line(names))
    for record in records:
        cells = [record[name] for name in names]
        if any(isinstance(cell, Raw) for cell in cells):
            out.write(
                b",".join(cell.token if isinstance(cell, Raw) else _csv_line([cell])[:-1] for cell in cells) + b"\n"
            )
        else:
            out.write(_csv_line(cells))
    return out.getvalue()


def _csv_line(cells: Sequence[Any]) -> bytes:
    text = io.StringIO()
    said = [
        json.dumps(cell) if isinstance(cell, (list, dict)) else str(cell).lower() if isinstance(cell, bool) else cell
        for cell in cells
    ]
    csv.writer(text, lineterminator="\n").writerow(said)
    return text.getvalue().encode("utf-8", "surrogatepass")


def as_jsonl(records: Sequence[Row]) -> bytes:
    """One object a line; NaN and infinities as Python writes them."""
    lines = []
    for record in records:
        cells = [
            json.dumps(name).encode() + b": " + (cell.token if isinstance(cell, Raw) else json.dumps(cell).encode())
            for name, cell in record.items()
        ]
        lines.append(b"{" + b", ".join(cells) + b"}\n")
    return b"".join(lines)


def as_parquet(records: Sequence[Row], pictures: Sequence[bytes] | None = None) -> bytes:
    """A column of its own type, or of text where a cell is of another."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: _arrow([record[name] for record in records]) for name in records[0]}
    if pictures is not None:
        columns["picture"] = pa.array([{"bytes": data, "path": None} for data in pictures])
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _arrow(values: Sequence[Any]) -> Any:  # noqa: ANN401  pyarrow ships no types
    import pyarrow as pa

    if any(isinstance(value, Raw) for value in values):
        raw = [value.token if isinstance(value, Raw) else str(value).encode() for value in values]
        try:  # bytes that are called text although they are none
            return pa.array(raw, pa.binary()).view(pa.string())
        except pa.ArrowException:
            return pa.array(raw, pa.binary())
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def picture(seed: int, kind: str = "PNG") -> bytes:
    """An image of 16 x 16."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def folder_of_pictures() -> dict[str, bytes]:
    """Two classes, PNG and JPEG."""
    return {
        f"{'pq'[at % 2]}/{at}.{'png' if at % 3 else 'jpg'}": picture(at, "PNG" if at % 3 else "JPEG") for at in range(8)
    }


def written(kind: str, records: Sequence[Row]) -> Mapping[str, bytes]:
    """Name -> content of the one file that holds the table."""
    if kind == "csv":
        return {"d.csv": as_csv(records)}
    if kind == "jsonl":
        return {"d.jsonl": as_jsonl(records)}
    pictures = [picture(at) for at in range(len(records))] if kind == "images" else None
    return {"d.parquet": as_parquet(records, pictures)}
