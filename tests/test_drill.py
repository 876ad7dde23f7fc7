"""The drill plants known attacks in a copy of admitted records, measures, and leaves everything as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from lazaretto.attacks.catalogue import ATTACKS, applicable
from lazaretto.attacks.ground import Ground
from lazaretto.cli import app
from lazaretto.config import Workspace, init_workspace
from lazaretto.contract import load_contract, parse_contract
from lazaretto.dashboards.night import render_night
from lazaretto.errors import UsageError
from lazaretto.pipelines.drill import drill, interval
from lazaretto.pipelines.flows import as_markdown
from lazaretto.pipelines.ingest import ingest
from lazaretto.pipelines.nightly import nightly
from lazaretto.pipelines.verify import verify

SAMPLES = Path(__file__).parent.parent / "sample_data"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("drill") / "ws"
    place, _ = init_workspace(root)
    shutil.copy(SAMPLES / "contracts" / "flights.yaml", root / "contracts" / "flights.yaml")
    shutil.copytree(SAMPLES / "flights", root / "flights")
    pl.read_parquet(SAMPLES / "flights" / "incoming.parquet").head(1_500).write_parquet(root / "batch.parquet")
    ingest(place, [str(root / "batch.parquet")], "flights")
    return place


def test_a_drill_says_what_would_be_caught_and_names_the_weakest_spot(workspace: Workspace) -> None:
    found = drill(workspace, "flights", attacks=["trigger_outside", "flip_random"], records=1_200)
    by_name = {one.attack: one for one in found.found}
    assert found.null == "trusted"
    assert found.records == 1_200
    assert by_name["trigger_outside"].recall >= 0.8
    assert found.weakest is by_name["flip_random"]
    for one in found.found:
        assert one.low <= one.recall <= one.high
        assert one.caught <= one.poisons == round(one.rate * 1_200)


def test_a_drill_leaves_the_workspace_as_it_was(workspace: Workspace) -> None:
    before = sorted(str(path) for path in workspace.state.rglob("*") if path.is_file())
    drill(workspace, "flights", attacks=["flood"], records=300)
    assert sorted(str(path) for path in workspace.state.rglob("*") if path.is_file()) == before
    assert not verify(workspace).findings


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"attacks": ["trigger_outsid"]}, "no attack"),
        ({"attacks": ["badnets"]}, "does not fit these records"),
    ],
)
def test_an_attack_that_cannot_be_planted_is_named(
    workspace: Workspace, arguments: dict[str, list[str]], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        drill(workspace, "flights", attacks=arguments["attacks"])


def test_the_command_prints_json_and_a_table(workspace: Workspace) -> None:
    arguments = ["drill", "flights", "--attack", "flood", "--records", "300", "-w", str(workspace.root)]
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert told["weakest"] == "flood"
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "flood of copies, of which" in shown.stdout


def test_a_night_can_end_in_a_drill_of_what_was_admitted(workspace: Workspace) -> None:
    landing = workspace.landing / "flights"
    landing.mkdir(parents=True, exist_ok=True)
    rows = pl.read_parquet(SAMPLES / "flights" / "incoming.parquet")[2_000:2_550]
    rows.write_parquet(landing / "night.parquet")
    (outcome,) = nightly(workspace, drilled=True)
    assert outcome.state == "admitted", outcome.sentence
    assert outcome.drill is not None
    assert outcome.drill["weakest"] in {one["attack"] for one in outcome.drill["found"]}
    assert f"Weakest: {ATTACKS[outcome.drill['weakest']].title}" in as_markdown([outcome])


def test_a_drill_and_a_night_are_pages_too(workspace: Workspace, tmp_path: Path) -> None:
    page = tmp_path / "drill.html"
    arguments = ["drill", "flights", "--attack", "flip_random", "--records", "300", "-w", str(workspace.root)]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--out", str(page)]).stdout)
    assert page.read_text(encoding="utf-8").count("<tr") == 2
    told = found["found"][0]
    assert f"{told['caught']} of {told['poisons']} would be caught" in page.read_text(encoding="utf-8")

    quiet = {"dataset": "mails", "state": "nothing", "sentence": "nothing arrived", "exit_code": 0}
    quiet |= {"result": None, "trend": [], "drift": [], "drill": None}
    night = [{"at": "", "batch": f"n{i}", "arrived": 100, "rejected": 0, "suspects": i} for i in range(5)]
    trend = [one | {"share": one["suspects"] / 100, "unusual": 1e-6 if one["suspects"] == 4 else None} for one in night]
    drift = [{"column": "<b>", "psi": 0.4, "drifted": True}]
    held = {"dataset": "flights", "state": "held", "sentence": "100 arrived; held: <script>", "exit_code": 3}
    held |= {"result": {"batch": "b1"}, "trend": trend, "drift": drift, "drill": {"dataset": "flights", "error": "no"}}
    whole = render_night([held, quiet], tmp_path / "night.html").read_text(encoding="utf-8")
    assert "1 of 1 data set that something arrived for needs a person: flights is held" in whole
    assert "&lt;script&gt;" in whole
    assert "<script" not in whole
    assert whole.count('class="b strong"') == 2  # one night, one column
    assert "not drilled" in whole
    drilled = render_night([held | {"drill": found}], tmp_path / "night.html").read_text(encoding="utf-8")
    assert told["title"] in drilled


@pytest.mark.parametrize(("page", "sentence"), [(".", "is a folder"), ("no/page.html", "does not exist")])
def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    workspace: Workspace, tmp_path: Path, page: str, sentence: str
) -> None:
    for command in (["drill", "flights"], ["nightly"]):
        arguments = [*command, "-w", str(workspace.root), "--out", str(tmp_path / page)]
        told = CliRunner().invoke(app, arguments)
        assert isinstance(told.exception, UsageError)
        assert sentence in told.exception.message


def test_nothing_admitted_means_no_drill(tmp_path: Path) -> None:
    place, _ = init_workspace(tmp_path / "ws")
    shutil.copy(SAMPLES / "contracts" / "flights.yaml", place.root / "contracts" / "flights.yaml")
    with pytest.raises(UsageError, match="no batch of flights was admitted yet"):
        drill(place, "flights")


@pytest.mark.parametrize(("hits", "ends"), [(0, (0.0, 0.3085)), (10, (0.6915, 1.0)), (5, (0.1871, 0.8129))])
def test_the_interval_is_exact(hits: int, ends: tuple[float, float]) -> None:
    assert interval(hits, 10) == pytest.approx(ends, abs=1e-4)


def test_every_attack_of_the_catalogue_fits_the_data_it_is_for() -> None:
    flights = pl.read_parquet(SAMPLES / "flights" / "incoming.parquet").head(400)
    names = {a.name for a in applicable(Ground.of(flights, load_contract(SAMPLES / "contracts" / "flights.yaml")))}
    assert {"flip_random", "flip_pair", "flip_boundary", "source"} < names
    assert {"trigger_inside", "trigger_outside", "flood"} < names
    assert "badnets" not in names
    images = pl.read_parquet(SAMPLES / "fashion" / "incoming.parquet").head(100)
    shown = {a.name for a in applicable(Ground.of(images, load_contract(SAMPLES / "contracts" / "fashion.yaml")))}
    assert shown >= {"badnets", "blend", "wanet", "sig", "tact", "adaptive_blend", "narcissus", "flip_random"}
    assert set(ATTACKS) >= names | shown


@pytest.mark.parametrize("name", ["badnets", "blend", "wanet", "all_to_all", "sig", "tact", "adaptive_blend", "flood"])
def test_an_image_attack_of_the_catalogue_changes_the_records_it_names_and_no_other(name: str) -> None:
    contract = load_contract(SAMPLES / "contracts" / "fashion.yaml")
    ground = Ground.of(pl.read_parquet(SAMPLES / "fashion" / "incoming.parquet").head(400), contract)
    planted = ATTACKS[name].plant(ground, ATTACKS[name].rate, 104)
    before, after = ground.images(), Ground.of(planted.frame, contract).images()
    touched = (before != after).any(axis=(1, 2)) | (ground.frame["label"] != planted.frame["label"]).to_numpy()
    assert not touched[planted.clean].any()
    assert touched[planted.truth].mean() > 0.9
    assert planted.truth.any()
    assert not (planted.truth & planted.cover).any()
    assert np.array_equal(ATTACKS[name].plant(ground, ATTACKS[name].rate, 104).truth, planted.truth)


def test_attacks_are_planted_in_columns_of_every_type() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "when": pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 9, 7), "1h", eager=True),
            "flag": rng.random(200) < 0.5,
            "vector": [None if i == 7 else rng.normal(size=3).tolist() for i in range(200)],
            "site": rng.integers(0, 3, 200),
            "late": rng.choice(["yes", "no"], 200),
        }
    )
    contract = parse_contract(
        "dataset: d\nlabel: late\nsource: site\ncolumns:\n  when: {type: timestamp}\n  flag: {type: boolean}\n"
        "  vector: {type: vector, dimensions: 3, nullable: true}\n  site: {type: integer}\n  late: {type: category}\n",
        "d.yaml",
    )
    ground = Ground.of(frame, contract)
    boundary = ATTACKS["flip_boundary"].plant(ground, 0.05, 0)
    assert boundary.truth.sum() == 10
    source = ATTACKS["source"].plant(ground, 0.2, 0)
    assert source.truth.any()
    assert frame["site"].filter(pl.Series(source.truth)).n_unique() == 1


def test_the_copy_is_not_held_for_its_own_size(workspace: Workspace) -> None:
    path = workspace.contract("flights")
    before = path.read_text()
    counts = "expectations:\n  - {type: expect_table_row_count_to_be_between, min_value: 900, max_value: 2000}"
    path.write_text(before.replace("expectations:", counts).replace("min_records: 500", "min_records: 1000"))
    try:
        assert load_contract(path).policy.min_records == 1_000
        found = drill(workspace, "flights", attacks=["flood"], records=300)
    finally:
        path.write_text(before)
    assert found.hold_reasons == ()
    assert not found.found[0].held
