"""An attested store version in the words of other tools: in-toto, Croissant, CycloneDX; without any record's values.

What is exported has passed the gate; the digests are those that the attestation was signed for.

- in-toto: the signed envelopes themselves, one a line, attestations first, then the contracts that were signed.
- Croissant 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html): files with digest and size, and a
  record set with the contract's columns. Paths count from the store's folder, and no other file there is named: what
  was recalled still lies beside the rest.
- CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/): the data set as a component of type data, its files below it.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lazaretto.contract import load_contract
from lazaretto.errors import UsageError
from lazaretto.loader import opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.attest import Attestation
    from lazaretto.config import Workspace
    from lazaretto.contract import Column, Contract
    from lazaretto.loader import Admitted

_PARQUET = "application/x-parquet"
_TYPES = {
    "integer": "sc:Integer",
    "number": "sc:Float",
    "boolean": "sc:Boolean",
    "category": "sc:Text",
    "text": "sc:Text",
    "timestamp": "sc:DateTime",
    "image": "sc:ImageObject",
    "vector": "sc:Float",
}
_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{term: f"cr:{term}" for term in _TERMS},
}
"""The context that the specification of Croissant 1.0 gives, with the vocabulary for responsible AI."""
_PII = "personal data"


@dataclass(frozen=True)
class Exported:
    """A store version and what its columns are."""

    workspace: Workspace
    admitted: Admitted
    contract: Contract

    @property
    def attestation(self) -> Attestation:
        """That of the version."""
        return self.admitted.attestation

    @property
    def columns(self) -> dict[str, Column | None]:
        """Column -> what the contract says of it; None for one that today's contract no longer has."""
        known = self.contract.all_columns
        return {name: known.get(name) for name in self.admitted.columns}

    @property
    def personal(self) -> tuple[str, ...]:
        """The columns with personal data; one that the contract no longer has may hold some."""
        return tuple(name for name, column in self.columns.items() if column is None or column.pii)

    @property
    def description(self) -> str:
        """The version in a sentence."""
        one = self.attestation
        same = one.digests.get("contract", self.contract.digest) == self.contract.digest
        how = "" if same else " Its columns are described by a later contract than the one it was judged by last."
        return (
            f"Version {one.version} of {one.dataset}: {one.active_rows:,} records in {one.active_files:,} files that"
            f" passed the quarantine of {one.workspace}, attested {one.issued_at}.{how}"
        )


def export(workspace: Workspace, dataset: str, form: str, version: int | None = None) -> bytes:
    """A store version as a document.

    Args:
        workspace: Whose.
        dataset: The data set.
        form: One of `FORMATS`.
        version: A store version; the newest by default.

    Raises:
        Blocked: The gate says no.
        IntegrityViolated: Store or attestations are not what was signed.
        UsageError: There is no such form.
        ContractError: There is no contract to describe the columns.
    """
    write = FORMATS.get(form)
    if write is None:
        raise UsageError(f"there is no format {form!r}", hint=f"one of: {', '.join(FORMATS)}")
    admitted = opened(workspace, dataset, version)
    return write(Exported(workspace, admitted, load_contract(workspace.contract(dataset))))


def in_toto(exported: Exported) -> bytes:
    """The bundle of signed statements that lead to the version, one envelope a line."""
    workspace, one = exported.workspace, exported.attestation
    paths = sorted(workspace.attestations(one.dataset).glob("[0-9]*"))[: one.epoch]
    paths += sorted(workspace.signed_contracts(one.dataset).glob("[0-9]*"))
    lines = [json.dumps(json.loads(path.read_bytes()), sort_keys=True) for path in paths]
    return "".join(f"{line}\n" for line in lines).encode()


