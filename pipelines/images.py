"""Whether bytes are an image that can be decoded, decided without trusting a byte of it."""

from __future__ import annotations

import io
import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lazaretto.pipelines.formats import JPEG, PNG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

_THREADS = min(8, os.cpu_count() or 1)
_MESSAGE_CHARACTERS = 120
_SCAN = b"\xff\xda"
_MOST_SCANS = 200
"""A progressive JPEG has about ten. Each costs a pass over the whole image, and an empty one a few bytes of file."""
_SEE_THROUGH = (
    "the image has transparent pixels, and beneath them colours that nobody sees: flatten it, or say transparent: true"
    " of the column"
)
_BUFFER = re.compile(r" <_io\.BytesIO[^>]*>")


def image_faults(images: Sequence[bytes | None], max_pixels: int, *, transparent: bool = False) -> list[str | None]:
    """Say of each image why it cannot be used, or None; the order is kept.

    Under a transparent pixel lies a colour that a person does not see, and that most programs which read an image to
    train on it do: unless that is said to be all right, such an image cannot be used.

    Every image is decoded in full, after its header's size was compared with ``max_pixels``: a 10 KB file can
    declare 81 megapixels.
    """
    from PIL import Image

    limit = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels)
    with warnings.catch_warnings():
        # Pillow warns of what the limit here refuses anyway, and of harmless oddities in metadata.
        warnings.simplefilter("ignore")
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(lambda image: _fault(image, limit, transparent=transparent), images))


def most_pixels(images: Sequence[bytes]) -> int:
    """Width times height of the largest of some images that can be decoded."""
    from PIL import Image

    largest = 0
    for data in images:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            largest = max(largest, image.width * image.height)
    return largest


def _fault(data: bytes | None, max_pixels: int, *, transparent: bool) -> str | None:
    from PIL import Image

    if data is None:
        return None
    if not data.startswith((PNG, JPEG)):
        return "no image: neither PNG nor JPEG"
    try:
        if data.startswith(JPEG):
            _refuse_scans(data)
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            width, height = image.size
            if width * height > max_pixels:
                return f"an image of {width}x{height}, more than the {max_pixels:,} pixels allowed"
            image.load()
            if not transparent and _see_through(image):
                return _SEE_THROUGH
    except Exception as error:  # noqa: BLE001  Pillow raises a dozen kinds on hostile bytes; each rejects the record
        return f"image cannot be decoded: {_one_line(error)}"
    return None


def _refuse_scans(data: bytes) -> None:
    # Within image data the mark cannot stand; in what a camera adds (a small picture of the picture) once or twice.
    scans = data.count(_SCAN)
    if scans > _MOST_SCANS:
        raise ValueError(f"{scans:,} scans, more than the {_MOST_SCANS} allowed")


def _see_through(image: Image) -> bool:
    if "A" in image.getbands():
        alpha = image.getchannel("A")
    elif "transparency" in image.info:
        alpha = image.convert("RGBA").getchannel("A")
    else:
        return False
    least = alpha.getextrema()[0]
    return isinstance(least, int | float) and least < 255  # noqa: PLR2004  opaque


def _one_line(error: Exception) -> str:
    # Pillow names what it reads from: here always a buffer, by its address.
    text = " ".join(_BUFFER.sub("", str(error)).split()) or type(error).__name__
    return text[:_MESSAGE_CHARACTERS]
