"""The contract: what a data set promises, and how it is judged."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lazaretto.contract_errors import contract_error
from lazaretto.contract_rules import rule_faults
from lazaretto.contract_yaml import YamlError, read_yaml
from lazaretto.errors import ContractError

if TYPE_CHECKING:
    import polars as pl

ColumnType = Literal["integer", "number", "boolean", "category", "text", "image", "timestamp", "vector"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "integer": ("min", "max"),
    "number": ("min", "max"),
    "boolean": (),
    "category": ("values",),
    "text": ("max_chars",),
    "image": ("max_pixels", "transparent"),
    "timestamp": (),
    "vector": ("dimensions",),
}
"""Options of a column that only some types have; ``nullable`` and ``pii`` apply to all."""

_INT64_LIMIT = 2**63
_PROMPTS = ("prompt", "instruction", "question", "input", "user")
_RESPONSES = ("response", "output", "completion", "answer", "assistant")


def _fault(kind: str, message: str, key: str = "") -> PydanticCustomError:
    # The message goes in as context: a brace in a user's value must not be taken for a placeholder.
    return PydanticCustomError(f"contract_{kind}", "{message}", {"message": message, "key": key})


def _number(value: object) -> object:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise _fault("type", f"must be a number, not {value!r}")
    return value


def _detectors(value: object) -> object:
    names = list(value) if isinstance(value, (list, tuple)) else []
    if value != "default" and not (names and all(isinstance(name, str) and name for name in names)):
        raise _fault("type", f"must be 'default' or a list of detector names, not {value!r}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _fault("values", f"detector {twice!r} is listed twice")
    return value


def _probe(value: object) -> object:
    if value != "auto":
        raise _fault("type", f"must be 'auto', the only probe there is, not {value!r}")
    return value


# A union would be answered with one message per branch: the readers above give a single one.
Bound = Annotated[int | float | None, BeforeValidator(_number)]
Detectors = Annotated[Literal["default"] | Annotated[tuple[str, ...], Field(strict=False)], BeforeValidator(_detectors)]
Rate = Annotated[float, Field(ge=1e-9, lt=1, allow_inf_nan=False)]
"""At least one in a thousand million: p-values end at 1e-12, and none would be below a smaller rate."""
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Column(_Frozen):
    """One column: its type and what its values may be.

    Options that do not apply to the type (``min`` on text) are errors.
    """

    type: ColumnType
    min: Bound = None
    max: Bound = None
    values: Annotated[tuple[str, ...] | None, Field(strict=False, min_length=1)] = None
    nullable: bool = False
    max_chars: Annotated[int | None, Field(gt=0)] = None
    pii: bool = False
    """Personal data: the values are shown in no message, report or log."""
    max_pixels: Annotated[int, Field(gt=0)] = 1_000_000
    """Width times height, read from an image's header before anything is decoded."""
    transparent: bool = False
    """Whether images may be see-through; they are judged as they look on white, whatever colours lie beneath."""
    dimensions: Annotated[int | None, Field(gt=0, le=1_000_000)] = None

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        allowed = OPTIONS[self.type]
        special = {option for options in OPTIONS.values() for option in options}
        for option in sorted((self.model_fields_set & special) - set(allowed)):
            raise _fault("option", f"{option!r} does not apply to a column of type {self.type}", option)
        for option in ("min", "max"):
            _check_bound(self.type, option, getattr(self, option))
        if self.min is not None and self.max is not None and self.min > self.max:
            raise _fault("range", f"min {self.min} is greater than max {self.max}", "min")
        if self.values is not None and len(set(self.values)) < len(self.values):
            twice = next(value for value in self.values if self.values.count(value) > 1)
            raise _fault("values", f"value {twice!r} is listed twice", "values")
        if self.type == "vector" and self.dimensions is None:
            raise _fault("dimensions", "a vector column needs 'dimensions', the length of every vector", "type")
        return self


