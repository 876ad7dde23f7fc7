"""Which code measured what, and on which processor: figures of several days stand on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.detection_report import table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.record import Run, Trained

_UNKNOWN = "not recorded"


def provenance(runs: Iterable[Run], trained: Iterable[Trained] = ()) -> list[str]:
    """A section with a line for each commit and processor; peers are one, for their code is not ours."""
    found: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for run in runs:
        what = run.method if run.method.startswith("Lazaretto") else "peers"
        _add(found, (run.code, run.processor), what, run.data)
    for model in trained:
        _add(found, (model.code, model.processor), "models trained before and after", model.data)
    rows = [
        (code or _UNKNOWN, processor or _UNKNOWN, "; ".join(f"{what}: {', '.join(data)}" for what, data in by.items()))
        for (code, processor), by in found.items()
    ]
    return ["## Measured with", table(("code", "processor", "what"), rows)]


def _add(found: dict[tuple[str, str], dict[str, dict[str, None]]], key: tuple[str, str], what: str, data: str) -> None:
    found.setdefault(key, {}).setdefault(what, {})[data] = None
