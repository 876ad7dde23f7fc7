"""Holds quarantined records against today's contract, before a person's word lets them into the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lazaretto.contract import Contract
from lazaretto.parquet import read_parquet
from lazaretto.records import ROW

Recheck = Callable[[Sequence[Path], Contract, Path], dict[int, str]]
"""Canonical partitions, contract, scratch folder -> ``_row`` and reason of every record that breaks the contract."""


def recheck(partitions: Sequence[Path], contract: Contract, into: Path) -> dict[int, str]:
    """Validate single records: what the contract says about each, not what it says about a batch as a whole.

    Gives ``_row`` and reason of every record that breaks the contract; ``-1`` stands for all, when something was not
    evaluated.
    """
    from lazaretto.expectations.check import check

    checked = check(partitions, _about_records(contract), into)
    # A handful of records says nothing about a column that may be empty.
    empty = tuple(f"column {name!r} holds no value" for name, column in contract.all_columns.items() if column.nullable)
    for why in (why for why in checked.holds if not why.startswith(empty)):
        return {-1: why}
    failures = read_parquet(checked.failures).select(ROW, "reason").unique(ROW, keep="first", maintain_order=True)
    return dict(failures.iter_rows())


def _about_records(contract: Contract) -> Contract:
    """The contract without what only a whole batch can keep or break."""
    from lazaretto.expectations.suite import build_suite

    given = [item for item in build_suite(contract).expectations if item.origin == "user"]
    kept = tuple(said for said, item in zip(contract.expectations, given, strict=True) if item.scope == "record")
    policy = contract.policy.model_copy(update={"min_records": None, "max_records": None})
    return contract.model_copy(update={"expectations": kept, "policy": policy})
