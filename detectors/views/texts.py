"""Text as numbers: hashed word n-grams reduced by SVD, and counts of what words do not show."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_DIMENSIONS = 32
_FEATURES = 1 << 15
_CHARACTERS = 20_000
"""Only this much of a text is looked at by the word view; the character counts see all of it."""

SHAPE = ("length", "share of digits", "share of capitals", "share of marks", "share beyond ASCII", "hidden characters")


@dataclass(frozen=True)
class Texts:
    """TF-IDF of hashed words and word pairs, truncated SVD (latent semantic analysis), plus character shape."""

    names: tuple[str, ...]
    idf: Any
    svd: Any
    centre: Floats
    spread: Floats

    @classmethod
    def fit(cls, name: str, values: pl.Series, seed: int) -> Texts:
        """Fit on the sample's texts."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfTransformer

        counts = _counts(values)
        idf = TfidfTransformer(sublinear_tf=True).fit(counts)
        weighted = idf.transform(counts)
        rank = max(1, min(_DIMENSIONS, weighted.shape[0] - 1))
        svd = TruncatedSVD(rank, random_state=seed).fit(weighted)
        parts = [svd.transform(weighted), _shape(values)]
        drafted = np.concatenate(parts, axis=1)
        names = tuple(f"wording of {name}" for _ in range(rank)) + tuple(f"{part} of {name}" for part in SHAPE)
        spread = drafted.std(axis=0) + 1e-3 * (drafted.std() + 1e-9)
        return cls(names, idf, svd, drafted.mean(axis=0).astype(np.float32), spread.astype(np.float32))

    def encode(self, values: pl.Series) -> Floats:
        """(rows, dimensions), each clipped at 10 standard deviations."""
        words = self.svd.transform(self.idf.transform(_counts(values)))
        raw = np.concatenate([words, _shape(values)], axis=1)
        scaled: Floats = np.clip((raw - self.centre) / self.spread, -10, 10).astype(np.float32)
        return scaled


def _counts(values: pl.Series) -> Any:  # noqa: ANN401  a scipy sparse matrix, untyped
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(n_features=_FEATURES, ngram_range=(1, 2), alternate_sign=False, norm=None)
    return hashing.transform([(text or "")[:_CHARACTERS] for text in values])


def _shape(values: pl.Series) -> NDArray[np.float64]:
    """(rows, 6) logarithm of the length, shares of kinds of characters, logarithm of hidden characters."""
    out = np.zeros((len(values), len(SHAPE)))
    for row, text in enumerate(values):
        if not text:
            continue
        total = len(text)
        kinds = [unicodedata.category(c) for c in text]
        out[row] = (
            np.log1p(total),
            sum(k == "Nd" for k in kinds) / total,
            sum(k == "Lu" for k in kinds) / total,
            sum(k[0] in "PS" for k in kinds) / total,
            sum(c > "\x7f" for c in text) / total,
            np.log1p(sum(k in ("Cf", "Co", "Cn") for k in kinds)),
        )
    return out