class TwoPersons(_Frozen):
    """What one person alone may not let in, where the workspace has accounts."""

    q_value: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.1
    """Records of whom at most this share would be clean, with all that are as suspicious."""
    records: Annotated[int, Field(ge=0)] = 20
    """More records than this of one batch within a day."""
    trigger: bool = True
    """Records that carry a mined trigger."""

    def __str__(self) -> str:
        return f"{{q_value: {self.q_value:g}, records: {self.records}, trigger: {str(self.trigger).lower()}}}"


class Caps(_Frozen):
    """How many records are let in per window, whatever their scores; above it the rest waits."""

    per_source: Annotated[int | None, Field(gt=0)] = None
    """Of any one source."""
    per_duplicate_cluster: Annotated[int | None, Field(gt=0)] = None
    """That look the same, exactly or nearly."""


class Policy(_Frozen):
    """How suspicion becomes a decision; each number is the user's choice and has a meaning."""

    false_quarantine_rate: Rate = 0.01
    """Share of clean records that may be quarantined."""
    hold_when_quarantined_over: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.2
    """The whole batch waits when a larger share than this is quarantined."""
    fdr: Rate = 0.1
    """False discovery rate of the ranked list an analyst reviews."""
    detectors: Detectors = "default"
    probe: Annotated[Literal["auto"], BeforeValidator(_probe)] = "auto"
    calibration: Literal["together", "per_class"] = "together"
    """Whether the rate holds over all classes together, or, with a trusted set, within every class."""
    image_encoder: Literal["default", "efficientnet"] = "default"
    """What sees images beside the patch features; anything but the default is an extra to install."""
    text_encoder: Literal["default", "glove", "minilm"] = "default"
    """What reads texts beside the word counts; anything but the default is an extra to install."""
    min_records: Annotated[int | None, Field(ge=0)] = None
    """A batch with fewer records is held."""
    max_records: Annotated[int | None, Field(ge=0)] = None
    """A batch with more records is held."""
    two_persons: TwoPersons = TwoPersons()
    """What is released by two persons only."""

    window: Annotated[int, Field(ge=0, le=1_000)] = 30
    """Batches that look back on each other, the newest included; 0 and 1 judge each batch by itself."""
    window_chance: Rate = 0.05
    """Chance that a clean stream has a finding in any so many batches."""
    caps: Caps | None = None
    """How many records of a kind are let in per window."""
    trusted_share: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.2
    """Most of the trusted set that any one person, or any one source, may have added to it."""

    @model_validator(mode="after")
    def _volume_is_a_range(self) -> Self:
        if self.min_records is not None and self.max_records is not None and self.min_records > self.max_records:
            raise _fault(
                "range", f"min_records {self.min_records} is greater than max_records {self.max_records}", "min_records"
            )
        return self


