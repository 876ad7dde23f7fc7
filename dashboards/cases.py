"""The strongest cases of a batch: why each waits, what it holds, what drove it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from lazaretto.dashboards import shown
from lazaretto.dashboards.charts import evidence_length
from lazaretto.dashboards.pictures import Picture, picture
from lazaretto.evidence import Evidence, load_evidence
from lazaretto.records import ROW

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import polars as pl

    from lazaretto.dashboards.judged import JudgedFolder


_QUOTED = re.compile(r"'[^']*'")
"""Values stand in quotes in a detector's sentence; a value may read like the name of a column."""


_COMPARED = 6
"""Columns compared with the near records at most."""
_NEAR_SIDE = 72


_CONTENT_HASH = re.compile(r"[0-9a-f]{32,64}(-\d+)?")


@dataclass(frozen=True)
class Said:
    """What one detector says, with the length of its bar in per cent."""

    detector: str
    p_value: str
    why: str
    length: float
    beyond: bool
    """Whether the p-value is at or under the batch's rate."""


@dataclass(frozen=True)
class Field:
    """One column of a record."""

    name: str
    value: str
    driving: bool
    """Named by a detector."""
    quiet: bool
    """Withheld or missing: shown in grey."""


@dataclass(frozen=True)
class Near:
    """A trusted record near a suspect, or where there was no trusted set one of the batch."""

    record_id: str
    short_id: str
    label: str
    distance: str
    pictures: tuple[Picture, ...]
    values: tuple[str, ...]
    """Of the columns that are compared; empty where the record is no longer there."""


@dataclass(frozen=True)
class Case:
    """One suspect record."""

    rank: int
    record_id: str
    short_id: str
    row: int
    file: str
    """Of an image; empty where files hold many records."""
    decision: str
    p_value: str
    q_value: str
    roles: tuple[tuple[str, str], ...]
    """Label and source, as (name, value)."""
    said: tuple[Said, ...]
    fields: tuple[Field, ...]
    pictures: tuple[Picture, ...]
    cluster: int | None
    near: tuple[Near, ...]
    near_trusted: bool
    compared: tuple[str, ...]
    """Columns that a detector named, for comparing with the near records."""
    unseen: str
    """Why there is nothing to show of the record itself; empty where there is."""


def strongest_cases(folder: JudgedFolder, most: int, rate: float, pseudonyms: shown.Pseudonyms) -> list[Case]:
    """The most suspicious records that wait, the most suspicious first.

    Args:
        folder: The judged batch.
        most: How many at most.
        rate: The batch's false-quarantine rate: the mark on the bars of evidence.
        pseudonyms: Stand-ins for personal data, shared by the whole report.
    """
    top = folder.strongest(most)
    records = folder.records([int(row) for row in top[ROW]] if top.height else [])
    reader = _Reader(folder, pseudonyms)
    nearest = {row: _nearest(text) for row, text in top.select(ROW, "nearest").iter_rows()} if _has_nearest(top) else {}
    known = _Known.of(folder, nearest.values())
    cases = []
    for rank, verdict in enumerate(top.iter_rows(named=True), start=1):
        record = records.get(verdict[ROW])
        evidence = _evidence(verdict["evidence"])
        fields, pictures = reader.columns(record, [item.why for item in evidence]) if record else ((), ())
        compared = tuple(field.name for field in fields if field.driving)[:_COMPARED]
        near = nearest.get(verdict[ROW], [])
        cases.append(
            Case(
                rank=rank,
                record_id=reader.record_id(verdict["record_id"]),
                short_id=reader.short_id(verdict["record_id"]),
                row=int(verdict[ROW]),
                file=shown.text(verdict.get("file") or "", 80),
                decision=verdict["decision"],
                p_value=shown.probability(verdict["p_value"]),
                q_value=shown.probability(verdict["q_value"]),
                roles=reader.roles(record),
                said=tuple(_said(item, rate) for item in evidence),
                fields=fields,
                pictures=pictures,
                cluster=folder.clusters.get(verdict[ROW]),
                near=tuple(reader.near(one, known.record(one), compared, evidence) for one in near),
                near_trusted=any(one.get("trusted") is True for one in near),
                compared=compared,
                unseen=reader.unseen(record),
            )
        )
    return cases


