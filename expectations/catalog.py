"""Every expectation Great Expectations offers: what it takes, on which columns it makes sense, what it looks at.

Written out so that a contract is checked without importing Great Expectations, which takes seconds. A test compares
this table with the installed version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Span = Literal["row", "across", "whole", "aggregate", "columns", "count", "dtype"]
"""What an expectation has to see at once.

``row``: one record. ``across``: all records with the same value. ``whole``: every value of its columns, yet it names
single records. ``aggregate``: every value, one answer. ``columns``: the column names. ``count``: the number of records.
``dtype``: the type of a column.
"""

Argument = Literal[
    "column",
    "columns",
    "names",
    "bound",
    "number",
    "count",
    "flag",
    "text",
    "texts",
    "values",
    "pairs",
    "regex",
    "regexes",
    "mapping",
    "any_all",
    "ignore_pair",
    "ignore_rows",
]

NUMERIC = frozenset({"integer", "number"})
ORDERED = NUMERIC | {"timestamp"}
TEXTUAL = frozenset({"category", "text"})
COUNTABLE = NUMERIC | TEXTUAL | {"boolean"}
SCALAR = COUNTABLE | {"timestamp"}
ANY = SCALAR | {"image", "vector"}

CLASSES = (NUMERIC, TEXTUAL, frozenset({"boolean"}), frozenset({"timestamp"}))
"""Column types that compare with each other."""

MAP_ARGUMENTS = frozenset({"mostly", "row_condition"})
"""Taken by every expectation that looks at records; ``row_condition`` by aggregates too."""


@dataclass(frozen=True)
class Kind:
    """One expectation type: its span, the column types it fits, its arguments."""

    span: Span
    on: frozenset[str] = ANY
    required: dict[str, Argument] = field(default_factory=dict)
    optional: dict[str, Argument] = field(default_factory=dict)
    one_of: tuple[str, ...] = ()
    """At least one of these optional arguments must be given."""

    @property
    def arguments(self) -> dict[str, Argument]:
        """All arguments by name, ``mostly`` and ``row_condition`` not among them."""
        return {**self.required, **self.optional}

    @property
    def by_record(self) -> bool:
        """Whether it says which records fail."""
        return self.span in {"row", "across", "whole"}


_COLUMN: dict[str, Argument] = {"column": "column"}
_PAIR: dict[str, Argument] = {"column_A": "column", "column_B": "column"}
_LIST: dict[str, Argument] = {"column_list": "columns"}
_STRICT: dict[str, Argument] = {"strict_min": "flag", "strict_max": "flag"}
_MIN_MAX = ("min_value", "max_value")
_IGNORE_PAIR: dict[str, Argument] = {"ignore_row_if": "ignore_pair"}
_IGNORE_ROWS: dict[str, Argument] = {"ignore_row_if": "ignore_rows"}


def _between(span: Span, on: frozenset[str], bound: Argument) -> Kind:
    return Kind(span, on, _COLUMN, {"min_value": bound, "max_value": bound, **_STRICT}, _MIN_MAX)


def _column(span: Span, on: frozenset[str], required: dict[str, Argument], **optional: Argument) -> Kind:
    return Kind(span, on, {**_COLUMN, **required}, dict(optional))


def _listed(span: Span, on: frozenset[str], **required: Argument) -> Kind:
    return Kind(span, on, {**_LIST, **required}, _IGNORE_ROWS)


KINDS: dict[str, Kind] = {
    # one record at a time
    "expect_column_values_to_not_be_null": _column("row", ANY, {}),
    "expect_column_values_to_be_null": _column("row", ANY, {}),
    "expect_column_values_to_be_between": _between("row", ORDERED, "bound"),
    "expect_column_values_to_be_in_set": _column("row", COUNTABLE, {"value_set": "values"}),
    "expect_column_values_to_not_be_in_set": _column("row", COUNTABLE, {"value_set": "values"}),
    "expect_column_value_lengths_to_be_between": _between("row", TEXTUAL, "count"),
    "expect_column_value_lengths_to_equal": _column("row", TEXTUAL, {"value": "count"}),
    "expect_column_values_to_match_regex": _column("row", TEXTUAL, {"regex": "regex"}),
    "expect_column_values_to_not_match_regex": _column("row", TEXTUAL, {"regex": "regex"}),
    "expect_column_values_to_match_regex_list": _column("row", TEXTUAL, {"regex_list": "regexes"}, match_on="any_all"),
    "expect_column_values_to_not_match_regex_list": _column("row", TEXTUAL, {"regex_list": "regexes"}),
    "expect_column_values_to_match_strftime_format": _column("row", TEXTUAL, {"strftime_format": "text"}),
    "expect_column_values_to_be_dateutil_parseable": _column("row", TEXTUAL, {}),
    "expect_column_values_to_be_json_parseable": _column("row", TEXTUAL, {}),
    "expect_column_values_to_match_json_schema": _column("row", TEXTUAL, {"json_schema": "mapping"}),
    "expect_column_pair_values_a_to_be_greater_than_b": Kind(
        "row", ORDERED, _PAIR, {"or_equal": "flag", **_IGNORE_PAIR}
    ),
    "expect_column_pair_values_to_be_equal": Kind("row", SCALAR, _PAIR, _IGNORE_PAIR),
    "expect_column_pair_values_to_be_in_set": Kind(
        "row", COUNTABLE, {**_PAIR, "value_pairs_set": "pairs"}, _IGNORE_PAIR
    ),
    "expect_multicolumn_sum_to_equal": _listed("row", NUMERIC, sum_total="number"),
    "expect_multicolumn_values_to_be_equal": _listed("row", SCALAR),
    "expect_select_column_values_to_be_unique_within_record": _listed("row", SCALAR),
    # records with the same value
    "expect_column_values_to_be_unique": _column("across", SCALAR, {}),
    "expect_compound_columns_to_be_unique": _listed("across", SCALAR),
    # every value, yet single records are named
    "expect_column_values_to_be_increasing": _column("whole", ORDERED, {}, strictly="flag"),
    "expect_column_values_to_be_decreasing": _column("whole", ORDERED, {}, strictly="flag"),
    "expect_column_value_z_scores_to_be_less_than": _column(
        "whole", NUMERIC, {"threshold": "number", "double_sided": "flag"}
    ),
    "expect_column_values_to_not_be_outliers": _column("whole", NUMERIC, {}, method="text", multiplier="number"),
    # every value, one answer
    "expect_column_distinct_values_to_be_in_set": _column("aggregate", COUNTABLE, {"value_set": "values"}),
    "expect_column_distinct_values_to_contain_set": _column("aggregate", COUNTABLE, {"value_set": "values"}),
    "expect_column_distinct_values_to_equal_set": _column("aggregate", COUNTABLE, {"value_set": "values"}),
    "expect_column_most_common_value_to_be_in_set": _column(
        "aggregate", COUNTABLE, {"value_set": "values"}, ties_okay="flag"
    ),
    "expect_column_kl_divergence_to_be_less_than": _column(
        "aggregate",
        NUMERIC | TEXTUAL,
        {"partition_object": "mapping", "threshold": "number"},
        internal_weight_holdout="number",
        tail_weight_holdout="number",
        bucketize_data="flag",
        min_value="number",
        max_value="number",
    ),
    "expect_column_max_to_be_between": _between("aggregate", ORDERED, "bound"),
    "expect_column_min_to_be_between": _between("aggregate", ORDERED, "bound"),
    "expect_column_mean_to_be_between": _between("aggregate", NUMERIC, "number"),
    "expect_column_median_to_be_between": _between("aggregate", NUMERIC, "number"),
    "expect_column_stdev_to_be_between": _between("aggregate", NUMERIC, "number"),
    "expect_column_sum_to_be_between": _between("aggregate", NUMERIC, "number"),
    "expect_column_proportion_of_non_null_values_to_be_between": _between("aggregate", ANY, "number"),
    "expect_column_proportion_of_unique_values_to_be_between": _between("aggregate", SCALAR, "number"),
    "expect_column_unique_value_count_to_be_between": _between("aggregate", SCALAR, "count"),
    "expect_column_quantile_values_to_be_between": _column(
        "aggregate", NUMERIC, {"quantile_ranges": "mapping"}, allow_relative_error="flag"
    ),
    # the table as such
    "expect_column_to_exist": _column("columns", ANY, {}, column_index="count"),
    "expect_table_column_count_to_be_between": Kind(
        "columns", ANY, {}, {"min_value": "count", "max_value": "count"}, _MIN_MAX
    ),
    "expect_table_column_count_to_equal": Kind("columns", ANY, {"value": "count"}),
    "expect_table_columns_to_match_ordered_list": Kind("columns", ANY, {"column_list": "names"}),
    "expect_table_columns_to_match_set": Kind("columns", ANY, {"column_set": "names"}, {"exact_match": "flag"}),
    "expect_table_row_count_to_be_between": Kind(
        "count", ANY, {}, {"min_value": "count", "max_value": "count", **_STRICT}, _MIN_MAX
    ),
    "expect_table_row_count_to_equal": Kind("count", ANY, {"value": "count"}),
    "expect_column_values_to_be_of_type": _column("dtype", SCALAR, {"type_": "text"}),
    "expect_column_values_to_be_in_type_list": _column("dtype", SCALAR, {"type_list": "texts"}),
    "expect_column_type_to_be": _column("dtype", SCALAR, {"type_": "text"}),
}

_USE_REGEX = "it exists for SQL data only; use the expectation of the same name that ends in _regex"
_NEEDS_SQL = "it needs a SQL data source, and a batch is files"
REFUSED: dict[str, str] = {
    "expect_column_values_to_match_like_pattern": _USE_REGEX,
    "expect_column_values_to_not_match_like_pattern": _USE_REGEX,
    "expect_column_values_to_match_like_pattern_list": _USE_REGEX,
    "expect_column_values_to_not_match_like_pattern_list": _USE_REGEX,
    "expect_query_results_to_match_comparison": _NEEDS_SQL,
    "expect_table_row_count_to_equal_other_table": _NEEDS_SQL,
    "unexpected_rows_expectation": _NEEDS_SQL,
    "expect_multicolumn_values_to_be_unique": (
        "it is an old name; use expect_select_column_values_to_be_unique_within_record"
    ),
}
"""Expectations that cannot be evaluated here, each with why and what to use instead."""
