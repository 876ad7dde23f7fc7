"""Parses in a child process with limits: a 500-byte Parquet can decode to terabytes, and a crash must stay a sentence.

The child is this module run with ``python -m``. It gets the request as one line on its standard input, answers with
lines of JSON, and ends when its standard input does: it never outlives the process that asked.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from lazaretto import errors
from lazaretto.contract import Contract
from lazaretto.durable import refusal
from lazaretto.errors import InputRefused, LazarettoError, first_line, is_panic
from lazaretto.records import Batch, OnRows, Parsed, SourceFile, no_rows

_GIB = 2**30
_STATUS = Path("/proc/self/status")
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
    limits = limits or Limits()
    request = {
        "dataset": batch.dataset,
        "files": [{**asdict(file), "copy": str(file.copy)} for file in batch.files],
        "contract": contract.model_dump(mode="json", exclude_unset=True),
        "into": str(into),
        "memory": limits.memory,
        "file_size": limits.file_size,
    }
    # Without -P a polars.py lying in the current folder would be imported.
    command = [sys.executable, "-P", "-m", "lazaretto.pipelines.confine"]
    with subprocess.Popen(  # noqa: S603  our own module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
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
    return _parsed(batch, answer)


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
        if "rows" not in answer:
            return answer
        on_rows(answer["rows"])
    return None


def _ended(batch: Batch, status: int, limits: Limits, *, late: bool) -> LazarettoError:
    names = batch.files[0].name + (f" and {len(batch.files) - 1} more" if len(batch.files) > 1 else "")
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


def _parsed(batch: Batch, answer: dict[str, Any]) -> Parsed:
    return Parsed(
        batch=batch,
        partitions=tuple(Path(path) for path in answer["partitions"]),
        rejects=Path(answer["rejects"]),
        arrived=int(answer["arrived"]),
        rejected=int(answer["rejected"]),
        ignored_columns=tuple(answer["ignored_columns"]),
        holds=tuple(answer["holds"]),
    )


def main() -> None:
    """Answer one request: the child's side."""
    # Only answers may reach the parent: whatever else prints, prints to the error stream.
    with os.fdopen(os.dup(1), "wb", buffering=0) as out:
        os.dup2(2, 1)
        request = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=_die_with_parent, daemon=True).start()
        try:
            answer = _answer(request, out)
        except LazarettoError as error:
            answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
        except MemoryError:
            allowed = f"{request['memory'] / _GIB:.3g} GiB"
            message = f"{request['files'][0]['name']} needs more than the {allowed} of memory a reader may use"
            answer = {"error": "InputRefused", "message": message, "hint": "it unpacks to far more than its size"}
        except BaseException as error:
            if is_panic(error):
                names = ", ".join(file["name"] for file in request["files"][:3])
                message = f"the reader broke off within {names}: {first_line(error)}"
                refused: LazarettoError | None = InputRefused(message, hint="write the file anew with another program")
            elif isinstance(error, Exception):
                refused = refusal(error, Path(request["into"]))
            else:
                refused = None
            if refused is None:
                raise
            answer = {"error": type(refused).__name__, "message": refused.message, "hint": refused.hint}
        _say(out, answer)


def _answer(request: dict[str, Any], out: IO[bytes]) -> dict[str, Any]:
    from lazaretto.pipelines.read import parse

    files = tuple(SourceFile(**{**file, "copy": Path(file["copy"])}) for file in request["files"])
    contract = Contract.model_validate_json(json.dumps(request["contract"]))
    _limit(request["memory"], request["file_size"])
    batch = Batch(request["dataset"], files)
    parsed = parse(batch, contract, Path(request["into"]), on_rows=lambda rows: _say(out, {"rows": rows}))
    answer = asdict(replace(parsed, batch=Batch(batch.dataset, ())))
    del answer["batch"]
    return answer


def _say(out: IO[bytes], answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer, default=str).encode() + b"\n")


def _die_with_parent() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


def _limit(memory: int, file_size: int) -> None:
    """Limit this process; where the system has no such limits (Windows) the deadline alone holds."""
    try:
        import resource
    except ImportError:
        return
    # Data, not address space: on a machine of many cores allocators reserve far more addresses than they use.
    used = 0
    if _STATUS.exists():
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        used = int(lines["VmData"].split()[0]) * 1024
    wanted = ((resource.RLIMIT_DATA, used + memory), (resource.RLIMIT_FSIZE, file_size), (resource.RLIMIT_CORE, 0))
    for which, value in wanted:
        _, hard = resource.getrlimit(which)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901  never above the given
        resource.setrlimit(which, (value, hard))


if __name__ == "__main__":
    main()
