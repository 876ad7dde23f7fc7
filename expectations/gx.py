"""The only module that imports Great Expectations, and only when something is evaluated: it takes seconds.

Great Expectations' own entry (`Batch.validate`) hashes the whole frame twice before it looks at it, half of the time on
a clean batch; this goes to the engine and validator underneath. `BASIC` results carry the counts; `SUMMARY` would also
list the ids of all failing records, which the masks find faster.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazaretto.errors import ContractError
from lazaretto.expectations.regex import linear

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import ModuleType

    import pandas as pd

    from lazaretto.expectations.suite import Expectation

_COUNTS = {"result_format": "BASIC", "partial_unexpected_count": 0, "exclude_unexpected_values": True}
_ROWS = {
    "result_format": "COMPLETE",
    "partial_unexpected_count": 0,
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}

_KIND = re.compile(r"^(?:\w+\.)*(\w+)(?::|$)", re.MULTILINE)
"""The line of a traceback that names the error; all others are indented or hold spaces."""


@dataclass(frozen=True)
class Outcome:
    """What Great Expectations says about one expectation on one frame."""

    success: bool
    error: str | None = None
    """Set when it was not evaluated: nothing else counts then."""
    evaluated: int | None = None
    """Records looked at; None for expectations that do not look at single records."""
    missing: int = 0
    unexpected: int | None = None
    positions: tuple[int, ...] = ()
    """Positions of the failing records in the frame; only where asked for."""
    observed: Any = None


class Evaluator:
    """A suite, understood by Great Expectations and ready to look at frames."""

    def __init__(self, expectations: Sequence[Expectation]) -> None:
        """Build every expectation.

        Raises:
            ContractError: Great Expectations refuses one; it would itself drop it with a log line.
        """
        load()
        self._context = _quiet_context()
        self._configurations = [_configuration(item, index) for index, item in enumerate(expectations)]

    def run(self, frame: pd.DataFrame, indices: Sequence[int], *, rows: bool = False) -> dict[int, Outcome]:
        """Evaluate some of the expectations on one frame.

        Args:
            frame: Numpy-backed, with a plain index from 0.
            indices: Which expectations, by their place in the suite.
            rows: Also say which records fail; costly when many do.

        Returns:
            An outcome for every index.
        """
        from great_expectations.execution_engine import PandasExecutionEngine
        from great_expectations.validator.validator import Validator

        engine = PandasExecutionEngine(caching=False)
        engine.load_batch_data("chunk", frame)
        validator = Validator(execution_engine=engine, data_context=self._context)
        outcomes: dict[int, Outcome] = {}
        with warnings.catch_warnings(), _Silence():
            warnings.simplefilter("ignore")
            results = validator.graph_validate(
                configurations=[self._configurations[index] for index in indices],
                runtime_configuration={"result_format": _ROWS if rows else _COUNTS, "catch_exceptions": True},
            )
        # The engine and its data hold each other: without this every chunk would stay until Python looks for cycles.
        engine.batch_manager.batch_data_cache.clear()
        for result in results:
            index = result.expectation_config.meta["place"]
            if index in outcomes:
                outcomes[index] = Outcome(success=False, error="it was answered twice")
            else:
                outcomes[index] = _outcome(result)
        for index in indices:
            outcomes.setdefault(index, Outcome(success=False, error="it was not answered"))
        return outcomes


class _Silence:
    """Great Expectations logs what it also returns; a gate's output is for people.

    Logging is switched off whole for the moment: some of its modules give their own loggers a level.
    """

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(logging.CRITICAL)

    def __exit__(self, *_error: object) -> None:
        logging.disable(self._before)


def load() -> ModuleType:
    """Import Great Expectations, once, silently and without its analytics."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read once, when it is imported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports deprecated parts of the standard library
        return importlib.import_module("great_expectations")


def _quiet_context() -> Any:  # noqa: ANN401  the package has no types
    from great_expectations.data_context.types.base import ProgressBarsConfig

    with _Silence():
        context = load().get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def _configuration(expectation: Expectation, index: int) -> Any:  # noqa: ANN401  the package has no types
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    meta = {"place": index}
    try:
        # Once as the user wrote it, so that nothing escapes Great Expectations' own checks; what is evaluated has the
        # row condition applied already and its patterns rewritten.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ExpectationConfiguration(type=expectation.type, kwargs=dict(expectation.kwargs)).to_domain_obj()
            evaluated = ExpectationConfiguration(type=expectation.type, kwargs=_evaluated(expectation), meta=meta)
            return evaluated.to_domain_obj().configuration
    except (GreatExpectationsError, ValueError, TypeError) as error:
        what = str(error).replace("\n", " ")
        raise ContractError(f"Great Expectations refuses {expectation.title}: {what}") from error


def _evaluated(expectation: Expectation) -> dict[str, Any]:
    kwargs = {name: value for name, value in expectation.kwargs.items() if name not in {"row_condition", "mostly"}}
    if "regex" in kwargs:
        kwargs["regex"] = linear(kwargs["regex"])
    if "regex_list" in kwargs:
        kwargs["regex_list"] = [linear(pattern) for pattern in kwargs["regex_list"]]
    return kwargs


def _outcome(result: Any) -> Outcome:  # noqa: ANN401  the package has no types
    error = _error(result.exception_info)
    if error is not None:
        return Outcome(success=False, error=error)
    found = result.result
    return Outcome(
        success=bool(result.success),
        evaluated=found.get("element_count"),
        missing=int(found.get("missing_count") or 0),
        unexpected=found.get("unexpected_count"),
        positions=tuple(found.get("unexpected_index_list") or ()),
        observed=found.get("observed_value"),
    )


def _error(info: Any) -> str | None:  # noqa: ANN401  a mapping, or a mapping of mappings by metric
    details = [info] if "raised_exception" in info else list(info.values())
    for detail in details:
        if detail["raised_exception"]:
            # The message may quote a cell, so only the kind of error is passed on: the first of those chained.
            kind = _KIND.search(str(detail["exception_traceback"] or ""))
            return kind.group(1) if kind else "error"
    return None


def results_page(name: str, promised: Sequence[tuple[tuple[str, dict[str, Any], str], bool]], made: datetime) -> str:
    """Great Expectations' HTML page of a suite's results, with nothing but yes or no in them.

    Args:
        name: The suite's.
        promised: Per expectation: its type, arguments and severity, and whether it was met.
        made: When the verdict was given.
    """
    version = load().__version__
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    _quiet_context()  # the renderer looks for a current context
    met = sum(success for _, success in promised)
    results = [
        ExpectationValidationResult(
            success=success,
            expectation_config=ExpectationConfiguration(type=kind, kwargs=kwargs, severity=severity),
            result={},
            exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
        )
        for (kind, kwargs, severity), success in promised
    ]
    suite_result = ExpectationSuiteValidationResult(
        success=met == len(promised) > 0,
        results=results,
        suite_name=name,
        statistics={
            "evaluated_expectations": len(promised),
            "successful_expectations": met,
            "unsuccessful_expectations": len(promised) - met,
            "success_percent": 100 * met / max(len(promised), 1),
        },
        meta={
            "great_expectations_version": version,
            "batch_spec": {},
            "batch_markers": {},
            "active_batch_definition": {"datasource_name": "", "data_asset_name": name, "batch_identifiers": {}},
            "run_id": {"run_name": name, "run_time": made.isoformat()},
        },
    )
    with warnings.catch_warnings(), _Silence():
        warnings.simplefilter("ignore")
        page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(suite_result))
    return str(page)
