"""The child's side of `lazaretto.pipelines.confine`: gives up what it does not need, answers one request, ends.

Run with ``python -m``. What it may still do once it has read the request is said in `lazaretto.pipelines.sandbox`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lazaretto.contract import Contract
from lazaretto.durable import refusal
from lazaretto.errors import InputRefused, LazarettoError, first_line, is_panic
from lazaretto.pipelines.sandbox import enter
from lazaretto.records import Batch, SourceFile

if TYPE_CHECKING:
    from collections.abc import Callable

_GIB = 2**30
_STATUS = Path("/proc/self/status")
_FETCHED = 4_096
"""Originals fetched at once."""


def main() -> None:
    """Answer one request."""
    # Only answers may reach the parent: whatever else prints, prints to the error stream.
    with os.fdopen(os.dup(1), "wb", buffering=0) as out:
        os.dup2(2, 1)
        request = json.loads(sys.stdin.buffer.readline())
        limit = _limiter(request["memory"], request["file_size"])
        copies = sorted({Path(file["copy"]).parent for file in request["files"]})
        _say(out, {"sandbox": asdict(enter(copies, [Path(request["into"])]))})
        threading.Thread(target=_die_with_parent, daemon=True).start()
        _say(out, _answer(request, out, limit))


def _answer(request: dict[str, Any], out: IO[bytes], limit: Callable[[], None]) -> dict[str, Any]:
    try:
        files = tuple(SourceFile(**{**file, "copy": Path(file["copy"])}) for file in request["files"])
        job = {"parse": _parse, "originals": _originals, "infer": _infer}[request["job"]]
        return job(Batch(request["dataset"], files), request, out, limit)
    except LazarettoError as error:
        return _refused(error)
    except MemoryError:
        allowed = f"{request['memory'] / _GIB:.3g} GiB"
        message = f"{request['files'][0]['name']} needs more than the {allowed} of memory a reader may use"
        return _refused(InputRefused(message, hint="it unpacks to far more than its size"))
    except BaseException as error:
        if is_panic(error):
            names = ", ".join(file["name"] for file in request["files"][:3])
            message = f"the reader broke off within {names}: {first_line(error)}"
            return _refused(InputRefused(message, hint="write the file anew with another program"))
        refused = refusal(error, Path(request["into"]).parent) if isinstance(error, Exception) else None
        if refused is None:
            raise
        return _refused(refused)


def _refused(error: LazarettoError) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": error.message, "hint": error.hint}


def _parse(batch: Batch, request: dict[str, Any], out: IO[bytes], limit: Callable[[], None]) -> dict[str, Any]:
    from lazaretto.pipelines.read import parse

    contract = Contract.model_validate_json(json.dumps(request["contract"]))
    limit()
    parsed = parse(batch, contract, Path(request["into"]), on_rows=lambda rows: _say(out, {"rows": rows}))
    answer = asdict(replace(parsed, batch=Batch(batch.dataset, ())))
    del answer["batch"]
    return answer


def _originals(batch: Batch, request: dict[str, Any], _out: IO[bytes], limit: Callable[[], None]) -> dict[str, Any]:
    import numpy as np
    import pyarrow.parquet as pq

    from lazaretto.pipelines.readers import Originals

    contract = Contract.model_validate_json(json.dumps(request["contract"]))
    folder = Path(request["into"])
    rows = np.array(json.loads((folder / "rows.json").read_bytes()), dtype=np.uint64)
    limit()
    originals = Originals(batch, contract)
    empty = originals.fetch(rows[:0]).to_arrow()
    with pq.ParquetWriter(folder / "originals.parquet", empty.schema, compression="zstd") as writer:
        for start in range(0, rows.size, _FETCHED):
            writer.write_table(originals.fetch(rows[start : start + _FETCHED]).to_arrow().cast(empty.schema))
    return {}


def _infer(batch: Batch, request: dict[str, Any], _out: IO[bytes], limit: Callable[[], None]) -> dict[str, Any]:
    from lazaretto.pipelines.infer import contract_text

    limit()
    return {"text": contract_text(batch, Path(request["into"]), request["named"])}


def _say(out: IO[bytes], answer: dict[str, Any]) -> None:
    out.write(json.dumps(answer, default=str).encode() + b"\n")


def _die_with_parent() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


def _limiter(memory: int, file_size: int) -> Callable[[], None]:
    """What limits this process when it is called; without such limits (Windows) the deadline alone holds.

    The kernel's account of this process is opened now, for soon it could not be.
    """
    account = _STATUS.open() if _STATUS.exists() else None

    def limit() -> None:
        try:
            import resource
        except ImportError:
            return
        # Data, not address space: on a machine of many cores allocators reserve far more addresses than they use.
        used = 0
        if account is not None:
            with account:
                lines = dict(line.split(":", 1) for line in account.read().splitlines())
            used = int(lines["VmData"].split()[0]) * 1024
        wanted = ((resource.RLIMIT_DATA, used + memory), (resource.RLIMIT_FSIZE, file_size), (resource.RLIMIT_CORE, 0))
        for which, value in wanted:
            _, hard = resource.getrlimit(which)
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901  never above the given
            resource.setrlimit(which, (value, value))  # the hard one too: what is lowered cannot be raised again

    return limit


if __name__ == "__main__":
    main()
