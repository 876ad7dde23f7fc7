"""Why a record fails, in words an analyst can check: ``distance is -5, below the minimum 1``.

A cell appears with at most 40 characters and without control characters, since an attacker wrote it; of a column
marked ``pii`` no value appears at all.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lazaretto.contract import Contract
    from lazaretto.expectations.suite import Expectation

MAX_CHARACTERS = 40
"""Most characters of a cell that a reason shows."""

_UNPRINTABLE = r"[\p{C}\p{Zl}\p{Zp}]"
_FEW = 5
"""More columns or allowed values than this are not listed."""


def reason_of(expectation: Expectation, contract: Contract, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """The reason as an expression over a frame that holds only failing records.

    Args:
        expectation: What they fail.
        contract: Says which columns are personal data.
        schema: Types of the frame's columns.
    """
    names, kwargs = expectation.columns, expectation.kwargs
    private = any(contract.all_columns[name].pii for name in names)
    subject = " and ".join(names) if len(names) < _FEW else f"{', '.join(names[: _FEW - 1])} and more"
    special = _WITH_VALUE.get(expectation.type)
    if special is not None:
        return special(names[0], kwargs, private=private)
    words = _WORDS.get(expectation.type)
    after, alone = words(kwargs) if words else (f", which fails {expectation.type}", f"fails {expectation.type}")
    if private or not after:
        return pl.lit(f"{subject} {alone}")
    parts: list[pl.Expr] = []
    for index, name in enumerate(names[:_FEW]):
        parts += [pl.lit(f"{', ' if index else ''}{name} is "), shown(name, schema)]
    return pl.concat_str([*parts, pl.lit(after)])


def shown(name: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    """A cell as text: short, printable, text in quotes, ``missing`` for null."""
    column, dtype = pl.col(name), schema[name]
    if dtype == pl.String:
        start = pl.concat_str([column.str.slice(0, MAX_CHARACTERS - 1), pl.lit("…")])
        short = pl.when(column.str.len_chars() > MAX_CHARACTERS).then(start).otherwise(column)
        printable = short.str.replace_all(_UNPRINTABLE, "\N{REPLACEMENT CHARACTER}")
        text = pl.concat_str([pl.lit("'"), printable, pl.lit("'")])
    elif dtype.is_temporal():
        text = column.dt.to_string("iso")
    elif dtype.is_numeric() or dtype == pl.Boolean:
        text = column.cast(pl.String)
    else:
        text = pl.lit("there")
    return text.fill_null("missing")


def _crossed(value: pl.Expr, kwargs: Mapping[str, Any]) -> pl.Expr:
    """Says which of two bounds was crossed: ``below the minimum 1``."""
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    too_low = pl.lit(f"{'not above' if kwargs.get('strict_min') else 'below'} the minimum {low}")
    too_high = pl.lit(f"{'not below' if kwargs.get('strict_max') else 'above'} the maximum {high}")
    if low is None or high is None:
        return too_high if low is None else too_low
    bound = datetime.fromisoformat(high) if isinstance(high, str) else high
    above = value >= bound if kwargs.get("strict_max") else value > bound
    return pl.when(above).then(too_high).otherwise(too_low)


def _between(name: str, kwargs: Mapping[str, Any], *, private: bool) -> pl.Expr:
    value = [] if private else [_plain(name), pl.lit(", ")]
    return pl.concat_str([pl.lit(f"{name} is "), *value, _crossed(pl.col(name), kwargs)])


def _plain(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String)


def _lengths(name: str, kwargs: Mapping[str, Any], *, private: bool) -> pl.Expr:
    length = pl.col(name).str.len_chars().cast(pl.Int64)
    said = _crossed(length, kwargs)
    if private:
        return pl.concat_str([pl.lit(f"the length of {name} is "), said])
    return pl.concat_str([pl.lit(f"{name} has "), length.cast(pl.String), pl.lit(" characters, "), said])


def _length(name: str, kwargs: Mapping[str, Any], *, private: bool) -> pl.Expr:
    if private:
        return pl.lit(f"{name} does not have {kwargs['value']} characters")
    length = pl.col(name).str.len_chars().cast(pl.String)
    return pl.concat_str([pl.lit(f"{name} has "), length, pl.lit(f" characters, not {kwargs['value']}")])


def _allowed(kwargs: Mapping[str, Any]) -> tuple[str, str]:
    values = [str(value)[:MAX_CHARACTERS] for value in kwargs["value_set"]]
    if len(values) > _FEW:
        words = f"not one of the {len(values)} allowed values"
    elif len(values) == 1:
        words = f"not {values[0]}"
    else:
        words = f"not one of {', '.join(values[:-1])} and {values[-1]}"
    return f", {words}", f"is {words}"


def _pattern(kwargs: Mapping[str, Any]) -> str:
    patterns = kwargs.get("regex_list") or [kwargs["regex"]]
    text = patterns[0] if len(patterns[0]) <= MAX_CHARACTERS else patterns[0][: MAX_CHARACTERS - 1] + "…"
    return f"the pattern {text}" if len(patterns) == 1 else f"the {len(patterns)} patterns, the first {text}"


def _no_match(kwargs: Mapping[str, Any]) -> tuple[str, str]:
    return f", which does not match {_pattern(kwargs)}", f"does not match {_pattern(kwargs)}"


def _match(kwargs: Mapping[str, Any]) -> tuple[str, str]:
    return f", which matches {_pattern(kwargs)}", f"matches {_pattern(kwargs)}"


def _greater(kwargs: Mapping[str, Any]) -> tuple[str, str]:
    words = f"the first must be {'at least' if kwargs.get('or_equal') else 'greater than'} the second"
    return f": {words}", f"are out of order: {words}"


_WITH_VALUE: dict[str, Callable[..., pl.Expr]] = {
    "expect_column_values_to_be_between": _between,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_value_lengths_to_equal": _length,
}
"""Reasons that compute something; called with the column, the arguments and whether the value must not show."""

_WORDS: dict[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "expect_column_values_to_not_be_null": lambda _: ("", "is missing"),
    "expect_column_values_to_be_null": lambda _: (", which must be empty", "must be empty"),
    "expect_column_values_to_be_in_set": _allowed,
    "expect_column_values_to_not_be_in_set": lambda _: (", which is not allowed", "has a value that is not allowed"),
    "expect_column_values_to_match_regex": _no_match,
    "expect_column_values_to_not_match_regex": _match,
    "expect_column_values_to_match_regex_list": _no_match,
    "expect_column_values_to_not_match_regex_list": _match,
    "expect_column_values_to_be_unique": lambda _: (", which occurs more than once", "occurs more than once"),
    "expect_compound_columns_to_be_unique": lambda _: (
        ": this combination occurs more than once",
        "together occur more than once",
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": _greater,
    "expect_column_pair_values_to_be_equal": lambda _: (": they must be equal", "are not equal"),
    "expect_column_pair_values_to_be_in_set": lambda _: (
        ": this pair is not allowed",
        "are a pair that is not allowed",
    ),
    "expect_multicolumn_sum_to_equal": lambda kwargs: (
        f": the sum must be {kwargs['sum_total']}",
        f"do not add up to {kwargs['sum_total']}",
    ),
    "expect_multicolumn_values_to_be_equal": lambda _: (": they must be equal", "are not equal"),
    "expect_select_column_values_to_be_unique_within_record": lambda _: (": they must differ", "are not all different"),
    "expect_column_values_to_be_increasing": lambda _: (
        ", out of increasing order",
        "is out of increasing order",
    ),
    "expect_column_values_to_be_decreasing": lambda _: (
        ", out of decreasing order",
        "is out of decreasing order",
    ),
    "expect_column_values_to_be_json_parseable": lambda _: (", which is not JSON", "is not JSON"),
    "expect_column_values_to_be_dateutil_parseable": lambda _: (", which is not a date", "is not a date"),
}
"""What follows the value, and what follows the column's name where the value must not show."""
