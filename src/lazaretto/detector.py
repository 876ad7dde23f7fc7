"""What a detector is: views in, one score per record out, fitted from summaries that merge.

Polarity is said once, here: *a higher score is more suspicious*, and a score that is not finite is the most
suspicious of all (`lazaretto.calibrate` gives it the smallest p-value there is).
"""

from __future__ import annotations

import dataclasses
from functools import reduce
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

UNKNOWN_LABEL = -1
"""Label index of a record whose label is missing or was not seen when the state was fitted."""


@dataclasses.dataclass(frozen=True)
class Views:
    """Numeric pictures of the same records, computed once and read by every detector.

    Attributes:
        keys: (rows,) uint64, a hash of each record's content; orders samples and drops a record from its own
            neighbours.
        labels: (rows,) int64, index into the fitted classes, `UNKNOWN_LABEL` where there is none.
        arrays: view name -> array whose first dimension is rows.
        names: view name -> what each column of that view stands for, for explanations.
        classes: names of the classes that ``labels`` counts.
        words: per record, what its tokens say, token -> words; only there for explanations.
    """

    keys: NDArray[np.uint64]
    labels: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]
    names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = ()
    words: tuple[Mapping[int, str], ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, view: str) -> NDArray[Any]:
        """The array of one view, (rows, ...)."""
        return self.arrays[view]

    def __contains__(self, view: object) -> bool:
        return view in self.arrays

    def take(self, index: NDArray[Any]) -> Views:
        """The records at ``index`` (integers or a boolean mask), in that order."""
        picked = {name: array[index] for name, array in self.arrays.items()}
        words = tuple(np.array(self.words, dtype=object)[index]) if self.words else ()
        return dataclasses.replace(self, keys=self.keys[index], labels=self.labels[index], arrays=picked, words=words)

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Views:
        """The same records with more views beside the ones there are."""
        return dataclasses.replace(self, arrays={**self.arrays, **arrays})


class Summary(Protocol):
    """What a partition adds to a fit. Merging is associative and order-free."""

    def merge(self, other: Self) -> Self:
        """The summary of both partitions together."""
        ...


class Scorer(Protocol):
    """A fitted detector. Row i's score depends on row i and the fitted state alone."""

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) scores; higher is more suspicious, NaN where the record cannot be judged."""
        ...

    def explain(self, views: Views) -> list[str]:
        """One plain sentence per record: what in it drove its score."""
        ...


S = TypeVar("S", bound=Summary)


class Detector(Protocol[S]):
    """Fits from merged summaries; every constructor parameter is part of its ``id``."""

    family: ClassVar[str]
    """hygiene, outlier, label, representation, gradient or trigger."""
    needs_label: ClassVar[bool]
    # A detector may also say ``tail: ClassVar[str]``, the kind of `lazaretto.tails.fitted_tail` its scores get
    # where there is no trusted set; ``wide`` where it says nothing. And ``crossed: ClassVar[bool]``: it is fitted on
    # what the probe and the neighbours say of records they have not seen. And ``prior: ClassVar[float]``: how much more
    # common than others' what it looks for is taken to be, 1 where it says nothing. And ``by_class: ClassVar[bool]``:
    # what is usual of a score differs with the class, which matters where one is rare. And ``scaled: ClassVar[bool]``:
    # it differs so much that every score is taken beside its class's. And ``listens: ClassVar[bool]``: it is fitted
    # after all others, to the view ``oddity``, (rows,) what they agree on, and scores without it.

    @property
    def name(self) -> str:
        """Short name, the part after ``score.`` in the outputs."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Views it needs; it stands aside when one is not there."""
        ...

    def summarise(self, views: Views) -> S:
        """What these records contribute to the fit."""
        ...

    def finish(self, summary: S) -> Scorer:
        """The scorer that the merged summary determines."""
        ...


def detector_id(detector: object) -> str:
    """Name and every parameter that influences the output, e.g. ``KnnLabel(name='knn_label', k=10)``.

    Args:
        detector: A dataclass instance.
    """
    fields = dataclasses.fields(detector)  # type: ignore[arg-type]  # every detector is a dataclass; the laws check it
    return f"{type(detector).__name__}({', '.join(f'{f.name}={getattr(detector, f.name)!r}' for f in fields)})"


def fit(detector: Detector[S], partitions: Iterable[Views]) -> Scorer:
    """Fit on partitions in any order: ``finish(reduce(merge, map(summarise, partitions)))``.

    Raises:
        ValueError: If there is no partition.
    """
    summaries = [detector.summarise(views) for views in partitions]
    if not summaries:
        raise ValueError("a detector is fitted on at least one partition")
    return detector.finish(reduce(lambda a, b: a.merge(b), summaries))
