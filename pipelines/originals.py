"""A parsed record back as bytes a person can read, for the rejects file."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from lazaretto.contract import Contract


def original_bytes(rows: pl.DataFrame, contract: Contract) -> list[bytes]:
    """Each record's contract columns as one JSON object; of an image-only record, the image's own bytes."""
    names = list(contract.all_columns)
    images = [name for name in names if contract.all_columns[name].type == "image"]
    if len(images) == 1 and set(names) - {images[0]} <= {contract.id, contract.label, contract.source}:
        return [data or b"" for data in rows[images[0]]]
    return [
        json.dumps(row, default=_plain, ensure_ascii=False).encode() for row in rows.select(names).iter_rows(named=True)
    ]


def _plain(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
