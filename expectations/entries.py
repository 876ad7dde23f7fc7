"""Reads a contract's own ``expectations:`` list: names, arguments and columns are checked before any data is."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, cast

from lazaretto.errors import ContractError
from lazaretto.expectations.catalog import CLASSES, KINDS, NUMERIC, REFUSED, TEXTUAL, Argument, Kind
from lazaretto.expectations.regex import UnsafePatternError, check_pattern
from lazaretto.expectations.suite import SEVERITIES, Expectation, Scope, Severity

if TYPE_CHECKING:
    from lazaretto.contract import Contract

_COMMENTS = frozenset({"id", "meta", "notes", "description"})
"""Keys of Great Expectations' own JSON that say nothing about the data; taken and dropped."""
_CHOICES = {
    "any_all": ("any", "all"),
    "ignore_pair": ("both_values_are_missing", "either_value_is_missing", "neither"),
    "ignore_rows": ("all_values_are_missing", "any_value_is_missing", "never"),
}
_OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "IN", "NOT_IN")
_EXACT = 2**53
"""Great Expectations compares bounds as 64-bit floats; beyond this they no longer tell whole numbers apart."""


def read_entries(contract: Contract) -> list[Expectation]:
    """The user's expectations, in their order.

    Raises:
        ContractError: Naming the entry, what is wrong with it and the nearest valid name.
    """
    return [_Entry(contract, index, entry).read() for index, entry in enumerate(contract.expectations)]


