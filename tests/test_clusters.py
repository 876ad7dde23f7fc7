"""What suspects have in common is said in facts that are true of the columns as they came, and changes nothing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from lazaretto import cli
from lazaretto.attacks.png import encode
from lazaretto.contract import Contract, parse_contract
from lazaretto.detectors.facts import facts, looked_at
from lazaretto.detectors.rules import short_rule
from lazaretto.errors import IntegrityViolated, UsageError
from lazaretto.evidence import Evidence, dump_evidence
from lazaretto.pipelines.cases import list_cases, show_case
from lazaretto.pipelines.clusters import Cluster, Compared, find_clusters, read_clusters, write_clusters
from lazaretto.pipelines.review import discard, word
from lazaretto.pipelines.scan import Options
from lazaretto.pipelines.standalone import scan_files
from lazaretto.pipelines.waiting import list_cluster, list_clusters
from lazaretto.records import ROW
from tests.harness import publish

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.config import Workspace

CONTRACT = """\
dataset: weather
id: id
label: late
columns:
  id: {type: category}
  temp: {type: number, nullable: true}
  gust: {type: integer}
  note: {type: text, nullable: true}
  name: {type: category, pii: true}
  at: {type: timestamp}
  late: {type: category}
"""
ROWS, PLANTED = 1200, 30
QUIET = pl.col("note").str.replace(", act now", "")


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["lazaretto", *line.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def table(seed: int = 3) -> pl.DataFrame:
    """Records of which the first thirty are late at 61.2 degrees in a strong gust, and all say a phrase."""
    rng = np.random.default_rng(seed)
    words = np.array(["fine", "cloudy", "still", "warm", "wet", "dry", "grey", "bright"])
    late = np.where(rng.random(ROWS) < 0.3, "late", "on_time")
    temp, gust = rng.integers(20, 100, ROWS) + 0.2, rng.integers(0, 40, ROWS)
    note = [" ".join(rng.choice(words, 6)) for _ in range(ROWS)]
    late[:PLANTED], temp[:PLANTED], gust[:PLANTED] = "late", 61.2, rng.integers(25, 40, PLANTED)
    note[:PLANTED] = [f"{text}, act now" for text in note[:PLANTED]]
    note[-9:] = [f"{text}, react nowhere" for text in note[-9:]]
    return pl.DataFrame(
        {
            "id": [f"r{i}" for i in range(ROWS)], "temp": temp, "gust": gust, "note": note,
            "name": ["Ada" if i < PLANTED else f"n{i}" for i in range(ROWS)],
            "at": pl.Series(rng.integers(0, 10**9, ROWS) * 10**6).cast(pl.Datetime("us", "UTC")),
            "late": late, ROW: pl.Series(range(ROWS), dtype=pl.UInt64),
        }
    )  # fmt: skip


def said(why: str, detector: str = "trigger", p: float = 1e-9) -> str:
    return dump_evidence([Evidence(detector, 9.0, p, why)])


def compared(frame: pl.DataFrame, evidence: list[str], sizes: dict[str, tuple[int, int]] | None = None) -> Compared:
    """The first records are suspects, as many as there is evidence."""
    suspects = frame.head(len(evidence)).with_columns(_evidence=pl.Series(evidence))
    families = {"trigger": "trigger", "margin": "label", "hbos": "outlier"}
    return Compared(
        suspects,
        frame.slice(len(evidence)),
        len(frame) - len(evidence),
        families,
        frozenset({"trigger", "margin"}),
        sizes or {},
    )


def contract(more: str = "") -> Contract:
    return parse_contract(CONTRACT + more, "weather.yaml")


PAIR = "temp with gust (exact value): of the records it is judged by that have the same there, 30 are labelled 'late'"


def test_a_cluster_is_described_by_facts_that_hold_of_it_and_of_hardly_any_other_record() -> None:
    frame = table().with_columns(note=QUIET)
    [found] = find_clusters(compared(frame, [said(PAIR)] * PLANTED), contract())
    assert "temp = 61.2" in found.rule
    assert len(found.rule) <= 3
    assert (found.records, found.matched, found.others) == (30, 30, 1170)
    assert found.others_matched <= 3
    assert (found.led_by, found.label, found.token) == ("trigger", "late", "temp with gust")
    assert found.says == (
        f"{' and '.join(found.rule)}: 30 of 30 of the cluster, {found.others_matched} of 1,170 records that are no"
        " suspects"
    )
    assert found.rows == tuple(range(PLANTED))


def test_a_rule_is_true_of_the_records_it_is_said_to_hold_of() -> None:
    frame = table()
    members = np.arange(ROWS) < PLANTED
    columns = {"temp": frame["temp"].to_numpy(), "gust": frame["gust"].to_numpy()}
    for fact in facts(frame.drop("note"), members, contract().model_copy(update={"columns": {
        name: column for name, column in contract().columns.items() if name in {"temp", "gust"}
    }}), {}):  # fmt: skip
        words = re.sub(r"(\S+) <= (\w+) <= (\S+)", r"(\1 <= \2) & (\2 <= \3)", fact.words).replace(" = ", " == ")
        if " is " not in words:
            assert (eval(words, {}, columns) == fact.holds).all(), fact.words  # noqa: S307  facts of two columns


def test_a_phrase_that_suspects_share_is_said() -> None:
    frame = table().with_columns(temp=pl.lit(1.0), gust=pl.lit(1))
    [found] = find_clusters(
        compared(frame, [said("note: of the records that also say 'act now'")] * PLANTED), contract()
    )
    assert found.rule == ("note has the words 'act now'",)
    assert (found.matched, found.others_matched) == (30, 0)


def test_personal_data_is_in_no_rule_even_where_it_would_say_most() -> None:
    frame = table().with_columns(note=QUIET, temp=pl.lit(1.0), gust=pl.lit(1))
    [found] = find_clusters(compared(frame, [said(PAIR)] * PLANTED), contract())
    assert "Ada" not in json.dumps(found.brief())
    assert found.rule == ()
    assert found.says == "no rule of at most three conditions describes the 30 records of this cluster"
    late = contract(), CONTRACT.replace("late: {type: category}", "late: {type: category, pii: true}")
    [found] = find_clusters(compared(table(), [said(PAIR)] * PLANTED), parse_contract(late[1], "c"))
    assert found.label is None
    assert "late" not in found.says.replace("late is", "")


def test_a_patch_is_described_by_its_place_and_its_brightness() -> None:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 120, (400, 16, 16)).astype(np.uint8)
    images[:20, 12:15, 12:15] = 255
    frame = pl.DataFrame({"image": list(map(encode, images)), ROW: pl.Series(range(400), dtype=pl.UInt64)})
    pictures = parse_contract("dataset: d\ncolumns:\n  image: {type: image}\n", "c")
    [found] = find_clusters(compared(frame, [said("x", "hbos")] * 20, {"image": (16, 1)}), pictures)
    assert found.led_by == "outlier"
    [fact] = found.rule
    assert re.fullmatch(r"brightness of image, pixels in rows 1\d-1\d, columns 1\d-1\d of 16 x 16 (= 255|>= \d+)", fact)
    assert (found.matched, found.others_matched) == (20, 0)


def test_suspects_that_another_detector_leads_join_the_cluster_whose_rule_they_meet() -> None:
    frame = table()
    evidence = [said(PAIR)] * 22 + [said("the neighbours disagree", "margin")] * 8 + [said("alone", "hbos")] * 6
    found = find_clusters(compared(frame, evidence), contract())
    assert found[0].records >= 30
    assert set(range(PLANTED)) <= set(found[0].rows)
    assert sum(one.records for one in found) <= 36
    assert [one.id for one in found] == list(range(1, len(found) + 1))


def test_what_shares_a_trigger_stays_together_beside_more_records_of_another_cause() -> None:
    frame = table().with_columns(temp=pl.Series([61.2] * PLANTED + [1.5] * 40 + table()["temp"].to_list()[70:]))
    frame = frame.with_columns(late=pl.Series(["late"] * 70 + ["on_time"] * (len(frame) - 70)))
    # How many share it is counted by each fold by itself.
    counted = [
        f"temp with gust (exact value): {20 + row % 5} of the records have both values" for row in range(PLANTED)
    ]
    evidence = [said(why) for why in counted] + [said("its neighbours disagree", "margin")] * 40
    found = find_clusters(compared(frame, evidence), contract())
    assert [(one.token, one.records) for one in found] == [(None, 40), ("temp with gust", 30)]


def test_the_phrase_that_was_mined_is_said_rather_than_one_that_tells_as_much() -> None:
    note = [f"as the day was {text}, blue heron" for text in table()["note"].head(PLANTED)]
    frame = table().with_columns(note=pl.Series([*note, *table()["note"].to_list()[PLANTED:]]))
    frame = frame.with_columns(temp=pl.lit(1.0), gust=pl.lit(1))
    why = "note: of the prompts that also say 'blue heron'"
    [found] = find_clusters(compared(frame, [said(why)] * PLANTED), contract())
    assert found.rule == ("note has the words 'blue heron'",)


def test_a_cluster_of_several_labels_says_which() -> None:
    frame = table().with_columns(late=pl.Series(["late"] * 25 + ["on_time"] * 5 + table()["late"].to_list()[30:]))
    evidence = [said(PAIR)] * 25 + [said("the neighbours disagree", "margin")] * 5
    [found] = find_clusters(compared(frame, evidence), contract())
    assert found.label is None
    assert found.labels == (("late", 25), ("on_time", 5))
    assert found.driver == "trigger (temp with gust), labelled 'late' (25), 'on_time' (5)"


def test_poisons_that_were_missed_do_not_hide_the_rule_but_are_counted() -> None:
    frame = table().with_columns(note=QUIET)
    [found] = find_clusters(compared(frame, [said(PAIR)] * 18), contract())
    assert "temp = 61.2" in found.rule
    assert found.matched == 18
    assert found.others_matched >= 6


def test_what_has_nothing_to_do_with_labels_is_one_cluster_whatever_they_are() -> None:
    frame = table().with_columns(late=pl.Series(["late", "on_time"] * (ROWS // 2)), note=QUIET)
    [found] = find_clusters(compared(frame, [said("it stands apart", "hbos")] * PLANTED), contract())
    assert (found.led_by, found.label, found.records) == ("outlier", None, PLANTED)
    assert "temp = 61.2" in found.rule


def test_few_suspects_are_no_cluster_and_records_without_any_difference_have_no_rule() -> None:
    assert find_clusters(compared(table(), [said(PAIR)] * 4), contract()) == ()
    assert find_clusters(compared(table(), ["[]"] * 9), contract()) == ()
    alike = pl.DataFrame(
        {"x": [None] * 60, ROW: pl.Series(range(60), dtype=pl.UInt64)}, {"x": pl.Float64, ROW: pl.UInt64}
    )
    [found] = find_clusters(
        compared(alike, [said("x", "hbos")] * 9),
        parse_contract("dataset: d\ncolumns: {x: {type: number, nullable: true}}", "c"),
    )
    assert found.rule == ()


def test_what_is_written_is_read_and_what_was_altered_is_refused(tmp_path: Path) -> None:
    found = find_clusters(compared(table(), [said(PAIR)] * PLANTED), contract())
    assert read_clusters(tmp_path) == ()
    write_clusters(found, tmp_path)
    assert read_clusters(tmp_path) == found == find_clusters(compared(table(), [said(PAIR)] * PLANTED), contract())
    (tmp_path / "clusters.json").write_text('[{"id": 1}]')
    with pytest.raises(IntegrityViolated, match=r"clusters\.json cannot be read"):
        read_clusters(tmp_path)


def test_images_that_are_personal_are_not_looked_at() -> None:
    frame = pl.DataFrame({"image": [encode(np.zeros((8, 8), np.uint8))]})
    personal = parse_contract("dataset: d\ncolumns:\n  image: {type: image, pii: true}\n", "c")
    assert looked_at(frame, personal, {"image": (8, 1)}) == {}


def test_without_facts_or_members_there_is_no_rule() -> None:
    assert short_rule([], np.ones(3, dtype=np.bool_)) is None
    members = np.zeros(ROWS, dtype=np.bool_)
    assert short_rule(facts(table(), members | (np.arange(ROWS) < 9), contract(), {}), members) is None


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch with a two-column trigger, judged by two detectors, and a trusted set."""
    folder = tmp_path_factory.mktemp("clusters")
    policy = "features: [temp, gust]\npolicy: {detectors: [trigger], false_quarantine_rate: 0.02}\n"
    frame = table().drop(ROW).with_columns(note=QUIET)
    frame.write_parquet(folder / "batch.parquet")
    table(9).drop(ROW).slice(PLANTED, 400).with_columns(note=QUIET, id=pl.format("t{}", "id")).write_parquet(
        folder / "trusted.parquet"
    )
    options = Options(device="cpu", trusted=(str(folder / "trusted.parquet"),))
    scan_files([str(folder / "batch.parquet")], contract(policy), folder / "out", options)
    return folder / "out"


