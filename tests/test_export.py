"""An attested version in the formats of others, each held against that format's own reader."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from lazaretto.cli import app
from lazaretto.errors import Blocked, IntegrityViolated, UsageError
from lazaretto.pipelines.export import export
from lazaretto.pipelines.sign_contract import sign_contract
from tests.harness import CONTRACT, DATASET, NOW, publish, stored

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace


@pytest.fixture
def full(workspace: Workspace) -> Workspace:
    """Two batches under a signed contract whose id is personal data."""
    text = CONTRACT.replace("id: {type: category}", "id: {type: category, pii: true}")
    workspace.contract(DATASET).write_text(text)
    sign_contract(workspace, DATASET, NOW)
    publish(workspace)
    publish(workspace, 100)
    return workspace


def document(workspace: Workspace, form: str, version: int | None = None) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(export(workspace, DATASET, form, version))
    return content


def test_the_bundle_holds_every_signed_statement_that_leads_to_the_version(full: Workspace) -> None:
    for version, attested in ((None, 2), (2, 1)):
        lines = export(full, DATASET, "in-toto", version).decode().splitlines()
        statements = [json.loads(base64.b64decode(json.loads(line)["payload"])) for line in lines]
        kinds = [statement["predicateType"] for statement in statements]
        assert kinds == ["urn:lazaretto:store-version:v1"] * attested + ["urn:lazaretto:contract:v1"]


@pytest.mark.filterwarnings("ignore")
def test_croissants_own_reader_finds_nothing_wrong_and_reads_the_records(full: Workspace, tmp_path: Path) -> None:
    import mlcroissant

    shutil.copytree(full.store(DATASET), tmp_path / "copy")
    path = tmp_path / "copy" / "croissant.json"
    path.write_bytes(export(full, DATASET, "croissant"))
    read = mlcroissant.Dataset(jsonld=str(path))
    assert not read.metadata.ctx.issues.errors
    records = list(read.records("records"))
    assert sorted(record["records/id"].decode() for record in records) == stored(full)["id"].to_list()
    assert {type(record["records/late"]) for record in records} == {bool}


def test_croissant_names_the_files_of_the_version_by_digest_and_size(full: Workspace) -> None:
    written = document(full, "croissant", 2)
    files = [one for one in written["distribution"] if one["@type"] == "cr:FileObject"]
    assert [one["@id"] for one in files] == written["distribution"][-1]["includes"]
    for one in files:
        content = (full.store(DATASET) / one["contentUrl"]).read_bytes()
        assert (one["sha256"], one["contentSize"]) == (hashlib.sha256(content).hexdigest(), f"{len(content)} B")
    assert len(files) < len(document(full, "croissant")["distribution"]) - 1


def test_cyclonedx_holds_to_the_schema(full: Workspace) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    content = export(full, DATASET, "cyclonedx").decode()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(content) is None
    assert validator.validate_str(content.replace('"data"', '"date"', 1)) is not None
    [component] = json.loads(content)["components"]
    assert component["type"] == "data"
    files = {one["name"]: one["hashes"][0]["content"] for one in component["components"]}
    for name, digest in files.items():
        assert hashlib.sha256((full.store(DATASET) / name).read_bytes()).hexdigest() == digest
    assert content == export(full, DATASET, "cyclonedx").decode()


def test_personal_data_is_marked_and_no_value_is_in_any_document(full: Workspace) -> None:
    croissant, cyclonedx = document(full, "croissant"), document(full, "cyclonedx")
    assert croissant["rai:personalSensitiveInformation"] == ["column id"]
    fields = {field["name"]: field["description"] for field in croissant["recordSet"][0]["field"]}
    assert fields == {"records/id": "category, personal data", "records/x": "number", "records/late": "boolean"}
    assert cyclonedx["components"][0]["data"][0]["sensitiveData"] == ["id: personal data"]
    for form in ("in-toto", "croissant", "cyclonedx"):
        assert '"r0"' not in export(full, DATASET, form).decode()


def test_a_column_that_the_contract_no_longer_has_counts_as_personal(workspace: Workspace) -> None:
    publish(workspace)
    workspace.contract(DATASET).write_text(CONTRACT.replace("  x:", "  y:").replace("[x]", "[y]"))
    written = document(workspace, "croissant")
    assert written["rai:personalSensitiveInformation"] == ["column x"]
    assert "described by a later contract" in written["description"]


def test_what_the_gate_refuses_is_not_exported(full: Workspace) -> None:
    with pytest.raises(Blocked, match="was never published"):
        export(full, DATASET, "croissant", 9)
    with pytest.raises(UsageError, match="there is no format 'csv'"):
        export(full, DATASET, "csv")
    file = next(full.store(DATASET).glob("b-*/*.parquet"))
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(IntegrityViolated):
        export(full, DATASET, "cyclonedx")


def test_the_command_writes_a_file_and_never_over_one(full: Workspace, tmp_path: Path) -> None:
    said = ["export", DATASET, "--format", "cyclonedx", "--workspace", str(full.root)]
    out = ["--out", str(tmp_path / "bom.json")]
    assert CliRunner().invoke(app, [*said, *out]).output == f"wrote {tmp_path / 'bom.json'}\n"
    assert CliRunner().invoke(app, said).output == (tmp_path / "bom.json").read_text()
    shown = json.loads(CliRunner().invoke(app, [*said, "--json"]).output)
    assert shown["content"] == (tmp_path / "bom.json").read_text()
    assert CliRunner().invoke(app, [*said, *out]).exit_code != 0
