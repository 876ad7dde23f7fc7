"""What an attacker might hand in, at every place that takes a file: nothing of it runs, nothing of it is lost."""

from __future__ import annotations

import ast
import io
import json
import pickle
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.hostile_mutants import seeds
from benchmarks.hostile_shapes import _png, _same_image, _scans
from benchmarks.hostile_storm import made
from benchmarks.hostile_tables import contract_for
from lazaretto.contract import load_contract
from lazaretto.errors import ContractError, InputRefused, IntegrityViolated, LazarettoError
from lazaretto.gatekeeper import gate
from lazaretto.pipelines.cases import open_quarantine
from lazaretto.pipelines.confine import parse_confined
from lazaretto.pipelines.infer import infer
from lazaretto.pipelines.ingest import ingest
from lazaretto.pipelines.snapshot import snapshot
from lazaretto.pipelines.trusted import read_trusted
from lazaretto.pipelines.verify import verify
from tests.harness import DATASET, FakeJudge, publish
from tests.reading import contract_of, read_csv, read_files, read_jsonl

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.config import Workspace

ROOT = Path(__file__).parent.parent
PRODUCT = sorted(
    path for folder in ("src", "pipelines", "detectors", "expectations", "dashboards", "benchmarks", "sample_data")
    for path in (ROOT / folder).rglob("*.py") if "lazaretto/pipelines" not in str(path)
)  # fmt: skip
CONTRACT = contract_of("t: text; n: number", id="id")


