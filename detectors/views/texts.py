"""Text as numbers: hashed word n-grams reduced by SVD, character shape, and the n-grams themselves as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.detectors.views.characters import SHAPE, shape
from lazaretto.detectors.views.images import mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_DIMENSIONS = 32
_TERMS = 1 << 15
"""Terms of the TF-IDF: n-grams by their hash, of which the low bits count."""
_HASHES = 1 << 20
"""Tokens are told apart by more bits of the same hash."""
_CHARACTERS = 20_000
"""Only this much of a text is looked at by the word view; the character counts see all of it."""
_TOKENS = 256
"""Most tokens of a text: its rarest."""
_FEWEST = 4
"""A token that fewer of the sample's texts have can be no trigger that anyone would notice."""
_SKETCH, _SKETCHED = 128, 2003


@dataclass(frozen=True)
class Words:
    """The n-grams of some texts, counted once for all that reads them: (rows, 2^20) hashed counts."""

    counts: Any

    @classmethod
    def of(cls, values: pl.Series) -> Words:
        """Words and word pairs, in lower case."""
        return cls(_hashing().transform([(text or "")[:_CHARACTERS] for text in values]))

    def terms(self) -> Any:  # noqa: ANN401  a scipy sparse matrix, untyped
        """(rows, 2^15) counts with hashes folded."""
        from scipy.sparse import csr_matrix

        # Copies: folding adds up in place, and the counts are read again.
        parts = self.counts.data.copy(), self.counts.indices % _TERMS, self.counts.indptr.copy()
        folded = csr_matrix(parts, shape=(self.counts.shape[0], _TERMS))
        folded.sum_duplicates()
        return folded


@dataclass(frozen=True)
class Texts:
    """TF-IDF of hashed words and word pairs, truncated SVD (latent semantic analysis), plus character shape."""

    names: tuple[str, ...]
    idf: Any
    svd: Any
    centre: Floats
    spread: Floats
    seen: NDArray[np.int32]
    """(2^20,) how many of the sample's texts have the token."""

    @classmethod
    def fit(cls, name: str, words: Words, values: pl.Series, seed: int) -> Texts:
        """Fit on the sample's texts."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfTransformer

        counts = words.terms()
        idf = TfidfTransformer(sublinear_tf=True).fit(counts)
        weighted = idf.transform(counts)
        rank = max(1, min(_DIMENSIONS, weighted.shape[0] - 1))
        svd = TruncatedSVD(rank, random_state=seed).fit(weighted)
        parts = [svd.transform(weighted), shape(values)]
        drafted = np.concatenate(parts, axis=1)
        names = tuple(f"wording of {name}" for _ in range(rank)) + tuple(f"{part} of {name}" for part in SHAPE)
        spread = drafted.std(axis=0) + 1e-3 * (drafted.std() + 1e-9)
        seen = np.bincount(words.counts.indices, minlength=_HASHES).astype(np.int32)
        return cls(names, idf, svd, drafted.mean(axis=0).astype(np.float32), spread.astype(np.float32), seen)

    def encode(self, words: Words, values: pl.Series) -> Floats:
        """(rows, dimensions), each clipped at 10 standard deviations."""
        raw = np.concatenate([self.svd.transform(self.idf.transform(words.terms())), shape(values)], axis=1)
        scaled: Floats = np.clip((raw - self.centre) / self.spread, -10, 10).astype(np.float32)
        return scaled

    @property
    def rank(self) -> int:
        """Dimensions of the wording; those of the characters follow."""
        return len(self.svd.components_)

    def pull(self, text: str, slope: NDArray[np.float64]) -> dict[str, float]:
        """N-gram -> how far it moves one text along a slope (rank,) of the encoded wording."""
        grams, hashes = _grams(text)
        weighted = self.idf.transform(Words.of(pl.Series([text])).terms())
        moved = weighted.data * (self.svd.components_[:, weighted.indices].T @ (slope / self.spread[: self.rank]))
        by_term = dict(zip(weighted.indices.tolist(), moved.tolist(), strict=True))
        return dict(zip(grams, (by_term[term] for term in (hashes % _TERMS).tolist()), strict=True))

    def tokens(self, words: Words, place: int) -> NDArray[np.uint32]:
        """(rows, 256) hashes of the n-grams that several of the sample's texts have, the rarest first, 0 where no more.

        Args:
            words: Of the texts.
            place: The column's number; the same word in another column is another token.
        """
        out = np.zeros((words.counts.shape[0], _TOKENS), dtype=np.uint32)
        for row, (start, end) in enumerate(zip(words.counts.indptr, words.counts.indptr[1:], strict=False)):
            found = words.counts.indices[start:end]
            found = found[self.seen[found] >= _FEWEST]
            rarest = found[np.lexsort((found, self.seen[found]))[:_TOKENS]]
            out[row, : len(rarest)] = token(rarest, place)
        return out

    def sketch(self, words: Words) -> Floats:
        """(rows, 128) unit vectors whose products are about the cosines of the texts' TF-IDF (Achlioptas 2003)."""
        weighted = self.idf.transform(words.terms())
        signs = np.random.default_rng(_SKETCHED).choice(np.array([-1, 1], dtype=np.float32), size=(_TERMS, _SKETCH))
        drawn = np.asarray(weighted @ signs, dtype=np.float32)
        length = np.linalg.norm(drawn, axis=1, keepdims=True)
        return np.asarray(drawn / np.maximum(length, 1e-6), dtype=np.float32)


def token(hashes: NDArray[np.int32], place: int) -> NDArray[np.uint32]:
    """Tokens of n-gram hashes; never 0, which stands for none."""
    return np.maximum(mix(hashes.astype(np.uint32), np.uint32(place)), np.uint32(1))


def spoken(text: str | None, place: int) -> dict[int, str]:
    """Token -> the n-gram it stands for, for the n-grams of one text."""
    grams, hashes = _grams(text)
    return dict(zip(token(hashes, place).tolist(), grams, strict=True))


def _grams(text: str | None) -> tuple[list[str], NDArray[np.int32]]:
    """The n-grams of a text, and the hash of each."""
    grams = sorted(set(_hashing().build_analyzer()((text or "")[:_CHARACTERS])))
    if not grams:
        return [], np.zeros(0, dtype=np.int32)
    return grams, _hashing(analyzer=_as_it_is).transform([[gram] for gram in grams]).indices


def _as_it_is(grams: Sequence[str]) -> Sequence[str]:
    return grams


def _hashing(**options: Any) -> Any:  # noqa: ANN401  scikit-learn is untyped
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=_HASHES, ngram_range=(1, 2), alternate_sign=False, norm=None, **options)
