"""What is kept of each judged batch so that evidence adds up over nights: small sums that merge, and no content.

Sources, labels, tokens and looks are there as keyed digests (`lazaretto.pipelines.marks`). Everything is a count or a
sum of whole numbers, so that merging is exact in any order.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.errors import IntegrityViolated
from lazaretto.pipelines.marks import paired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lazaretto.detectors.views.probe import Reading
    from lazaretto.pipelines.marks import Marked

LEVELS = (0.05, 0.01, 0.001)
"""p-values up to which records are tallied."""
UNIT = 1024
"""Gains are kept in 1/1024ths, as integers."""
STAKE = 0.75
"""Share of the wealth that is bet on every record with a token; see `lazaretto.pipelines.window`."""
TOLERATED = 1.5
"""How many times as probable as the probe says a label may be without a trigger."""
LEAST = 0.05
"""Nobody is surer of a label than this: some are simply wrong."""
WIDTH = 1 << 20
"""Columns of the sketch that counts tokens."""
MOST = 1 << 16
"""Tokens with a gain, and looks, kept of one batch: those with most first."""
_TURNS = (np.uint64(0), np.uint64(20))


@dataclass(frozen=True)
class Memory:
    """One batch, or several merged.

    Attributes:
        scheme: `Marker.scheme`.
        records: How many were judged.
        occurrences: (record, token) pairs that were seen.
        tallies: ``source`` and ``label`` digests (0 for none), ``records``, how many at most at each of `LEVELS`
            (``at0``, ...), and how many were ``admitted``.
        told: ``source`` (digest as text), ``predicted`` (label digest), ``sure`` (bin), ``agrees``, ``records``: what
            the probe says, as `lazaretto.pipelines.sources.SourceCounts` counts it.
        sketch: ``slot`` and ``records``: how many have a token with their label that falls there, a count-min sketch of
            `WIDTH` columns and a row for each of two hashes (Cormode and Muthukrishnan 2005), without its empty slots.
        gains: ``token``, ``label`` (digests), ``records`` whose label the probe contradicts, their ``gain``, and what
            the probe ``expected``, both in 1/1024.
        looks: ``look``, ``records`` and how many of them were ``admitted``.
        doubted: (2,) records the probe contradicts and, in 1/1024, what its own doubt expects.
    """

    scheme: str
    records: int
    occurrences: int
    tallies: pl.DataFrame
    told: pl.DataFrame
    sketch: pl.DataFrame
    gains: pl.DataFrame
    looks: pl.DataFrame
    doubted: tuple[int, int]

    @classmethod
    def nothing(cls, scheme: str) -> Memory:
        """No record yet."""
        return cls.made(
            (scheme, 0, 0), {name: pl.DataFrame(schema=schema) for name, schema in _SCHEMAS.items()}, (0, 0)
        )

    @classmethod
    def made(cls, head: tuple[str, int, int], parts: Mapping[str, pl.DataFrame], doubted: tuple[int, int]) -> Memory:
        """From scheme, records and occurrences, and the frames by their names."""
        told, sketch, gains, looks = (parts[name] for name in ("told", "sketch", "gains", "looks"))
        return cls(*head, parts["tallies"], told, sketch, gains, looks, doubted)

    @classmethod
    def of(cls, scheme: str, seen: Seen) -> Memory:
        """What is kept of some records."""
        who = pl.DataFrame({"source": seen.sources, "label": seen.labels})
        at = {f"at{i}": (seen.p_values <= level) for i, level in enumerate(LEVELS)}
        marked = who.with_columns(
            **{name: pl.Series(hit) for name, hit in at.items()}, admitted=pl.Series(seen.admitted)
        )
        counted = (
            pl.len().cast(pl.Int64).alias("records"),
            *(pl.col(n).cast(pl.Int64).sum() for n in (*at, "admitted")),
        )
        tallies = marked.group_by("source", "label").agg(*counted)
        draft = replace(
            cls.nothing(scheme),
            records=len(who),
            occurrences=len(seen.tokens.marks),
            tallies=_as("tallies", tallies),
            sketch=sketched(labelled(seen.tokens.marks, seen.labels[seen.tokens.rows])),
            looks=_looks(seen),
        )
        if seen.reading is None:
            return draft
        gains, doubted = _gains(seen, seen.reading)
        return replace(draft, told=_told(seen, seen.reading), gains=gains, doubted=doubted)

    def merge(self, other: Memory) -> Memory:
        """Both together; exact in any order."""
        return merged([self, other])

    def holding(self, tokens: NDArray[np.uint64], label: int) -> NDArray[np.int64]:
        """(tokens,) about how many records with this label have each: never fewer than do."""
        tokens = labelled(tokens, np.full(len(tokens), label, dtype=np.uint64))
        slots, counts = self.sketch["slot"].to_numpy(), self.sketch["records"].to_numpy()
        found = []
        for row, turn in enumerate(_TURNS):
            wanted = _slots(tokens, row, turn)
            place = np.minimum(np.searchsorted(slots, wanted), max(len(slots) - 1, 0))
            there = slots[place] == wanted if len(slots) else np.zeros(len(tokens), dtype=np.bool_)
            found.append(np.where(there, counts[place] if len(counts) else 0, 0))
        least: NDArray[np.int64] = np.minimum.reduce(found).astype(np.int64)
        return least

    def trimmed(self) -> Memory:
        """With at most `MOST` tokens that gain and looks, as it is kept."""
        looks = self.looks.sort("records", "look", descending=[True, False]).head(MOST).sort("look")
        gains = self.gains.sort("gain", "token", "label", descending=[True, False, False]).head(MOST)
        return replace(self, looks=looks, gains=gains.sort("token", "label"))

    def to_bytes(self) -> bytes:
        """One compressed file, the same for the same memory."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, schema in _SCHEMAS.items():
            frame = getattr(self, name).sort(*schema)
            for column, kind in schema.items():
                text = np.array(frame[column].to_list(), dtype="U20") if kind == pl.String else None
                arrays[f"{name}.{column}"] = frame[column].to_numpy() if text is None else text
        head = {"scheme": self.scheme, "records": self.records, "occurrences": self.occurrences}
        told = json.dumps({**head, "doubted": list(self.doubted)}, sort_keys=True)
        arrays["head"] = np.frombuffer(told.encode(), dtype=np.uint8)
        out = io.BytesIO()
        np.savez_compressed(out, allow_pickle=False, **arrays)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Memory:
        """What `to_bytes` wrote.

        Raises:
            IntegrityViolated: It is not.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as kept:
                head: dict[str, Any] = json.loads(kept["head"].tobytes())
                frames = {
                    name: pl.DataFrame({column: kept[f"{name}.{column}"] for column in schema}, schema=schema)
                    for name, schema in _SCHEMAS.items()
                }
            counts = str(head["scheme"]), int(head["records"]), int(head["occurrences"])
            return cls.made(counts, frames, (int(head["doubted"][0]), int(head["doubted"][1])))
        except Exception as error:
            raise IntegrityViolated("what the ledger remembers of a batch cannot be read") from error


@dataclass(frozen=True)
class Seen:
    """Some records as a memory is made of them; everything (rows,) but the marks.

    Attributes:
        sources: Digest of who supplied each, 0 for none.
        labels: Digest of its label, 0 for none.
        p_values: Of the judging.
        admitted: Whether it is let in.
        tokens: What it says.
        looks: What it looks like.
        reading: What the probe says of it; None without labels.
        classes: Digest of each class that the reading counts.
    """

    sources: NDArray[np.uint64]
    labels: NDArray[np.uint64]
    p_values: NDArray[np.float64]
    admitted: NDArray[np.bool_]
    tokens: Marked
    looks: Marked
    reading: Reading | None
    classes: NDArray[np.uint64]

    @property
    def contradicted(self) -> NDArray[np.bool_]:
        """(rows,) whether the probe expects another label than the one given."""
        if self.reading is None:
            return np.zeros(len(self.labels), dtype=np.bool_)
        against: NDArray[np.bool_] = (
            (self.reading.labels >= 0)
            & np.isfinite(self.reading.sure)
            & (self.reading.predicted != self.reading.labels)
        )
        return against


_SCHEMAS: dict[str, dict[str, Any]] = {
    "tallies": {
        "source": pl.UInt64, "label": pl.UInt64, "records": pl.Int64,
        **{f"at{i}": pl.Int64 for i in range(len(LEVELS))}, "admitted": pl.Int64,
    },
    "told": {"source": pl.String, "predicted": pl.UInt64, "sure": pl.Int64, "agrees": pl.Boolean, "records": pl.Int64},
    "sketch": {"slot": pl.UInt32, "records": pl.Int64},
    "gains": {"token": pl.UInt64, "label": pl.UInt64, "records": pl.Int64, "gain": pl.Int64, "expected": pl.Int64},
    "looks": {"look": pl.UInt64, "records": pl.Int64, "admitted": pl.Int64},
}  # fmt: skip
_SUMMED = {"tallies": 2, "told": 4, "sketch": 1, "gains": 2, "looks": 1}
"""Part -> how many of its columns are the key; the others are added up."""


def merged(memories: Sequence[Memory], *, sketch: bool = True) -> Memory:
    """Several memories in one; exact in any order.

    Args:
        memories: All of one scheme.
        sketch: Whether to merge the sketches too, the largest part by far.

    Raises:
        ValueError: They are of different schemes, or there are none.
    """
    if len({memory.scheme for memory in memories}) != 1:
        raise ValueError("memories of one scheme are merged, and one at least")
    frames: dict[str, pl.DataFrame] = {}
    for name, keys in _SUMMED.items():
        columns = list(_SCHEMAS[name])
        if name == "sketch" and not sketch:
            frames[name] = memories[0].sketch.clear()
            continue
        every = pl.concat([getattr(memory, name) for memory in memories])
        frames[name] = every.group_by(columns[:keys]).agg(pl.col(columns[keys:]).sum()).sort(columns[:keys])
    doubts = [memory.doubted for memory in memories]
    head = (
        memories[0].scheme,
        sum(memory.records for memory in memories),
        sum(memory.occurrences for memory in memories),
    )
    return Memory.made(head, frames, (sum(doubt[0] for doubt in doubts), sum(doubt[1] for doubt in doubts)))


def labelled(tokens: NDArray[np.uint64], labels: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(tokens,) what stands for a token together with a label."""
    return paired(tokens, labels)