class _Reader:
    """Turns the columns of records into words, withholding what the contract calls personal data."""

    def __init__(self, folder: JudgedFolder, pseudonyms: shown.Pseudonyms) -> None:
        self._contract = folder.contract
        self._pseudonyms = pseudonyms
        self._columns = {} if folder.contract is None else folder.contract.all_columns
        roles = (self._contract.id, self._contract.label, self._contract.source) if self._contract else ()
        self._in_heading = {name for name in roles if name is not None}

    def unseen(self, record: dict[str, Any] | None) -> str:
        if record is None:
            return "Its columns are no longer in this folder; they wait, encrypted, in quarantine."
        if self._contract is None:
            return "Its columns are withheld: without the contract it is not known which hold personal data."
        return ""

    def record_id(self, value: str) -> str:
        name = None if self._contract is None else self._contract.id
        if name is not None and self._columns[name].pii:
            return self._pseudonyms.of(name, value)
        return shown.text(value, 80)

    def short_id(self, value: str) -> str:
        """A content hash in short: its first twelve digits tell records of one batch apart."""
        whole = self.record_id(value)
        return f"{whole[:12]}…" if _CONTENT_HASH.fullmatch(whole) else whole

    def near(
        self, one: dict[str, Any], record: dict[str, Any] | None, compared: tuple[str, ...], evidence: list[Evidence]
    ) -> Near:
        """A near record, with the columns that are compared."""
        said, record_id = [item.why for item in evidence], str(one.get("record_id"))
        shown_there = record is not None and self._contract is not None
        pictures = [
            picture(name, record[name], said, _NEAR_SIDE)
            for name, column in self._columns.items()
            if record is not None and column.type == "image" and not column.pii and isinstance(record.get(name), bytes)
        ]
        distance = one.get("distance")
        label = self._contract.label if self._contract else None
        return Near(
            self.record_id(record_id),
            self.short_id(record_id),
            "" if label is None or one.get("label") is None else self._words(label, one["label"]),
            f"{distance:.3g}" if isinstance(distance, int | float) else "-",
            tuple(one for one in pictures if one is not None),
            tuple(self._words(name, record.get(name)) for name in compared) if record and shown_there else (),
        )

    def roles(self, record: dict[str, Any] | None) -> tuple[tuple[str, str], ...]:
        if self._contract is None or record is None:
            return ()
        names = [name for name in (self._contract.label, self._contract.source) if name is not None]
        return tuple((name, self._words(name, record.get(name))) for name in names)

    def columns(
        self, record: dict[str, Any], sentences: Sequence[str]
    ) -> tuple[tuple[Field, ...], tuple[Picture, ...]]:
        """A record's columns, those that a detector named first, and its images."""
        label = None if self._contract is None else self._contract.label
        unquoted = [_QUOTED.sub("", sentence) for sentence in sentences]
        fields, pictures = [], []
        for name, column in self._columns.items():
            value = record.get(name)
            if column.type == "image" and not column.pii and isinstance(value, bytes):
                image = picture(name, value, sentences)
                if image is not None:
                    pictures.append(image)
                    continue
                value = "an image that cannot be shown"
            driving = name != label and any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said) for said in unquoted)
            if driving or name not in self._in_heading:
                fields.append(Field(name, self._words(name, value), driving, quiet=value is None or column.pii))
        return tuple(sorted(fields, key=lambda field: not field.driving)), tuple(pictures)

    def _words(self, name: str, value: Any) -> str:  # noqa: ANN401  a cell holds what its column holds
        return self._pseudonyms.of(name, value) if self._columns[name].pii else shown.cell(value)


def _evidence(text: str | None) -> list[Evidence]:
    try:
        return load_evidence(text or "[]")
    except (TypeError, ValueError):
        return []


class _Known:
    """The near records themselves, where they are still there."""

    def __init__(self, batch: dict[int, dict[str, Any]], trusted: dict[int, dict[str, Any]]) -> None:
        self._batch, self._trusted = batch, trusted

    @classmethod
    def of(cls, folder: JudgedFolder, nearest: Iterable[list[dict[str, Any]]]) -> _Known:
        rows: dict[bool, set[int]] = {True: set(), False: set()}
        for one in chain.from_iterable(nearest):
            if isinstance(one.get("row"), int):
                rows[one.get("trusted") is True].add(one["row"])
        found = {trusted: folder.records(sorted(wanted), trusted=trusted) for trusted, wanted in rows.items()}
        return cls(found[False], found[True])

    def record(self, one: dict[str, Any]) -> dict[str, Any] | None:
        there = self._trusted if one.get("trusted") is True else self._batch
        return there.get(one.get("row", -1))


def _has_nearest(top: pl.DataFrame) -> bool:
    return "nearest" in top.columns


def _nearest(text: str | None) -> list[dict[str, Any]]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _said(item: Evidence, rate: float) -> Said:
    beyond = not item.p_value > rate  # a p-value that is no number is beyond as well
    return Said(
        shown.text(item.detector, 60),
        shown.probability(item.p_value),
        shown.text(item.why, 400),
        evidence_length(item.p_value),
        beyond,
    )
