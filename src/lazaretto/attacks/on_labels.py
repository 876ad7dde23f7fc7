"""The attacks on labels alone, for any labelled records, as the drill and the benchmark plant them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.attacks import label_flip, source
from lazaretto.attacks.ground import Attack, Ground, Planted

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COMPONENTS = 64
_PAIR_SHARE = 0.3
"""Of the victim class that is flipped in a pair attack, whatever the rate."""


def _fits(ground: Ground) -> bool:
    return ground.label is not None and len(ground.classes) > 1


def _planted(ground: Ground, labels: NDArray[np.int64], truth: NDArray[np.bool_]) -> Planted:
    return Planted(ground.with_labels(labels).frame, truth, np.zeros(len(truth), dtype=np.bool_))


def _random(ground: Ground, rate: float, seed: int) -> Planted:
    labels, truth = label_flip.flip_random(ground.labels(), rate=rate, classes=len(ground.classes), seed=seed)
    return _planted(ground, labels, truth)


def _pair(ground: Ground, rate: float, seed: int) -> Planted:
    """``rate`` is the share of the victim class: a grudge does not know how large the batch is."""
    labels, classes = ground.labels(), len(ground.classes)
    rng = np.random.default_rng((seed, 7))
    victim = int(rng.integers(classes))
    target = (victim + 1 + int(rng.integers(classes - 1))) % classes
    share = rate * float((labels == victim).mean())
    return _planted(ground, *label_flip.flip_pair(labels, rate=share, victim=victim, target=target, seed=seed))


def _boundary(ground: Ground, rate: float, seed: int) -> Planted:
    labels = ground.labels()
    return _planted(ground, *label_flip.flip_boundary(labels, likely(ground, seed), rate=rate))


def _source(ground: Ground, rate: float, seed: int) -> Planted:
    """``rate`` is the share of the source's own records."""
    if ground.source is None or ground.label is None:
        raise ValueError("these records have no source")
    frame, truth, name = source.flip_source(
        ground.frame, source=ground.source, label=ground.label, seed=seed, share=rate
    )
    return Planted(frame, truth, np.zeros(len(truth), dtype=np.bool_), None, name)


def likely(ground: Ground, seed: int) -> NDArray[np.float64]:
    """(rows, classes) how likely each label is, by a model the attacker trains on the batch before he poisons it."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    if ground.image is not None:
        from lazaretto.attacks.surrogate import probabilities, train_surrogate

        images = ground.images()
        model = train_surrogate(images, ground.labels(), classes=len(ground.classes), seed=seed)
        return probabilities(model, images)
    columns = [_wording(ground.frame[name], seed) for name in ground.texts]
    rest = [name for name in ground.frame.columns if name not in (*ground.texts, ground.label, ground.id)]
    columns += [_numbers(ground.frame[name]) for name in rest]
    features = np.concatenate(columns, axis=1)
    chosen = LogisticRegression(max_iter=500) if ground.texts else HistGradientBoostingClassifier(random_state=seed)
    found: NDArray[np.float64] = chosen.fit(features, ground.labels()).predict_proba(features)
    return found


def _numbers(values: pl.Series) -> NDArray[np.float64]:
    """(rows, dimensions) a column as numbers: vectors as they are, times as counted, all else by its first meeting."""
    if values.dtype.is_nested():
        width = int(np.max(values.list.len().fill_null(0).to_numpy(), initial=1))
        rows = [row if row is not None else [np.nan] * width for row in values.to_list()]
        return np.asarray(rows, dtype=np.float64).reshape(len(values), width)
    if values.dtype.is_temporal():
        values = values.to_physical()
    elif not values.dtype.is_numeric():
        values = values.cast(pl.String).cast(pl.Categorical).to_physical()
    return values.cast(pl.Float64).to_numpy()[:, None]


def _wording(texts: pl.Series, seed: int) -> NDArray[np.float64]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(min_df=2, sublinear_tf=True).fit_transform(texts.fill_null("").to_list())
    reduced = TruncatedSVD(min(_COMPONENTS, weights.shape[1] - 1), random_state=seed).fit_transform(weights)
    return np.asarray(reduced, dtype=np.float64)


LABEL_ATTACKS = (
    Attack("flip_random", "label flips, random", "label", 0.05, _fits, _random),
    Attack("flip_pair", "label flips, share of one class", "label", _PAIR_SHARE, _fits, _pair),
    Attack("flip_boundary", "label flips near the boundary", "label", 0.05, _fits, _boundary),
    Attack(
        "source",
        "one source flips a share of its labels",
        "batch",
        0.2,
        lambda g: _fits(g) and g.source is not None,
        _source,
    ),
)
