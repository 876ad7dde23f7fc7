"""Reads the images of a folder: one record an image, labelled by the folder it lies in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.contract import Column
from lazaretto.errors import InputRefused
from lazaretto.pipelines.chunks import MAX_RECORD_BYTES, Chunk, Loaded
from lazaretto.records import PARTITION_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lazaretto.contract import Contract
    from lazaretto.records import SourceFile

PIECE_BYTES = 128 * 1024 * 1024
"""Encoded bytes of the images in one piece; one image more may go over it."""
LABEL_COLUMN = "label"
PATH_COLUMN = "path"
"""Gets the image's path in the folder, if the contract has a column of that name."""


@dataclass
class ImageFolderReader:
    """Takes the images of one folder apart: the contract's image column gets the bytes, its label the class folder."""

    files: Sequence[SourceFile]
    contract: Contract | None
    """Which columns get what; without one ``image`` the bytes and ``label`` the class."""
    unusable: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder as the user knows it."""
        return self.files[0].root

    def chunks(self) -> Iterator[Chunk]:
        """All images in order.

        Raises:
            InputRefused: The contract has no image column, or several.
        """
        columns = self.contract.all_columns if self.contract else {"image": Column(type="image")}
        images = [name for name, column in columns.items() if column.type == "image"]
        if len(images) != 1:
            found = f"has {len(images)} image columns" if images else "has no image column"
            raise InputRefused(
                f"{self.name} is a folder of images, and the contract {found}", hint="it must have exactly one"
            )
        piece: list[SourceFile] = []
        size = 0
        for file in self.files:
            piece.append(file)
            size += file.size
            if size >= PIECE_BYTES or len(piece) == PARTITION_ROWS:
                yield self._chunk(piece, images[0])
                piece, size = [], 0
        if piece:
            yield self._chunk(piece, images[0])

    def _chunk(self, files: list[SourceFile], image: str) -> Chunk:
        names = [image, *self._extra()]

        def originals(offsets: Sequence[int]) -> list[bytes]:
            return [files[at].copy.read_bytes() for at in offsets]

        return Chunk(
            len(files), names, lambda: self._load(files, image), originals, lambda _: "", [f.name for f in files]
        )

    def _load(self, files: list[SourceFile], image: str) -> Loaded:
        faults = {
            at: f"{image}: larger than {MAX_RECORD_BYTES >> 20} MiB"
            for at, file in enumerate(files)
            if file.size > MAX_RECORD_BYTES
        }
        kept = [at for at in range(len(files)) if at not in faults]
        columns = {image: (pl.Series([files[at].copy.read_bytes() for at in kept], dtype=pl.Binary),)}
        paths = [files[at].name for at in kept]
        for name, of_path in self._extra().items():
            columns[name] = (pl.Series([of_path(path) for path in paths], dtype=pl.String),)
        return Loaded(columns, np.array(kept, dtype=np.int64), faults)

    def _extra(self) -> dict[str, Callable[[str], str | None]]:
        """Columns beside the image, and how each follows from the path."""
        if self.contract is None:
            return {LABEL_COLUMN: _class_of}
        extra: dict[str, Callable[[str], str | None]] = {}
        if PATH_COLUMN in self.contract.all_columns:
            extra[PATH_COLUMN] = str
        if self.contract.label is not None:
            extra[self.contract.label] = _class_of
        return extra


def _class_of(path: str) -> str | None:
    parts = PurePosixPath(path).parts
    return parts[0] if len(parts) > 1 else None
