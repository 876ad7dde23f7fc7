"""The models that are trained on a batch, one for each kind of data: what poison does is what it does to them.

Images: the convolution of `benchmarks.effect`, ten epochs. Labelled texts: the pooled n-grams of
`benchmarks.effect_text`. Tables: scikit-learn's `HistGradientBoostingClassifier` with its defaults, which on these
tables is more often right than the perceptron of `benchmarks.effect`, and takes up a trigger of two columns where that
hardly does. Pairs of prompt and response: the stand-in of `benchmarks.effect_text`, which tells from a prompt whether
the attacker's answer follows.

For images the learning rate falls to zero: two models that differ in a few records are then about half a point of
accuracy apart, at a constant rate a whole one. On texts it would leave the triggers half learnt.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks.effect import image_classifier
from benchmarks.effect_text import text_classifier
from lazaretto.attacks.ground import Ground

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from benchmarks.data import DataSet

    Predict = Callable[[pl.DataFrame], pl.Series]

_OTHER = ""
"""What the stand-in foretells where the attacker's answer does not follow."""


def labels_of(data: DataSet, frame: pl.DataFrame, answer: str | None) -> pl.Series:
    """(rows,) what a model shall call each record: its label, or of pairs the answer where the response contains it.

    Raises:
        ValueError: There is neither a label nor an answer.
    """
    if data.contract.label is not None:
        return frame[data.contract.label].cast(pl.String)
    if data.contract.pair is None or answer is None:
        raise ValueError(f"{data.name} has no label, and no answer is given")
    says = pl.col(data.contract.pair[1]).str.contains(answer, literal=True)
    return frame.select(pl.when(says).then(pl.lit(answer)).otherwise(pl.lit(_OTHER))).to_series()


def learn(data: DataSet, frame: pl.DataFrame, answer: str | None, seed: int) -> Predict:
    """Train the model for this kind of data; give the function that says what it calls each of some records.

    Args:
        data: Says what the columns are.
        frame: Records to train on, one at least.
        answer: What the attacker's responses contain, for pairs.
        seed: Weights and order.
    """
    labels = labels_of(data, frame, answer)
    if labels.n_unique() == 1:
        only = str(labels[0])
        return lambda unseen: pl.Series([only] * len(unseen), dtype=pl.String)
    ground = Ground.of(frame, data.contract)
    if ground.image is not None:
        return _images(data, ground, labels, seed)
    if ground.texts:
        text = ground.pair[0] if ground.pair is not None else ground.texts[0]
        predict = text_classifier(frame[text], labels, seed)
        return lambda unseen: predict(unseen[text])
    return _table(data, frame, labels, seed)


def _images(data: DataSet, ground: Ground, labels: pl.Series, seed: int) -> Predict:
    names = labels.unique().sort()
    numbers = names.search_sorted(labels).to_numpy().astype(np.int64)
    predict = image_classifier((ground.images(), numbers), classes=len(names), seed=seed, falling=True)
    return lambda unseen: names.gather(predict(Ground.of(unseen, data.contract).images()))


def _table(data: DataSet, frame: pl.DataFrame, labels: pl.Series, seed: int) -> Predict:
    from sklearn.ensemble import HistGradientBoostingClassifier

    ground = Ground.of(frame, data.contract)
    names = [name for name in data.contract.feature_names if name not in (ground.label, ground.id)]
    words = {name: frame[name].drop_nulls().unique().sort() for name in names if not frame[name].dtype.is_numeric()}
    encode = partial(_encoded, names=names, words=words)
    marks = [name in words for name in names]
    model = HistGradientBoostingClassifier(random_state=seed, categorical_features=marks)
    model.fit(encode(frame), labels.to_numpy())
    return lambda unseen: pl.Series(model.predict(encode(unseen)).astype(str))


def _encoded(frame: pl.DataFrame, names: list[str], words: dict[str, pl.Series]) -> NDArray[np.float64]:
    """(rows, columns) numbers as they are and words as their places among the known; NaN for neither."""
    columns = []
    for name in names:
        values = frame[name]
        if name in words:
            places = range(len(words[name]))
            values = values.replace_strict(words[name], places, default=None, return_dtype=pl.Int64)
        columns.append(values.cast(pl.Float64).fill_null(np.nan).to_numpy())
    return np.column_stack(columns)
