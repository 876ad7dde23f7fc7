"""Lets hostile bytes be parsed in a child process with limits: a crash, or a bomb of 500 bytes, ends in a sentence.

The child is `lazaretto.pipelines.confined`. It gets the request as one line on its standard input, answers with lines
of JSON, and ends when its standard input does: it never outlives the process that asked. It writes into a folder of its
own inside the work folder; what it leaves there is looked at, and moved to its place, only after it has ended.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazaretto import errors
from lazaretto.durable import writable
from lazaretto.errors import InputRefused, LazarettoError
from lazaretto.pipelines.sandbox import Sandbox, environment
from lazaretto.records import OnRows, Parsed, no_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lazaretto.contract import Contract
    from lazaretto.records import Batch

_GIB = 2**30
_LAST_SECONDS = 5.0
"""How long a child that has closed its output may take to end."""


@dataclass(frozen=True)
class Limits:
    """What the child may use."""

    memory: int = 6 * _GIB
    """Bytes beyond what an idle reader has; parsing uses less than one GiB, but an allocator reserves one more."""
    seconds: float = 600.0
    """Wall-clock time, whatever the size of the input."""
    seconds_per_mib: float = 5.0
    """More time for each MiB of input; parsing takes about a tenth of a second."""
    file_size: int = 64 * _GIB
    """Bytes of the largest file written."""

    def deadline(self, batch: Batch) -> float:
        """Seconds allowed for a batch."""
        return self.seconds + self.seconds_per_mib * sum(file.size for file in batch.files) / 2**20


def parse_confined(
    batch: Batch, contract: Contract, into: Path, *, on_rows: OnRows = no_rows, limits: Limits | None = None
) -> Parsed:
    """Do what `lazaretto.pipelines.read.parse` does, in a child process.

    Raises:
        InputRefused: As `parse`; also when the child needs more than its limits allow, or crashes.
        UsageError: As `parse`.
    """
    into = into.absolute()
    asked = {"job": "parse", "contract": _written(contract)}
    with _desk(into) as desk:
        answer = _asked(batch, asked, desk, on_rows, limits or Limits())
        partitions = [Path(path) for path in answer["partitions"]]
        if any(path.parent != desk / "canonical" for path in partitions):
            raise InputRefused(f"the reader of {_names(batch)} broke off")
        with writable(into):
            for path in (*partitions, Path(desk / "rejects.parquet")):
                _refuse_odd(path, batch)
            shutil.rmtree(into / "canonical", ignore_errors=True)
            (desk / "canonical").replace(into / "canonical")
            (desk / "rejects.parquet").replace(into / "rejects.parquet")
    return Parsed(
        batch=batch,
        partitions=tuple(into / "canonical" / path.name for path in partitions),
        rejects=into / "rejects.parquet",
        arrived=int(answer["arrived"]),
        rejected=int(answer["rejected"]),
        ignored_columns=tuple(answer["ignored_columns"]),
        holds=tuple(answer["holds"]),
    )


def originals_confined(batch: Batch, contract: Contract, rows: Sequence[int], into: Path) -> Path:
    """Write ``_row``, ``file`` and ``original`` of some records to a Parquet file, in a child process.

    Args:
        batch: The batch.
        contract: The contract it was parsed by.
        rows: Positions in the batch, ascending.
        into: The file.

    Raises:
        InputRefused: The child needs more than its limits allow, or crashes.
    """
    with _desk(into.parent.absolute()) as desk:
        (desk / "rows.json").write_text(json.dumps([int(row) for row in rows]))
        _asked(batch, {"job": "originals", "contract": _written(contract)}, desk, no_rows, Limits())
        _refuse_odd(desk / "originals.parquet", batch)
        with writable(into.parent):
            (desk / "originals.parquet").replace(into)
    return into


def infer_confined(batch: Batch, named: Sequence[str], into: Path) -> str:
    """A first contract for a batch as YAML, made in a child process; see `lazaretto.pipelines.infer.infer`.

    Args:
        batch: The snapshot.
        named: The files as the user named them, for the comment at the contract's head.
        into: A folder for scratch files.

    Raises:
        InputRefused: As `infer`; also when the child needs more than its limits allow, or crashes.
    """
    with _desk(into.absolute()) as desk:
        return str(_asked(batch, {"job": "infer", "named": list(named)}, desk, no_rows, Limits())["text"])


def _written(contract: Contract) -> dict[str, Any]:
    return contract.model_dump(mode="json", exclude_unset=True)


@contextmanager
def _desk(into: Path) -> Iterator[Path]:
    """A fresh folder that a child may write, gone when it has ended."""
    desk = into / "reading"
    shutil.rmtree(desk, ignore_errors=True)
    with writable(into):
        desk.mkdir(parents=True)
    try:
        yield desk
    finally:
        shutil.rmtree(desk, ignore_errors=True)


def _refuse_odd(path: Path, batch: Batch) -> None:
    """Take no link or device for a result, whatever took the child over."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InputRefused(f"the reader of {_names(batch)} broke off")


