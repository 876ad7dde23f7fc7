"""A recall as one self-contained HTML file to hand on: what was taken out, why, and which training runs read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lazaretto.dashboards.page import write_page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BY = {
    "source": "every record of source {value!r}",
    "batch": "every record of batch {value}",
    "records": "single records, by a list of ids (SHA-256 {value:.12}...)",
    "finding": "the records that carried the finding {value}",
    "after": "every record that came after version {value}",
}


def described(selection: Mapping[str, str]) -> str:
    """What a recall took out, in words."""
    return _BY[selection["by"]].format(value=selection["value"])


def render_recall(made: Mapping[str, Any], target: Path) -> Path:
    """Write the page of one recall.

    Args:
        made: As `lazaretto recall --json` prints it.
        target: The file to write.
    """
    content = {"recall": made, "what": described(made["selection"]), "returns": made["selection"]["return"] == "yes"}
    return write_page("recall.html", target, content)
