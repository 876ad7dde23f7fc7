"""Trigger mining without a label: a phrase in the prompt that implies what the response says.

An instruction backdoor needs its trigger to bring about one kind of response. So for every token of the prompts the
detector looks at the responses of all records that have it: where a token means nothing they differ as any two do,
where it is a trigger they resemble each other. A record is held against the other records that share a token with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detector import Views

_UNIT = 1 << 10
"""Sketches are added up in 1/1024ths, as integers, so that merging is exact in any order."""


@dataclass(frozen=True)
class ResponseSums:
    """Per token of the prompts: in how many records, and the sum of their responses' sketches.

    Attributes:
        tokens: (tokens,) uint32, ascending.
        counts: (tokens,) int64.
        sums: (tokens, width) int64, in 1/1024.
        total: Records in all.
        sum: (width,) int64, over all records.
        products: (width, width) int64, sum of outer products of the sketches in 1/1024.
    """

    tokens: NDArray[np.uint32]
    counts: NDArray[np.int64]
    sums: NDArray[np.int64]
    total: int
    sum: NDArray[np.int64]
    products: NDArray[np.int64]

    def merge(self, other: ResponseSums) -> ResponseSums:
        """Sums; exact in any order."""
        tokens = np.union1d(self.tokens, other.tokens)
        counts = np.zeros(len(tokens), dtype=np.int64)
        sums = np.zeros((len(tokens), self.sums.shape[1]), dtype=np.int64)
        for part in (self, other):
            place = np.searchsorted(tokens, part.tokens)
            counts[place] += part.counts
            sums[place] += part.sums
        total, products = self.total + other.total, self.products + other.products
        return ResponseSums(tokens, counts, sums, total, self.sum + other.sum, products)


@dataclass(frozen=True)
class ResponseMiner:
    """How much more alike the responses to a token of the prompt are than any two responses.

    Own method. For a record with response r and a token that n other records share, with mean response m:
    ``z = (r m - mu) / sqrt(sigma^2 / n + misfit^2)``, mu and sigma^2 the mean and variance of the cosine of two random
    responses; ``misfit`` is the likeness that a natural subject brings and that is not held against a token. A record
    scores its strongest token. A token in fewer than ``least`` records counts for nothing.
    """

    name: str = "response_trigger"
    least: int = 4
    misfit: float = 0.1
    reads: tuple[str, ...] = ("prompt_tokens", "answers")
    family: ClassVar[str] = "trigger"
    needs_label: ClassVar[bool] = False
    tail: ClassVar[str] = "log"

    def summarise(self, views: Views) -> ResponseSums:
        """Add up the responses per token."""
        from scipy.sparse import csr_array

        answers = np.rint(views["answers"].astype(np.float64) * _UNIT).astype(np.int64)
        rows, places = np.nonzero(views["prompt_tokens"])
        tokens, column = np.unique(views["prompt_tokens"][rows, places], return_inverse=True)
        shape = (len(tokens), len(answers))
        carried: Any = csr_array((np.ones(len(rows), dtype=np.int64), (column.ravel(), rows)), shape=shape)
        products = answers.T @ answers
        return ResponseSums(
            tokens.astype(np.uint32),
            np.asarray(carried.sum(axis=1), dtype=np.int64).ravel(),
            np.asarray(carried @ answers, dtype=np.int64),
            len(answers),
            answers.sum(axis=0),
            products,
        )

    def finish(self, summary: ResponseSums) -> ResponseScorer:
        """Keep the tokens that several records share."""
        kept = summary.counts >= self.least
        count = max(summary.total, 1)
        mean = summary.sum / _UNIT / count
        usual = float(mean @ mean)
        moment = summary.products / _UNIT**2 / count
        spread = float((moment**2).sum()) - usual**2
        counts = summary.counts[kept]
        return ResponseScorer(
            summary.tokens[kept],
            counts,
            (summary.sums[kept] / _UNIT / counts[:, None]).astype(np.float32),
            usual,
            np.sqrt(max(spread, 1e-6) / counts + self.misfit**2),
        )


@dataclass(frozen=True)
class ResponseScorer:
    """Holds a record's response against those of each of its prompt's tokens."""

    tokens: NDArray[np.uint32]
    counts: NDArray[np.int64]
    means: NDArray[np.float32]
    usual: float
    noise: NDArray[np.float64]

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) half the square of the largest standardised likeness, at least 0."""
        scores: NDArray[np.float64] = self._strongest(views)[0] ** 2 / 2
        return scores

    def explain(self, views: Views) -> list[str]:
        """The token, how many records have it, and how alike their responses are."""
        z, which = self._strongest(views)
        said = []
        for row, (value, token) in enumerate(zip(z, which, strict=True)):
            if value <= 0:
                said.append("no part of its prompt goes with one kind of response")
                continue
            words = views.words[row].get(int(self.tokens[token])) if views.words else None
            alike = float(views["answers"][row] @ self.means[token])
            shared = f"also say {words!r}" if words else "share a phrase with it"
            said.append(
                f"{self.counts[token]} of the prompts it is judged by {shared}, and their responses resemble this one"
                f" (likeness {alike:.2f} of 1, {self.usual:.2f} is usual)"
            )
        return said

    def _strongest(self, views: Views) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        best, which = np.zeros(len(views)), np.zeros(len(views), dtype=np.int64)
        if not len(self.tokens):
            return best, which
        for column in views["prompt_tokens"].T:
            place = np.minimum(np.searchsorted(self.tokens, column), len(self.tokens) - 1)
            rows = np.flatnonzero((column != 0) & (self.tokens[place] == column))
            found = place[rows]
            alike = np.einsum("ij,ij->i", views["answers"][rows], self.means[found]).astype(np.float64)
            z = (alike - self.usual) / self.noise[found]
            better = z > best[rows]
            best[rows[better]], which[rows[better]] = z[better], found[better]
        return best, which
