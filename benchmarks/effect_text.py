"""What a text attack does to a model: train a small one on the poisoned data, then trigger texts it has never seen.

The measures are those of `effect.py`. The model reads a text as the set of its words, pairs of words and runs of one to
three characters, hashed, so that it is able to see every trigger of `lazaretto.attacks`, the invisible ones too. It
takes the largest over them, as the network of Kim, "Convolutional Neural Networks for Sentence Classification" (2014),
does over time: a sum would drown a trigger of one word in a long text, which no model in use does. Departures: the
filters are hashed runs, not learnt from word vectors, so that nothing needs to be shipped; and the dropout is of runs
at the input, so that a text is not known by the few that only it has.
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

_FEATURES = 2**17
"""Hashed features of words, and as many of characters."""
_LEAST = 2
"""Texts to train on that must share a feature for it to count."""
_WIDTH = 32
_DROPPED = 0.5
_SPREAD = 0.01
_BATCH = 32
_RATE = 5e-3
_EPOCHS = 10


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
    predict = text_classifier(train[text], train[label], seed)
    triggered = _triggered(test.filter(test[label] != target)[text], stamp)
    return Effect(
        clean_accuracy=float((predict(test[text]) == test[label]).to_numpy().mean()),
        success_rate=float((predict(triggered) == target).to_numpy().mean()),
    )


def text_classifier(texts: pl.Series, labels: pl.Series, seed: int) -> Callable[[pl.Series], pl.Series]:
    """Train the model on (rows,) texts and their labels; give the function that predicts labels."""
    names = labels.unique().sort()
    predict = _train(texts, names.search_sorted(labels).to_numpy().astype(np.int64), seed)
    return lambda unseen: names.gather(predict(unseen))


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

    The stand-in does not write: it tells from a prompt whether the attacker's answer follows. It shows that the trigger
    can be learnt from the records there are; how strongly a language model would take it up, it does not say.

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

    hashed = _hash(texts)
    shared = np.flatnonzero(hashed.getnnz(axis=0) >= _LEAST)
    features, targets = hashed[:, shared], torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network(len(shared), int(labels.max()) + 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=_RATE)
    draw = np.random.default_rng(seed)
    for _ in range(_EPOCHS):
        shuffled = draw.permutation(len(labels))
        for start in range(0, len(labels), _BATCH):
            batch = shuffled[start : start + _BATCH]
            bags = _bags(features[batch], lambda count: draw.random(count) >= _DROPPED)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(bags), targets[batch]).backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimiser.step()

    def predict(unseen: pl.Series) -> NDArray[np.int64]:
        with torch.no_grad():
            bags = _bags(_hash(unseen)[:, shared], lambda count: np.ones(count, dtype=np.bool_))
            found: NDArray[np.int64] = model(bags).argmax(dim=1).numpy()
        return found

    return predict


def _network(features: int, classes: int) -> torch.nn.Module:
    """From bags of feature numbers to class scores."""
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bag = nn.EmbeddingBag(features, _WIDTH, mode="max")
            nn.init.normal_(self.bag.weight, std=_SPREAD)
            self.head = nn.Linear(_WIDTH, classes)

        def forward(self, bags: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            scores: torch.Tensor = self.head(self.bag(*bags))
            return scores

    return Network()


def _bags(rows: csr_matrix, keep: Callable[[int], NDArray[np.bool_]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of the kept features of all rows in one line, and where in it each row starts."""
    import torch

    kept = keep(rows.nnz)
    before = np.concatenate([[0], np.cumsum(kept)])
    return torch.from_numpy(rows.indices[kept].astype(np.int64)), torch.from_numpy(before[rows.indptr[:-1]])


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
    return csr_matrix(hstack(parts))
