"""Writes what was found in data as the text of a contract, with a comment where a person must look."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lazaretto.contract import OPTIONS
from lazaretto.pipelines.ranges import widened

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from lazaretto.pipelines.profile import Profile, Seen

FEW_VALUES = 50
"""A category with at most so many values has them listed; a label always has."""
SHORT = 200
"""Characters; a longer value is text, no category, and a longer name is none."""
_PROSE = 40.0
"""Mean characters above which values that mostly differ are text."""
_WIDTH = 110
_PERSONAL = re.compile(r"(^|_)(e?mail|phone|address|surname|first_?name|last_?name|ssn|passport|birth)", re.IGNORECASE)
_NO = {
    "boolean": "neither true nor false",
    "integer": "no whole number",
    "number": "no number",
    "timestamp": "no timestamp",
}
_EXAMPLE = 40
"""Characters shown of a value."""
_MANY, _SELDOM = 200, 2
"""Among so many records a label's value that is there at most so often is likely a slip."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_NOT_PLAIN = {"null", "true", "false"}


@dataclass(frozen=True)
class Roles:
    """Column and why it was taken, or nothing."""

    id: tuple[str, str] | None = None
    label: tuple[str, str] | None = None
    source: tuple[str, str] | None = None

    @property
    def names(self) -> set[str]:
        """The columns that have a role."""
        return {role[0] for role in (self.id, self.label, self.source) if role}


def nameable(name: str) -> bool:
    """Whether a contract may have a column of that name."""
    return bool(name.strip()) and name.isprintable() and not name.startswith("_") and len(name) <= SHORT


