"""What the sandbox costs a parse: how long it takes to enter, and how much slower a parse is inside.

python -m benchmarks.hostile_overhead
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.hostile_run import in_a_child, parsed
from benchmarks.hostile_tables import as_csv, contract_for, rows
from lazaretto.pipelines.sandbox import enter, offered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_REPEATS = 5
_RECORDS = 30_000


def overhead() -> str:
    """A line: medians of parses inside and outside, in turn, each in a process forked from a warm one.

    Processor time: the wall clock tells more of what else the machine does.
    """
    with tempfile.TemporaryDirectory(prefix="lazaretto-overhead-") as place:
        path = Path(place) / "d.csv"
        some = rows()
        path.write_bytes(as_csv([{**some[at % len(some)], "id": f"r{at}"} for at in range(_RECORDS)]))
        entered: list[float] = []
        inside: list[float] = []
        outside: list[float] = []
        for number in range(_REPEATS):
            for confined in (True, False):
                work = Path(place) / f"{number}{confined}"
                found = in_a_child(lambda work=work, confined=confined: _timed(path, work, confined=confined), 120.0)  # type: ignore[misc]
                (inside if confined else outside).append(found["parsing"])
                if confined:
                    entered.append(found["entering"])
    a, b = statistics.median(inside), statistics.median(outside)
    return (
        f"The sandbox ({offered().words}): {statistics.median(entered) * 1_000:.1f} ms to enter; {_RECORDS:,} records "
        f"of CSV take {a:.2f} s of processor time inside, {b:.2f} s outside (medians of {_REPEATS}, in turn: "
        f"{(a / b - 1) * 100:+.0f} %)."
    )


def _timed(path: Path, work: Path, *, confined: bool) -> Mapping[str, Any]:
    from lazaretto.pipelines.snapshot import snapshot

    batch = snapshot([path], "d", work / "snapshot")
    (work / "out").mkdir()
    began = time.process_time()
    if confined:
        enter([work / "snapshot"], [work / "out"])
    entered = time.process_time()
    ended = parsed(batch, contract_for("csv"), work / "out")
    return {**asdict(ended), "entering": entered - began, "parsing": time.process_time() - entered}


def main() -> None:
    """Measure and print."""
    from benchmarks.hostile import warm

    warm()
    print(overhead())


if __name__ == "__main__":
    main()
