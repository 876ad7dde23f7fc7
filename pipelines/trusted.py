"""The trusted set: records known good, held to the contract without exception."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from lazaretto.errors import UsageError
from lazaretto.expectations.check import check
from lazaretto.parquet import read_parquet
from lazaretto.pipelines.confine import parse_confined
from lazaretto.pipelines.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.contract import Contract

_HINT = "a trusted set must hold to the contract without exception"


def read_trusted(contract: Contract, named: Sequence[str], into: Path) -> pl.DataFrame | None:
    """The trusted records, parsed and checked like any batch; None where there are none to read.

    Args:
        contract: What they must hold to, and where they lie if they are not named.
        named: Files, folders or globs; by default what the contract's ``trusted`` says.
        into: Folder for everything that is written.

    Raises:
        UsageError: They are not there, or a single record does not hold to the contract.
        InputRefused: A file is no data file.
    """
    paths = list(named) or _paths_of(contract)
    if not paths:
        return None
    batch = snapshot(paths, contract.dataset, into / "snapshot")
    parsed = parse_confined(batch, contract, into)
    if parsed.rejected:
        first = read_parquet(parsed.rejects, n_rows=1)
        raise UsageError(
            f"{parsed.rejected} of {parsed.arrived} trusted records do not parse; the first: {first['reason'][0]}",
            hint=_HINT,
        )
    # The contract's volume is a batch's; how many records are trusted is the user's choice.
    any_volume = contract.policy.model_copy(update={"min_records": None, "max_records": None})
    checked = check(
        parsed.partitions, contract.model_copy(update={"policy": any_volume}), into, expected=parsed.arrived
    )
    holds = [*parsed.holds, *checked.holds]
    if checked.failed or holds:
        why = holds[0] if holds else read_parquet(checked.failures, n_rows=1)["reason"][0]
        raise UsageError(f"the trusted set breaks the contract: {why}", hint=_HINT)
    return pl.concat([read_parquet(file) for file in parsed.partitions])


def _paths_of(contract: Contract) -> list[str]:
    """What the contract's ``trusted`` names, counted from the contract's folder."""
    if contract.trusted is None:
        return []
    base = contract.path.parent if contract.path else Path()
    if os.path.lexists(base / contract.trusted):
        return [str(base / contract.trusted)]
    # Of the folder's own name nothing is a pattern, whatever characters it has.
    pattern = os.path.join(glob.escape(str(base)), contract.trusted)  # noqa: PTH118  a Path would drop the escapes
    if glob.has_magic(contract.trusted) and glob.glob(pattern, recursive=True):  # noqa: PTH207  the pattern is absolute
        return [pattern]
    raise UsageError(
        f"the trusted set {base / contract.trusted} is not there",
        hint=f"put records known good there, or correct 'trusted' in the contract: it counts from {base.absolute()}",
    )
