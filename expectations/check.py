"""Validates a parsed batch against its contract: which records break it, and whether the whole batch must wait.

Great Expectations passes on an empty suite, on zero rows, on columns that are all null and on an expectation that was
never evaluated; everything it says is therefore counted, and what does not add up holds the batch. Its counts give the
verdict, polars masks give the failing records, and the two must agree; where they do not, Great Expectations is asked
for the records of that one expectation, and a record that either names is rejected.

What needs every value at once is not evaluated chunk by chunk. Uniqueness is decided in parts that hold all records
with the same hash, so that memory stays bounded; for aggregates and orders the columns named are loaded whole, up to
``frames.WHOLE_BYTES``: a batch that needs more is held with a sentence that says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazaretto.expectations import frames
from lazaretto.expectations.evaluate import Run
from lazaretto.expectations.failures import FailureWriter
from lazaretto.expectations.suite import Suite, build_suite
from lazaretto.records import no_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lazaretto.contract import Contract
    from lazaretto.records import OnRows

FAILURES = "failures.parquet"
ALL_NULL_ROWS = 30
"""From this many records on, a column without any value holds the batch even where it is nullable; in fewer, chance."""


@dataclass(frozen=True)
class CheckResult:
    """The verdict on one batch."""

    failures: Path
    """Parquet with ``_row``, ``column`` and ``reason``: one row per failing record and expectation."""
    failed: int
    """Rows in ``failures``; a record that fails several expectations counts several times."""
    holds: tuple[str, ...]
    """Why the batch must wait, one sentence each; empty when it need not."""
    evaluated: int
    """Records that every expectation was evaluated on."""
    expected: int
    """Records the parser wrote."""
    results: tuple[dict[str, Any], ...]
    """Per expectation, plain JSON without values of cells: type, columns, origin, scope, severity, evaluated,
    unexpected, success, rows_by."""
    suite: Suite


def check(
    partitions: Sequence[Path],
    contract: Contract,
    into: Path,
    *,
    expected: int | None = None,
    on_rows: OnRows = no_rows,
) -> CheckResult:
    """Evaluate the contract and the user's expectations on canonical partitions.

    Args:
        partitions: Canonical Parquet files, ``_row`` ascending across them.
        contract: What was promised.
        into: Folder for ``failures.parquet``.
        expected: Records that the parser says it wrote; by default what the files say.
        on_rows: Called with the number of records just evaluated.

    Raises:
        ContractError: An expectation is wrong in itself.
    """
    suite = build_suite(contract)
    layout = frames.inspect(partitions, contract)
    into.mkdir(parents=True, exist_ok=True)
    with FailureWriter(into / FAILURES) as writer:
        run = Run(partitions, contract, suite, layout, writer)
        if not layout.faults and layout.rows and suite.expectations:
            run.everything(on_rows)
    wanted = layout.rows if expected is None else expected
    holds = [*layout.faults, *_missing(run, wanted), *_empty_columns(run), *run.faults()]
    return CheckResult(
        failures=into / FAILURES,
        failed=writer.rows,
        holds=tuple(dict.fromkeys(holds)),
        evaluated=run.evaluated,
        expected=wanted,
        results=tuple(run.results()),
        suite=suite,
    )


def _missing(run: Run, wanted: int) -> list[str]:
    """Sentences about records that were not evaluated: written, loaded and evaluated must be the same number."""
    if not run.suite.expectations:
        return ["the contract promises nothing: no expectation was evaluated"]
    if not run.layout.rows:
        return ["no record is left to validate"]
    found: list[str] = []
    if not run.layout.rows == run.loaded == wanted:
        found.append(
            f"{wanted} records were parsed, the partitions hold {run.layout.rows}, and validation read {run.loaded}"
        )
    if run.evaluated != wanted:
        found.append(f"only {run.evaluated} of {wanted} records were evaluated")
    return found


def _empty_columns(run: Run) -> list[str]:
    columns = run.contract.all_columns
    return [
        f"column {name!r} holds no value in any of {run.loaded} records"
        for name, nulls in run.nulls.items()
        if run.loaded and nulls == run.loaded and (not columns[name].nullable or run.loaded >= ALL_NULL_ROWS)
    ]
