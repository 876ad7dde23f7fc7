"""What of a record is remembered from batch to batch: keyed digests of its tokens, and of what it looks like.

Nothing here depends on a batch's fit, so that the same word, pair of values or patch has the same digest every night.
Without the workspace's key nobody can ask whether some content was ever there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.pipelines.digests import digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from lazaretto.contract import Contract

    Hashes = NDArray[np.uint64]

_VERSION = "1"
"""Goes into the scheme: digests of another way of marking are not compared."""
_COLUMNS = 24
"""Columns of scalars that are paired: the number of tokens grows with the square."""
_CHARACTERS = 20_000
_WORD = r"\w{2,}"
_PATCH = 3
_BANDS, _ROWS = 4, 6
"""Of MinHash: two texts whose words overlap by nine tenths share a band nineteen times in twenty, by half one in 16."""
_TOP, _HEIGHT, _EDGE = 8, 8, 4
"""Places of the difference hash, and the levels of grey from which a neighbour is darker: noise on a flat ground is no
difference."""
_SCALARS = ("integer", "number", "category", "boolean")
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Marked:
    """Digests of some records, each at most once a record.

    Attributes:
        rows: (marks,) place of the record in its frame, ascending.
        marks: (marks,) what it has.
    """

    rows: NDArray[np.int64]
    marks: Hashes

    @classmethod
    def of(cls, parts: Sequence[tuple[NDArray[np.int64], Hashes]]) -> Marked:
        """All of them together, each once."""
        if not parts:
            return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64))
        rows, marks = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((marks, rows))
        rows, marks = rows[order], marks[order]
        new = np.ones(len(rows), dtype=np.bool_)
        new[1:] = (rows[1:] != rows[:-1]) | (marks[1:] != marks[:-1])
        return cls(rows[new], marks[new])

    def having(self, wanted: Hashes, records: int) -> NDArray[np.bool_]:
        """(records,) which have any of the marks."""
        found = np.zeros(records, dtype=np.bool_)
        found[self.rows[np.isin(self.marks, wanted)]] = True
        return found


@dataclass(frozen=True)
class Marker:
    """Marks the records of one data set.

    Attributes:
        key: 32 bytes that only the workspace knows.
        contract: Names the columns.
        sides: Image column -> side that its images are brought to.
    """

    key: bytes
    contract: Contract
    sides: Mapping[str, int]

    @property
    def scheme(self) -> str:
        """What digests have to agree on to be compared: key, columns, and how they are made."""
        kinds = [(name, self.contract.all_columns[name].type) for name in self.contract.feature_names]
        roles = (self.contract.label, self.contract.source)
        said = repr((_VERSION, kinds, roles, sorted(self.sides.items())))
        return hashlib.blake2b(said.encode(), key=self.key, digest_size=16).hexdigest()

    def value(self, role: str, value: object) -> int:
        """Digest of a source's or a label's name."""
        return int(self._hashes(role, [str(value)])[0])

    def valued(self, role: str, frame: pl.DataFrame, column: str | None) -> Hashes:
        """(rows,) digest of each record's source or label, 0 where it has none."""
        if column is None:
            return np.zeros(len(frame), dtype=np.uint64)
        values = frame[column].cast(pl.String)
        marks = self._of_values(role, values.fill_null(""))
        return np.where(values.is_null().to_numpy(), np.uint64(0), marks)

    def tokens(self, frame: pl.DataFrame) -> Marked:
        """Words and pairs of words, values and pairs of values, patches at their places."""
        return Marked.of([(rows, marks) for rows, marks, _ in self._tokens(frame)])

    def looks(self, frame: pl.DataFrame) -> Marked:
        """What it looks like: all its features, the bands of its words' MinHash, the gradients of its image."""
        every = np.arange(len(frame), dtype=np.int64)
        features = {name: self.contract.all_columns[name] for name in self.contract.feature_names}
        parts = [(every, self._hashes("look", digests(frame, features).to_list()))]
        words = [(rows, marks) for rows, marks, name in self._tokens(frame, kinds=("text",)) if name]
        if words:
            parts += _bands(Marked.of(words))
        parts += [(every, self._gradients(name, pixels)) for name, pixels in self._pixels(frame)]
        return Marked.of(parts)

    def spoken(self, record: pl.DataFrame, wanted: Hashes) -> str:
        """The first of the wanted tokens that one record has, in words; values of personal data are not said."""
        asked = set(wanted.tolist())
        for name in self.contract.feature_names:
            column = self.contract.all_columns[name]
            if column.type == "text":
                words = _words(record[name])["word"].to_list()
                hashes = self._hashes(name, words).tolist()
                pairs = paired(np.array(hashes[:-1], dtype=np.uint64), np.array(hashes[1:], dtype=np.uint64)).tolist()
                single = next((words[i] for i, mark in enumerate(hashes) if mark in asked), None)
                double = next((f"{words[i]} {words[i + 1]}" for i, mark in enumerate(pairs) if mark in asked), None)
                said = single or double
                if said is not None:
                    return f"a word of {name}" if column.pii else f"`{said}`"
        scalars = self._scalars(record)
        for i, (left, marks) in enumerate(scalars):
            if int(marks[0]) in asked:
                return self._named(record, left)
            for right, other in scalars[:i]:
                if int(paired(marks, other)[0]) in asked:
                    return f"{self._named(record, right)} with {self._named(record, left)}"
        for name, pixels in self._pixels(record):
            places = np.flatnonzero(np.isin(self._patches(name, pixels)[0], wanted))
            if len(places):
                across = pixels.shape[2] - _PATCH + 1
                row, column_ = divmod(int(places[0]), across)
                return f"the pixels of {name} in rows {row}-{row + 2}, columns {column_}-{column_ + 2}"
        return "something that they share"

    def _named(self, record: pl.DataFrame, name: str) -> str:
        hidden = self.contract.all_columns[name].pii
        return f"a value of {name}" if hidden else f"{name} = {str(record[name][0])[:40]}"

    def _tokens(
        self, frame: pl.DataFrame, kinds: Sequence[str] = ("text", "image", *_SCALARS)
    ) -> Iterable[tuple[NDArray[np.int64], Hashes, str]]:
        """Rows, tokens and, of texts, the column."""
        for name in self.contract.feature_names if "text" in kinds else ():
            if self.contract.all_columns[name].type == "text":
                words = _words(frame[name])
                rows = words["row"].to_numpy().astype(np.int64)
                marks = self._of_values(name, words["word"])
                yield rows, marks, name
                same = rows[1:] == rows[:-1]
                yield rows[1:][same], paired(marks[:-1], marks[1:])[same], name
        if "image" not in kinds:
            return
        for name, pixels in self._pixels(frame):
            patches = self._patches(name, pixels)
            yield np.repeat(np.arange(len(frame), dtype=np.int64), patches.shape[1]), patches.ravel(), ""
        every = np.arange(len(frame), dtype=np.int64)
        scalars = self._scalars(frame)
        for i, (_, marks) in enumerate(scalars):
            yield every[marks > 0], marks[marks > 0], ""
            for _, other in scalars[:i]:
                both = (marks > 0) & (other > 0)
                yield every[both], paired(marks, other)[both], ""

    def _scalars(self, frame: pl.DataFrame) -> list[tuple[str, Hashes]]:
        """Column -> (rows,) digest of its value, 0 where it is missing."""
        names = [n for n in self.contract.feature_names if self.contract.all_columns[n].type in _SCALARS]
        found = []
        for name in names[:_COLUMNS]:
            marks = self._of_values(name, frame[name].cast(pl.String).fill_null(""))
            found.append((name, np.where(frame[name].is_null().to_numpy(), np.uint64(0), marks)))
        return found

    def _of_values(self, name: str, values: pl.Series) -> Hashes:
        """(values,) digests, each distinct value hashed once."""
        distinct = values.unique().to_list()
        table = pl.DataFrame(
            {"v": distinct, "h": self._hashes(name, distinct)}, schema={"v": pl.String, "h": pl.UInt64}
        )
        found = values.rename("v").to_frame().join(table, on="v", how="left", maintain_order="left")
        return found["h"].to_numpy()

    def _hashes(self, name: str, values: Sequence[str]) -> Hashes:
        blake2b, key, person = hashlib.blake2b, self.key, hashlib.blake2b(name.encode(), digest_size=16).digest()
        joined = b"".join([blake2b(v.encode(), key=key, digest_size=8, person=person).digest() for v in values])
        return np.maximum(np.frombuffer(joined, dtype="<u8").astype(np.uint64), np.uint64(1))

    def _pixels(self, frame: pl.DataFrame) -> Iterable[tuple[str, NDArray[np.uint8]]]:
        """Image column -> (rows, side, side) grey."""
        from lazaretto.detectors.views.images import decode

        for name, side in self.sides.items():
            yield name, decode(frame[name], side, 1)[..., 0]

    def _patches(self, name: str, pixels: NDArray[np.uint8]) -> Hashes:
        """(rows, places) of every 3 x 3 pattern, with its place."""
        from lazaretto.detectors.views.images import pattern_tokens

        seed = self._hashes(name, [f"patches of {pixels.shape[1]}"])[0]
        return mixed(pattern_tokens(pixels[..., None]).astype(np.uint64) ^ seed)

    def _gradients(self, name: str, pixels: NDArray[np.uint8]) -> Hashes:
        """(rows,) of the difference hash: which of nine by eight cells are brighter than the one to the left."""
        rows, side = len(pixels), pixels.shape[1]
        down, over = (np.linspace(0, side, n + 1).astype(int) for n in (_HEIGHT, _TOP + 1))
        cells = np.add.reduceat(np.add.reduceat(pixels.astype(np.float64), down[:-1], axis=1), over[:-1], axis=2)
        cells /= np.diff(down)[:, None] * np.diff(over)[None]
        bits = (np.diff(cells, axis=2) > _EDGE).reshape(rows, -1)
        packed = np.packbits(bits, axis=1).view("<u8").ravel().astype(np.uint64)
        return mixed(packed ^ self._hashes(name, ["gradients"])[0])


