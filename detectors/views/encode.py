"""The encoder: canonical records of any contract to the views that need no label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.contract_rules import CLOCK
from lazaretto.detectors.views.characters import ODDITIES, oddities
from lazaretto.detectors.views.columns import Category, Column, Number
from lazaretto.detectors.views.frequencies import Frequencies
from lazaretto.detectors.views.frozen import Frozen, frozen_columns
from lazaretto.detectors.views.images import (
    HALVES,
    Images,
    decode,
    detail,
    mix,
    pattern_tokens,
    pixel_names,
    tone_names,
    tones,
    window_judges,
    window_names,
)
from lazaretto.detectors.views.looks import Looks, looks_of
from lazaretto.detectors.views.texts import Texts, Words, spoken
from lazaretto.detectors.views.vectors import Vectors

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    import torch
    from numpy.typing import NDArray

    from lazaretto.contract import Contract

_COMPACT = 64
_NONE = np.zeros(0, dtype=np.uint64)
_ODD = np.uint64(0x9E3779B97F4A7C15)
_PAIRED_COLUMNS = 24
"""Pairs of at most this many columns become tokens: their number grows with the square."""
_COMPARED_COLUMNS = 64


@dataclass(frozen=True)
class _Read:
    """Some records, and what is decoded or counted once of them."""

    frame: pl.DataFrame
    pixels: Mapping[str, NDArray[np.uint8]]
    looked: Mapping[str, Mapping[str, NDArray[np.float32]]]
    """Image column -> what its encoder sees."""
    words: Mapping[str, Words]
    frozen: Mapping[str, NDArray[np.float32]]
    """Text or image column -> what its frozen encoder says, where it has one."""


@dataclass(frozen=True)
class Encoder:
    """Everything fitted without labels on the sample of the batch together with the trusted records.

    Both are in the fit, so that neither has an advantage when their scores are compared.

    Views made:
        features: (rows, d), the probe's input.
        compact: (rows, at most 64), for neighbours.
        tones: brightness, contrast and frequencies of the first image column, where there is one.
        shape: the tones of the first image column, else the compact view, for outlier detectors.
        raw: pixels of the first image column in [0, 1], else the features.
        pixels: the same, where there is an image column; luminance: their mean over the colours; detail: what of that
            is finer than its surroundings; fine: the same of larger images as they came; left, right: (rows, at most
            64) one half of it alone; where they are asked for, waves: (rows, bins) uint32 hashes of its short waves,
            and coarse: (rows, d) what its longest say.
        values: (rows, columns) uint32 codes of the exact values of the first 64 columns, 0 where missing, where there
            are two columns or more.
        missing: (rows, columns) whether each feature column has no value, before anything takes its place; where two
            columns or more have gaps in the fit.
        tokens: (rows, t) uint32 hashes, 0 for none, where there are images, texts or at least two columns. Not a view:
            the names of ``judges`` say by which neighbours' votes each of them is judged.
        looks: (rows,) uint64 hash of all that the detectors look at; copies: (rows,) how many records of the fit look
            the same, itself included; copies_rarity: (rows,) about how likely so many are of a record that says so
            much.
        characters: (rows, 7) oddities of the characters of all text columns, where there is one.
        prompt_tokens: (rows, t) tokens of the prompt alone, and answers: (rows, 128) sketch of the response, where the
            records are prompt and response pairs.
    """

    columns: Mapping[str, Column]
    texts: Mapping[str, Texts]
    images: Mapping[str, Images]
    waves: Frequencies | None
    """Of the first image column; None where nobody asks."""
    vectors: Mapping[str, Vectors]
    frozen: Mapping[str, Frozen]
    """Text or image column -> its frozen encoder, where the policy names one."""
    plain: tuple[str, ...]
    """Feature columns that are compared as they are: all but images."""
    pair: tuple[str, str] | None
    """Prompt and response column."""
    known: Looks
    usual: Mapping[str, Looks]
    """Plain column -> how many records of the fit have each of its values."""
    patchy: tuple[str, ...]
    """Feature columns whose missing values are looked at: all, or none where fewer than two have any."""
    axes: NDArray[np.float32] | None
    """(d, 64) principal axes for the compact view; None where the features are as small already."""
    device: torch.device

    @classmethod
    def fit(
        cls, frame: pl.DataFrame, contract: Contract, seed: int, device: torch.device, *, waved: bool = False
    ) -> tuple[Encoder, dict[str, NDArray[np.generic]], dict[str, tuple[str, ...]]]:
        """Fit on a frame of canonical records; gives the encoder and what `encode` says of the same frame.

        Args:
            frame: The records.
            contract: Names the features.
            seed: Fixes filters and axes.
            device: Where torch computes.
            waved: Whether the views ``waves`` and ``coarse`` are asked for.
        """
        rng = np.random.default_rng(seed)
        columns: dict[str, Column] = {}
        texts, images = {}, {}
        vectors: dict[str, Vectors] = {}
        words: dict[str, Words] = {}
        pixels: dict[str, NDArray[np.uint8]] = {}
        looked: dict[str, Mapping[str, NDArray[np.float32]]] = {}
        for name in contract.feature_names:
            kind = contract.all_columns[name].type
            values = frame[name]
            if kind in ("integer", "number"):
                columns[name] = Number.fit(name, values)
            elif kind == "timestamp":
                for part, numbers in _clock(name, values).items():
                    columns[part] = Number.fit(part, numbers)
            elif kind in ("category", "boolean"):
                columns[name] = Category.fit(name, values)
            elif kind == "text":
                words[name] = Words.of(values)
                texts[name] = Texts.fit(name, words[name], values, seed)
            elif kind == "vector":
                vectors[name] = Vectors.fit(name, values)
            else:
                images[name], pixels[name], looked[name] = Images.fit(values, rng, device)
        plain = tuple(name for name in contract.feature_names if name not in images)
        usual = {name: Looks.of(_hashed(frame[name])) for name in plain}
        gaps = sum(frame[name].null_count() > 0 for name in contract.feature_names)
        patchy = contract.feature_names[:_COMPARED_COLUMNS] if gaps > 1 else ()
        frozen, said = frozen_columns(frame, contract, seed, device)
        known = Looks.of(_NONE)
        waves = None
        if images and waved:
            waves = Frequencies.fit(pixels[next(iter(images))])
        pair = contract.pair
        draft = cls(columns, texts, images, waves, vectors, frozen, plain, pair, known, usual, patchy, None, device)
        return draft._finished(_Read(frame, pixels, looked, words, said), seed)

    def _finished(
        self, read: _Read, seed: int
    ) -> tuple[Encoder, dict[str, NDArray[np.generic]], dict[str, tuple[str, ...]]]:
        """With the looks counted and the axes of the compact view drawn, and the views of the fitted frame."""
        done = replace(self, known=Looks.of(looks := self._looks(read), self._information(read, looks)))
        features = done.features(read)
        if features.shape[1] > _COMPACT:
            from sklearn.utils.extmath import randomized_svd

            _, _, turned = randomized_svd(features, min(_COMPACT, *features.shape), n_iter=2, random_state=seed)
            done = replace(done, axes=np.ascontiguousarray(turned.T, dtype=np.float32))
        return done, *done.views(read, features)

    def encode(self, frame: pl.DataFrame) -> tuple[dict[str, NDArray[np.generic]], dict[str, tuple[str, ...]]]:
        """The views of a frame of canonical records, and the names of their dimensions."""
        read = self._read(frame, self.decoded(frame))
        return self.views(read, self.features(read))

    def decoded(self, frame: pl.DataFrame) -> dict[str, NDArray[np.uint8]]:
        """Image column -> (rows, side, side, channels) its pixels, as the views see them."""
        return {name: decode(frame[name], i.side, i.channels) for name, i in self.images.items()}

    def features_of(self, frame: pl.DataFrame, pixels: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
        """(rows, d) the probe's input, of records and of the ``pixels`` that are to be taken for their images."""
        return self.features(self._read(frame, pixels))

    def _read(self, frame: pl.DataFrame, pixels: Mapping[str, NDArray[np.uint8]]) -> _Read:
        looked = {name: i.encode(pixels[name], self.device) for name, i in self.images.items()}
        words = {name: Words.of(frame[name]) for name in self.texts}
        said = {name: frozen.encode(frame[name]) for name, frozen in self.frozen.items()}
        return _Read(frame, pixels, looked, words, said)

    def spoken(self, record: pl.DataFrame) -> dict[int, str]:
        """Token -> the words it stands for, for the tokens of the texts of one record."""
        said: dict[int, str] = {}
        for place, name in enumerate(self.texts):
            said.update(spoken(record[name][0], place))
        return said

    def views(
        self, read: _Read, features: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[np.generic]], dict[str, tuple[str, ...]]]:
        """All views of records that were read, and the names of their dimensions."""
        compact = features if self.axes is None else features @ self.axes
        named = self._feature_names()
        arrays: dict[str, NDArray[np.generic]] = {
            "features": features,
            "compact": compact,
            "raw": features,
            "shape": compact,
            "looks": (looks := self._looks(read)),
            "copies": (copies := self.known.copies(looks)),
            "copies_rarity": self.known.rarity(copies, self._information(read, looks)),
        }
        names = {"features": named, "compact": named if self.axes is None else (), "raw": named}
        names["shape"] = names["compact"]
        if self.images:
            first = next(iter(self.images))
            shape, pixels = self.images[first], read.pixels[first]
            arrays["raw"] = pixels.reshape(len(pixels), -1).astype(np.float32) / 255.0
            names["raw"] = pixel_names(shape.side, shape.channels)
            arrays["pixels"], names["pixels"] = arrays["raw"], names["raw"]
            arrays["luminance"] = pixels.mean(axis=3).reshape(len(pixels), -1).astype(np.float32) / 255.0
            names["luminance"] = pixel_names(shape.side, 1)
            arrays["detail"] = detail(pixels)
            if shape.fine:
                arrays["fine"] = detail(decode(read.frame[first], shape.fine, 1))
            arrays.update({half: read.looked[first][half] for half in HALVES})
            if self.waves is not None:
                arrays["waves"], arrays["coarse"] = self.waves.views(pixels)
                names["waves"] = self.waves.names
            arrays["tones"], names["tones"] = tones(pixels), tone_names(shape.channels)
            arrays["shape"], names["shape"] = arrays["tones"], names["tones"]
        if self.texts:
            arrays["characters"] = sum(oddities(read.frame[name]) for name in self.texts)  # type: ignore[assignment]  # not empty
            names["characters"] = ODDITIES
        if len(self.columns) > 1:
            names["values"] = tuple(self.columns)[:_COMPARED_COLUMNS]
            values = expanded(read.frame, self.columns)
            exact = [np.maximum(self.columns[n].codes(values[n])[1], 1) for n in names["values"]]
            absent = [values[n].is_null().to_numpy() for n in names["values"]]
            arrays["values"] = np.where(np.stack(absent, axis=1), 0, np.stack(exact, axis=1)).astype(np.uint32)
        if self.patchy:
            arrays["missing"] = np.stack([read.frame[name].is_null().to_numpy() for name in self.patchy], axis=1)
            names["missing"] = self.patchy
        arrays.update(self._tokens(read, names))
        return arrays, names

    def _tokens(self, read: _Read, names: dict[str, tuple[str, ...]]) -> dict[str, NDArray[np.generic]]:
        """The token views, and what each of their columns stands for, into ``names``."""
        blocks: list[NDArray[np.uint32]] = []
        named: list[str] = []
        judges: tuple[str, ...] = ()
        if self.images:
            first = next(iter(self.images))
            blocks.append(pattern_tokens(read.pixels[first]))
            named += window_names(self.images[first].side)
            judges = window_judges(self.images[first].side)
        elif len(self.columns) > 1:
            pairs, pair_names = self._pairs(read.frame)
            blocks.append(pairs)
            named += pair_names
        said = {name: texts.tokens(read.words[name], place) for place, (name, texts) in enumerate(self.texts.items())}
        blocks += said.values()
        named += [f"words of {name}" for name, tokens in said.items() for _ in range(tokens.shape[1])]
        found: dict[str, NDArray[np.generic]] = {}
        if blocks:
            found["tokens"], names["tokens"] = np.concatenate(blocks, axis=1), tuple(named)
            names["judges"] = judges + ("neighbour_labels",) * (len(named) - len(judges))
        if self.pair is not None:
            prompt, response = self.pair
            found["prompt_tokens"] = said[prompt]
            found["answers"] = self.texts[response].sketch(read.words[response])
        return found

    def features(self, read: _Read) -> NDArray[np.float32]:
        """(rows, d) the probe's input."""
        frame = read.frame
        values = expanded(frame, self.columns)
        blocks = [column.encode(values[name]) for name, column in self.columns.items()]
        blocks += [texts.encode(read.words[name], frame[name]) for name, texts in self.texts.items()]
        blocks += [vectors.encode(frame[name]) for name, vectors in self.vectors.items()]
        blocks += [looked["features"] for looked in read.looked.values()]
        blocks += read.frozen.values()
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(frame), 1), dtype=np.float32)

    def _looks(self, read: _Read) -> NDArray[np.uint64]:
        """(rows,) a hash of all that the detectors look at: pixels in place of files, which may differ in vain."""
        looks = np.zeros(len(read.frame), dtype=np.uint64)
        if self.plain:
            looks = read.frame.select(self.plain).hash_rows(0).to_numpy()
        for pixels in read.pixels.values():
            looks = looks * _ODD + looks_of(pixels)
        return looks

    def _information(self, read: _Read, looks: NDArray[np.uint64]) -> NDArray[np.float64]:
        """(rows,) minus the log of the chance that a record's plain values meet, each as frequent as elsewhere."""
        copies = self.known.copies(looks) if len(self.known.known) else _counted(looks)
        said = np.zeros(len(looks))
        for name, usual in self.usual.items():
            elsewhere = usual.copies(_hashed(read.frame[name])) - copies + 1
            said += np.log(max(int(usual.counts.sum()), 1) / np.maximum(elsewhere, 1))
        return said

    def _feature_names(self) -> tuple[str, ...]:
        names = [name for column in self.columns.values() for name in column.names]
        names += [name for texts in self.texts.values() for name in texts.names]
        names += [name for vectors in self.vectors.values() for name in vectors.names]
        names += [f"look of {name}" for name, images in self.images.items() for _ in range(images.axes.shape[1])]
        for name, frozen in self.frozen.items():
            names += [f"{'subject' if name in self.images else 'meaning'} of {name}"] * frozen.axes.shape[1]
        return tuple(names) or ("nothing",)

    def _pairs(self, frame: pl.DataFrame) -> tuple[NDArray[np.uint32], tuple[str, ...]]:
        """Tokens of single columns and of pairs of columns, each with coarse and with exact values."""
        values = expanded(frame, self.columns)
        chosen = list(self.columns)[:_PAIRED_COLUMNS]
        coarse, fine = zip(*(self.columns[name].codes(values[name]) for name in chosen), strict=True)
        tokens, names = [], []
        for codes in (coarse, fine):
            spread = [mix(code, np.uint32(place)) for place, code in enumerate(codes)]
            for i, name in enumerate(chosen):
                tokens.append(spread[i])
                names.append(name)
                for j in range(i):
                    with np.errstate(over="ignore"):
                        tokens.append(spread[i] + np.uint32(3) * spread[j])
                    names.append(f"{chosen[j]} with {name}")
        exact = len(names) // 2
        labels = [f"{n} (range)" for n in names[:exact]] + [f"{n} (exact value)" for n in names[exact:]]
        return np.stack(tokens, axis=1), tuple(labels)


def expanded(frame: pl.DataFrame, columns: Mapping[str, Column]) -> Mapping[str, pl.Series]:
    """The frame's columns, with timestamps replaced by the numbers they are encoded as."""
    out: dict[str, pl.Series] = {}
    for name in columns:
        if name in frame.columns:
            out[name] = frame[name]
        else:
            base = name.rsplit(" ", 1)[0]
            out.update(_clock(base, frame[base]))
    return out


def _clock(name: str, values: pl.Series) -> dict[str, pl.Series]:
    """A timestamp as three numbers: seconds since 1970, second of the day, day of the week."""
    seconds = values.dt.epoch("s")
    told = seconds, seconds % 86_400, values.dt.weekday()
    return {f"{name} {part}": numbers for part, numbers in zip(CLOCK, told, strict=True)}


def _hashed(values: pl.Series) -> NDArray[np.uint64]:
    return values.hash(0).to_numpy()


def _counted(looks: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(rows,) how many of the looks are the same."""
    _, inverse, counts = np.unique(looks, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse], dtype=np.int64)
