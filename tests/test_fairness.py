"""Groups that wait, or are kept out, more often than others are said with their numbers; chance is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from lazaretto.cli import app
from lazaretto.errors import UsageError
from lazaretto.fairness import LEVEL, Inequality, unequal
from lazaretto.pipelines.cases import list_cases
from lazaretto.pipelines.fairness import fairness
from lazaretto.pipelines.review import discard, release, word
from lazaretto.pipelines.summary import UNPARSED
from tests.harness import CONTRACT, DATASET, NOW, no_fault, publish

if TYPE_CHECKING:
    from lazaretto.config import Workspace

SAID = word("looked at it", "ann", NOW)


def test_a_group_that_waits_more_often_is_said_with_its_numbers() -> None:
    [found] = unequal({"origin": {"JFK": (64, 1_900), "LGA": (20, 2_000), "EWR": (20, 2_100)}})
    assert (found.column, found.value, found.count, found.of, found.others, found.others_of) == (
        "origin", "JFK", 64, 1_900, 40, 4_100,
    )  # fmt: skip
    assert found.p_value < 1e-8
    said = found.sentence("wait")
    assert said.startswith("records with origin = JFK wait 3.5 times as often as the others: 64 of 1,900 (3.4%)")
    assert "beside 40 of 4,100 (1.0%), p = " in said
    assert "JFK" not in found.sentence("wait", "(withheld)")


@pytest.mark.parametrize(
    "counts",
    [
        {"a": (10, 1_000), "b": (12, 1_000)},  # chance
        {"a": (110_000, 1_000_000), "b": (100_000, 1_000_000)},  # sure, but by a tenth
        {"a": (1, 2), "b": (1, 100), "c": (0, 0)},  # hardly any records, and none
        {"a": (5, 10)},  # nothing to compare with
        {},
    ],
)
def test_chance_and_small_differences_are_not_said(counts: dict[str, tuple[int, int]]) -> None:
    assert unequal({"g": counts}) == []


def test_groups_that_are_alike_are_accused_no_more_often_than_said() -> None:
    rng = np.random.default_rng(0)
    sizes = (400, 300, 200, 100, 50)
    said = sum(
        bool(unequal({"g": {str(size): (int(rng.binomial(size, 0.05)), size) for size in sizes}})) for _ in range(1_000)
    )
    assert said <= LEVEL * 1_000 + 2 * np.sqrt(LEVEL * 1_000)


def test_where_it_never_happens_to_the_others_no_ratio_is_made_up() -> None:
    [found] = unequal({"g": {"a": (30, 100), "b": (0, 900)}})
    assert found.ratio is None
    assert "and no others do: 30 of 100" in found.sentence("wait")
    row = {**found.__dict__, "more": 1}
    assert Inequality.of_row(row) == found


def test_what_became_of_each_group_is_counted_over_all_batches(workspace: Workspace) -> None:
    workspace.contract(DATASET).write_text(CONTRACT + "groups: [late]\n")
    batches = [publish(workspace, start).batch for start in (0, 100)]
    for batch in batches:
        # The judge of these tests counts no groups: a real one's summary has this.
        path = workspace.batch(batch) / "summary.json"
        rows = [
            {"name": name, "arrived": 50, "rejected": 0, "suspects": count}
            for name, count in (("True", 20), ("False", 1), (UNPARSED, 5))
        ]
        path.write_text(json.dumps({**json.loads(path.read_text()), "groups": {"late": rows}}))
    cases = [case.id for case in list_cases(workspace)]
    release(workspace, cases[:1], SAID, check=no_fault)
    discard(workspace, cases[1:], SAID)
    found = fairness(workspace, DATASET)
    rows = {row.value: row for row in found.rows}
    assert (rows["True"].judged, rows["True"].suspects) == (100, 40)
    assert sum(row.decided for row in found.rows) == 2
    assert sum(row.released for row in found.rows) == 1
    assert [one.value for one in found.waiting] == ["True"]
    assert found.kept_out == ()
    done = CliRunner().invoke(app, ["fairness", DATASET, "--workspace", str(workspace.root)])
    assert done.exit_code == 0
    assert "late = True" in done.output
    assert "40 of 100 (40.0%)" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["fairness", DATASET, "--workspace", str(workspace.root), "--json"])
    assert json.loads(done.output)["batches"] == 2


def test_the_values_of_a_personal_column_are_withheld(workspace: Workspace) -> None:
    late = "  late: {type: boolean}\n"
    contract = CONTRACT.replace(late, "  late: {type: boolean, pii: true}\n") + "groups: [late]\n"
    workspace.contract(DATASET).write_text(contract)
    publish(workspace)
    cases = [case.id for case in list_cases(workspace)]
    discard(workspace, cases, SAID)
    assert {row.value for row in fairness(workspace, DATASET).rows} == {"(withheld 1)"}


def test_without_groups_there_is_nothing_to_compare(workspace: Workspace) -> None:
    publish(workspace)
    with pytest.raises(UsageError, match="names no groups"):
        fairness(workspace, DATASET)
    with pytest.raises(UsageError, match="no data set 'boats'"):
        fairness(workspace, "boats")
