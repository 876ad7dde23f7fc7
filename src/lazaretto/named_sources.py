"""What a summary's table of sources says of wrong labels, in a sentence for the terminal and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def named_sources(per_source: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    """Position and row of each source that was named for its labels, the surest first."""
    rows = [(at, row) for at, row in enumerate(per_source) if (row.get("wrong_labels") or {}).get("named")]
    return sorted(rows, key=lambda found: (float(found[1]["wrong_labels"]["p_value"]), found[0]))


def sentence(row: Mapping[str, Any]) -> str:
    """What is wrong with a named source, without its name."""
    found = row["wrong_labels"]
    return (
        f"about {found['share']:.0%} of its labels look wrong, though single ones may not "
        f"({row['arrived']:,} records, p = {found['p_value']:.1g}): look at this source before anything of it is used"
    )
