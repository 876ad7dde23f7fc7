"""What the parts of a contract must be to each other: roles, names, features, groups, expectations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lazaretto.contract_errors import nearest

if TYPE_CHECKING:
    from lazaretto.contract import Contract

_ROLE_TYPES: dict[str, tuple[str, ...]] = {
    "id": ("category", "text", "integer"),
    "label": ("category", "integer", "boolean"),
    "source": ("category", "text", "integer", "boolean"),
}
CLOCK = ("date", "time", "weekday")
"""What a timestamp is judged by."""
_GROUP_TYPES = ("category", "integer", "boolean")
Faults = list[tuple[tuple[str | int, ...], str]]
"""Path within the contract, and what is wrong there."""


def rule_faults(contract: Contract) -> Faults:
    """Everything in a contract that is sound by itself and does not fit the rest."""
    rules = (_role_faults, _name_faults, _case_faults, _clock_faults, _list_faults, _expectation_faults, _policy_faults)
    return [fault for rule in rules for fault in rule(contract)]


def _role_faults(contract: Contract) -> Faults:
    faults: Faults = []
    taken: dict[str, str] = {}
    for role, allowed in _ROLE_TYPES.items():
        name = getattr(contract, role)
        if name is None:
            continue
        if name in taken:
            faults.append(((role,), f"{role} and {taken[name]} are the same column {name!r}; each needs its own"))
        taken.setdefault(name, role)
        column = contract.columns.get(name)
        if column is not None and column.type not in allowed:
            what = f"{role} column {name!r} is of type {column.type}; allowed: {', '.join(allowed)}"
            faults.append((("columns", name, "type"), what))
        if column is not None and role == "id" and column.nullable:
            faults.append((("columns", name, "nullable"), f"id column {name!r} cannot be nullable"))
    return faults


def _name_faults(contract: Contract) -> Faults:
    faults: Faults = []
    for name in contract.all_columns:
        place = ("columns", name) if name in contract.columns else ()
        if name.startswith("_"):
            faults.append((place, f"column name {name!r} is reserved: names may not start with '_'"))
        elif name.startswith("^") and name.endswith("$"):
            faults.append(
                (place, f"column name {name!r} reads as a pattern: names may not begin with '^' and end with '$'")
            )
        elif not name.strip() or not name.isprintable():
            faults.append((place, f"column name {name!r} is blank or holds control characters"))
    if contract.features is None and not contract.feature_names:
        faults.append((("columns",), "no column is left to judge besides id, label and source"))
    return faults


def _clock_faults(contract: Contract) -> Faults:
    """A timestamp is judged as three numbers, named after it: no other column may have such a name."""
    names = contract.all_columns
    return [
        (
            ("columns", f"{name} {part}"),
            f"column {name + ' ' + part!r} is called like the {part} of the timestamp {name!r}: rename one of them",
        )
        for name, column in names.items()
        if column.type == "timestamp"
        for part in CLOCK
        if f"{name} {part}" in names
    ]


def _case_faults(contract: Contract) -> Faults:
    faults: Faults = []
    lower: dict[str, str] = {}
    for name in contract.all_columns:
        first = lower.setdefault(name.lower(), name)
        if first != name:
            what = f"columns {first!r} and {name!r} differ only in case; a store cannot keep them apart"
            faults.append((("columns", name), what))
    return faults


def _list_faults(contract: Contract) -> Faults:
    faults: Faults = []
    for key in ("features", "groups"):
        listed: tuple[str, ...] = getattr(contract, key) or ()
        for index, name in enumerate(listed):
            what = (
                f"{name!r} is listed twice in {key}" if name in listed[:index] else _listed_fault(contract, key, name)
            )
            if what:
                faults.append(((key, index), what))
    return faults


def _listed_fault(contract: Contract, key: str, name: str) -> str:
    columns = contract.all_columns
    if name not in columns:
        return f"{name!r} in {key} is not a column{nearest(name, columns)}"
    if key == "features" and name in {contract.id, contract.label}:
        return f"{name!r} is the {'id' if name == contract.id else 'label'} and cannot be a feature"
    if key == "groups" and columns[name].type not in _GROUP_TYPES:
        return f"group column {name!r} is of type {columns[name].type}; allowed: {', '.join(_GROUP_TYPES)}"
    return ""


def _policy_faults(contract: Contract) -> Faults:
    policy = contract.policy
    faults: Faults = []
    if policy.calibration == "per_class" and contract.label is None:
        what = "policy.calibration is 'per_class', and there is no label to be a class"
        faults.append((("policy", "calibration"), what))
    if policy.caps is not None and policy.window < 1:
        faults.append((("policy", "caps"), "policy.caps counts records of a window, and policy.window is 0"))
    if policy.caps is not None and policy.caps.per_source is not None and contract.source is None:
        faults.append((("policy", "caps"), "policy.caps.per_source needs 'source', the column that says who sent it"))
    return faults


def _expectation_faults(contract: Contract) -> Faults:
    faults: Faults = []
    for index, expectation in enumerate(contract.expectations):
        kind = expectation.get("type")
        if not isinstance(kind, str) or not kind.startswith("expect_"):
            what = "an expectation needs 'type', the name of a Great Expectations expectation (expect_...)"
            faults.append((("expectations", index), what))
    return faults
