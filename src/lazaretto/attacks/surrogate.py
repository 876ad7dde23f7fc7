"""The attacker's own model: a small convolutional network, for attacks that need gradients, features or doubts.

Not the network of `benchmarks/effect.py`: an attacker does not know what the victim trains.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_BATCH, _CHUNK = 64, 1024
_RATE = 2e-3
_WIDTH = 64


def train_surrogate(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    classes: int,
    seed: int,
    epochs: int = 8,
    device: str = "cpu",
) -> torch.nn.Sequential:
    """Train with Adam and cross-entropy; torch's global state stays as it was.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers from 0.
        classes: How many classes there are.
        seed: Weights and order.
        epochs: Passes over the records.
        device: Where torch trains.

    Returns:
        The network, in evaluation mode; its last layer gives logits and all before it the features.
    """
    import torch
    from torch import nn

    channels = math.prod(images.shape[3:])  # grey images have no axis for them: 1
    height, width = images.shape[1:3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(channels, 24, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (height // 4) * (width // 4), _WIDTH),
            nn.ReLU(),
            nn.Linear(_WIDTH, classes),
        ).to(device)
    inputs, targets = as_tensor(images, device), torch.from_numpy(labels).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE)
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        shuffled = torch.from_numpy(order.permutation(len(images))).to(device)
        for start in range(0, len(images), _BATCH):
            batch = shuffled[start : start + _BATCH]
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimiser.step()
    return model.eval()


def as_tensor(images: NDArray[np.uint8], device: str | torch.device = "cpu") -> torch.Tensor:
    """(rows, channels, height, width) between 0 and 1."""
    import torch

    channels = images.reshape(*images.shape[:3], -1).transpose(0, 3, 1, 2)
    return torch.from_numpy((channels / np.float32(255)).astype(np.float32)).to(device)


def probabilities(model: torch.nn.Sequential, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(rows, classes) probabilities."""
    found: NDArray[np.float64] = _apply(model, images).softmax(dim=1).numpy()
    return found


def features(model: torch.nn.Sequential, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(rows, 64) activations before the last layer."""
    found: NDArray[np.float64] = _apply(model[:-1], images).numpy()
    return found


def _apply(layers: torch.nn.Module, images: NDArray[np.uint8]) -> torch.Tensor:
    """Run the layers without gradients, in chunks, and bring the result to the CPU."""
    import torch

    device = next(layers.parameters()).device
    with torch.no_grad():
        parts = [layers(as_tensor(images[at : at + _CHUNK], device)) for at in range(0, len(images), _CHUNK)]
        return torch.cat(parts).double().cpu()
