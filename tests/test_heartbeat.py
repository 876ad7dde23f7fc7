"""A nightly run that did not happen is noticed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from lazaretto.cli import app
from lazaretto.errors import Blocked, IntegrityViolated
from lazaretto.pipelines.heartbeat import last_night, note_night, require_night
from lazaretto.pipelines.nightly import nightly
from tests.harness import DATASET, NOW, publish, write_batch

if TYPE_CHECKING:
    from lazaretto.config import Workspace

DAY = timedelta(hours=26)


def test_a_night_in_which_nothing_arrived_was_a_night(workspace: Workspace) -> None:
    assert last_night(workspace) is None
    with pytest.raises(Blocked, match="no nightly run has ended here yet"):
        require_night(workspace, DAY)
    nightly(workspace)
    night = require_night(workspace, DAY)
    assert night.states == {DATASET: "nothing"}
    assert night.sentence.endswith(": 1 nothing")


def test_a_night_says_what_became_of_each_data_set(workspace: Workspace) -> None:
    write_batch(workspace.landing / DATASET / "a.csv")
    nightly(workspace, take=lambda _name: publish(workspace))
    night = last_night(workspace)
    assert night is not None
    assert night.states == {DATASET: "admitted"}


def test_a_night_too_long_ago_and_one_in_the_future_are_said(workspace: Workspace) -> None:
    note_night(workspace, {"a": "held", "b": "admitted", "c": "held"}, NOW)
    assert require_night(workspace, DAY, NOW + DAY).sentence == (
        "the last nightly run ended 2026-03-01T12:00:00+00:00: 1 admitted, 2 held"
    )
    with pytest.raises(Blocked, match="longer ago than the 1 day, 2:00:00 allowed"):
        require_night(workspace, DAY, NOW + DAY + timedelta(seconds=1))
    with pytest.raises(Blocked, match="which is in the future"):
        require_night(workspace, DAY, NOW - timedelta(hours=1))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"ended_at": "soon", "states": {}}', '{"ended_at": 7}'])
def test_what_cannot_be_read_is_no_yes(content: str, workspace: Workspace) -> None:
    note_night(workspace, {}, NOW)
    (workspace.state / "nightly.json").write_text(content)
    with pytest.raises(IntegrityViolated, match="does not say when the last nightly run ended"):
        require_night(workspace, DAY)


def test_the_status_ends_with_3_when_a_night_is_missing(workspace: Workspace) -> None:
    line = ["status", "--workspace", str(workspace.root), "--nightly-within"]
    late = CliRunner().invoke(app, [*line, "26h"])
    assert isinstance(late.exception, Blocked)
    assert late.exception.exit_code == 3
    nightly(workspace)
    done = CliRunner().invoke(app, [*line, "26h"])
    assert done.exit_code == 0
    assert "the last nightly run ended" in done.output