class Canary:
    """Whoever loads it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


@pytest.fixture(params=[0, 1, 2, 4, 5])
def canary(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    return pickle.dumps(Canary(tmp_path / "sung"), protocol=request.param)


def test_the_canary_sings(tmp_path: Path, canary: bytes) -> None:
    pickle.loads(canary).close()  # noqa: S301  our own
    assert (tmp_path / "sung").exists()


@pytest.mark.parametrize(
    "name", ["d.csv", "d.jsonl", "d.parquet", "d.pkl", "d.pt", "d.npy", "d.joblib", "d.safetensors"]
)
def test_a_pickle_is_loaded_under_no_name(tmp_path: Path, canary: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(canary)
    takers: list[Callable[[], object]] = [
        lambda: parse_confined(snapshot([tmp_path / name], "d", tmp_path / "s"), CONTRACT, tmp_path / "w"),
        lambda: read_trusted(CONTRACT, [str(tmp_path / name)], tmp_path / "trusted"),
        lambda: load_contract(tmp_path / name),
    ]
    for take in takers if name in {"d.csv", "d.pkl"} else takers[:1]:
        with pytest.raises((InputRefused, ContractError)):
            take()
    with suppress(InputRefused):  # of the oldest kind every line is text, and a contract can be guessed from it
        infer([tmp_path / name])
    assert not (tmp_path / "sung").exists()


def test_a_pickle_among_images_or_in_the_landing_folder_is_not_loaded(
    workspace: Workspace, tmp_path: Path, canary: bytes
) -> None:
    image = read_files({"p/0.png": canary}, contract_of("picture: image"), folder=True)
    assert "neither PNG nor JPEG" in image.reasons[0]
    for name in ("d.csv", "d.pkl"):
        landing = workspace.landing / DATASET
        landing.mkdir(parents=True, exist_ok=True)
        (landing / name).write_bytes(canary)
        with pytest.raises(LazarettoError):
            ingest(workspace, [], DATASET)
        (landing / name).unlink()
    assert not (tmp_path / "sung").exists()


def test_a_pickle_in_place_of_any_file_of_a_workspace_is_not_loaded(
    workspace: Workspace, tmp_path: Path, canary: bytes
) -> None:
    result = publish(workspace)
    places = [path for path in workspace.root.rglob("*") if path.is_file() and path.suffix not in {".db", ".lock"}]
    assert len(places) > 15
    for path in places:
        kept = path.read_bytes()
        path.write_bytes(canary)
        for look in (
            lambda: verify(workspace),
            lambda: gate(DATASET, workspace=workspace),
            lambda: list(open_quarantine(workspace, DATASET, result.batch).records()),
            lambda: ingest(workspace, [tmp_path / "batch-0.csv"], DATASET, judge=FakeJudge()),
        ):
            try:
                look()
            except LazarettoError as refused:
                assert refused.message  # noqa: PT017  any of ours will do, a traceback will not
        assert not (tmp_path / "sung").exists(), path
        path.write_bytes(kept)


def test_weights_that_are_not_the_known_ones_are_not_loaded(tmp_path: Path, canary: bytes) -> None:
    from lazaretto.detectors.views.frozen import known_file

    (tmp_path / "weights.pth").write_bytes(canary)
    with pytest.raises(IntegrityViolated, match="not the known one"):
        known_file(tmp_path / "weights.pth", "0" * 64)
    assert not (tmp_path / "sung").exists()


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """The last two names of what is called, and the call."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def unsafe(source: str) -> list[str]:
    """What a module does that could run what it reads."""
    tree = ast.parse(source)
    found = sorted(
        imported(tree) & {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle", "joblib"}
    )
    for name, call in calls(tree):
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name.endswith("torch.load") and given.get("weights_only") != "True":
            found.append("torch.load without weights_only")
        if name in {"np.load", "numpy.load"} and given.get("allow_pickle", "False") != "False":
            found.append("np.load with pickles")
        if name in {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "eval", "exec", "os.system"}:
            found.append(name)
        if given.get("shell") == "True":
            found.append("a shell")
    return found


def test_no_module_can_load_a_pickle_or_run_what_it_reads() -> None:
    allowed = {"benchmarks/hostile_bytes.py": ["pickle"]}  # makes some, to be refused
    found = {str(path.relative_to(ROOT)): unsafe(path.read_text()) for path in PRODUCT}
    assert len(found) > 150
    assert {name: what for name, what in found.items() if what} == allowed
    assert unsafe("import pickle\ntorch.load(x)\nnp.load(x, allow_pickle=True)\nyaml.load(x)") == [
        "pickle", "torch.load without weights_only", "np.load with pickles", "yaml.load",
    ]  # fmt: skip


def test_no_module_of_the_product_writes_csv_that_a_spreadsheet_would_run() -> None:
    """A cell that begins with = + - @ is a formula there; whoever adds an export must defuse such cells first."""
    writers = ("write_csv", "to_csv", "sink_csv", "csv.writer", "csv.DictWriter")
    product = [path for path in PRODUCT if path.relative_to(ROOT).parts[0] not in {"benchmarks", "sample_data"}]
    assert [
        path.name for path in product for name, _ in calls(ast.parse(path.read_text())) if name.endswith(writers)
    ] == []


@pytest.mark.parametrize("formula", ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", '=HYPERLINK("x")'])
def test_a_formula_is_kept_as_the_data_it_is(formula: str) -> None:
    quoted = formula.replace('"', '""')
    assert read_csv(f'id,t\nr,"{quoted}"\n', CONTRACT).frame["t"].to_list() == [formula]
    assert read_jsonl(json.dumps({"id": "r", "t": formula}) + "\n", CONTRACT).frame["t"].to_list() == [formula]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("id\u200b", "looks like 'id' of the contract"),
        ("n ", "looks like 'n' of the contract"),
        ("\uff4e", "looks like 'n' of the contract"),
        ("\u202eeman", "characters that nobody sees"),
    ],
)
def test_a_column_that_pretends_to_be_another_holds_the_batch(name: str, says: str) -> None:
    holds = read_csv(f"id,t,n,{name}\nr,a,1,2\n", CONTRACT).parsed.holds
    assert any(says in why for why in holds)


def test_ordinary_columns_beside_the_contracts_hold_nothing() -> None:
    odd = ["T", "n2", "\u0438\u043c\u044f", "\u540d\u524d", "a b", "na\u00efve"]
    assert read_csv(f"id,t,n,{','.join(odd)}\nr,a,1{',x' * len(odd)}\n", CONTRACT).parsed.holds == ()


