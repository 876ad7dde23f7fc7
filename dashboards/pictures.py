"""Images of records for a report: decoded within limits, encoded again by us, with the region that drove a verdict."""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lazaretto.grey import eight_bits

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_PIXELS = 4_000_000
_LONGEST_SIDE = 256
_SHOWN_SIDE = 168

_WINDOW = re.compile(r"pixels in rows (\d+)-(\d+), columns (\d+)-(\d+) of (\d+) x \d+")
_CELL = re.compile(r"row (\d+), column (\d+) of a (\d+) x (\d+) grid")


@dataclass(frozen=True)
class Box:
    """A region of an image, in per cent of its sides."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Picture:
    """An image as a data: URI, the size to show it at, and the regions that were named."""

    uri: str
    width: int
    height: int
    boxes: tuple[Box, ...]
    caption: str


def picture(column: str, data: bytes, sentences: Iterable[str], side: int = _SHOWN_SIDE) -> Picture | None:
    """Decode an image and encode it again; None where it cannot be decoded within the limits.

    Args:
        column: The column it is from.
        data: PNG or JPEG bytes from the canonical partition; hostile.
        sentences: What detectors said; regions named in them are outlined.
        side: Pixels of the longer side as it is shown.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a decompression-bomb warning is answered by the limit below
        try:
            with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
                width, height = image.size
                if width * height > _MOST_PIXELS:
                    return None
                plain = eight_bits(image)
                plain = plain.convert("L" if plain.mode in {"1", "L"} else "RGB")
        except Exception:  # noqa: BLE001  whatever a hostile file makes the decoder raise, the report goes on without it
            return None
    plain.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    target = io.BytesIO()
    plain.save(target, format="PNG")
    scale = side / max(width, height)
    return Picture(
        uri="data:image/png;base64," + base64.b64encode(target.getvalue()).decode("ascii"),
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        boxes=tuple(dict.fromkeys(_boxes(sentences))),
        caption=f"{column}, {width} x {height}",
    )


def _boxes(sentences: Iterable[str]) -> Iterable[Box]:
    for sentence in sentences:
        for top, bottom, left, right, side in _numbers(_WINDOW, sentence):
            yield _box(top, left, bottom - top + 1, right - left + 1, side)
        for row, column, rows, _ in _numbers(_CELL, sentence):
            yield _box(row - 1, column - 1, 1, 1, rows)


def _numbers(pattern: re.Pattern[str], sentence: str) -> Iterable[list[int]]:
    return ([int(number) for number in found] for found in pattern.findall(sentence))


def _box(top: int, left: int, rows: int, columns: int, side: int) -> Box:
    unit = 100 / max(side, 1)
    return Box(*(round(min(100.0, value * unit), 2) for value in (left, top, columns, rows)))
