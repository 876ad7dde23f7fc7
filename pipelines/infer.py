"""Writes a first contract from data, for a person to correct: every guess is marked as one."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lazaretto.contract import parse_contract
from lazaretto.errors import InputRefused
from lazaretto.pipelines.confine import infer_confined
from lazaretto.pipelines.contract_text import SHORT, Roles, contract_lines, nameable
from lazaretto.pipelines.profile import Seen, profile
from lazaretto.pipelines.snapshot import snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lazaretto.records import Batch

_FALLBACK_CLASSES = 20
_ID = re.compile(r"(^|_)(id|uuid|guid|key|no|nr|ref|reference|serial)$", re.IGNORECASE)
_CAMEL_ID = re.compile(r"[a-z](Id|ID)$")
_LABELS = ("label", "labels", "target", "class", "y", "outcome", "late", "category", "sentiment", "is_spam", "is_fraud")
_LABEL_PARTS = re.compile(r"(^|_)(label|target|class|category)(_|$)|^is_", re.IGNORECASE)
_SOURCES = (
    "source", "supplier", "provider", "vendor", "contributor", "author", "annotator", "uploader", "carrier", "site",
    "sender", "user", "user_id", "domain",
)  # fmt: skip


def infer(paths: Sequence[str | Path], *, dataset: str | None = None) -> str:
    """A contract for files, as YAML with comments, under which the very same files pass.

    All but the records that a comment counts: those that could not be taken apart, and those with a few dirty values in
    a column of numbers, truth values or timestamps.

    Args:
        paths: Files, folders and globs, read once in full.
        dataset: Name of the data set; by default the first file's.

    Raises:
        UsageError: A file does not exist.
        InputRefused: A file is no data file, or no column can be judged.
    """
    name = dataset if dataset is not None else _dataset_name(paths)
    with tempfile.TemporaryDirectory(prefix="lazaretto-infer-") as scratch:
        batch = snapshot(paths, name, Path(scratch) / "snapshot")
        text = infer_confined(batch, [str(path) for path in paths], Path(scratch))
    parse_contract(text, "inferred")
    return text


def contract_text(batch: Batch, scratch: Path, named: Sequence[str]) -> str:
    """The contract of a snapshot; parses it in this very process, so that is left to a confined one.

    Args:
        batch: The snapshot.
        scratch: A folder for scratch files.
        named: The files as the user named them.

    Raises:
        InputRefused: No record can be read, or no column can be judged.
    """
    found = profile(batch, scratch, _may_be_id)
    if not found.records:
        raise InputRefused(f"{named[0]} holds no record that can be read")
    usable = {column: seen for column, seen in found.columns.items() if _usable(seen)}
    if not usable:
        raise InputRefused(f"{named[0]} has no column to judge: {', '.join(found.columns)[:200]!r}")
    roles = _roles(usable, found.records)
    return "\n".join(contract_lines(found, roles, batch.dataset, named)) + "\n"


def _dataset_name(paths: Sequence[str | Path]) -> str:
    path = Path(str(paths[0])) if paths else Path("data")
    stem = path.stem if path.suffix else path.name
    cleaned = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")
    return cleaned[:100] or "data"


def _may_be_id(name: str) -> bool:
    return bool(_ID.search(name) or _CAMEL_ID.search(name))


def _usable(seen: Seen) -> bool:
    return seen.type is not None and seen.nulls < seen.count and nameable(seen.name)


def _roles(usable: dict[str, Seen], records: int) -> Roles:
    """The columns that look like id, label and source; at least one column is left to judge."""
    key = next((name for name, seen in usable.items() if _is_id(seen, records)), None)
    rest = {name: seen for name, seen in usable.items() if name != key}
    label, why = _label(rest, records)
    source = _by_name(_SOURCES, [n for n, s in rest.items() if n != label and _may_be_source(s, records)])
    if not set(rest) - {label, source}:
        source = None
    if not set(rest) - {label}:
        label = None
    if not rest:
        key = None
    return Roles(
        id=(key, "a guess: by its name, and no value repeats") if key else None,
        label=(label, why) if label else None,
        source=(source, "a guess by its name: who supplied a record") if source else None,
    )


def _is_id(seen: Seen, records: int) -> bool:
    if seen.repeats is None or seen.nulls or seen.type not in {"text", "integer"}:
        return False
    return seen.repeats.resolve(records) is None


def _label(rest: dict[str, Seen], records: int) -> tuple[str | None, str]:
    few = [name for name, seen in rest.items() if _may_be_label(seen, records)]
    name = _by_name(_LABELS, few) or next((name for name in few if _LABEL_PARTS.search(name)), None)
    if name is not None:
        return name, "a guess by its name: what a model learns to predict"
    last = [
        name for name in few if rest[name].type in {"text", "boolean"} and _classes(rest[name]) <= _FALLBACK_CLASSES
    ]
    prompts = {"prompt", "response", "instruction", "completion", "output"} & {name.lower() for name in rest}
    if last and not prompts:
        return last[-1], "a guess: the last column with few values; check it"
    return None, ""


def _classes(seen: Seen) -> int:
    return len(seen.values) if seen.values is not None else 10**9


def _may_be_label(seen: Seen, records: int) -> bool:
    return seen.type in {"text", "integer", "boolean", "number"} and 2 <= _classes(seen) <= max(2, records // 2)  # noqa: PLR2004  a label of one class teaches nothing


def _may_be_source(seen: Seen, records: int) -> bool:
    repeats = seen.values is None or len(seen.values) <= max(1, records // 2)
    return seen.type in {"text", "integer"} and repeats and seen.longest <= SHORT


def _by_name(wanted: Iterable[str], names: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in wanted if name in lower), None)
