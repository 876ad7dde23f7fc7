"""Turns what is wrong with a contract into sentences: file, line, key, nearest valid key, what is allowed."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from lazaretto.contract_yaml import Located, Path, dotted
from lazaretto.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_MOST_SHOWN = 20
_TYPE_WORDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "string_type": "text; quote it if it looks like a number",
    "tuple_type": "a list, [a, b]",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values, such as {type: number}",
    "model_attributes_type": "a mapping of keys to values, such as {type: number}",
}


def nearest(name: str, valid: Iterable[str]) -> str:
    """``; did you mean 'nullable'?`` with the most similar valid name, or nothing when none is similar."""
    found = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def contract_error(
    where: str,
    lines: Sequence[tuple[int, str]] = (),
    *,
    located: Located | None = None,
    invalid: ValidationError | None = None,
    faults: Sequence[tuple[Path, str]] = (),
) -> ContractError:
    """Build the error a user sees: one sentence per fault, in the order of the file.

    Args:
        where: What the contract is called.
        lines: Faults whose line is known.
        located: Where everything stands.
        invalid: What pydantic found.
        faults: What the contract's own rules found, by path.
    """
    found = list(lines)
    if located is not None:
        found += [(fault.line, fault.what) for fault in located.faults]
        found += [(located.line_of(path), what) for path, what in faults]
        if invalid is not None:
            found += _from_pydantic(invalid, located)
    found = sorted(dict.fromkeys(found), key=lambda item: item[0])
    sentences = [
        f"contract {where}, line {line}: {what}" if line else f"contract {where}: {what}" for line, what in found
    ]
    more = len(sentences) - _MOST_SHOWN
    if more > 0:
        sentences = [*sentences[:_MOST_SHOWN], f"contract {where}: and {more} more faults"]
    return ContractError("\n".join(sentences))


def _from_pydantic(invalid: ValidationError, located: Located) -> list[tuple[int, str]]:
    details = invalid.errors(include_url=False)
    found: list[tuple[int, str]] = []
    for detail in details:
        path = _path_in_file(detail["loc"], located)
        line, what = _sentence(detail, path, located)
        found.append((line, what))
    return found


def _path_in_file(loc: tuple[int | str, ...], located: Located) -> Path:
    """Drop what pydantic adds to a path: the union branch it tried (``tuple[...]``, ``literal['default']``)."""
    path: Path = ()
    for part in loc:
        extended = (*path, part)
        known = extended in located.value_lines or extended in located.key_lines
        if known or (path in located.value_lines and not _is_branch(part)):
            path = extended
    return path


def _is_branch(part: int | str) -> bool:
    return isinstance(part, str) and (
        part in {"int", "float"} or part.startswith(("tuple[", "literal[", "constrained-"))
    )


def _sentence(detail: ErrorDetails, path: Path, located: Located) -> tuple[int, str]:
    kind = detail["type"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    parent = dotted(path[:-1])
    inside = f" in {parent}" if parent else ""
    key = path[-1] if path else ""
    if kind == "extra_forbidden":
        valid = _valid_keys(path[:-1])
        guess = nearest(str(key), valid) or f"; allowed: {', '.join(valid)}"
        return located.line_of(path, key=True), f"unknown key {key!r}{inside}{guess}"
    if kind == "missing":
        return located.line_of(path[:-1]), f"key {key!r} is missing{inside}"
    if kind.startswith("contract_"):
        return _own_sentence(str(context["message"]), str(context["key"]), path, located)
    return located.line_of(path), _value_sentence(detail, dotted(path))


def _value_sentence(detail: ErrorDetails, name: str) -> str:
    kind = detail["type"]
    value = _shown(detail["input"])
    if kind == "literal_error":
        allowed = _literals(str(detail["ctx"]["expected"]))
        return f"{name} is {value}{nearest(str(detail['input']), allowed) or ';'} allowed: {', '.join(allowed)}"
    if kind == "string_pattern_mismatch":
        return f"{name} is {value}; allowed: letters, digits, '.', '-' and '_', starting with a letter or digit"
    if kind in {"too_short", "string_too_short"}:
        return f"{name} is empty"
    if kind in _TYPE_WORDS:
        return f"{name} must be {_TYPE_WORDS[kind]}, not {value}"
    return f"{name} is {value}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _own_sentence(message: str, key: str, path: Path, located: Located) -> tuple[int, str]:
    place = (*path, key) if key else path
    name = dotted(path)
    return located.line_of(place, key=True), f"{name}: {message}" if name else message


def _valid_keys(parent: Path) -> list[str]:
    from lazaretto.contract import Caps, Column, Contract, Policy, TwoPersons

    if not parent:
        return list(Contract.model_fields)
    if parent[:2] == ("policy", "caps"):
        return list(Caps.model_fields)
    if parent[:2] == ("policy", "two_persons"):
        return list(TwoPersons.model_fields)
    return list(Policy.model_fields) if parent[0] == "policy" else list(Column.model_fields)


def _literals(expected: str) -> list[str]:
    """``"'a', 'b' or 'c'"`` as pydantic words it, taken apart."""
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004  fits a terminal line
