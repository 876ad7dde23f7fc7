"""Hygiene: copies of one record, and characters that a sound text does not have. No label, no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detectors.label_noise import Nothing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detector import Views

_HIDDEN = 5
"""The first columns of the characters view: what hides text from a reader. The others have honest uses."""
_CERTAIN = 14.0
"""Minus the logarithm of about a millionth: such characters are odd whatever the rest of the data is like."""


@dataclass(frozen=True)
class Copies:
    """How many records look exactly the same (Lee et al. 2022, "Deduplicating Training Data", exact substring aside).

    A flood of copies weighs as many times as one record does, in training and in every other detector's statistics.
    Some repetition is natural: the score is minus the logarithm of how likely so many copies are of a record that says
    so much (`lazaretto.detectors.views.looks.Looks.rarity`).
    """

    name: str = "copies"
    reads: tuple[str, ...] = ("copies", "copies_rarity")
    family: ClassVar[str] = "hygiene"
    needs_label: ClassVar[bool] = False
    tail: ClassVar[str] = "known"
    prior: ClassVar[float] = 10.0
    """A flood asks no skill, and where records repeat by nature it leaves no excess."""

    def summarise(self, views: Views) -> Nothing:
        """The count of looks is the fit."""
        return Nothing(views.classes)

    def finish(self, summary: Nothing) -> CopiesScorer:  # noqa: ARG002  one protocol for all
        """Nothing to compute."""
        return CopiesScorer()


@dataclass(frozen=True)
class CopiesScorer:
    """Reads the (rows,) rarity."""

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) minus the logarithm of the rarity, at least 0."""
        scores: NDArray[np.float64] = -np.log(views["copies_rarity"])
        return scores

    def explain(self, views: Views) -> list[str]:
        """How many there are."""
        return [
            f"{count} of the records the detectors were fitted on look exactly like it, itself included"
            if count > 1
            else "no other of the records the detectors were fitted on looks exactly like it"
            for count in views["copies"]
        ]


@dataclass(frozen=True)
class HiddenCharacters:
    """Invisible, reversing, tag, look-alike and private characters (Boucher et al. 2022, "Bad Characters").

    Such characters change what a model reads and not what a person sees. Their number counts, on a logarithmic scale,
    and where it is not 0 the score starts at 14, minus the logarithm of a millionth; blobs and comments are left to
    `Payload`, for they have honest uses.
    """

    name: str = "hidden_characters"
    reads: tuple[str, ...] = ("characters",)
    family: ClassVar[str] = "hygiene"
    needs_label: ClassVar[bool] = False
    tail: ClassVar[str] = "known"

    def summarise(self, views: Views) -> Nothing:
        """There is nothing to fit: what a reader cannot see is odd in any text."""
        return Nothing(views.classes)

    def finish(self, summary: Nothing) -> CharactersScorer:  # noqa: ARG002  one protocol for all
        """Nothing to compute."""
        return CharactersScorer(0, _HIDDEN)


@dataclass(frozen=True)
class Payload:
    """Encoded blobs (base64, hexadecimal) and comments, which carry text past a reader (Greshake et al. 2023).

    In data where more than ``usual`` of the records have one they mean nothing, and every record scores 0.
    """

    name: str = "payload"
    usual: float = 0.003
    reads: tuple[str, ...] = ("characters",)
    family: ClassVar[str] = "hygiene"
    needs_label: ClassVar[bool] = False
    tail: ClassVar[str] = "known"

    def summarise(self, views: Views) -> Carriers:
        """How many records have one."""
        return Carriers(len(views), int((views["characters"][:, _HIDDEN:] > 0).any(axis=1).sum()))

    def finish(self, summary: Carriers) -> CharactersScorer:
        """Look at them, or not."""
        usual = summary.carriers > self.usual * max(summary.records, 1)
        return CharactersScorer(_HIDDEN, _HIDDEN if usual else None)


@dataclass(frozen=True)
class Carriers:
    """How many records there are, and how many of them have a payload."""

    records: int
    carriers: int

    def merge(self, other: Carriers) -> Carriers:
        """Sums."""
        return Carriers(self.records + other.records, self.carriers + other.carriers)


@dataclass(frozen=True)
class CharactersScorer:
    """Adds up columns ``first`` up to ``last`` of the characters view."""

    first: int
    last: int | None

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) 0 without such characters, else 14 and the logarithm of their number."""
        found = views["characters"][:, self.first : self.last].sum(axis=1).astype(np.float64)
        return np.where(found > 0, _CERTAIN + np.log(np.maximum(found, 1.0)), 0.0)

    def explain(self, views: Views) -> list[str]:
        """Which kinds, and how many."""
        names = views.names.get("characters", ())[self.first : self.last]
        said = []
        for counts in views["characters"][:, self.first : self.last]:
            found = [
                f"{count:.0f} {name if count > 1 else _single(name)}"
                for name, count in zip(names, counts, strict=False)
                if count > 0
            ]
            said.append(f"its text has {', '.join(found)}" if found else "its text hides nothing")
        return said


def _single(name: str) -> str:
    """The name of a kind of character as of one of them."""
    one = name.replace("characters", "character").replace("letters", "letter")
    return one.replace("character that reverse ", "character that reverses ")
