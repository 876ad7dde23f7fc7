r"""Regular expressions that are safe on data an attacker wrote: linear time, one meaning in every engine.

A pattern is taken apart and put together again so that Great Expectations (through pandas and Arrow's RE2) and the
polars masks (Rust's regex) read the same thing. Left alone, pandas hands a pattern with ``\s``, ``\w`` or ``$`` to
Python's backtracking engine, where one hostile cell can cost hours. Departures from Python's ``re``, all of them in
the contract's documentation: ``\d``, ``\w`` and ``\s`` mean ASCII, ``$`` the very end of the text, ``^`` its very
beginning; look-around, back-references, ``\b`` and flags other than ``(?i)`` and ``(?s)`` are refused.
"""

from __future__ import annotations

import re
import warnings

_CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r" \t\n\r\f\v"}
_END = {"python": r"\Z", "rust": r"\z"}
_FLAGS = re.compile(r"\(\?([is]+)\)")
_MAX_CHARACTERS = 10_000


class UnsafePatternError(ValueError):
    """The pattern cannot be evaluated in linear time, or engines disagree on what it means."""


def linear(pattern: str, dialect: str = "python") -> str:
    """Rewrite a pattern so that it means the same everywhere.

    Args:
        pattern: As the user wrote it.
        dialect: ``python`` for what pandas takes, ``rust`` for polars; the end of the text is written differently.

    Raises:
        UnsafePatternError: What is wrong, to follow "the pattern ".
    """
    if len(pattern) > _MAX_CHARACTERS:
        raise UnsafePatternError(f"is longer than {_MAX_CHARACTERS:,} characters")
    flags = _FLAGS.match(pattern)
    start = flags.end() if flags else 0
    out = [flags.group() if flags else ""]
    inside = False
    while start < len(pattern):
        if inside:
            token, start, inside = _in_class(pattern, start)
        else:
            token, start, inside = _outside(pattern, start, _END[dialect])
        out.append(token)
    return "".join(out)


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that either engine would.

    Raises:
        UnsafePatternError: What is wrong, to follow "the pattern ".
    """
    import polars as pl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Python warns of set notation that other engines already read
            re.compile(pattern)
    except Warning as error:
        raise UnsafePatternError(f"is ambiguous: {error}") from error
    except (re.error, RecursionError, OverflowError) as error:
        raise UnsafePatternError(f"is no regular expression: {error}") from error
    rewritten = linear(pattern, "rust")
    try:
        pl.Series([""]).str.contains(rewritten, strict=True)
    except pl.exceptions.ComputeError as error:
        raise UnsafePatternError(
            "uses look-around, a back-reference or another construct that cannot be matched in linear time"
        ) from error


def _outside(pattern: str, at: int, end: str) -> tuple[str, int, bool]:
    """One token outside a character class: its text, where the next begins, whether that is inside a class."""
    character = pattern[at]
    if character == "\\":
        return _escape(pattern, at, end), at + 2, False
    if character == "$":
        return end, at + 1, False
    if character == "(" and pattern[at + 1 : at + 2] == "?":
        return _group(pattern, at)
    if character == "(":  # a group that captures makes pandas warn, and nothing reads it
        return "(?:", at + 1, False
    if character == "{" and pattern[at + 1 : at + 2] == ",":
        raise UnsafePatternError("holds '{,' which engines read differently; write {0,n}")
    if character == "[":
        opening = re.compile(r"\[\^?\]?").match(pattern, at)
        text = opening.group() if opening else "["
        return text.replace("]", r"\]"), at + len(text), True
    return character, at + 1, False


def _group(pattern: str, at: int) -> tuple[str, int, bool]:
    if pattern.startswith("(?:", at):
        return "(?:", at + 3, False
    named = re.compile(r"\(\?P<\w+>").match(pattern, at)
    if named:
        return "(?:", named.end(), False
    raise UnsafePatternError(
        "uses look-around, an atomic group or a flag; allowed are groups and, at its very beginning, (?i) and (?s)"
    )


def _escape(pattern: str, at: int, end: str) -> str:
    letter = pattern[at + 1 : at + 2]
    if letter.lower() in _CLASSES:
        caret = "^" if letter.isupper() else ""
        return f"[{caret}{_CLASSES[letter.lower()]}]"
    if letter == "Z":
        return end
    if letter == "A":
        return r"\A"
    return _plain_escape(letter)


def _plain_escape(letter: str) -> str:
    if letter.isdigit() or (letter.isalpha() and letter not in "tnrfvax"):
        raise UnsafePatternError(f"holds '\\{letter}', which engines read differently; write out what it stands for")
    return f"\\{letter}"


def _in_class(pattern: str, at: int) -> tuple[str, int, bool]:
    character = pattern[at]
    if character == "]":
        return "]", at + 1, False
    if character == "\\":
        letter = pattern[at + 1 : at + 2]
        if letter in _CLASSES:
            return _CLASSES[letter], at + 2, True
        return _plain_escape(letter), at + 2, True
    # Rust knows nested classes and set operations; Python and RE2 take these characters as they are.
    return f"\\{character}" if character in "[&~" else character, at + 1, True
