"""Whether records of some group wait, or are released, more often than others: tested, and said with its numbers.

A group is a value of a column that the contract names under ``groups``. Each is compared with all the others together
by Fisher's exact test (1922), two-sided, Bonferroni over everything that was compared; besides the rate has to be a
quarter higher at least, the margin of the four-fifths rule (US Equal Employment Opportunity Commission 1978), for of
many records any difference is significant. A difference is no proof of unfairness: poison may come from one group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVEL = 0.01
"""Chance at most that anything is said where all groups are alike."""
RATIO = 1.25
"""Times as often, at least."""

Counts = tuple[int, int]
"""How many, of how many."""


@dataclass(frozen=True)
class Inequality:
    """One group that something happens to more often than to the others."""

    column: str
    value: str
    count: int
    of: int
    others: int
    others_of: int
    p_value: float
    """Of the test, times the number of comparisons."""

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Inequality:
        """From a summary."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})

    @property
    def ratio(self) -> float | None:
        """How many times as often; None where it never happens to the others."""
        return None if not self.others else (self.count / self.of) / (self.others / self.others_of)

    def sentence(self, what: str, name: str | None = None) -> str:
        """In words.

        Args:
            what: What happens to the records, as ``wait``.
            name: The group's name where the value is not to be said.
        """
        often = "and no others do" if self.ratio is None else f"{self.ratio:.1f} times as often as the others"
        return (
            f"records with {self.column} = {name or self.value} {what} {often}: {self.count:,} of {self.of:,}"
            f" ({self.count / self.of:.1%}) beside {self.others:,} of {self.others_of:,}"
            f" ({self.others / self.others_of:.1%}), p = {self.p_value:.1g}"
        )


def unequal(groups: Mapping[str, Mapping[str, Counts]]) -> list[Inequality]:
    """The groups that something happens to more often than to the others, the surest first.

    Args:
        groups: Column -> value -> how many records of the group it happened to, of how many it could have.
    """
    from scipy.stats import fisher_exact

    compared = [
        (column, value, count, of, sum(c for c, _ in values.values()) - count, sum(o for _, o in values.values()) - of)
        for column, values in groups.items()
        for value, (count, of) in values.items()
    ]
    compared = [row for row in compared if row[3] and row[5]]
    found = []
    for column, value, count, of, others, others_of in compared:
        if count * others_of < RATIO * others * of or not count:
            continue
        p = float(fisher_exact([[count, of - count], [others, others_of - others]]).pvalue) * len(compared)
        if p <= LEVEL:
            found.append(Inequality(column, value, count, of, others, others_of, float(f"{p:.3g}")))
    return sorted(found, key=lambda one: (one.p_value, one.column, one.value))