def marker_of(key: bytes, contract: Contract, sides: Mapping[str, int]) -> Marker:
    """A marker for a contract's records.

    Args:
        key: A secret of the workspace's.
        contract: Names the columns.
        sides: Image column -> side of the images as the detectors see them.
    """
    return Marker(key, contract, {name: sides[name] for name in contract.feature_names if name in sides})


def _words(values: pl.Series) -> pl.DataFrame:
    """``row`` and ``word`` of every word, in order."""
    told = pl.col("text").fill_null("").str.head(_CHARACTERS).str.to_lowercase().str.extract_all(_WORD)
    frame = pl.DataFrame({"text": values.cast(pl.String)}).with_row_index("row")
    return frame.select("row", word=told).explode("word", empty_as_null=True, keep_nulls=True).drop_nulls()


def _bands(words: Marked) -> list[tuple[NDArray[np.int64], Hashes]]:
    """The bands of each record's MinHash (Broder 1997; bands as of Leskovec, Rajaraman and Ullman, chapter 3)."""
    starts = np.flatnonzero(np.diff(words.rows, prepend=-1))
    rng = np.random.default_rng(2003)
    bands = []
    for band in range(_BANDS):
        joined = np.full(len(starts), np.uint64(band + 1))
        for turn in rng.integers(1, 2**63, size=_ROWS, dtype=np.uint64):
            least = np.minimum.reduceat(mixed(words.marks ^ turn), starts) if len(starts) else joined
            joined = mixed(joined * _ODD ^ least)
        bands.append((words.rows[starts], joined))
    return bands


def paired(left: Hashes, right: Hashes) -> Hashes:
    """(marks,) digests of two marks in this order."""
    return mixed(left * _ODD ^ right)


def mixed(marks: Hashes) -> Hashes:
    """(marks,) spread over 64 bits (the finaliser of SplitMix64), never 0."""
    with np.errstate(over="ignore"):
        h = (marks ^ (marks >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.maximum(h ^ (h >> np.uint64(31)), np.uint64(1))
