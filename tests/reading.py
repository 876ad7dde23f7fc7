"""Parses small files for tests of the readers."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from lazaretto.contract import Contract, parse_contract
from lazaretto.pipelines.read import parse
from lazaretto.pipelines.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lazaretto.records import Parsed


@dataclass(frozen=True)
class Read:
    """What parsing gave, all in memory."""

    parsed: Parsed
    frame: pl.DataFrame
    rejects: pl.DataFrame
    partitions: tuple[int, ...]
    """Rows of each partition."""

    @property
    def reasons(self) -> dict[int, str]:
        return dict(self.rejects.select("_row", "reason").iter_rows())

    @property
    def originals(self) -> dict[int, bytes]:
        return dict(self.rejects.select("_row", "original").iter_rows())


def contract_of(columns: str, **roles: str) -> Contract:
    """A contract from ``"a: integer, b: {type: text}"``."""
    lines = [f"{role}: {name}" for role, name in roles.items()]
    parts = [part.split(": ", 1) for part in columns.split("; ")]
    lines += ["columns:", *(f"  {n}: {k if k[0] == '{' else '{type: ' + k + ', nullable: true}'}" for n, k in parts)]
    return parse_contract("dataset: d\n" + "\n".join(lines), "test.yaml")


def read_files(files: Mapping[str, bytes], contract: Contract, *, folder: bool = False) -> Read:
    """Write the files, snapshot and parse them; ``folder`` gives their folder instead of each."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for file, content in files.items():
            path = root / "in" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        paths = [root / "in"] if folder else [root / "in" / file for file in files]
        batch = snapshot(paths, "d", root / "snapshot")
        parsed = parse(batch, contract, root / "work")
        parts = [pl.read_parquet(path) for path in parsed.partitions]
        frame = pl.concat(parts) if parts else pl.DataFrame()
        return Read(parsed, frame, pl.read_parquet(parsed.rejects), tuple(part.height for part in parts))


def read_csv(text: str | bytes, contract: Contract) -> Read:
    """Parse one CSV."""
    return read_files({"t.csv": text.encode() if isinstance(text, str) else text}, contract)


def read_jsonl(text: str | bytes, contract: Contract) -> Read:
    """Parse one file of JSON lines."""
    return read_files({"t.jsonl": text.encode() if isinstance(text, str) else text}, contract)


def parquet_of(frame: pl.DataFrame) -> bytes:
    """A frame as Parquet."""
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


def read_parquet(frame: pl.DataFrame, contract: Contract) -> Read:
    """Parse one frame as Parquet."""
    return read_files({"t.parquet": parquet_of(frame)}, contract)