def contract_lines(found: Profile, roles: Roles, dataset: str, paths: Sequence[str]) -> Iterator[str]:
    """The lines of a contract for what was found, guesses and ranges marked as such."""
    shown = ", ".join(Path(path).name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")  # noqa: PLR2004  a line
    yield f"# A first contract, inferred from {found.records:,} records of {_comment(shown)}."
    yield "# Read it line by line: what is called a guess is one, and a range or list knows only what was seen so far."
    if found.faulty:
        yield f"# {found.faulty:,} records could not be taken apart and will be rejected."
    yield f"dataset: {_quoted(dataset)}"
    for role in ("id", "label", "source"):
        chosen: tuple[str, str] | None = getattr(roles, role)
        yield f"{role}: {_quoted(chosen[0])}  # {chosen[1]}" if chosen else f"# {role}: none was found"
    yield "columns:"
    for name, seen in found.columns.items():
        yield from _column(name, seen, found, roles)
    yield "# trusted: trusted/*.parquet  # records known good; counts from this file's folder"
    yield "policy:"
    yield "  false_quarantine_rate: 0.01  # share of clean records that may wait in quarantine"
    yield "  hold_when_quarantined_over: 0.2  # the whole batch waits above this share"


def _column(name: str, seen: Seen, found: Profile, roles: Roles) -> Iterator[str]:
    if not nameable(name):
        yield f"  # {_comment(repr(name))} is left out: a contract cannot have a column of that name"
    elif seen.type is None or name in found.unusable:
        was = found.unusable.get(name, "values of several types")
        yield f"  # {_comment(name)} is left out: no type here can hold {_comment(was)}"
    elif seen.nulls == seen.count:
        yield f"  # {_comment(name)} is left out: it has no value in any record"
    else:
        options, notes = _options(seen, found.records, roles)
        yield from _wrapped(_quoted(name), options, "; ".join(notes))


def _options(seen: Seen, records: int, roles: Roles) -> tuple[list[str], list[str]]:
    """The column's options as YAML, and what to tell a person about them."""
    kind = _kind(seen, records, roles)
    personal = bool(_PERSONAL.search(seen.name))
    options, notes = [f"type: {kind}"], []
    for option, note in _limits(kind, seen, roles, personal=personal):
        options.append(option)
        notes += [note] if note else []
    if seen.nulls:
        options.append("nullable: true")
        notes.append(f"missing in {seen.nulls:,}")
    if personal:
        options.append("pii: true")
        notes.append("personal data, by its name")
    return options, [*notes, *_warnings(kind, seen, roles, personal=personal)]


def _kind(seen: Seen, records: int, roles: Roles) -> str:
    if seen.name in roles.names and (seen.type != "boolean" or _dirt(seen)):
        return "category"
    return "category" if seen.type == "text" and _is_category(seen, records) else str(seen.type)


def _limits(kind: str, seen: Seen, roles: Roles, *, personal: bool) -> Iterator[tuple[str, str]]:
    """Options that say what values may be, each with its note."""
    if "min" in OPTIONS[kind]:
        fit = seen.fits.best
        if fit is not None:
            low, high, note = widened(fit.low, fit.high, whole=kind == "integer")
            yield f"min: {low!r}", ""
            yield f"max: {high!r}", note
    elif kind == "category" and seen.values is not None:
        few = len(seen.values) <= FEW_VALUES and seen.name not in roles.names and not personal
        if few or _is_label(seen, roles):
            yield f"values: [{', '.join(_value(value) for value in _sorted(seen.values))}]", "the values seen"
    elif kind == "text":
        yield f"max_chars: {max(1, seen.longest)}", "the longest seen"
    elif kind == "vector":
        yield f"dimensions: {seen.fits.dimensions}", ""
    elif kind == "image":
        yield f"max_pixels: {max(1_000_000, seen.fits.by['image'].pixels)}", ""


def _warnings(kind: str, seen: Seen, roles: Roles, *, personal: bool) -> Iterator[str]:
    """What is odd about the values, for a person to decide on."""
    known = seen.count - seen.nulls
    if kind in _NO and _dirt(seen):
        said = f"{_dirt(seen):,} of {known:,} values are {_NO[kind]} and will be rejected"
        best = seen.fits.best
        yield said if personal or best is None else f"{said}, for instance {_comment(repr(best.example[:_EXAMPLE]))}"
    if kind in {"text", "category", "integer"} and seen.name not in roles.names and seen.hardly_repeats:
        yield "hardly any value repeats: if it names a record, make it the id or leave it out of features"
    if _is_label(seen, roles) and known >= _MANY and seen.values is not None:
        rare = sorted(value for value, times in seen.values.items() if times <= _SELDOM)
        if rare:
            which = f"{len(rare)} of its values" if personal else _comment(", ".join(map(repr, rare[:3])))
            more = f" and {len(rare) - 3} more" if len(rare) > 3 and not personal else ""  # noqa: PLR2004  a line
            yield f"{which}{more}: there only once or twice; misspelt?"


def _dirt(seen: Seen) -> int:
    """Values that are not of the column's type."""
    best = seen.fits.best
    return best.rejected if best and best.kind in _NO else 0


def _is_label(seen: Seen, roles: Roles) -> bool:
    return roles.label is not None and seen.name == roles.label[0]


def _is_category(seen: Seen, records: int) -> bool:
    """Whether text names one of a set of things: it repeats, or is short."""
    if seen.longest > SHORT:
        return False
    known = max(1, seen.count - seen.nulls)
    if seen.values is None:
        return seen.characters / known < _PROSE
    return len(seen.values) <= max(2, min(records, known) // 2) or seen.characters / known < _PROSE


def _wrapped(name: str, options: list[str], note: str) -> Iterator[str]:
    note = f"  # {note}" if note else ""
    line = f"  {name}: {{{', '.join(options)}}}{note}"
    if len(line) <= _WIDTH:
        yield line
        return
    yield f"  {name}:{note}"
    for option in options:
        text = f"    {option}"
        if len(text) <= _WIDTH or "[" not in text:
            yield text
            continue
        key, _, values = text.partition("[")
        yield f"{key}["
        row = "     "
        for value in _split(values.removesuffix("]")):
            if len(row) + len(value) > _WIDTH and row.strip():
                yield row
                row = "     "
            row += f" {value},"
        yield row
        yield "    ]"


def _split(values: str) -> list[str]:
    """Take a joined list of values apart again; commas inside quotes stay."""
    return re.findall(r'"(?:[^"\\]|\\.)*"|[^,\s]+', values)


def _sorted(values: Collection[str]) -> list[str]:
    if all(re.fullmatch(r"-?[0-9]{1,18}", value) for value in values):
        return sorted(values, key=int)
    return sorted(values)


def _quoted(text: str) -> str:
    """Text as a YAML scalar that is read back as the same text."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _NOT_PLAIN else _escaped(text)


def _value(text: str) -> str:
    """A category value: read back as written, so only the words for nothing need quotes."""
    return text if _PLAIN_VALUE.fullmatch(text) and text.lower() != "null" else _escaped(text)


def _escaped(text: str) -> str:
    marks = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(marks.get(c) or (c if c.isprintable() else f"\\U{ord(c):08X}") for c in text) + '"'


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:120]
