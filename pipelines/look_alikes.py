"""Labels and columns that a person takes for one another.

A trailing space makes a label a class of its own, which no detector suspects; a Cyrillic letter makes a column one that
nobody judges. What trains on the data often strips such differences, and the records are then what they pretended not
to be.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

_BLANK = re.compile(r"\s+")
_INVISIBLE = re.compile("[\u00ad\u034f\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
"""Soft hyphens, joiners, directions, variation selectors; marks that change a letter are none of them."""
_NAMED = 3
_DRAWN_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u03bf\u03b1\u03bd\u03c1\u03b9\u0261"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u0408\u0405"
    "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "aeopcyxijshdqwoavpigABEKMHOPCTXIJSABEZHIKMNOPTYX",
)
"""Cyrillic and Greek letters that most fonts draw like Latin ones (after Unicode's list of confusables)."""


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


def odd_columns(names: Iterable[str], known: Collection[str]) -> list[str]:
    """What is wrong with columns that pretend to be others: a sentence for each, to follow the file's name.

    Args:
        names: Columns of a file.
        known: Those of the contract; they are as the user wants them.
    """
    by_look = {_drawn(name): name for name in known}
    found = []
    for name in names:
        if name in known:
            continue
        meant = by_look.get(_drawn(name))
        if meant is not None:
            found.append(f"the column {name!a} looks like {meant!a} of the contract and is another")
        elif _INVISIBLE.search(name):
            found.append(f"the column {name!a} holds characters that nobody sees")
    return found


def _drawn(name: str) -> str:
    return _look(name).translate(_DRAWN_ALIKE)