class Contract(_Frozen):
    """What a data set promises and how it is judged.

    ``id``, ``label`` and ``source`` may be absent from ``columns``; they are then categories that may not be null.
    """

    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
    id: Name | None = None
    label: Name | None = None
    source: Name | None = None
    columns: Annotated[dict[str, Column], Field(min_length=1)]
    features: Annotated[tuple[str, ...] | None, Field(strict=False, min_length=1)] = None
    groups: Annotated[tuple[str, ...], Field(strict=False)] = ()
    expectations: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    trusted: Name | None = None
    """Glob of files known good, relative to the contract's own folder."""
    policy: Policy = Policy()

    _path: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _names_fit_together(self, info: ValidationInfo) -> Self:
        faults = rule_faults(self)
        found = (info.context or {}).get("faults")
        if found is not None:  # collected, so that one reading reports them all
            found.extend(faults)
        elif faults:
            raise _fault("names", faults[0][1])
        return self

    @property
    def path(self) -> Path | None:
        """The file this contract was loaded from."""
        return self._path

    @property
    def all_columns(self) -> dict[str, Column]:
        """Every column in contract order; an implied id, label or source comes after those that are written."""
        columns = dict(self.columns)
        for name in (self.id, self.label, self.source):
            if name is not None:
                columns.setdefault(name, Column(type="category"))
        return columns

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns detectors look at: ``features``, else every column but id, label and source."""
        if self.features is not None:
            return self.features
        return tuple(name for name in self.all_columns if name not in {self.id, self.label, self.source})

    @property
    def pair(self) -> tuple[str, str] | None:
        """Prompt and response column of an instruction set: texts by such names, and no label; else None."""
        texts = [name for name in self.feature_names if self.all_columns[name].type == "text"]
        prompts = [name for name in texts if name.lower() in _PROMPTS]
        responses = [name for name in texts if name.lower() in _RESPONSES]
        return (prompts[0], responses[0]) if prompts and responses and self.label is None else None

    @property
    def names_people(self) -> bool:
        """Whether the id is personal data: records are then called by their content's digest, and the id is masked."""
        return self.id is not None and self.all_columns[self.id].pii

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that was said, defaults included; columns count in their order."""
        content = self.model_dump(mode="json")
        content["columns"] = list(content["columns"].items())
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def load_contract(path: Path) -> Contract:
    """Read a contract file.

    Raises:
        ContractError: The file cannot be read or does not say what a contract must; every fault is named at once.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ContractError(
            f"contract {path} does not exist", hint="lazaretto infer FILE writes a first one from data"
        ) from None
    except OSError as error:
        raise ContractError(f"contract {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ContractError(f"contract {path} is not UTF-8 text (byte {error.start})") from error
    contract = parse_contract(text, str(path))
    contract._path = Path(path)  # noqa: SLF001  set once, before anyone else sees it
    return contract


def parse_contract(text: str, where: str) -> Contract:
    """Read a contract from YAML text.

    Args:
        text: The YAML.
        where: What to call it in errors, usually its file name.

    Raises:
        ContractError: One sentence per fault, each with line and key.
    """
    try:
        located = read_yaml(text)
    except YamlError as fault:
        raise contract_error(where, [(fault.line, fault.what)]) from fault
    if not isinstance(located.data, dict):
        what = "is empty" if located.data is None else "must be a mapping of keys to values"
        raise contract_error(where, [(0, f"{what}; it needs at least 'dataset' and 'columns'")])
    faults: list[tuple[tuple[str | int, ...], str]] = []
    invalid: ValidationError | None = None
    contract: Contract | None = None
    try:
        contract = Contract.model_validate(located.data, context={"faults": faults})
    except ValidationError as error:
        invalid = error
    if contract is None or faults or located.faults:
        raise contract_error(where, located=located, invalid=invalid, faults=faults)
    return contract


def canonical_schema(contract: Contract) -> dict[str, pl.DataType]:
    """Polars type of every contract column in canonical Parquet, in contract order.

    Images are their encoded bytes, timestamps microseconds in UTC, vectors 32-bit floats.
    """
    import polars as pl

    types: dict[str, pl.DataType] = {
        "integer": pl.Int64(),
        "number": pl.Float64(),
        "boolean": pl.Boolean(),
        "category": pl.String(),
        "text": pl.String(),
        "image": pl.Binary(),
        "timestamp": pl.Datetime("us", "UTC"),
        "vector": pl.List(pl.Float32()),
    }
    return {name: types[column.type] for name, column in contract.all_columns.items()}


def _check_bound(kind: str, option: str, bound: float | None) -> None:
    if bound is None:
        return
    if not math.isfinite(bound):
        raise _fault("range", f"{option} must be finite, not {bound}", option)
    if kind == "integer" and not -_INT64_LIMIT <= bound < _INT64_LIMIT:
        raise _fault("range", f"{option} {bound} does not fit into 64 bits", option)
    if kind == "integer" and bound != int(bound):
        raise _fault("range", f"{option} {bound} is not a whole number, and the column is an integer", option)