def croissant(exported: Exported) -> bytes:
    """Croissant 1.0, JSON-LD."""
    one, files = exported.attestation, exported.admitted.files
    distribution: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": file.path,
            "name": file.path,
            "contentUrl": file.path,
            "contentSize": f"{file.size} B",
            "encodingFormat": _PARQUET,
            "sha256": file.sha256,
        }
        for file in files
    ]
    distribution.append(
        {
            "@type": "cr:FileSet",
            "@id": "store",
            "name": "store",
            "description": "Every file of the version, and no other.",
            "encodingFormat": _PARQUET,
            "includes": [file.path for file in files],
        }
    )
    record_set = {
        "@type": "cr:RecordSet",
        "@id": "records",
        "name": "records",
        "description": "One record a row.",
        "field": [_field(exported, name) for name in exported.columns],
    }
    return _document(
        {
            "@context": _CONTEXT,
            "@type": "sc:Dataset",
            "name": one.dataset,
            "description": exported.description,
            "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
            "version": f"{one.version}.0.0",
            "datePublished": one.issued_at,
            "identifier": f"sha256:{one.digest}",
            **({"rai:personalSensitiveInformation": [f"column {name}" for name in exported.personal]}
               if exported.personal else {}),
            "distribution": distribution,
            "recordSet": [record_set],
        }
    )  # fmt: skip


def _field(exported: Exported, name: str) -> dict[str, Any]:
    column = exported.columns[name]
    field = {
        "@type": "cr:Field",
        "@id": f"records/{name}",
        "name": f"records/{name}",
        "description": _kind(exported, name),
        "dataType": "sc:Text" if column is None else _TYPES[column.type],
        "source": {"fileSet": {"@id": "store"}, "extract": {"column": name}},
    }
    return {**field, "repeated": True} if column is not None and column.type == "vector" else field


def cyclonedx(exported: Exported) -> bytes:
    """CycloneDX 1.6, JSON: a bill of materials for machine learning with the data set as its subject."""
    one = exported.attestation
    name = f"{one.dataset}@{one.version}"
    said = {
        "rows": one.active_rows,
        "epoch": one.epoch,
        "attestation": f"sha256:{one.digest}",
        **{f"digest:{what}": f"sha256:{digest}" for what, digest in sorted(one.digests.items())},
        **{f"column:{column}": _kind(exported, column) for column in exported.columns},
    }
    files = [
        {
            "type": "file",
            "bom-ref": f"{name}/{file.path}",
            "name": file.path,
            "mime-type": "application/vnd.apache.parquet",
            "hashes": [{"alg": "SHA-256", "content": file.sha256}],
            "properties": _properties({"rows": file.rows, "bytes": file.size}),
        }
        for file in exported.admitted.files
    ]
    data = {
        "type": "dataset",
        "name": one.dataset,
        "description": exported.description,
        "sensitiveData": [f"{column}: {_PII}" for column in exported.personal],
    }
    component = {
        "type": "data",
        "bom-ref": name,
        "name": one.dataset,
        "version": str(one.version),
        "description": exported.description,
        # Of all files together, as the attestation's subject has it; a file's own stands below it.
        "hashes": [{"alg": "SHA-256", "content": one.active_digest}],
        "data": [data],
        "properties": _properties(said),
        "components": files,
    }
    return _document(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            # The same version gives the same document.
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, one.digest)}",
            "version": 1,
            "metadata": {"timestamp": one.issued_at, "tools": {"components": [_tool()]}},
            "components": [component],
        }
    )


def _tool() -> dict[str, str]:
    from lazaretto import __version__

    return {"type": "application", "name": "lazaretto", "version": __version__}


def _kind(exported: Exported, name: str) -> str:
    column = exported.columns[name]
    kind = "no longer in the contract" if column is None else column.type
    return f"{kind}, {_PII}" if name in exported.personal else kind


def _properties(said: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": f"lazaretto:{name}", "value": str(value)} for name, value in said.items()]


def _document(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


FORMATS: dict[str, Callable[[Exported], bytes]] = {"in-toto": in_toto, "croissant": croissant, "cyclonedx": cyclonedx}
"""Name -> what writes it."""
