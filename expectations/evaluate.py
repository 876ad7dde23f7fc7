"""One evaluation of a suite on a batch: what is asked of which frame, and what the answers add up to."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import polars as pl

from lazaretto.contract import canonical_schema
from lazaretto.expectations import frames
from lazaretto.expectations.gx import Evaluator
from lazaretto.expectations.masks import mask_of, selects
from lazaretto.expectations.reasons import reason_of
from lazaretto.expectations.tally import Tally, shape_result
from lazaretto.expectations.vectors import misshapen
from lazaretto.parquet import parquet_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lazaretto.contract import Contract
    from lazaretto.expectations.catalog import Span
    from lazaretto.expectations.failures import FailureWriter
    from lazaretto.expectations.gx import Outcome
    from lazaretto.expectations.suite import Suite
    from lazaretto.records import OnRows

BUCKET_BYTES = 64 * 2**20
"""Memory for the part of the records among which equal values are looked for."""


class Run:
    """Evaluates a suite on the partitions of one batch."""

    def __init__(
        self,
        partitions: Sequence[Path],
        contract: Contract,
        suite: Suite,
        layout: frames.Layout,
        writer: FailureWriter,
    ) -> None:
        self.partitions = partitions
        self.contract = contract
        self.suite = suite
        self.layout = layout
        self.loaded = 0
        self.evaluated = 0
        self.nulls = dict.fromkeys(contract.all_columns, 0)
        """Nulls seen per column."""
        self._writer = writer
        self._schema = canonical_schema(contract)
        self._tallies = [Tally() for _ in suite.expectations]
        self._found: list[str] = []
        self._misshapen: dict[str, int] = {}

    def everything(self, on_rows: OnRows) -> None:
        """Evaluate every expectation of the suite.

        Raises:
            ContractError: Great Expectations refuses one of them.
        """
        self._evaluator = Evaluator(self.suite.expectations)
        for chunk in frames.chunks(self.partitions, self.contract, self.layout):
            self.evaluated += self._chunk(chunk)
            self.loaded += chunk.height
            on_rows(chunk.height)
        self._across()
        self._whole()
        self._table()

    def faults(self) -> Iterator[str]:
        """Sentences that hold the batch: not finite, not evaluated, or broken where breaking it concerns the batch."""
        yield from dict.fromkeys(self._found)
        for expectation, tally in zip(self.suite.expectations, self._tallies, strict=True):
            for fault in dict.fromkeys(tally.faults):
                yield f"{expectation.title} {fault}"
            everyone = expectation.kind.by_record and expectation.condition is None
            if everyone and not tally.faults and self.loaded and tally.evaluated != self.loaded:
                yield f"{expectation.title} was evaluated on {tally.evaluated} of {self.loaded} records"
            broken = not tally.faults and self.loaded and not tally.success(expectation)
            if broken and expectation.enforced and expectation.scope == "batch":
                yield f"{expectation.title} is not met: {tally.broken(expectation, self.contract)}"

    def results(self) -> Iterator[dict[str, Any]]:
        """One plain dictionary per expectation; no value of a cell is in it."""
        for expectation, tally in zip(self.suite.expectations, self._tallies, strict=True):
            yield tally.result(expectation, self.contract, self.loaded)
        for name, count in self._misshapen.items():
            shape = Tally(evaluated=self.loaded, unexpected=count, rows_by="mask" if count else None)
            yield shape_result(name, shape)

    def _indices(self, span: Span) -> list[int]:
        return [index for index, item in enumerate(self.suite.expectations) if item.kind.span == span]

    def _chunk(self, chunk: pl.DataFrame) -> int:
        """Evaluate what looks at single records; returns the records that all of it was evaluated on."""
        self._not_finite(chunk)
        self._vectors(chunk)
        for name, count in zip(self.nulls, chunk.select(*self.nulls).null_count().row(0), strict=True):
            self.nulls[name] += count
        lists = [name for name, dtype in self._schema.items() if isinstance(dtype, pl.List)]
        frame = frames.present(chunk, lists) if lists else chunk
        fewest = frame.height
        for condition, indices in self._by_condition(self._indices("row")):
            if condition is None:
                fewest = min(fewest, self._records(frame, indices))
            else:
                self._records(frame.filter(selects(condition)), indices)
        for index in self._indices("dtype"):
            # Nulls would turn whole numbers into floats.
            column = self.suite.expectations[index].columns[0]
            self._answer(frames.to_pandas(frame.filter(pl.col(column).is_not_null()), [column]), [index])
        return fewest

    def _not_finite(self, chunk: pl.DataFrame) -> None:
        names = [name for name, dtype in self._schema.items() if dtype.is_float()]
        if names:
            odd = chunk.select((~pl.col(name).is_finite()).any() for name in names).row(0)
            for name, found in zip(names, odd, strict=True):
                if found:
                    self._found.append(f"column {name!r} holds NaN or infinity, which parsing should have removed")

    def _vectors(self, chunk: pl.DataFrame) -> None:
        for name, column in self.contract.all_columns.items():
            if column.type == "vector":
                flags, reason = misshapen(chunk, name, column.dimensions)
                self._misshapen[name] = self._misshapen.get(name, 0) + int(flags.sum())
                self._writer.add(chunk, [(flags, name, reason)])

    def _by_condition(self, indices: Sequence[int]) -> Iterator[tuple[Mapping[str, Any] | None, list[int]]]:
        groups: dict[str, tuple[Mapping[str, Any] | None, list[int]]] = {}
        for index in indices:
            condition = self.suite.expectations[index].condition
            groups.setdefault(json.dumps(condition, sort_keys=True), (condition, []))[1].append(index)
        yield from groups.values()

    def _records(self, frame: pl.DataFrame, indices: Sequence[int]) -> int:
        """Evaluate expectations that name records; returns the records all of them were evaluated on."""
        if not frame.height:
            return 0
        expectations = {index: self.suite.expectations[index] for index in indices}
        columns = dict.fromkeys(name for item in expectations.values() for name in item.columns)
        outcomes = self._evaluator.run(frames.to_pandas(frame, list(columns)), indices)
        masks = {
            str(index): mask
            for index, item in expectations.items()
            if item.enforced and item.scope == "record" and (mask := mask_of(item, frame.schema)) is not None
        }
        flags = frame.select(**masks)
        fewest = frame.height
        found: list[tuple[pl.Series, str, pl.Expr]] = []
        for index, item in expectations.items():
            fewest = min(fewest, self._count(index, outcomes[index], frame.height))
            if item.enforced and item.scope == "record":
                flagged = flags[str(index)] if str(index) in masks else None
                failing = self._failing(index, outcomes[index], frame, flagged)
                if failing is not None and failing.any():
                    found.append((failing, ", ".join(item.columns), reason_of(item, self.contract, frame.schema)))
        self._writer.add(frame, found)
        return fewest

    def _count(self, index: int, outcome: Outcome, rows: int) -> int:
        """Add an answer to the tally; returns the number of records it covers."""
        tally = self._tallies[index]
        if outcome.error is not None or outcome.unexpected is None or outcome.evaluated != rows:
            tally.faults.append(f"could not be evaluated ({outcome.error or 'records were left out'})")
            return 0
        tally.evaluated += rows
        tally.missing += outcome.missing
        tally.unexpected += outcome.unexpected
        return rows

    def _failing(self, index: int, outcome: Outcome, frame: pl.DataFrame, mask: pl.Series | None) -> pl.Series | None:
        """Which records fail: the mask's where its count is right, else those Great Expectations names as well."""
        tally = self._tallies[index]
        if outcome.error is not None or (mask is None and not outcome.unexpected):
            return None
        if mask is not None and mask.sum() == outcome.unexpected:
            tally.rows_by = tally.rows_by or ("mask" if outcome.unexpected else None)
            return mask
        tally.rows_by = "great expectations"
        columns = list(self.suite.expectations[index].columns)
        asked = self._evaluator.run(frames.to_pandas(frame, columns), [index], rows=True)[index]
        named = set(asked.positions)
        if asked.error is not None or len(named) != outcome.unexpected or not named <= set(range(frame.height)):
            tally.faults.append("counts failing records that cannot be told apart")
            return mask
        flags = pl.repeat(value=False, n=frame.height, dtype=pl.Boolean, eager=True).scatter(sorted(named), True)  # noqa: FBT003  polars takes it by position
        return flags if mask is None else flags | mask

    def _answer(self, frame: Any, indices: Sequence[int]) -> None:  # noqa: ANN401  pandas is not imported here
        """Evaluate expectations that give one answer for a frame."""
        if not len(frame) and all(self.suite.expectations[index].kind.span == "dtype" for index in indices):
            return
        for index, outcome in self._evaluator.run(frame, indices).items():
            tally = self._tallies[index]
            if outcome.error is not None:
                tally.faults.append(f"could not be evaluated ({outcome.error})")
            tally.answers += 1
            tally.agreed &= outcome.success
            tally.observed = outcome.observed

    def _across(self) -> None:
        for index in self._indices("across"):
            item = self.suite.expectations[index]
            size = frames.weight(self.partitions, item.columns, self._schema, self.layout.rows)
            count = max(1, math.ceil(size / BUCKET_BYTES))
            for part in range(count):
                chosen = frames.bucket(item.columns, self._schema, part, count) if count > 1 else pl.lit(value=True)
                if item.condition is not None:
                    chosen = chosen & selects(item.condition)
                self._records(frames.whole(self.partitions, item.columns, self._schema, chosen), [index])

    def _whole(self) -> None:
        groups: dict[tuple[str, ...], list[int]] = {}
        for index in [*self._indices("whole"), *self._indices("aggregate")]:
            item = self.suite.expectations[index]
            key = (item.kind.span, json.dumps(item.condition, sort_keys=True), *item.columns)
            groups.setdefault(key, []).append(index)
        for (span, _condition, *columns), indices in groups.items():
            size = frames.weight(self.partitions, columns, self._schema, self.layout.rows)
            if size > frames.WHOLE_BYTES:
                for index in indices:
                    self._tallies[index].faults.append(
                        f"needs {size // 2**20} MiB at once, more than the {frames.WHOLE_BYTES // 2**20} MiB allowed; "
                        "split the batch or state it per record"
                    )
                continue
            condition = self.suite.expectations[indices[0]].condition
            chosen = pl.lit(value=True) if condition is None else selects(condition)
            frame = frames.whole(self.partitions, columns, self._schema, chosen)
            if span == "whole":
                self._records(frame, indices)
            else:
                self._answer(frames.to_pandas(frame, columns), indices)

    def _table(self) -> None:
        names = [name for name in parquet_schema(self.partitions[0]) if not name.startswith("_")]
        if indices := self._indices("columns"):
            self._answer(frames.to_pandas(pl.DataFrame({name: [True] for name in names}), names), indices)
        if indices := self._indices("count"):
            records = pl.DataFrame({"record": pl.repeat(0, self.loaded, dtype=pl.Int8, eager=True)})
            self._answer(frames.to_pandas(records, ["record"]), indices)
