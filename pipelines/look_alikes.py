"""Labels that a person takes for one another: a trailing space makes a class of its own, which no detector suspects.

What trains on the data often strips such differences, and the records are then what they pretended not to be.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLANK = re.compile(r"\s+")
_INVISIBLE = re.compile("[\u00ad\u034f\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
"""Soft hyphens, joiners, directions, variation selectors; marks that change a letter are none of them."""
_NAMED = 3


def look_alikes(counts: Mapping[str, int], *, withheld: bool = False) -> str | None:
    """A sentence if labels differ only in blanks, invisible characters or how their characters are composed, else None.

    Args:
        counts: Label -> records.
        withheld: Whether no label may be named.
    """
    by_look: dict[str, list[str]] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        by_look.setdefault(_look(label), []).append(label)
    found = [labels for labels in by_look.values() if len(labels) > 1]
    if not found:
        return None
    rarer = [label for _, *others in found for label in others]
    records = sum(counts[label] for label in rarer)
    named = ", ".join(f"{other!a} beside {first!a}" for first, *others in found for other in others[:1])
    which = "" if withheld else f" ({named if len(found) <= _NAMED else named.split(', ')[0] + ' and others'})"
    return (
        f"some of its labels look like others and are not{which}: {records:,} records have the rarer one; correct "
        f"them, or list every label that is meant under 'values' of the label's column"
    )


def _look(label: str) -> str:
    """The label without what nobody sees: NFKC, no invisible characters, blanks as one."""
    composed = unicodedata.normalize("NFKC", label)
    return _BLANK.sub(" ", _INVISIBLE.sub("", composed)).strip()
