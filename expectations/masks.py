"""The expectations once more, as polars masks: which records fail, without asking Great Expectations for ids.

A mask must flag exactly the records Great Expectations counts; the caller compares the counts. None where no mask
exists (z-scores, JSON schemas, date formats): the caller then asks Great Expectations itself.

What both take for granted: a null fails nothing but not-null (in pairs and lists of columns: as ``ignore_row_if``
says), NaN is a null, and a record that the row condition does not select is no concern of the expectation. In a row
condition a null compares with nothing, ``!=`` and ``NOT_IN`` included, as in SQL; pandas would select it.
"""

from __future__ import annotations

from datetime import datetime
from functools import reduce
from operator import add, and_, or_
from typing import TYPE_CHECKING, Any

import polars as pl

from lazaretto.expectations.regex import linear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lazaretto.expectations.suite import Expectation

    Columns = Sequence[pl.Expr]
    Kwargs = Mapping[str, Any]

_MOST_PAIRS = 200
"""More pairs than this make no sensible expression."""


def failing(expectation: Expectation, frame: pl.DataFrame) -> pl.Series | None:
    """The records of a frame that fail.

    Args:
        expectation: One that names single records.
        frame: Its columns, in canonical types. For expectations that look across records it must hold all of them.

    Returns:
        Booleans, one per row, never null; rows that the row condition does not select are False. None: no mask exists.
    """
    mask = mask_of(expectation, frame.schema)
    if mask is None:
        return None
    if expectation.condition is None:
        return frame.select(mask.alias("fails")).to_series()
    # The condition comes first: whether a value is unique depends on which records are looked at.
    chosen = frame.select(selects(expectation.condition)).to_series()
    within = frame.filter(chosen).select(mask.alias("fails")).to_series()
    positions = chosen.arg_true()
    return (
        pl.repeat(value=False, n=frame.height, dtype=pl.Boolean, eager=True).scatter(positions, within).alias("fails")
    )


def mask_of(expectation: Expectation, schema: Mapping[str, pl.DataType]) -> pl.Expr | None:
    """The expression behind ``failing``, for a frame that holds only selected records."""
    build = _MASKS.get(expectation.type)
    if build is None:
        return None
    columns = [_value(name, schema) for name in expectation.columns]
    mask = build(columns, expectation.kwargs)
    return None if mask is None else mask.fill_null(value=False)


def selects(condition: Mapping[str, Any]) -> pl.Expr:
    """A row condition as a filter that is never null."""
    form = condition["type"]
    if form in {"and", "or"}:
        return reduce(and_ if form == "and" else or_, [selects(part) for part in condition["conditions"]])
    column = pl.col(condition["column"]["name"])
    if form == "nullity":
        return column.is_null() if condition["is_null"] else column.is_not_null()
    parameter = condition["parameter"]
    compare: dict[str, Callable[[], pl.Expr]] = {
        "==": lambda: column == parameter,
        "!=": lambda: column != parameter,
        "<": lambda: column < parameter,
        "<=": lambda: column <= parameter,
        ">": lambda: column > parameter,
        ">=": lambda: column >= parameter,
        "IN": lambda: _among(column, parameter),
        "NOT_IN": lambda: ~_among(column, parameter),
    }
    return compare[condition["operator"]]().fill_null(value=False)


def _value(name: str, schema: Mapping[str, pl.DataType]) -> pl.Expr:
    column = pl.col(name)
    return column.fill_nan(None) if schema[name].is_float() else column


def _any(parts: Sequence[pl.Expr]) -> pl.Expr:
    found: pl.Expr = reduce(or_, parts)
    return found


def _null(columns: Columns, _kwargs: Kwargs) -> pl.Expr:
    return columns[0].is_null()


def _not_null(columns: Columns, _kwargs: Kwargs) -> pl.Expr:
    return columns[0].is_not_null()


def _outside(column: pl.Expr, kwargs: Kwargs) -> pl.Expr:
    """Values below the minimum or above the maximum; at the bound itself when it is strict."""
    parts: list[pl.Expr] = []
    low, high = (_bound(kwargs.get(name)) for name in ("min_value", "max_value"))
    if low is not None:
        parts.append(column <= low if kwargs.get("strict_min") else column < low)
    if high is not None:
        parts.append(column >= high if kwargs.get("strict_max") else column > high)
    return _any(parts)


