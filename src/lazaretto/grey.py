"""Grey images of more than eight bits, which Pillow would clip to white."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_WIDE = 257
"""White in 16 bits over white in 8."""


def eight_bits(image: Image.Image) -> Image.Image:
    """The image, in 8 bits where it is a grey one of 16 (modes ``I`` and ``I;16`` of a PNG); any other as it is."""
    import numpy as np
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    return Image.fromarray(np.clip(np.rint(values / _WIDE), 0, 255).astype(np.uint8), mode="L")
