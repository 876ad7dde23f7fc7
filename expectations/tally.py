"""What the answers about one expectation add up to over a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazaretto.contract import Contract
    from lazaretto.expectations.suite import Expectation


@dataclass
class Tally:
    """What the answers about one expectation add up to."""

    evaluated: int = 0
    missing: int = 0
    unexpected: int = 0
    answers: int = 0
    agreed: bool = True
    """Of expectations that count no records: every answer so far was yes."""
    observed: Any = None
    rows_by: str | None = None
    """Who named the failing records: ``mask`` or ``great expectations``; None when none failed."""
    faults: list[str] = field(default_factory=list)

    def success(self, expectation: Expectation) -> bool:
        """Whether the batch as a whole meets it."""
        if self.faults:
            return False
        if not expectation.kind.by_record:
            return self.agreed and (self.answers > 0 or expectation.kind.span == "dtype")
        considered = self.evaluated - self.missing
        # As Great Expectations computes it, but over the batch: chunk by chunk a share means something else.
        return considered <= 0 or (considered - self.unexpected) / considered >= expectation.mostly

    def result(self, expectation: Expectation, contract: Contract, loaded: int) -> dict[str, Any]:
        """Plain JSON; no value of a cell is in it. Nothing succeeds where no record was loaded."""
        by_record = expectation.kind.by_record
        return {
            "type": expectation.type,
            "columns": list(expectation.columns),
            "origin": expectation.origin,
            "scope": expectation.scope,
            "severity": expectation.severity,
            "evaluated": self.evaluated if by_record else None,
            "unexpected": self.unexpected if by_record else None,
            "observed": self._number(expectation, contract),
            "success": loaded > 0 and self.success(expectation),
            "rows_by": self.rows_by,
        }

    def broken(self, expectation: Expectation, contract: Contract) -> str:
        """In what way it is not met."""
        if expectation.kind.by_record:
            considered = self.evaluated - self.missing
            return f"{self.unexpected} of {considered} records fail, and at most {1 - expectation.mostly:.2%} may"
        plain = {name: value for name, value in expectation.kwargs.items() if isinstance(value, int | float | str)}
        asked = ", ".join(f"{name} {value}" for name, value in plain.items() if name != "column")
        observed = self._number(expectation, contract)
        return f"{'' if observed is None else f'observed {observed}; '}asked for {asked or 'what the contract lists'}"

    def _number(self, expectation: Expectation, contract: Contract) -> float | int | None:
        """What was observed where that is a number about the column; not where it is a cell, or personal data."""
        private = any(contract.all_columns[name].pii for name in expectation.columns)
        value = self.observed
        if private or isinstance(value, bool | str) or not hasattr(value, "__float__"):
            return None
        number = float(value)
        if not math.isfinite(number):
            return None
        return int(number) if number.is_integer() else number


def shape_result(name: str, tally: Tally) -> dict[str, Any]:
    """The result of our own look at a vector column, in the same form."""
    return {
        "type": "vector_shape",
        "columns": [name],
        "origin": "contract",
        "scope": "record",
        "severity": "critical",
        "evaluated": tally.evaluated,
        "unexpected": tally.unexpected,
        "observed": None,
        "success": tally.unexpected == 0,
        "rows_by": tally.rows_by,
    }
