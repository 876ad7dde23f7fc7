"""A short rule that tells some records from others: at most three facts that hold together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lazaretto.detectors.facts import Fact

    Flags = NDArray[np.bool_]

LONGEST = 3
"""Facts in a rule at most: more nobody keeps in mind."""
_BEAM = 24
_WORTH = 0.01
"""What another fact must add to a rule's agreement, for a shorter rule is checked sooner."""
_LEAST = 0.6
"""A rule that finds a smaller share of the members describes nothing."""
_AMONG = 0.25
"""Nor one of whose finds a smaller share are members; a small one, as missed poisons are among the others."""
_LIFT = 5.0
"""Nor one that holds of members less than so many times as often as of others."""


@dataclass(frozen=True)
class Rule:
    """Facts that hold together, and of whom they do.

    Attributes:
        facts: In words, the most telling first.
        holds: (rows,) of the records the rule was learnt on.
    """

    facts: tuple[str, ...]
    holds: Flags

    @property
    def words(self) -> str:
        """The rule as a person says it."""
        return " and ".join(self.facts)


def short_rule(facts: Sequence[Fact], members: Flags, weight: float = 1.0) -> Rule | None:
    """The rule that agrees best with the members, by beam search; None where none describes them.

    Agreement is Dice's coefficient, twice the members found over members and finds together, less what it takes to
    check the facts.

    Args:
        facts: What may be said.
        members: (rows,) those to describe.
        weight: How many records each of the others stands for.
    """
    if not facts or not members.any():
        return None
    table = np.stack([fact.holds for fact in facts]).astype(np.float32)
    inside, outside = table[:, members], table[:, ~members]
    beam: list[tuple[int, ...]] = [()]
    best: tuple[float, tuple[int, ...]] = (0.0, ())
    for length in range(1, LONGEST + 1):
        scored = _longer(beam, facts, inside, outside, weight)
        if not scored:
            break
        beam = [chosen for _, chosen in scored[:_BEAM]]
        agreement = scored[0][0] - _WORTH * (length - 1)
        if agreement > best[0] + 1e-9:
            best = (agreement, scored[0][1])
    chosen = best[1]
    if not chosen:
        return None
    holds = np.logical_and.reduce([facts[place].holds for place in chosen])
    hit, false = int(holds[members].sum()), int(holds[~members].sum()) * weight
    inside_share, outside_share = hit / members.sum(), false / max((~members).sum() * weight, 1)
    if inside_share < max(_LEAST, _LIFT * outside_share) or hit < _AMONG * (hit + false):
        return None
    return Rule(tuple(facts[place].words for place in chosen), holds)


def _longer(
    beam: Sequence[tuple[int, ...]],
    facts: Sequence[Fact],
    inside: NDArray[np.float32],
    outside: NDArray[np.float32],
    weight: float,
) -> list[tuple[float, tuple[int, ...]]]:
    """Every rule of the beam with one fact more, the best agreement first."""
    # Counts are sums of ones, exact in any order that a matrix product adds them up in.
    hits, false = (
        np.stack([part[list(chosen)].prod(axis=0) for chosen in beam]) @ part.T for part in (inside, outside)
    )
    effort = np.array([fact.effort for fact in facts])
    spent = np.array([[effort[list(chosen)].sum()] for chosen in beam]) + effort
    agreement = 2 * hits / (inside.shape[1] + hits + weight * false) - spent
    scored: dict[tuple[int, ...], float] = {}
    for row, place in zip(*np.unravel_index(np.argsort(-agreement, axis=None, kind="stable"), agreement.shape)):  # noqa: B905  one length
        chosen, subjects = beam[row], {facts[i].subject for i in beam[row]}
        longer = (*chosen, int(place))
        if facts[place].subject not in subjects and tuple(sorted(longer)) not in {tuple(sorted(k)) for k in scored}:
            scored[longer] = float(agreement[row, place])
        if len(scored) == _BEAM:
            break
    return [(value, chosen) for chosen, value in scored.items()]