def sketched(tokens: NDArray[np.uint64]) -> pl.DataFrame:
    """``slot`` and ``records`` of a sketch, from the tokens of records, each once a record."""
    slots = np.concatenate([_slots(tokens, row, turn) for row, turn in enumerate(_TURNS)])
    places, counts = np.unique(slots, return_counts=True)
    return pl.DataFrame({"slot": places, "records": counts.astype(np.int64)}, schema=_SCHEMAS["sketch"])


def _slots(tokens: NDArray[np.uint64], row: int, turn: np.uint64) -> NDArray[np.uint32]:
    return ((tokens >> turn) % np.uint64(WIDTH) + np.uint64(row * WIDTH)).astype(np.uint32)


def _gains(seen: Seen, reading: Reading) -> tuple[pl.DataFrame, tuple[int, int]]:
    """What each token with a label gains by the records whose label the probe contradicts."""
    judged = (reading.labels >= 0) & np.isfinite(reading.sure)
    against = seen.contradicted
    # What is not the predicted class shares what the probe leaves: at most all of it is for the label given.
    left = np.where(judged, 1 - np.nan_to_num(reading.sure), 0.0)
    factor = (1 - STAKE) + STAKE / (TOLERATED * np.clip(left, LEAST, None))
    wins = against & (factor > 1)
    gain, expected = (np.rint(UNIT * value).astype(np.int64) for value in (np.log(factor), np.maximum(left, LEAST)))
    mine = wins[seen.tokens.rows]
    rows = seen.tokens.rows[mine]
    frame = pl.DataFrame(
        {
            "token": seen.tokens.marks[mine],
            "label": seen.labels[rows],
            "records": np.ones(len(rows), dtype=np.int64),
            "gain": gain[rows],
            "expected": expected[rows],
        },
        schema=_SCHEMAS["gains"],
    )
    doubted = int(against.sum()), int(np.rint(UNIT * left.sum()))
    return frame.group_by("token", "label").agg(pl.col("records", "gain", "expected").sum()), doubted