def _asked(batch: Batch, asked: dict[str, Any], desk: Path, on_rows: OnRows, limits: Limits) -> dict[str, Any]:
    """The child's answer to a request; its refusals are raised."""
    request = {
        **asked,
        "dataset": batch.dataset,
        "files": [{**asdict(file), "copy": str(file.copy.absolute())} for file in batch.files],
        "into": str(desk),
        "memory": limits.memory,
        "file_size": limits.file_size,
    }
    # Without -P a polars.py lying in the current folder would be imported.
    command = [sys.executable, "-P", "-m", "lazaretto.pipelines.confined"]
    with subprocess.Popen(  # noqa: S603  our own module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(desk),
        start_new_session=True,  # Ctrl-C is the parent's to answer: it ends the child
    ) as child:
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(limits.deadline(batch), end)
        timer.start()
        try:
            answer = _converse(child, request, on_rows)
            if answer is None:
                # It may still be dying of its own; killed now, it would seem to have been stopped from outside.
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_LAST_SECONDS)
        finally:
            timer.cancel()
            child.kill()
    if answer is None:
        raise _ended(batch, child.returncode, limits, late=late.is_set())
    if "error" in answer:
        raise _error(answer)
    return answer


def _converse(child: subprocess.Popen[bytes], request: dict[str, Any], on_rows: OnRows) -> dict[str, Any] | None:
    """The child's last word, or None if it ended without one."""
    if child.stdin is None or child.stdout is None:
        raise ValueError("the child has no pipes")
    try:
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
    except BrokenPipeError:
        return None
    for line in child.stdout:
        answer: dict[str, Any] = json.loads(line)
        if "sandbox" in answer:
            _say_once(Sandbox(**answer["sandbox"]))
        elif "rows" in answer:
            on_rows(answer["rows"])
        else:
            return answer
    return None


@cache
def _say_once(sandbox: Sandbox) -> None:
    if not (sandbox.files and sandbox.calls):
        logging.getLogger(__name__).warning("the sandbox of the reader: %s", sandbox.words)


def _names(batch: Batch) -> str:
    return batch.files[0].name + (f" and {len(batch.files) - 1} more" if len(batch.files) > 1 else "")


def _ended(batch: Batch, status: int, limits: Limits, *, late: bool) -> LazarettoError:
    names = _names(batch)
    hint = "a file that unpacks to far more than its size is refused; split a large one into several"
    if late:
        return InputRefused(f"reading {names} took longer than {limits.deadline(batch):,.0f} seconds", hint=hint)
    why = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return InputRefused(
        f"reading {names} ended the reader ({why}); it may use {limits.memory / _GIB:.3g} GiB of memory", hint=hint
    )


def _error(answer: dict[str, Any]) -> LazarettoError:
    kind = getattr(errors, str(answer["error"]), LazarettoError)
    if not (isinstance(kind, type) and issubclass(kind, LazarettoError)):
        kind = LazarettoError
    return kind(str(answer["message"]), hint=answer["hint"])
