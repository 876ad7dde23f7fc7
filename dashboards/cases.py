"""The strongest cases of a batch: why each waits, what it holds, what drove it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazaretto.dashboards import shown
from lazaretto.dashboards.charts import evidence_length
from lazaretto.dashboards.pictures import Picture, picture
from lazaretto.evidence import Evidence, load_evidence
from lazaretto.records import ROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lazaretto.dashboards.judged import JudgedFolder


_QUOTED = re.compile(r"'[^']*'")
"""Values stand in quotes in a detector's sentence; a value may read like the name of a column."""


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
    cases = []
    for rank, verdict in enumerate(top.iter_rows(named=True), start=1):
        record = records.get(verdict[ROW])
        evidence = _evidence(verdict["evidence"])
        fields, pictures = reader.columns(record, [item.why for item in evidence]) if record else ((), ())
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


def _said(item: Evidence, rate: float) -> Said:
    beyond = not item.p_value > rate  # a p-value that is no number is beyond as well
    return Said(
        shown.text(item.detector, 60),
        shown.probability(item.p_value),
        shown.text(item.why, 400),
        evidence_length(item.p_value),
        beyond,
    )
