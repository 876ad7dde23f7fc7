from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import polars as pl
import pytest

import lazaretto
from lazaretto.errors import Blocked, IntegrityViolated, UsageError
from lazaretto.loader import open_admitted
from lazaretto.seen import memory_file
from tests.harness import DATASET, publish, stored
from tests.tampering import SEEN_IN_THE_BYTES, appended_commit, put_back, removed_commit

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.config import Workspace


def test_all_three_ways_give_the_admitted_records_in_order(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    admitted = lazaretto.open_admitted(DATASET, workspace=workspace)
    frame = pl.concat(list(admitted.frames()))
    assert admitted.columns == ("id", "x", "late") == tuple(frame.columns)
    assert len(admitted) == frame.height == 16
    assert frame["id"].to_list()[:5] == ["r0", "r1", "r2", "r3", "r4"]
    assert frame.sort("id").equals(stored(workspace).select("id", "x", "late").sort("id"))
    arrow = [row for batch in admitted.arrow() for row in batch.to_pylist()]
    assert arrow == list(admitted.torch()) == frame.to_dicts()


def test_columns_can_be_chosen_the_records_id_among_them(workspace: Workspace) -> None:
    publish(workspace)
    admitted = open_admitted(DATASET, workspace=workspace, columns=["late", "_record_id"])
    frame = next(admitted.frames())
    assert frame.columns == ["late", "_record_id"]
    assert next(admitted.arrow()).schema.names == ["late", "_record_id"]
    with pytest.raises(UsageError, match="has no column 'lat'"):
        open_admitted(DATASET, workspace=workspace, columns=["lat"])


def test_a_version_can_be_named(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    assert len(open_admitted(DATASET, 2, workspace)) == 8
    with pytest.raises(Blocked, match="never published"):
        open_admitted(DATASET, 7, workspace)


def test_no_record_is_read_twice_or_left_out_by_many_workers(workspace: Workspace) -> None:
    from torch.utils.data import DataLoader

    publish(workspace)
    publish(workspace, 100)
    admitted = open_admitted(DATASET, workspace=workspace)
    list(admitted.frames())  # polars' threads run before the workers are forked
    for workers in (0, 2):
        loader = DataLoader(admitted.torch(lambda record: record["id"]), batch_size=None, num_workers=workers)
        assert sorted(loader) == sorted(stored(workspace)["id"])


def test_batches_of_a_data_loader_are_tensors(workspace: Workspace) -> None:
    import torch
    from torch.utils.data import DataLoader

    publish(workspace)
    first = next(iter(DataLoader(open_admitted(DATASET, workspace=workspace).torch(), batch_size=4)))
    assert torch.equal(first["x"], torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64))
    assert first["id"] == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize("tamper", SEEN_IN_THE_BYTES, ids=lambda tamper: tamper.__name__)
@pytest.mark.parametrize("way", ["frames", "arrow", "torch"])
def test_altered_bytes_are_not_given_out(way: str, tamper: Callable[[Workspace], None], workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    admitted = open_admitted(DATASET, workspace=workspace)
    tamper(workspace)
    with pytest.raises(IntegrityViolated, match="not the one that was attested"):
        list(getattr(admitted, way)())


@pytest.mark.parametrize("tamper", [appended_commit, removed_commit], ids=lambda tamper: tamper.__name__)
def test_what_closes_the_gate_closes_the_loader(tamper: Callable[[Workspace], None], workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    open_admitted(DATASET, workspace=workspace)
    tamper(workspace)
    with pytest.raises(IntegrityViolated):
        open_admitted(DATASET, workspace=workspace)


def test_a_store_that_was_put_back_is_known_only_to_who_saw_it_newer(workspace: Workspace) -> None:
    publish(workspace)
    publish(workspace, 100)
    open_admitted(DATASET, workspace=workspace)
    put_back(workspace)
    with pytest.raises(IntegrityViolated, match="ends at epoch 1, but epoch 2 was seen here before"):
        open_admitted(DATASET, workspace=workspace)
    memory_file(workspace, DATASET).unlink()
    assert len(open_admitted(DATASET, workspace=workspace)) == 8


def test_a_history_written_anew_is_not_the_one_seen_before(workspace: Workspace) -> None:
    publish(workspace)
    open_admitted(DATASET, workspace=workspace)
    path = memory_file(workspace, DATASET)
    path.write_text(json.dumps({**json.loads(path.read_text()), "attestation": "0" * 64}))
    with pytest.raises(IntegrityViolated, match="history was written anew"):
        open_admitted(DATASET, workspace=workspace)


def test_a_memory_that_cannot_be_kept_is_said_so(workspace: Workspace) -> None:
    publish(workspace)
    path = memory_file(workspace, DATASET)
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("a file where a folder must be")
    with pytest.raises(UsageError, match=r"cannot be (read|written)"):
        open_admitted(DATASET, workspace=workspace)


def test_every_pass_verifies_anew(workspace: Workspace) -> None:
    publish(workspace)
    admitted = open_admitted(DATASET, workspace=workspace)
    assert sum(frame.height for frame in admitted.frames()) == 8
    shutil.rmtree(workspace.store(DATASET))
    with pytest.raises(IntegrityViolated, match="cannot be read"):
        list(admitted.frames())
