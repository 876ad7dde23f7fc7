"""What an attack does to a model: train a small one on the poisoned data, then trigger records it has never seen.

The attack success rate is the share of unseen records of other classes that the model calls the target once they carry
the trigger. Clean accuracy says whether the attack stays unnoticed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    import torch
    from numpy.typing import NDArray
    from torch import nn

    Images = NDArray[np.uint8]
    Labels = NDArray[np.int64]

_BATCH = 64
_RATE = 2e-3
_HIDDEN = 128


@dataclass(frozen=True)
class Effect:
    """Two shares between 0 and 1, measured on clean records the model has not seen."""

    clean_accuracy: float
    success_rate: float


def image_effect(
    train: tuple[Images, Labels],
    test: tuple[Images, Labels],
    stamp: Callable[[Images], Images],
    *,
    target: int,
    seed: int,
    epochs: int = 10,
) -> Effect:
    """Measure an image attack with a small convolutional network.

    Args:
        train: Poisoned (rows, height, width) grey or (rows, height, width, 3) colour images, (rows,) class numbers.
        test: Clean images and class numbers.
        stamp: Puts the trigger on images.
        target: Class the trigger shall mean.
        seed: Weights and order.
        epochs: Passes over the training data.
    """
    predict = image_classifier(train, classes=int(max(train[1].max(), test[1].max())) + 1, seed=seed, epochs=epochs)
    others = test[1] != target
    return Effect(
        clean_accuracy=float((predict(test[0]) == test[1]).mean()),
        success_rate=float((predict(stamp(test[0][others])) == target).mean()),
    )


def convolutions(shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The untrained network for images, the same for effects and for the peers.

    Args:
        shape: Channels, height and width of an image.
        classes: How many classes there are.
    """
    from torch import nn

    channels, height, width = shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, classes),
    )


def image_classifier(
    train: tuple[Images, Labels], *, classes: int, seed: int, epochs: int = 10, falling: bool = False
) -> Callable[[Images], Labels]:
    """Train a small convolutional network; give the function that predicts class numbers.

    For attacks whose success is another share than that of `image_effect`: of one class, of the next class, of victims.

    Args:
        train: (rows, height, width) grey or (rows, height, width, 3) colour images and their (rows,) class numbers.
        classes: How many classes there are.
        seed: Weights and order.
        epochs: Passes over the training data.
        falling: The learning rate falls to zero, so that the last steps leave less to chance.
    """
    height, width = train[0].shape[1:3]
    channels = math.prod(train[0].shape[3:])  # grey images have no axis for them: 1

    def pixels(images: Images) -> NDArray[np.float32]:
        rows = images.reshape(len(images), height, width, channels).transpose(0, 3, 1, 2)
        return (rows / np.float32(255)).astype(np.float32)

    network = partial(convolutions, (channels, height, width), classes)
    predict = _train(network, pixels(train[0]), train[1], seed=seed, epochs=epochs, falling=falling)
    return lambda images: predict(pixels(images))


def table_effect(
    train: pl.DataFrame,
    test: pl.DataFrame,
    stamp: Callable[[pl.DataFrame], pl.DataFrame],
    *,
    label: str,
    target: str,
    seed: int,
    epochs: int = 30,
) -> Effect:
    """Measure a table attack with a small multilayer perceptron on standardised numbers and one-hot words.

    Args:
        train: Poisoned table; its label column is text.
        test: Clean table with the same columns.
        stamp: Puts the trigger on rows.
        label: Name of the label column.
        target: Label the trigger shall mean.
        seed: Weights and order.
        epochs: Passes over the training data.
    """
    from torch import nn

    names = train[label].unique().sort()
    encode = _encoder(train.drop(label))
    features = encode(train.drop(label))

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(features.shape[1], _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, len(names)))

    numbers = names.search_sorted(train[label]).to_numpy().astype(np.int64)
    predict = _train(network, features, numbers, seed=seed, epochs=epochs)
    truth = names.search_sorted(test[label]).to_numpy()
    others = test.filter(test[label] != target).drop(label)
    return Effect(
        clean_accuracy=float((predict(encode(test.drop(label))) == truth).mean()),
        success_rate=float((predict(encode(stamp(others))) == names.index_of(target)).mean()),
    )


def _encoder(frame: pl.DataFrame) -> Callable[[pl.DataFrame], NDArray[np.float32]]:
    """Fit the encoding on one table: numbers standardised (null is the mean), words one-hot over the 50 commonest."""
    numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    words = {
        name: frame[name].drop_nulls().value_counts(sort=True)[name].head(50).to_list()
        for name in frame.columns
        if name not in numbers
    }
    values = frame.select(numbers).to_numpy().astype(np.float64)
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0) + 1e-9

    def encode(rows: pl.DataFrame) -> NDArray[np.float32]:
        scaled = np.nan_to_num((rows.select(numbers).to_numpy().astype(np.float64) - mean) / spread)
        hot = [
            (rows[name] == word).fill_null(value=False).to_numpy() for name, known in words.items() for word in known
        ]
        return np.column_stack([scaled, *hot]).astype(np.float32)

    return encode


def _falling_rate(optimiser: torch.optim.Optimizer, steps: int | None) -> torch.optim.lr_scheduler.LambdaLR:
    """Lets the learning rate fall to zero over so many steps; with None it stays."""
    from torch.optim.lr_scheduler import LambdaLR

    return LambdaLR(optimiser, lambda step: 1.0 if steps is None else 1.0 - step / steps)


def _train(
    network: Callable[[], torch.nn.Module],
    rows: NDArray[np.float32],
    labels: Labels,
    *,
    seed: int,
    epochs: int,
    falling: bool = False,
) -> Callable[[NDArray[np.float32]], Labels]:
    """Train on the CPU with Adam and cross-entropy; give the function that predicts class numbers."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network()
    inputs, targets = torch.from_numpy(rows), torch.from_numpy(labels)
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE)
    slower = _falling_rate(optimiser, epochs * math.ceil(len(rows) / _BATCH) if falling else None)
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        shuffled = torch.from_numpy(order.permutation(len(rows)))
        for start in range(0, len(rows), _BATCH):
            batch = shuffled[start : start + _BATCH]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimiser.step()
            slower.step()
    model.eval()

    def predict(unseen: NDArray[np.float32]) -> Labels:
        with torch.no_grad():
            parts = [torch.from_numpy(unseen[start : start + 1024]) for start in range(0, len(unseen), 1024)]
            found: Labels = torch.cat([model(part).argmax(dim=1) for part in parts]).numpy()
        return found

    return predict