def _bound(value: Any) -> Any:  # noqa: ANN401  a number or a moment
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _between(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return _outside(columns[0], kwargs)


def _lengths(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return _outside(columns[0].str.len_chars().cast(pl.Int64), kwargs)


def _length(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return columns[0].str.len_chars().ne(kwargs["value"])


def _not_in_set(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return ~_in_set(columns, kwargs)


def _in_set(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return _among(columns[0], kwargs["value_set"])


def _among(column: pl.Expr, values: Sequence[Any]) -> pl.Expr:
    if any(isinstance(value, float) for value in values):  # a list of 1 and 1.5 has no type of its own
        return column.cast(pl.Float64).is_in([float(value) for value in values])
    return column.is_in(list(values))


def _unique(columns: Columns, _kwargs: Kwargs) -> pl.Expr:
    return columns[0].is_duplicated() & columns[0].is_not_null()


def _matches(column: pl.Expr, pattern: str) -> pl.Expr:
    return column.str.contains(linear(pattern, "rust"))


def _no_match(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return ~_matches(columns[0], kwargs["regex"])


def _match(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return _matches(columns[0], kwargs["regex"])


def _no_match_list(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    found = [_matches(columns[0], pattern) for pattern in kwargs["regex_list"]]
    return ~reduce(and_ if kwargs.get("match_on") == "all" else or_, found)


def _match_list(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return reduce(or_, [_matches(columns[0], pattern) for pattern in kwargs["regex_list"]])


def _unordered(columns: Columns, kwargs: Kwargs, *, rising: bool) -> pl.Expr:
    """Compares with the last value that is not null, as Great Expectations drops nulls first."""
    column = columns[0]
    before = column.forward_fill().shift(1)
    if not rising:
        column, before = before, column
    wrong = column <= before if kwargs.get("strictly") else column < before
    return wrong & columns[0].is_not_null()


def _not_increasing(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return _unordered(columns, kwargs, rising=True)


def _not_decreasing(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return _unordered(columns, kwargs, rising=False)


def _considered(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    """Records that ``ignore_row_if`` leaves in; by default those with at least one value."""
    nulls = [column.is_null() for column in columns]
    rule = kwargs.get("ignore_row_if", "all_values_are_missing")
    if rule in {"neither", "never"}:
        return pl.lit(value=True)
    any_missing = rule in {"either_value_is_missing", "any_value_is_missing"}
    ignored: pl.Expr = reduce(or_ if any_missing else and_, nulls)
    return ~ignored


def _not_greater(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    first, second = columns
    greater = first >= second if kwargs.get("or_equal") else first > second
    return ~greater.fill_null(value=False) & _considered(columns, kwargs)


def _pair_differs(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    first, second = columns
    return ~(first == second).fill_null(value=False) & _considered(columns, kwargs)


def _pair_not_in_set(columns: Columns, kwargs: Kwargs) -> pl.Expr | None:
    pairs = kwargs["value_pairs_set"]
    if len(pairs) > _MOST_PAIRS:
        return None
    found = [columns[0].eq_missing(pl.lit(a)) & columns[1].eq_missing(pl.lit(b)) for a, b in pairs]
    return ~reduce(or_, found) & _considered(columns, kwargs)


def _sum_differs(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    total: pl.Expr = reduce(add, columns)
    differs: pl.Expr = ~(total == kwargs["sum_total"]).fill_null(value=False)
    return differs & _considered(columns, kwargs)


def _some_differ(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    different = [column.ne_missing(columns[0]) for column in columns[1:]]
    return reduce(or_, different) & _considered(columns, kwargs)


def _some_equal(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    pairs = [(first, second) for index, first in enumerate(columns) for second in columns[index + 1 :]]
    return reduce(or_, [first.eq_missing(second) for first, second in pairs]) & _considered(columns, kwargs)


def _repeated(columns: Columns, kwargs: Kwargs) -> pl.Expr:
    return pl.struct(*columns).is_duplicated() & _considered(columns, kwargs)


_MASKS: dict[str, Callable[[Columns, Kwargs], pl.Expr | None]] = {
    "expect_column_values_to_not_be_null": _null,
    "expect_column_values_to_be_null": _not_null,
    "expect_column_values_to_be_between": _between,
    "expect_column_values_to_be_in_set": _not_in_set,
    "expect_column_values_to_not_be_in_set": _in_set,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_value_lengths_to_equal": _length,
    "expect_column_values_to_match_regex": _no_match,
    "expect_column_values_to_not_match_regex": _match,
    "expect_column_values_to_match_regex_list": _no_match_list,
    "expect_column_values_to_not_match_regex_list": _match_list,
    "expect_column_pair_values_a_to_be_greater_than_b": _not_greater,
    "expect_column_pair_values_to_be_equal": _pair_differs,
    "expect_column_pair_values_to_be_in_set": _pair_not_in_set,
    "expect_multicolumn_sum_to_equal": _sum_differs,
    "expect_multicolumn_values_to_be_equal": _some_differ,
    "expect_select_column_values_to_be_unique_within_record": _some_equal,
    "expect_column_values_to_be_unique": _unique,
    "expect_compound_columns_to_be_unique": _repeated,
    "expect_column_values_to_be_increasing": _not_increasing,
    "expect_column_values_to_be_decreasing": _not_decreasing,
}