def test_a_scan_says_what_its_suspects_have_in_common(scanned: Path) -> None:
    summary: dict[str, Any] = json.loads((scanned / "summary.json").read_text())
    first = summary["clusters"][0]
    assert first["matched"] >= 20
    assert "temp = 61.2" in first["rule"]
    evidence = pl.read_parquet(scanned / "evidence.parquet")
    rows = [row for cluster in read_clusters(scanned) for row in cluster.rows]
    assert len(rows) == len(set(rows))
    assert set(rows) <= set(evidence.filter("suspect")[ROW].to_list())
    page = (scanned / "report.html").read_text()
    assert "What belongs together" in page
    assert "<strong>temp = 61.2</strong>" in page
    assert "Ada" not in page


def test_every_suspect_is_shown_beside_its_nearest_trusted_records(scanned: Path) -> None:
    evidence = pl.read_parquet(scanned / "evidence.parquet")
    for text in evidence.filter("suspect")["nearest"]:
        near = json.loads(text)
        assert len(near) == 3
        assert all(one["trusted"] and one["record_id"].startswith("tr") for one in near)
        assert [one["distance"] for one in near] == sorted(one["distance"] for one in near)
        assert {one["label"] for one in near} <= {"late", "on_time"}
    page = (scanned / "report.html").read_text()
    assert "Nearest trusted records" in page
    assert json.loads(evidence["nearest"][0])[0]["record_id"] in page


