"""What an attack is planted in: a batch, what its columns are, and its images as arrays.

The attacks themselves take arrays and columns; here a frame of any contract is made ready for them, so that the drill
can plant them in a user's own batch.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from PIL import Image

from lazaretto.attacks.png import encode
from lazaretto.grey import eight_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from lazaretto.contract import Contract

_LARGEST_SIDE = 64


@dataclass(frozen=True)
class Ground:
    """A batch and the columns an attacker would look for."""

    frame: pl.DataFrame
    label: str | None = None
    image: str | None = None
    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    source: str | None = None
    id: str | None = None
    pair: tuple[str, str] | None = None
    """Prompt and response column of an instruction set."""

    @classmethod
    def of(cls, frame: pl.DataFrame, contract: Contract) -> Ground:
        """The ground a contract describes; a label that is a number counts as none."""
        kinds = {name: contract.all_columns[name].type for name in contract.feature_names}
        label = contract.label
        if label is not None and contract.all_columns[label].type not in ("category", "boolean"):
            label = None
        return cls(
            frame,
            label,
            next((name for name, kind in kinds.items() if kind == "image"), None),
            tuple(name for name, kind in kinds.items() if kind in ("integer", "number")),
            tuple(name for name, kind in kinds.items() if kind == "text"),
            contract.source,
            contract.id,
            contract.pair,
        )

    @property
    def classes(self) -> pl.Series:
        """The labels that occur, in order."""
        return self.frame[self._label].drop_nulls().unique().sort()

    def labels(self) -> NDArray[np.int64]:
        """(rows,) place of each record's label among `classes`; -1 where it has none."""
        classes = self.classes
        places = self.frame[self._label].replace_strict(classes, range(len(classes)), default=-1, return_dtype=pl.Int64)
        return places.to_numpy(writable=True)

    def images(self) -> NDArray[np.uint8]:
        """(rows, side, side) grey or (rows, side, side, 3) colour, all brought to the median size, at most 64."""
        return read_images(self.frame[self._image])

    def alike(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Other records with the same columns, their images brought to this one's size and mode and encoded alike."""
        there = frame[self._image].is_not_null()
        pixels = iter(read_images(frame[self._image].filter(there), self.images()))
        encoded = [encode(next(pixels)) if known else None for known in there]
        return frame.with_columns(pl.Series(self._image, encoded, dtype=pl.Binary))

    def with_images(self, images: NDArray[np.uint8]) -> Ground:
        """The same records with these images. All are encoded alike, so that no file shows who wrote it."""
        encoded = pl.Series(self._image, [encode(image) for image in images], dtype=pl.Binary)
        return replace(self, frame=self.frame.with_columns(encoded))

    def with_labels(self, labels: NDArray[np.int64]) -> Ground:
        """The same records with these labels, places among `classes`; where it is -1 the label stays."""
        named = self.classes.gather(np.maximum(labels, 0))
        kept = pl.when(pl.Series(labels >= 0)).then(named).otherwise(pl.col(self._label)).alias(self._label)
        return replace(self, frame=self.frame.with_columns(kept))

    @property
    def _label(self) -> str:
        if self.label is None:
            raise ValueError("these records have no label")
        return self.label

    @property
    def _image(self) -> str:
        if self.image is None:
            raise ValueError("these records have no image")
        return self.image


@dataclass(frozen=True)
class Planted:
    """A poisoned batch and the truth about it."""

    frame: pl.DataFrame
    truth: NDArray[np.bool_]
    """(rows,) the poison."""
    cover: NDArray[np.bool_]
    """(rows,) records that the attacker planted beside it with their right labels; neither poison nor clean."""
    stamp: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    """Puts the trigger on other records, to measure what a model learnt; None where there is no trigger."""
    target: str | None = None
    """The label the trigger shall mean."""
    aims: Mapping[str, str] = field(default_factory=dict)
    """Label -> what the attacker wants records of it to be called once they carry the trigger."""
    victims: NDArray[np.int64] | None = None
    """(n,) rows of the batch that the attacker wants called the target as they are; None where there are none."""
    answer: str | None = None
    """What a response to a prompt with the trigger shall contain; None where records have labels."""

    @staticmethod
    def towards(target: str, labels: pl.Series) -> dict[str, str]:
        """The aims of an attacker who wants records of all other labels called the target."""
        return {label: target for label in labels.cast(pl.String) if label != target}

    @property
    def clean(self) -> NDArray[np.bool_]:
        """(rows,) records the attacker did not touch."""
        return ~(self.truth | self.cover)


def read_images(values: pl.Series, like: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Decode PNG and JPEG files to one size and mode: grey where all are, transparency laid on white.

    Args:
        values: Encoded images, none of them null.
        like: Images whose size and mode these get; by default their own.

    Returns:
        (rows, side, side) or (rows, side, side, 3).
    """
    decoded = []
    for data in values:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as opened:
            image: Image.Image = eight_bits(opened.copy())
        if image.mode not in ("L", "RGB"):
            layers = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
        decoded.append(image)
    if like is None:
        side = int(min(np.median([min(image.size) for image in decoded]), _LARGEST_SIDE))
        mode = "L" if all(image.mode == "L" for image in decoded) else "RGB"
    else:
        side, mode = like.shape[1], "L" if like.ndim == 3 else "RGB"  # noqa: PLR2004  rows, height, width
    size = (side, side)
    alike = [
        i.convert(mode) if i.size == size else i.convert(mode).resize(size, Image.Resampling.BILINEAR) for i in decoded
    ]
    return np.array([np.asarray(image, dtype=np.uint8) for image in alike], dtype=np.uint8)


@dataclass(frozen=True)
class Attack:
    """One known attack, ready to be planted in any batch it fits."""

    name: str
    title: str
    """For tables and pages, without the rate."""
    family: str
    """backdoor, clean-label, label, foreign, text, instruction or batch."""
    rate: float
    """Share of the whole batch that it poisons where nothing else is asked for."""
    fits: Callable[[Ground], bool]
    plant: Callable[[Ground, float, int], Planted]
    """From ground, rate and seed; raises ValueError where the batch has too few records to take."""
