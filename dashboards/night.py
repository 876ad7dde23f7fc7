"""A night as one self-contained HTML file: what became of each data set, how that compares, what a drill would meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lazaretto.dashboards.charts import nights_chart
from lazaretto.dashboards.page import write_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Outcome = Mapping[str, Any]

UNUSUAL = 1e-3
"""A night with so many suspects by chance no oftener than once in three years stands out."""
_MOST_COLUMNS = 8
"""Columns whose drift is shown, the largest first."""
_TIED = 3
"""Attacks that are named where as little of each is caught; of more the first."""
_FEW = 10
"""Poisons of an attack below which its recall is hardly known."""
_PILLS = {"admitted": "green", "held": "amber", "refused": "red", "failed": "red", "nothing": ""}


def render_night(outcomes: Sequence[Outcome], target: Path) -> Path:
    """Write the page of a night.

    Args:
        outcomes: Of the data sets, as `lazaretto nightly --json` prints them.
        target: The file to write.
    """
    sections = [_section(outcome) for outcome in outcomes]
    return write_page("night.html", target, {"headline": _headline(outcomes), "sections": sections})


def render_drill(drill: Mapping[str, Any], target: Path) -> Path:
    """Write the page of one drill, given as `lazaretto drill --json` prints it."""
    return write_page("drill.html", target, {"drill": drilled(drill), "dataset": drill["dataset"]})


def drilled(drill: Mapping[str, Any]) -> dict[str, Any]:
    """A drill as the templates take it: the hardest attack first, and the weakest spot in a sentence."""
    if "error" in drill:
        return {"error": drill["error"]}
    weakest = weakest_spot(drill)
    return {
        **drill,
        "error": "",
        "found": hardest_first(drill),
        "sentence": weakest[:1].upper() + weakest[1:],
    }


def hardest_first(drill: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The attacks of a drill, those of which least was caught first."""
    return sorted(drill["found"], key=lambda one: (one["recall"], one["ranked"]))


def weakest_spot(drill: Mapping[str, Any]) -> str:
    """Which attack would get through most, in a sentence; empty where none was planted."""
    weakest = next((one for one in drill["found"] if one["attack"] == drill["weakest"]), None)
    if weakest is None:
        return ""
    every = weakest["caught"] == weakest["poisons"]
    said = "nothing got through; the least surely caught" if every else "weakest spot"
    alike = ("caught", "poisons")
    also = [one["title"] for one in drill["found"] if one is not weakest and all(one[k] == weakest[k] for k in alike)]
    titles = (
        " and ".join([weakest["title"], *also]) if len(also) < _TIED else f"{weakest['title']} and {len(also)} more"
    )
    each = " each" if also else ""
    few = "; so few say little: --records or --rate plants more" if weakest["poisons"] < _FEW else ""
    return f"{said}: {titles}, of which{each} {weakest['caught']} of {weakest['poisons']} would be caught{few}"


def _headline(outcomes: Sequence[Outcome]) -> str:
    """What a person on duty must know, in one sentence."""
    arrived = [one for one in outcomes if one["state"] != "nothing"]
    if not arrived:
        return "Nothing arrived"
    bad = [one for one in arrived if one["state"] != "admitted"]
    of_all = f"{len(arrived)} data set{'s' if len(arrived) != 1 else ''} that something arrived for"
    if not bad:
        waiting = sum(one["result"]["counts"]["quarantined"] for one in arrived)
        return f"Nothing is held; of {of_all}, {waiting:,} record{'s wait' if waiting != 1 else ' waits'}"
    names = ", ".join(f"{one['dataset']} {_HAPPENED[one['state']]}" for one in bad)
    return f"{len(bad)} of {of_all} {'need' if len(bad) > 1 else 'needs'} a person: {names}"


_HAPPENED = {"held": "is held", "refused": "was refused", "failed": "failed"}


def _section(outcome: Outcome) -> dict[str, Any]:
    drift = outcome["drift"]
    return {
        "dataset": outcome["dataset"],
        "state": outcome["state"],
        "pill": _PILLS[outcome["state"]],
        "sentence": outcome["sentence"],
        "batch": None if outcome["result"] is None else outcome["result"]["batch"],
        "nights": nights_chart(outcome["trend"], UNUSUAL),
        "drift": drift[:_MOST_COLUMNS],
        "more_drift": max(0, len(drift) - _MOST_COLUMNS),
        "largest": max([1.0, *(row["psi"] for row in drift)]),
        "drill": None if outcome["drill"] is None else drilled(outcome["drill"]),
    }
