"""What was measured, one line of JSON each, so that an interrupted measurement goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from benchmarks.machine import code, processor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Key = tuple[str, str, str, int]
_TRAINED = "trained"
"""Key of a line that holds a `Trained`; a line without it is a `Run`."""


@dataclass(frozen=True)
class Run:
    """One method on one batch."""

    data: str
    attack: str
    """An entry of `PLANS`, or ``clean``."""
    title: str
    family: str
    method: str
    seed: int
    poisons: int
    recall_at_rate: float | None = None
    auroc: float | None = None
    decided_recall: float | None = None
    held: float | None = None
    """Share of the clean records that the method flagged."""
    seconds: float = 0.0
    peak_mib: float | None = None
    """Most memory at once above what was resident before; None where it was not measured."""
    aside: str = ""
    """Why the method does not run on this data."""
    detectors: dict[str, float] = field(default_factory=dict)
    """Lazaretto's detectors, each alone -> its recall at 1 %."""
    flagged: list[int] | None = None
    """Rows of the batch that the method does not admit; None where that was not recorded."""
    source_named: bool | None = None
    """Whether the source of all poisons was named; None where they are of several, or none was looked for."""
    innocents_named: int | None = None
    """Other sources that were named; None where none was looked for."""
    code: str = ""
    """The commit it was measured with; empty where that is not known."""
    processor: str = ""
    """What it was measured on."""

    @property
    def key(self) -> Key:
        """What makes a run another run."""
        return self.data, self.attack, self.method, self.seed


@dataclass(frozen=True)
class Trained:
    """What a model trained on some records of a batch does."""

    data: str
    attack: str
    """An entry of `PLANS`, or ``clean``."""
    title: str
    family: str
    on: str
    """``poisoned``, the batch as it arrived; ``clean``, the batch before it was poisoned; or the name of a method: what
    that admits of the poisoned one."""
    seed: int
    records: int
    """To train on."""
    accuracy: float
    """Share of unseen clean records it calls what they are."""
    triggered: int = 0
    """Records that the attacker cares about."""
    success: float | None = None
    """Share of them it calls what the attacker wants; None where he wants nothing of single records."""
    seconds: float = 0.0
    code: str = ""
    """The commit it was trained with; empty where that is not known."""
    processor: str = ""

    @property
    def key(self) -> Key:
        """What makes it another."""
        return self.data, self.attack, self.on, self.seed


class Record:
    """All that was measured, in memory and, where a file is named, appended to it."""

    def __init__(self, path: Path | None = None, others: Iterable[Path] = ()) -> None:
        """Read what there is.

        Args:
            path: Where new lines go; it need not exist.
            others: Further files, read before it: of two lines with the same key the later counts.
        """
        self.path = path
        self._code, self._processor = code(), processor()
        self.runs: dict[Key, Run] = {}
        self.trained: dict[Key, Trained] = {}
        for file in [*others, *([path] if path is not None and path.exists() else [])]:
            for line in file.read_text().splitlines():
                self._put(json.loads(line))

    def add(self, found: Run | Trained) -> None:
        """Print it, keep it, and append it to the file with what measured it."""
        found = replace(found, code=self._code, processor=self._processor)
        print(_said(found), flush=True)
        line: dict[str, Any] = asdict(found) if isinstance(found, Run) else {_TRAINED: asdict(found)}
        self._put(line)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _put(self, line: dict[str, Any]) -> None:
        if _TRAINED in line:
            trained = Trained(**line[_TRAINED])
            self.trained[trained.key] = trained
        else:
            run = Run(**line)
            self.runs[run.key] = run


def _said(found: Run | Trained) -> str:
    about = f"{found.data}: {found.title}, seed {found.seed}"
    if isinstance(found, Trained):
        success = _shown(found.success)
        return f"{about}, trained on {found.on}: accuracy {found.accuracy:.3f}, attack success {success}"
    said = f"recall {_shown(found.recall_at_rate)}, clean held {_shown(found.held)}, {found.seconds:.1f} s"
    return f"{about}, {found.method}: {found.aside or said}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
