"""A clock of day that jumps by days, forward and back, between commands and within them.

``boundaries.c`` lets a process read another time than it is. Every command begins at another time and every step within
it moves the clock once more. Afterwards nothing may be missing or there twice, the audit log must be in its order and
whole, and a gate that is told how old a publication may be must refuse one from the future.
"""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import boundaries, forked
from benchmarks.gate import admit_all
from benchmarks.journeys import DATASET
from lazaretto.config import Workspace, init_workspace
from lazaretto.errors import Blocked

if TYPE_CHECKING:
    from pathlib import Path

_CONTRACT = f"dataset: {DATASET}\nid: id\ncolumns:\n  id: {{type: category}}\n  x: {{type: integer}}\n"
_DAYS = 400
_DAY = 86_400.0
_EACH = 4


@dataclass
class Jumps:
    """What came of it."""

    commands: int = 0
    jumps: int = 0
    back: int = 0
    """Of the jumps, those to an earlier time."""
    lost: int = 0
    twice: int = 0
    asked: int = 0
    """Times the gate was asked for a publication that is in the future by its clock."""
    let_through: int = 0
    """Of those, the ones it said yes to."""
    said: list[str] = field(default_factory=list)


class _Jumping:
    """A clock that is set anew at every step."""

    def __init__(self, seed: str) -> None:
        self.rng = random.Random(seed)  # noqa: S311  when to jump is no secret
        self.at = 0.0
        self.jumps = self.back = 0

    def __call__(self, _step: str = "") -> None:
        before, self.at = self.at, self.rng.uniform(-_DAYS, _DAYS) * _DAY
        self.jumps += 1
        self.back += self.at < before
        boundaries.shift_clock(self.at)


def command(workspace: Workspace, file: Path, seed: str) -> dict[str, int]:
    """One ingest while the clock jumps; the batch is sent twice."""
    from lazaretto.pipelines.ingest import ingest

    clock = _Jumping(seed)
    clock()
    first = ingest(workspace, [file], DATASET, judge=admit_all, on_step=clock)
    clock()
    again = ingest(workspace, [file], DATASET, judge=admit_all, on_step=clock)
    return {"jumps": clock.jumps, "back": clock.back, "wrong": int(first.already or not again.already)}


def asked(workspace: Workspace, ahead: float) -> bool:
    """Whether the gate, by a clock that is so many days behind the newest publication's, says yes to one of today."""
    from lazaretto import gate

    published = datetime.fromisoformat(gate(DATASET, workspace=workspace).issued_at)
    boundaries.shift_clock((published - datetime.now(UTC)).total_seconds() - ahead * _DAY)
    try:
        gate(DATASET, workspace=workspace, max_age="24h")
    except Blocked as error:
        if "in the future" not in error.message:
            raise
        return False
    return True


def jumped(folder: Path, batches: int, seed: int, minutes: float = math.inf) -> Jumps:
    """Let the clock jump through the ingests of so many batches, each sent twice, or until the time is over."""
    workspace, _ = init_workspace(folder / "workspace")
    workspace.contract(DATASET).write_text(_CONTRACT)
    found, rng = Jumps(), random.Random(seed)  # noqa: S311  the same
    began, sent = time.monotonic(), 0
    for number in range(batches):
        if time.monotonic() - began > 60 * minutes:
            break
        sent += 1
        file = folder / f"batch-{number}.csv"
        file.write_text("id,x\n" + "".join(f"{name},{row}\n" for row, name in enumerate(_ids(number))))
        ended = forked.work(partial(command, workspace, file, f"{seed} {number}"))
        found.commands += 2
        if ended.value is None:
            found.said.append(ended.refused or ended.crashed)
            continue
        found.jumps += ended.value["jumps"]
        found.back += ended.value["back"]
        if ended.value["wrong"]:
            found.said.append(f"batch {number} was not known when it came again, or known before it came")
        answer = forked.work(partial(asked, workspace, rng.uniform(0.1, _DAYS)))
        found.asked += 1
        found.let_through += answer.value is not False
        found.said += [answer.refused or answer.crashed] if answer.value is None else []
    counted = forked.work(partial(_count, workspace, sent))
    found.said += counted.value["said"] if counted.value else [counted.refused or counted.crashed]
    if counted.value:
        found.lost, found.twice = counted.value["lost"], counted.value["twice"]
    return found


def _ids(number: int) -> list[str]:
    return [f"b{number}-r{row}" for row in range(_EACH)]


def _count(workspace: Workspace, batches: int) -> dict[str, Any]:
    from collections import Counter

    from benchmarks.invariants import account
    from lazaretto.pipelines.verify import verify

    found = account(workspace)
    have = Counter(name for name, _ in found["stored"])
    want = Counter(name for number in range(batches) for name in _ids(number))
    said = list(verify(workspace).findings)
    units = [entry[3] for entry in found["chain"]]
    admitted = [entry.removeprefix("batch.admitted ") for entry in found["audit"]]
    if admitted != units:
        said.append("the audit log tells the publications in another order than they were made in")
    return {"lost": (want - have).total(), "twice": (have - want).total(), "said": said}
