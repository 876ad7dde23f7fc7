"""From a contract to a suite of expectations, as plain data: Great Expectations is not imported here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from lazaretto.errors import ContractError
from lazaretto.expectations.catalog import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lazaretto.contract import Column, Contract

Severity = Literal["critical", "warning", "info"]
Scope = Literal["record", "batch"]
Origin = Literal["contract", "user"]

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")


@dataclass(frozen=True)
class Expectation:
    """One promise about the data, and what follows when it is broken."""

    type: str
    """Great Expectations' name, ``expect_...``."""
    kwargs: Mapping[str, Any]
    """Plain JSON values, as Great Expectations takes them."""
    severity: Severity = "critical"
    """``warning`` and ``info`` are reported and change nothing."""
    scope: Scope = "record"
    """``record``: a record that fails is rejected. ``batch``: the batch is held."""
    origin: Origin = "contract"

    @property
    def kind(self) -> Kind:
        """What the catalog says about the type."""
        return KINDS[self.type]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it looks at, in the order it names them; not those of its row condition."""
        named: list[str] = []
        for argument, form in self.kind.arguments.items():
            value = self.kwargs.get(argument)
            if form == "column" and value is not None:
                named.append(value)
            elif form == "columns":
                named += value or ()
        return tuple(dict.fromkeys(named))

    @property
    def condition(self) -> Mapping[str, Any] | None:
        """Which records it is about; None means all."""
        return cast("Mapping[str, Any] | None", self.kwargs.get("row_condition"))

    @property
    def mostly(self) -> float:
        """Share of the non-null records that must meet it."""
        return float(self.kwargs.get("mostly", 1))

    @property
    def enforced(self) -> bool:
        """Whether breaking it has consequences."""
        return self.severity == "critical"

    @property
    def title(self) -> str:
        """A short name for messages: ``expect_column_mean_to_be_between on distance``."""
        return f"{self.type} on {', '.join(self.columns)}" if self.columns else self.type


@dataclass(frozen=True)
class Suite:
    """A named list of expectations."""

    name: str
    expectations: tuple[Expectation, ...]

    def to_json(self) -> str:
        """Plain JSON that Great Expectations loads (``ExpectationSuite(**json.loads(text))``).

        The same contract gives the same bytes: no random ids, no dates, no versions.
        """
        listed = [
            {
                "type": expectation.type,
                "kwargs": dict(sorted(expectation.kwargs.items())),
                "severity": expectation.severity,
                "meta": {"origin": expectation.origin, "scope": expectation.scope},
            }
            for expectation in self.expectations
        ]
        suite = {"name": self.name, "expectations": listed, "meta": {}}
        return json.dumps(suite, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def build_suite(contract: Contract) -> Suite:
    """Everything the contract promises, then what the user added, as one suite.

    Raises:
        ContractError: One of the user's expectations is misspelt, incomplete or does not fit its columns.
    """
    from lazaretto.expectations.entries import read_entries

    found: list[Expectation] = []
    for name, column in contract.all_columns.items():
        found += _promised(name, column)
    if contract.id is not None:
        found.append(Expectation("expect_column_values_to_be_unique", {"column": contract.id}))
    found += _volume(contract)
    found += read_entries(contract)
    kept: dict[str, Expectation] = {}
    for expectation in found:
        said = json.dumps([expectation.type, expectation.severity, expectation.kwargs], sort_keys=True)
        kept.setdefault(said, expectation)
    return Suite(contract.dataset, tuple(kept.values()))


def write_suite(suite: Suite, path: Path) -> None:
    """Write the suite where a person, a diff or Great Expectations can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(suite.to_json(), encoding="utf-8")


def read_suite(path: Path) -> Suite:
    """Read a suite that ``write_suite`` wrote.

    Raises:
        ContractError: The file is missing, no JSON, or holds something that is no expectation.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        expectations = tuple(_from_json(item) for item in data["expectations"])
        return Suite(str(data["name"]), expectations)
    except OSError as error:
        raise ContractError(f"suite {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError(
            f"suite {path} is not one that lazaretto wrote: {error}", hint="write it again with write_suite"
        ) from error


def _from_json(item: dict[str, Any]) -> Expectation:
    if item["type"] not in KINDS:
        raise ValueError(f"unknown expectation type {item['type']!r}")
    meta = item["meta"]
    if item["severity"] not in SEVERITIES or meta["scope"] not in {"record", "batch"}:
        raise ValueError(f"severity {item['severity']!r} or scope {meta['scope']!r} is not known")
    return Expectation(item["type"], dict(item["kwargs"]), item["severity"], meta["scope"], meta["origin"])


def _promised(name: str, column: Column) -> list[Expectation]:
    """What one column of the contract promises."""
    found = [Expectation("expect_column_to_exist", {"column": name}, scope="batch")]
    if not column.nullable:
        found.append(Expectation("expect_column_values_to_not_be_null", {"column": name}))
    bounds = {"min_value": column.min, "max_value": column.max}
    given = {argument: bound for argument, bound in bounds.items() if bound is not None}
    if given:
        found.append(Expectation("expect_column_values_to_be_between", {"column": name, **given}))
    if column.values is not None:
        found.append(
            Expectation("expect_column_values_to_be_in_set", {"column": name, "value_set": list(column.values)})
        )
    if column.max_chars is not None:
        lengths = {"column": name, "max_value": column.max_chars}
        found.append(Expectation("expect_column_value_lengths_to_be_between", lengths))
    return found


def _volume(contract: Contract) -> list[Expectation]:
    """How many records a batch may have; those that did not parse do not count."""
    policy = contract.policy
    bounds = {"min_value": policy.min_records, "max_value": policy.max_records}
    given = {argument: bound for argument, bound in bounds.items() if bound is not None}
    return [Expectation("expect_table_row_count_to_be_between", given, scope="batch")] if given else []
