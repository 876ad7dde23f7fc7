"""What the peers are given of a case: features, labels, and the probe that all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks.effect import convolutions
from benchmarks.peers import PeerInput
from lazaretto.attacks.ground import Ground

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import nn

    from benchmarks.data import DataSet
    from benchmarks.plans import Case

_HIDDEN = 128
_COMPONENTS = 64
_FREQUENT = 50


def peer_input(data: DataSet, case: Case, seed: int) -> PeerInput:
    """Everything a peer may read of a case; the true rate is in it only for peers that must be told."""
    ground = Ground.of(case.batch, data.contract)
    labels = ground.labels() if ground.label else None
    classes = len(ground.classes) if ground.label else 0
    rate = float(case.truth.mean())
    texts, images = None, None
    if ground.image:
        pixels = ground.images().astype(np.float32) / 255.0
        rows = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)  # noqa: PLR2004  grey has no axis
        images = np.ascontiguousarray(rows)
        features = images.reshape(len(images), -1)
    elif ground.texts:
        joined = case.batch.select(pl.concat_str(ground.texts, separator="\n", ignore_nulls=True)).to_series()
        texts = tuple(joined.to_list())
        features = _wording(texts, seed)
    else:
        features = _table(case.batch, [n for n in data.contract.feature_names if n not in (ground.label, ground.id)])
    shape = None if images is None else (images.shape[1], images.shape[2], images.shape[3])
    return PeerInput(
        features=features,
        classes=classes,
        seed=seed,
        poison_rate=rate,
        images=images,
        texts=texts,
        labels=labels,
        network=_network(shape, features.shape[1], classes) if labels is not None else None,
    )


def _network(shape: tuple[int, int, int] | None, width: int, classes: int) -> Callable[[], nn.Sequential]:
    def network() -> nn.Sequential:
        from torch import nn

        if shape is None:
            return nn.Sequential(nn.Linear(width, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, classes))
        return convolutions(shape, classes)

    return network


def _wording(texts: tuple[str, ...], seed: int) -> NDArray[np.float32]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(min_df=2, sublinear_tf=True, ngram_range=(1, 2)).fit_transform(texts)
    reduced = TruncatedSVD(_COMPONENTS, random_state=seed).fit_transform(weights)
    return np.asarray(reduced / (reduced.std(axis=0) + 1e-9), dtype=np.float32)


def _table(frame: pl.DataFrame, names: list[str]) -> NDArray[np.float32]:
    """Numbers standardised, missing ones at the mean; words one-hot over the commonest."""
    blocks = []
    for name in names:
        values = frame[name]
        if values.dtype.is_numeric():
            numbers = values.cast(pl.Float64).to_numpy()
            scaled = (numbers - np.nanmean(numbers)) / (np.nanstd(numbers) + 1e-9)
            blocks.append(np.nan_to_num(scaled)[:, None])
        else:
            common = values.drop_nulls().value_counts(sort=True)[name].head(_FREQUENT).to_list()
            blocks += [(values == word).fill_null(value=False).to_numpy()[:, None] for word in common]
    return np.concatenate(blocks, axis=1).astype(np.float32)
