"""What becomes of records that share an id (all rejected) or, where there are no ids, their content (told apart)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from lazaretto.parquet import read_parquet
from lazaretto.pipelines.partitions import write_partition
from lazaretto.pipelines.readers import Originals
from lazaretto.pipelines.rejects import RejectWriter, merge_rejects, read_rejects
from lazaretto.records import DIGEST, RECORD_ID, ROW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from lazaretto.contract import Contract
    from lazaretto.records import Batch


def tell_copies_apart(partitions: Sequence[Path], repeated: NDArray[np.uint32]) -> None:
    """Give the k-th record of equal content (k >= 2) the id ``digest-k``.

    Args:
        partitions: Canonical partitions, rewritten where they hold such records.
        repeated: For each row of the batch 0, or its k among the records of equal content (rows,).
    """
    for path in partitions:
        rows = read_parquet(path, columns=[ROW])[ROW].to_numpy()
        order = pl.Series("order", repeated[rows], dtype=pl.UInt32)
        if not (order > 1).any():
            continue
        numbered = pl.when(pl.col("order") > 1).then(pl.format("{}-{}", DIGEST, "order")).otherwise(DIGEST)
        frame = read_parquet(path).with_columns(order)
        write_partition(frame.with_columns(numbered.alias(RECORD_ID)).drop("order"), path)


def reject_shared_ids(
    batch: Batch, contract: Contract, into: Path, partitions: Sequence[Path], repeated: NDArray[np.uint32]
) -> tuple[tuple[Path, ...], int]:
    """Take every record whose id another has out of the partitions and add it to ``into/rejects.parquet``.

    Which of two records of one id is the right one nobody can know, so none is let through.

    Args:
        batch: The batch, for the bytes that came.
        contract: Names the id column.
        into: The work folder.
        partitions: Canonical partitions; rewritten, and removed where nothing is left.
        repeated: For each row of the batch 0 if its id is its own (rows,).

    Returns:
        The partitions that are left, and the number of all rejected records.
    """
    shared, merged, rejects = (into / name for name in ("shared.part", "merged.part", "rejects.parquet"))
    kept: list[Path] = []
    arrived = Originals(batch, contract)
    try:
        with RejectWriter(shared) as writer:
            for path in partitions:
                frame = read_parquet(path)
                bad = repeated[frame[ROW].to_numpy()] > 0
                if bad.any():
                    writer.add(_told(frame.filter(bad), contract, arrived))
                if not bad.all():
                    kept.append(path)
                    if bad.any():
                        write_partition(frame.filter(~bad), path)
        for path in set(partitions) - set(kept):
            path.unlink()
        count = merge_rejects(merged, [read_rejects(rejects), read_rejects(shared)])
        merged.replace(rejects)
    finally:
        shared.unlink(missing_ok=True)
        merged.unlink(missing_ok=True)
    return tuple(kept), count


def _told(frame: pl.DataFrame, contract: Contract, arrived: Originals) -> pl.DataFrame:
    """Records with a shared id as rows of ``rejects.parquet``."""
    name = contract.id or ""
    secret = contract.all_columns[name].pii
    value = pl.lit("the value") if secret else pl.concat_str(pl.lit("'"), "record_id", pl.lit("'"))
    words = pl.lit(" is the id of another record of this batch too")
    found = arrived.fetch(frame[ROW].to_numpy()).with_columns(frame[RECORD_ID].alias("record_id"))
    return found.with_columns(
        stage=pl.lit("parse"), column=pl.lit(name), reason=pl.concat_str(pl.lit(f"{name}: "), value, words)
    )