def _told(seen: Seen, reading: Reading) -> pl.DataFrame:
    """As `SourceCounts`, with digests in place of names."""
    from lazaretto.pipelines.sources import SourceCounts

    names = pl.Series(seen.sources).cast(pl.String)
    named = pl.DataFrame({"n": names, "s": seen.sources}).select(
        pl.when(pl.col("s") > 0).then(pl.col("n")).otherwise(pl.lit("")).alias("source")
    )["source"]
    counts = SourceCounts.of(named, reading.labels, reading.predicted, reading.sure).frame
    classes = pl.Series(seen.classes, dtype=pl.UInt64)
    predicted = classes.gather(counts["predicted"].to_list()) if len(counts) else pl.Series([], dtype=pl.UInt64)
    return _as("told", counts.with_columns(predicted.alias("predicted")))


def _looks(seen: Seen) -> pl.DataFrame:
    admitted = seen.admitted[seen.looks.rows].astype(np.int64)
    frame = pl.DataFrame({"look": seen.looks.marks, "records": np.ones(len(admitted), np.int64), "admitted": admitted})
    return _as("looks", frame.group_by("look").agg(pl.col("records", "admitted").sum()))


def _as(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """A part's columns in their order and types."""
    return frame.select(pl.col(column).cast(kind) for column, kind in _SCHEMAS[name].items())