@pytest.mark.parametrize("content", [b",".join(b"x%d" % i for i in range(100_001)) + b"\n", b"id," * 99_999 + b"id\n"])
def test_a_header_of_too_many_columns_or_one_a_hundred_thousand_times_is_refused_at_once(content: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(InputRefused, match=r"columns, more than|the column 'id' twice"):
        read_csv(content, CONTRACT)
    assert time.perf_counter() - began < 10


def test_a_key_twice_behind_two_hundred_thousand_others_is_found_at_once() -> None:
    line = "{" + ", ".join(f'"k{i}": 1' for i in range(200_000)) + ', "k199999": 1}\n'
    began = time.perf_counter()
    read = read_jsonl('{"id": "r", "t": "a"}\n' + line, CONTRACT)
    assert "'k199999' is there twice" in read.reasons[1]
    assert time.perf_counter() - began < 10


def parquet(table: pa.Table, **how: object) -> dict[str, bytes]:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", write_statistics=False, **how)
    return {"d.parquet": out.getvalue()}


def test_parquet_that_says_more_than_its_bytes_can_hold_is_refused_before_it_is_read() -> None:
    nulls = parquet(pa.table({"id": pa.nulls(2_000_000, pa.string()), "n": pa.nulls(2_000_000, pa.float64())}))
    with pytest.raises(InputRefused, match="2,000,000 rows in"):
        read_files(nulls, CONTRACT)
    texts = pa.array(["x" * 1_000_000] * 300)
    with pytest.raises(InputRefused, match=r"unpacks to 0\.3 GiB"):
        read_files(parquet(pa.table({"t": texts}), use_dictionary=False), CONTRACT)
    with pytest.raises(InputRefused, match=r"unpacks to 0\.3 GiB"):
        read_files(parquet(pa.table({"t": texts})), CONTRACT)
    with pytest.raises(InputRefused, match=r"unpacks to 0\.3 GiB"):
        read_files(_same_image(300), contract_of("picture: image"))


def test_many_equal_records_and_long_repeated_texts_are_still_read() -> None:
    same = parquet(pa.table({"id": [f"r{i}" for i in range(20_000)], "t": ["a prompt " * 200] * 20_000}))
    read = read_files(same, CONTRACT)
    assert read.frame.height == 20_000
    assert read.frame["t"].n_unique() == 1


def test_a_jpeg_of_thousands_of_scans_is_rejected_before_they_are_decoded_and_a_progressive_one_is_read() -> None:
    contract = contract_of("picture: image")
    began = time.perf_counter()
    read = read_files({"p/0.jpg": _scans(20_000, 900), "p/1.jpg": _scans(3, 32)}, contract, folder=True)
    assert read.reasons.keys() == {0}
    assert "scans, more than the 200 allowed" in read.reasons[0]
    assert time.perf_counter() - began < 10


def test_what_an_image_carries_beside_its_pixels_cannot_unpack_without_bound() -> None:
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    chunk = b"zTXt" + b"a\0\0" + zlib.compress(bytes(10**8))
    bomb = _png(8, 8).replace(b"\0\0\0\0IEND", b"").removesuffix(b"\xaeB`\x82")
    bomb += (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    read = read_files({"p/0.png": bomb, "p/1.png": out.getvalue()}, contract_of("picture: image"), folder=True)
    assert read.parsed.arrived == 2


@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|aa)+$", "^(a*)*b$", "(.*)*x", r"^(\w+\s?)+$"])
def test_a_pattern_that_explodes_elsewhere_takes_linear_time_in_both_engines(pattern: str) -> None:
    from lazaretto.expectations.regex import check_pattern, linear

    check_pattern(pattern)
    text = "a" * 200_000 + "!"
    began = time.perf_counter()
    pl.Series([text]).str.contains(linear(pattern, "rust"))
    pa.compute.match_substring_regex(pa.array([text]), linear(pattern).replace(r"\Z", r"\z"))
    assert time.perf_counter() - began < 5


def test_a_bomb_in_a_column_outside_the_contract_is_the_childs_to_read(tmp_path: Path) -> None:
    """The original of a rejected record is its whole row: fetching it once unpacked everything, in the parent."""
    rows = 3_000
    table = pa.table({"id": ["r1"] * rows, "t": ["a"] * rows, "extra": pa.array(["x" * 100_000] * rows)})
    for name, content in parquet(table).items():
        (tmp_path / name).write_bytes(content)
    batch = snapshot([tmp_path / "d.parquet"], "d", tmp_path / "s")
    with pytest.raises(InputRefused, match="unpacks to"):
        parse_confined(batch, CONTRACT, tmp_path / "w")


def test_a_file_that_ends_the_reader_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """A bit of Parquet's metadata of which Arrow, as locked, aborts its process."""
    content = made("parquet", seeds()["parquet"], 0, 11)
    (tmp_path / "d.parquet").write_bytes(content)
    batch = snapshot([tmp_path / "d.parquet"], "d", tmp_path / "s")
    with pytest.raises(InputRefused, match=r"ended the reader \(signal SIGABRT\)|no readable Parquet"):
        parse_confined(batch, contract_for("parquet"), tmp_path / "w")
