"""Images as arrays and back, by one encoder: a file must not show who wrote it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def decode_grey(data: bytes, side: int | None = None) -> NDArray[np.uint8]:
    """Decode a PNG to grey, transparency laid on white.

    Args:
        data: The file's bytes.
        side: Resize to this many pixels square (bilinear); as it is where not given.

    Returns:
        (height, width) brightness, 0 black.
    """
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if image.mode == "L":
            grey: Image.Image = image.copy()
        else:
            colours = image.convert("RGBA")
            white = Image.new("RGBA", colours.size, (255, 255, 255, 255))
            grey = Image.alpha_composite(white, colours).convert("L")
    if side is not None:
        grey = grey.resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(grey, dtype=np.uint8)


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Encode (height, width) brightness or (height, width, 3) colours as PNG.

    Equal pixels give equal bytes, and nothing but pixels is written.
    """
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="PNG", optimize=False, compress_level=9)
    return target.getvalue()
