from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lazaretto.errors import InputRefused
from lazaretto.pipelines.confine import Limits, parse_confined
from lazaretto.pipelines.read import parse
from lazaretto.pipelines.snapshot import snapshot
from tests.reading import contract_of

if TYPE_CHECKING:
    from pathlib import Path

    from lazaretto.records import Batch

CONTRACT = contract_of("a: integer; b: {type: text, max_chars: 9, nullable: true}", label="y")
SMALL = Limits(memory=2 * 2**30)
CSV = "a,b,y,z\n" + "".join(f"{i},x,{i % 2},0\n" for i in range(500)) + "1,2\n"


def batch_of(name: str, content: bytes, folder: Path) -> Batch:
    (folder / name).write_bytes(content)
    (folder / "work").mkdir()
    return snapshot([folder / name], "d", folder / "snapshot")


def bomb(rows: int, size: int) -> bytes:
    """A Parquet of some hundred bytes that decodes to rows x size."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * size]))
    out = io.BytesIO()
    pq.write_table(pa.table({"b": column}), out, compression="zstd", write_statistics=False, store_schema=False)
    return out.getvalue()


def test_a_confined_parse_gives_what_a_free_one_gives(tmp_path: Path) -> None:
    batch = batch_of("t.csv", CSV.encode(), tmp_path)
    counted: list[int] = []
    confined = parse_confined(batch, CONTRACT, tmp_path / "work", on_rows=counted.append, limits=SMALL)
    frame, rejects = (pl.read_parquet(path) for path in (confined.partitions[0], confined.rejects))
    assert parse(batch, CONTRACT, tmp_path / "work") == confined
    assert pl.read_parquet(confined.partitions).equals(frame)
    assert pl.read_parquet(confined.rejects).equals(rejects)
    assert sum(counted) == confined.arrived == 501
    assert confined.ignored_columns == ("z",)


def test_a_refusal_comes_back_as_itself_with_its_hint(tmp_path: Path) -> None:
    batch = batch_of("t.csv", b'a,b,y\n1,"x,0\n', tmp_path)
    with pytest.raises(InputRefused, match="line 2 is never closed") as caught:
        parse_confined(batch, CONTRACT, tmp_path / "work")
    assert caught.value.hint is not None
    assert not any((tmp_path / "work").iterdir())


def test_a_file_that_decodes_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    content = bomb(rows=65_536, size=1_000_000)
    assert len(content) < 2_000
    batch = batch_of("t.parquet", content, tmp_path)
    with pytest.raises(InputRefused, match=r"unpacks to 61\.0 GiB"):
        parse_confined(batch, CONTRACT, tmp_path / "work", limits=SMALL)


def test_a_parse_that_needs_more_memory_than_it_may_use_is_refused(tmp_path: Path) -> None:
    batch = batch_of("t.csv", b"a,b,y\n1," + b"x" * 60_000_000 + b",0\n", tmp_path)
    with pytest.raises(InputRefused, match="memory"):
        parse_confined(batch, CONTRACT, tmp_path / "work", limits=Limits(memory=2**26))


def test_a_parse_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    batch = batch_of("t.csv", CSV.encode(), tmp_path)
    with pytest.raises(InputRefused, match=r"took longer than 0 seconds"):
        parse_confined(batch, CONTRACT, tmp_path / "work", limits=Limits(seconds=0.05, seconds_per_mib=0.0))