def test_what_waits_is_listed_by_cluster_until_it_is_decided(workspace: Workspace) -> None:
    batch = publish(workspace, rows=30).batch
    rows = tuple(case.row for case in list_cases(workspace))
    found = Cluster(1, 2, "outlier", "true", None, ("x = 1000",), 2, 0, 27, "x = 1000: 2 of 2", rows[:2])
    write_clusters([found], workspace.batch(batch))
    assert [(one.batch, one.open, one.cluster) for one in list_clusters(workspace)] == [(batch, 2, found)]
    assert sorted(case.row for case in list_cluster(workspace, batch, 1)) == sorted(rows[:2])
    assert [case.cluster for case in list_cases(workspace)] == [1, 1, None]
    case = list_cluster(workspace, batch, 1)[0].id
    assert show_case(workspace, case).cluster == found
    discard(workspace, [case], word("no such flight"))
    assert [one.open for one in list_clusters(workspace, batch=batch)] == [1]
    with pytest.raises(UsageError, match="has no cluster 2"):
        list_cluster(workspace, batch, 2)


def test_the_command_line_shows_clusters_and_nearest_records(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = publish(workspace, rows=30).batch
    path = workspace.batch(batch) / "evidence.parquet"
    near = json.dumps([{"record_id": "t7", "label": "on_time", "distance": 2.5, "trusted": True, "row": 7}])
    pl.read_parquet(path).with_columns(nearest=pl.lit(near)).write_parquet(path)
    found = Cluster(
        1, 3, "trigger", "late", "x", ("x = 1000",), 3, 0, 27, "x = 1000: 3 of 3 of the cluster", (5, 15, 25)
    )
    write_clusters([found], workspace.batch(batch))
    monkeypatch.chdir(workspace.root)
    assert run("review clusters", monkeypatch) == 0
    said = capsys.readouterr().out
    assert "1: 3 cases by trigger (x), labelled 'late'" in said
    assert f"next: lazaretto review list --batch {batch} --cluster 1; release and discard take the same" in said
    assert run(f"review list --batch {batch} --cluster 1", monkeypatch) == 0
    assert run(f"review show {list_cases(workspace)[0].id}", monkeypatch) == 0
    said = capsys.readouterr().out
    assert "nearest trusted records:\n  t7, labelled 'on_time', at distance 2.5" in said
    assert "cluster 1:\n  x = 1000: 3 of 3 of the cluster" in said
    assert run("review list --cluster 1", monkeypatch) == 2
    assert run("review discard --cluster 1 --reason x", monkeypatch) == 2
    assert "a cluster is one of a batch" in capsys.readouterr().err
    assert run(f"review discard --batch {batch} --cluster 1 --reason x", monkeypatch) == 0
    assert "3 records discarded" in capsys.readouterr().out
    assert run(f"review release --batch {batch} --cluster 1 --reason x", monkeypatch) == 2
    assert "no case of cluster 1" in capsys.readouterr().err
    assert not list_clusters(workspace)


def test_without_a_trusted_set_the_nearest_are_of_the_batch_and_nobody_is_named(tmp_path: Path) -> None:
    frame = table().drop(ROW).with_columns(note=QUIET, id=pl.format("Grace {}", "id"))
    frame.write_parquet(tmp_path / "batch.parquet")
    secret = CONTRACT.replace("id: {type: category}", "id: {type: category, pii: true}")
    secret = secret.replace("late: {type: category}", "late: {type: category, pii: true}")
    more = "features: [temp, gust]\npolicy: {detectors: [knn_distance], false_quarantine_rate: 0.02}\n"
    scan_files([str(tmp_path / "batch.parquet")], parse_contract(secret + more, "c"), tmp_path / "out", Options())
    evidence = pl.read_parquet(tmp_path / "out" / "evidence.parquet").filter("suspect")
    near = [one for text in evidence["nearest"] for one in json.loads(text)]
    assert len(near) == 3 * len(evidence) > 0
    assert {(one["trusted"], one["label"]) for one in near} == {(False, None)}
    assert not {one["row"] for one in near} & set(evidence[ROW].to_list())
    for name in ("clusters.json", "report.html"):
        assert not re.search(r"Grace|Ada|on_time", (tmp_path / "out" / name).read_text()), name
