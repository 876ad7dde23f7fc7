"""Reads a contract's YAML strictly and remembers on which line everything stands.

Departures from YAML 1.1 as PyYAML reads it, each because a label called ``no`` or an id called ``0123`` must not change
its meaning: only ``true``/``false`` are booleans, only plain decimal numbers are numbers, dates stay text. A key
written twice, an alias and a tag are errors.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]

MAX_CHARACTERS = 1_000_000
"""A contract longer than this is no contract; bounds the work a hostile file can cause."""

_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_MAX_DIGITS = 300
"""A longer whole number is read as a float, which is then infinite: no column can hold it."""
_MAX_DEPTH = 50


class YamlError(ValueError):
    """What is wrong with the text, and on which line (from 1; 0 when the place is unknown)."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what


@dataclass(frozen=True)
class Located:
    """Plain data, the line every key and every value stands on, and what scalars looked like as written."""

    data: Any
    key_lines: dict[Path, int] = field(default_factory=dict)
    value_lines: dict[Path, int] = field(default_factory=dict)
    faults: tuple[YamlError, ...] = ()
    """Keys written twice and the like: everything that can be said without giving up on the rest."""

    def line_of(self, path: Path, *, key: bool = False) -> int:
        """Line of the value (or key) at ``path``, or of the nearest thing around it that has a line."""
        while path:
            if key and path in self.key_lines:
                return self.key_lines[path]
            if path in self.value_lines:
                return self.value_lines[path]
            path = path[:-1]
        return self.value_lines.get((), 1)


def read_yaml(text: str) -> Located:
    """Parse one YAML document.

    Raises:
        YamlError: The text is no YAML document at all.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(0, f"longer than {MAX_CHARACTERS:,} characters: this is no contract")
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(mark.line + 1 if mark else 0, f"not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        raise YamlError(0, f"not YAML: {error.reason} at character {error.position}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise YamlError(0, f"not YAML: {type(error).__name__}") from error
    if node is None:
        return Located(None)
    builder = _Builder()
    data = builder.build(node, ())
    return Located(data, builder.key_lines, builder.value_lines, tuple(builder.faults))


def _compose(text: str) -> Node | None:
    # An alias lets a few lines expand to billions of nodes, and a contract has no need of one.
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise YamlError(_line(event), f"nested more than {_MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            raise YamlError(_line(event), f"alias *{event.anchor} is not allowed; write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise YamlError(_line(event), f"tag {tag} is not allowed; a contract is plain data")
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


class _Builder:
    def __init__(self) -> None:
        self.key_lines: dict[Path, int] = {}
        self.value_lines: dict[Path, int] = {}
        self.faults: list[YamlError] = []

    def build(self, node: Node, path: Path) -> Any:  # noqa: ANN401  YAML is plain data of any shape
        self.value_lines[path] = node.start_mark.line + 1
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        if not str(node.value).isascii() and any("\ud800" <= c <= "\udfff" for c in node.value):
            self.faults.append(YamlError(node.start_mark.line + 1, f"{node.value!r} is no text that UTF-8 can write"))
        # The type of a category value is not the reader's to guess: 007, 1.0 and no are kept as written.
        return _scalar(
            str(node.value),
            quoted=getattr(node, "style", None) is not None,
            as_written=len(path) > 1 and path[-2] == "values",
        )

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self.faults.append(YamlError(line, "a key must be plain text"))
                continue
            key = str(key_node.value)
            if key in found:
                inside = f" in {dotted(path)}" if path else ""
                first = self.key_lines[(*path, key)]
                self.faults.append(YamlError(line, f"key {key!r}{inside} is written twice (first on line {first})"))
                continue
            self.key_lines[(*path, key)] = line
            found[key] = self.build(value_node, (*path, key))
        return found


def _scalar(text: str, *, quoted: bool, as_written: bool) -> Any:  # noqa: ANN401  text, number, truth value or nothing
    value: Any = text
    if quoted:
        return text
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if as_written:
        return text
    if text.lower() in {"true", "false"}:
        value = text.lower() == "true"
    elif _INTEGER.fullmatch(text) and len(text) < _MAX_DIGITS:
        value = int(text)
    elif _NUMBER.fullmatch(text):
        value = float(text)
    elif text.lower() in _INFINITE:
        value = _INFINITE[text.lower()]
    return value


def dotted(path: Path) -> str:
    """``('columns', 'visib', 'values', 2)`` as a person writes it: ``columns.visib.values[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
