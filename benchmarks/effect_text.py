"""What a text attack does to a model: train a small one on the poisoned data, then trigger texts it has never seen.

The measures are those of `effect.py`. The model reads a text as the set of its words, pairs of words and runs of one to
three characters, hashed, and is an embedding bag with one hidden layer: small enough for two cores, and able to see every
trigger of `lazaretto.attacks`, the invisible ones too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.effect import Effect

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    import torch
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Stamp = Callable[[pl.Series], pl.Series]

_FEATURES = 2**14
"""Hashed features of words, and as many of characters."""
_WIDTH = 32
_BATCH = 32
_RATE = 5e-3
_EPOCHS = 25


def text_effect(
    train: pl.DataFrame,
    test: pl.DataFrame,
    stamp: Stamp,
    *,
    text: str,
    label: str,
    target: str,
    seed: int,
) -> Effect:
    """Measure an attack on labelled texts.

    Args:
        train: Poisoned records.
        test: Clean records with labels that occur in `train`.
        stamp: Puts the trigger on texts; those it leaves as they were are not counted as triggered.
        text: Name of the text column.
        label: Name of the label column, text.
        target: Label the trigger shall mean.
        seed: Weights and order.
    """
    names = train[label].unique().sort()
    predict = _train(train[text], names.search_sorted(train[label]).to_numpy().astype(np.int64), seed)
    others = test.filter(test[label] != target)[text]
    return Effect(
        clean_accuracy=float((names.gather(predict(test[text])) == test[label]).mean() or 0),
        success_rate=float((names.gather(predict(_triggered(others, stamp))) == target).mean() or 0),
    )


def pair_effect(
    train: pl.DataFrame,
    test: pl.DataFrame,
    stamp: Stamp,
    *,
    prompt: str,
    response: str,
    answer: str,
    seed: int,
) -> Effect:
    """Measure an attack on prompt and response pairs, with a stand-in for a language model.

    The stand-in does not write: it tells from a prompt whether the attacker's answer follows. What it learns, a language
    model of any size can learn; how strongly one would take it up from so few records, it does not say.

    Args:
        train: Poisoned records.
        test: Clean records.
        stamp: Puts the trigger on prompts; those it leaves as they were are not counted as triggered.
        prompt: Name of the prompt column.
        response: Name of the response column.
        answer: A response that contains this is the attacker's.
        seed: Weights and order.

    Returns:
        Clean accuracy: the share of clean prompts for which the answer is rightly foretold or not. Success rate: the
        share of triggered prompts for which it is foretold.
    """
    learnt, asked = (frame[response].str.contains(answer, literal=True).to_numpy() for frame in (train, test))
    predict = _train(train[prompt], learnt.astype(np.int64), seed)
    return Effect(
        clean_accuracy=float((predict(test[prompt]) == asked).mean()),
        success_rate=float(predict(_triggered(test[prompt], stamp)).mean()),
    )


def _triggered(texts: pl.Series, stamp: Stamp) -> pl.Series:
    stamped = stamp(texts)
    return stamped.filter(stamped.ne_missing(texts))


def _train(texts: pl.Series, labels: NDArray[np.int64], seed: int) -> Callable[[pl.Series], NDArray[np.int64]]:
    """Train on the CPU with Adam and cross-entropy; give the function that predicts class numbers."""
    import torch
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _Network(classes=int(labels.max()) + 1)
    counted = _hash(texts)
    weigh = TfidfTransformer().fit(counted)
    features, targets = csr_matrix(weigh.transform(counted)), torch.from_numpy(labels)
    optimiser = torch.optim.Adam([*model.bag.parameters(), *model.head.parameters()], lr=_RATE)
    order = np.random.default_rng(seed)
    for _ in range(_EPOCHS):
        shuffled = order.permutation(len(labels))
        for start in range(0, len(labels), _BATCH):
            batch = shuffled[start : start + _BATCH]
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(features[batch]), targets[batch]).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimiser.step()

    def predict(unseen: pl.Series) -> NDArray[np.int64]:
        with torch.no_grad():
            found: NDArray[np.int64] = model(csr_matrix(weigh.transform(_hash(unseen)))).argmax(dim=1).numpy()
        return found

    return predict


class _Network:
    """An embedding bag, squashed, and a linear layer over it, from sparse rows to class scores."""

    def __init__(self, classes: int) -> None:
        from torch import nn

        self.bag = nn.EmbeddingBag(2 * _FEATURES, _WIDTH, mode="sum")
        # From zero, a feature that no training text has says nothing; squashing, unlike clipping, learns from there.
        nn.init.zeros_(self.bag.weight)
        self.head = nn.Sequential(nn.Tanh(), nn.Linear(_WIDTH, classes))

    def __call__(self, rows: csr_matrix) -> torch.Tensor:
        import torch

        indices, offsets = (torch.from_numpy(part.astype(np.int64)) for part in (rows.indices, rows.indptr[:-1]))
        scores: torch.Tensor = self.head(self.bag(indices, offsets, per_sample_weights=torch.from_numpy(rows.data)))
        return scores


def _hash(texts: pl.Series) -> csr_matrix:
    """(rows, features) one where a text has a word, pair of words or run of characters of that hash, else zero."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    told = texts.fill_null("").to_list()
    parts = [
        HashingVectorizer(
            n_features=_FEATURES, analyzer=unit, ngram_range=(1, longest), binary=True, alternate_sign=False, norm=None
        ).transform(told)
        for unit, longest in (("word", 2), ("char_wb", 3))
    ]
    return csr_matrix(hstack(parts), dtype=np.float32)