class _Entry:
    """One item of the list while it is read."""

    def __init__(self, contract: Contract, index: int, entry: Mapping[str, Any]) -> None:
        self.types = {name: str(column.type) for name, column in contract.all_columns.items()}
        self.where = f"contract {contract.path or contract.dataset}, expectations[{index}]"
        self.entry = dict(entry)

    def read(self) -> Expectation:
        name = self.entry.pop("type", None)
        kind = self._kind(name)
        severity = self.entry.pop("severity", "critical")
        if severity not in SEVERITIES:
            self.fail(f"severity is {severity!r}; allowed: {', '.join(SEVERITIES)}")
        given = self._arguments()
        kwargs = self._checked(kind, given)
        tolerant = kwargs.get("mostly", 1) < 1
        scope: Scope = "record" if kind.by_record and not tolerant else "batch"
        return Expectation(str(name), kwargs, cast("Severity", severity), scope, "user")

    def fail(self, what: str, hint: str | None = None) -> NoReturn:
        raise ContractError(f"{self.where}: {what}", hint=hint)

    def _kind(self, name: object) -> Kind:
        if not isinstance(name, str):
            self.fail("an expectation needs 'type', the name of a Great Expectations expectation (expect_...)")
        if name in REFUSED:
            self.fail(f"{name} cannot be used: {REFUSED[name]}")
        if name not in KINDS:
            self.fail(f"unknown expectation type {name!r}{_nearest(name, KINDS)}")
        return KINDS[name]

    def _arguments(self) -> dict[str, Any]:
        """The arguments, written beside ``type`` or, as Great Expectations' own JSON does, under ``kwargs``."""
        nested = self.entry.pop("kwargs", None)
        rest = {key: value for key, value in self.entry.items() if key not in _COMMENTS}
        if nested is None:
            return rest
        if not isinstance(nested, Mapping):
            self.fail("kwargs must be a mapping of names to values")
        if rest:
            self.fail(f"{next(iter(rest))!r} stands beside kwargs; write all arguments in one place")
        return dict(nested)

    def _checked(self, kind: Kind, given: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in given.items() if value is not None}
        self._complete(kind, given)
        column_types = self._column_types(kind, given)
        checked: dict[str, Any] = {
            name: self._value(name, form, given[name], column_types)
            for name, form in kind.arguments.items()
            if name in given
        }
        if "min_value" in checked and "max_value" in checked and checked["min_value"] > checked["max_value"]:
            self.fail(f"min_value {checked['min_value']} is greater than max_value {checked['max_value']}")
        if "mostly" in given:
            checked["mostly"] = self._mostly(given["mostly"])
        if "row_condition" in given:
            checked["row_condition"] = self._condition(given["row_condition"])
        return checked

    def _complete(self, kind: Kind, given: dict[str, Any]) -> None:
        """Every argument is one the type takes, and none it needs is missing."""
        allowed = list(kind.arguments)
        if kind.by_record:
            allowed.append("mostly")
        if kind.by_record or kind.span == "aggregate":
            allowed.append("row_condition")
        for name in given:
            if name not in allowed:
                self.fail(f"unknown argument {name!r}{_nearest(name, allowed) or '; allowed: ' + ', '.join(allowed)}")
        missing = [name for name in kind.required if name not in given]
        if missing:
            self.fail(f"argument {missing[0]!r} is missing")
        if kind.one_of and not any(name in given for name in kind.one_of):
            self.fail(f"one of {' and '.join(kind.one_of)} is needed")

    def _column_types(self, kind: Kind, given: dict[str, Any]) -> list[str]:
        """Types of the columns named; each must exist, fit the expectation and compare with the others."""
        names: list[str] = []
        for argument, form in kind.arguments.items():
            if form == "column":
                names.append(given.get(argument, ""))
            elif form == "columns":
                listed = given.get(argument)
                if not isinstance(listed, list) or len(listed) < 2 or len(set(map(str, listed))) < len(listed):  # noqa: PLR2004  one column compares with nothing
                    self.fail(f"{argument} must be a list of two or more different columns")
                names += listed
        types = [self._column_type(name) for name in names]
        for name, column_type in zip(names, types, strict=True):
            if column_type not in kind.on:
                fitting = ", ".join(sorted(kind.on))
                self.fail(f"column {name!r} is of type {column_type}; this expectation takes {fitting}")
        together = kind.span != "across" and "value_pairs_set" not in kind.arguments
        if together and len(types) > 1 and not any(set(types) <= allowed for allowed in CLASSES):
            self.fail(f"columns {', '.join(names)} are of types {', '.join(types)}, which do not compare")
        return types

    def _column_type(self, name: object) -> str:
        if not isinstance(name, str) or name not in self.types:
            self.fail(f"{name!r} is not a column of the contract{_nearest(str(name), self.types)}")
        return self.types[name]

    def _value(self, name: str, form: Argument, value: Any, types: list[str]) -> Any:  # noqa: ANN401  plain JSON
        if form in _CHOICES and value not in _CHOICES[form]:
            self.fail(f"{name} is {_shown(value)}; allowed: {', '.join(_CHOICES[form])}")
        read: dict[Argument, Callable[[], Any]] = {
            "bound": lambda: self._instant(name, value) if types == ["timestamp"] else self._number(name, value),
            "number": lambda: self._number(name, value),
            "count": lambda: self._number(name, value, whole=True),
            "values": lambda: self._values(name, value, types[0]),
            "pairs": lambda: self._pairs(name, value, types),
            "regex": lambda: self._patterns(name, value, single=True),
            "regexes": lambda: self._patterns(name, value, single=False),
        }
        return read[form]() if form in read else self._plain(name, form, value)

    def _plain(self, name: str, form: Argument, value: Any) -> Any:  # noqa: ANN401  plain JSON
        expected = {"flag": bool, "mapping": dict, "text": str, "texts": list, "names": list}.get(form)
        if expected is not None and not isinstance(value, expected):
            words = {"flag": "true or false", "mapping": "a mapping", "text": "text"}.get(form, "a list of names")
            self.fail(f"{name} must be {words}, not {_shown(value)}")
        if form in {"texts", "names"} and not all(isinstance(item, str) for item in value):
            self.fail(f"{name} must be a list of names")
        return value

    def _number(self, name: str, value: object, *, whole: bool = False) -> float | int:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail(f"{name} must be a number, not {_shown(value)}")
        if abs(value) > _EXACT and isinstance(value, int):
            self.fail(f"{name} is beyond 2^53, where it can no longer be compared exactly")
        if whole and (value < 0 or value != int(value)):
            self.fail(f"{name} must be a whole number from 0, not {_shown(value)}")
        return value

    def _instant(self, name: str, value: object) -> str:
        """A moment, normalised to UTC: Great Expectations cannot compare a plain date with a timestamp."""
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{name} must be a date or time such as 2024-01-31T12:00:00+00:00, not {_shown(value)}")
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return moment.isoformat()

    def _values(self, name: str, value: object, column_type: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            self.fail(f"{name} must be a list of values")
        for item in value:
            self._scalar(name, item, column_type)
        return value

    def _scalar(self, name: str, item: object, column_type: str) -> None:
        if column_type in TEXTUAL:
            fits = isinstance(item, str)
        elif column_type == "boolean":
            fits = isinstance(item, bool)
        else:
            fits = isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item)
            fits = fits and (not isinstance(item, int) or abs(item) <= _EXACT)
        if not fits:
            self.fail(f"{name} holds {_shown(item)}, which a column of type {column_type} never does")

    def _pairs(self, name: str, value: object, types: list[str]) -> list[list[Any]]:
        if not isinstance(value, list) or not value:
            self.fail(f"{name} must be a list of pairs")
        for pair in value:
            if not isinstance(pair, list) or len(pair) != len(types):
                self.fail(f"{name} holds {_shown(pair)}, which is no pair")
            for item, column_type in zip(pair, types, strict=True):
                if item is not None:
                    self._scalar(name, item, column_type)
        return value

    def _patterns(self, name: str, value: object, *, single: bool) -> str | list[str]:
        patterns = [value] if single else value
        if not isinstance(patterns, list) or not patterns or not all(isinstance(item, str) for item in patterns):
            self.fail(f"{name} must be {'a pattern' if single else 'a list of patterns'}, not {_shown(value)}")
        for pattern in patterns:
            try:
                check_pattern(pattern)
            except UnsafePatternError as error:
                self.fail(f"the pattern {_shown(pattern)} {error}")
        return cast("str | list[str]", value)

    def _mostly(self, value: object) -> float | int:
        share = self._number("mostly", value)
        if not 0 < share <= 1:
            self.fail(f"mostly is {_shown(value)}; it is a share, greater than 0 and at most 1")
        return share

    def _condition(self, value: object) -> dict[str, Any]:
        """A row condition in Great Expectations' plain form, checked and normalised."""
        if not isinstance(value, Mapping):
            self.fail(
                "row_condition as text is code for pandas and is not run",
                "write {type: comparison, column: distance, operator: '>', parameter: 100}, or nullity, and, or",
            )
        form = value.get("type")
        keys = {
            "comparison": {"type", "column", "operator", "parameter"},
            "nullity": {"type", "column", "is_null"},
            "and": {"type", "conditions"},
            "or": {"type", "conditions"},
        }.get(str(form))
        if keys is None:
            self.fail(f"row_condition type is {_shown(form)}; allowed: comparison, nullity, and, or")
        if set(value) != keys:
            self.fail(f"a row_condition of type {form} has the keys {', '.join(sorted(keys))}")
        if form in {"and", "or"}:
            if not isinstance(value["conditions"], list) or not value["conditions"]:
                self.fail(f"conditions of row_condition {form} must be a list")
            return {"type": form, "conditions": [self._condition(item) for item in value["conditions"]]}
        named = value["column"]
        column = named.get("name") if isinstance(named, Mapping) else named
        column_type = self._column_type(column)
        if form == "nullity":
            if not isinstance(value["is_null"], bool):
                self.fail("is_null of a row_condition must be true or false")
            return {"type": form, "column": {"name": column}, "is_null": value["is_null"]}
        return self._comparison(str(column), column_type, value["operator"], value["parameter"])

    def _comparison(self, column: str, column_type: str, operator: object, parameter: object) -> dict[str, Any]:
        if operator not in _OPERATORS:
            self.fail(f"operator is {_shown(operator)}; allowed: {', '.join(_OPERATORS)}")
        if column_type not in NUMERIC | TEXTUAL:
            self.fail(f"a row_condition compares integer, number, category and text columns, not {column_type}")
        several = operator in {"IN", "NOT_IN"}
        if several and (not isinstance(parameter, list) or not parameter):
            self.fail(f"parameter of {operator} must be a list of values")
        for item in cast("list[Any]", parameter) if several else [parameter]:
            self._scalar("parameter", item, column_type)
        return {"type": "comparison", "column": {"name": column}, "operator": operator, "parameter": parameter}


def _nearest(name: str, valid: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004  fits a terminal line
