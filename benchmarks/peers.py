"""The tools Lazaretto is compared with, behind one interface: a score and a decision per record.

Each is used as its documentation says, with its documented defaults; what it cannot do is said, never made up. They are
not dependencies of the product: `make peers` installs them on top of the rest.

A score ranks: higher is more suspicious. A decision is the peer's own, at its own defaults, whatever rate that gives.
"""

from __future__ import annotations

import importlib.util
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from benchmarks.memory import peak_above, reset_peak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import nn

    Floats = NDArray[np.float32]
    Scores = NDArray[np.float64]
    Flags = NDArray[np.bool_]

# The probe is trained as in benchmarks/effect.py, so that every peer and the attack's effect speak of the same model.
BATCH = 64
RATE = 2e-3


@dataclass(frozen=True)
class Shared:
    """Something that several peers need, made once; its cost counts for each of them."""

    thing: Any
    seconds: float
    peak_mib: float | None


@dataclass(frozen=True, kw_only=True)
class PeerInput:
    """One batch of records, in every form that some peer reads.

    Args:
        features: (rows, d) flattened images, encoded tables, or TF-IDF of texts reduced by a truncated SVD.
        classes: Number of classes; labels are 0 ... classes - 1.
        seed: Weights, order and every random choice of a peer.
        poison_rate: The true share of poisons. Only a peer whose documentation demands it may read it.
        images: (rows, channels, height, width) in [0, 1]; None where the records are no images.
        texts: The (rows,) texts as they are; None where the records are none.
        labels: (rows,) class numbers; None where the data has no label.
        probabilities: (rows, classes) predicted by probes that did not see the record, from 5-fold cross-validation:
            `benchmarks.peers_cleanlab.out_of_sample` makes them. Where they are not given, the peer that asks for them
            makes them, and that is part of its time.
        network: Makes the untrained probe, the same architecture for all; its last module is the output layer, the one
            before it the last hidden layer. It reads images where there are some, else features.
        epochs: Passes over the data wherever the probe is trained.

    Attributes:
        shared: What one peer made and another uses too, by name.
    """

    features: Floats
    classes: int
    seed: int
    poison_rate: float
    images: Floats | None = None
    texts: tuple[str, ...] | None = None
    labels: NDArray[np.int64] | None = None
    probabilities: Floats | None = None
    network: Callable[[], nn.Sequential] | None = None
    epochs: int = 10
    shared: dict[str, Shared] = field(default_factory=dict, init=False)  # another batch shares nothing with this one

    @property
    def inputs(self) -> Floats:
        """What the probe reads: (rows, channels, height, width) images or (rows, d) features."""
        return self.features if self.images is None else self.images


@dataclass(frozen=True)
class PeerResult:
    """What a peer says of a batch.

    Args:
        scores: (rows,) the peer's own ranking; higher is more suspicious.
        flagged: (rows,) the peer's own decision at its documented defaults.
        seconds: Wall-clock time of the peer, training of its classifier included, imports excluded.
        peak_mib: Most memory resident at once above what was resident before, in MiB; None where the system does not
            tell, and without that of processes it starts.
    """

    scores: Scores
    flagged: Flags
    seconds: float
    peak_mib: float | None


@dataclass(frozen=True)
class StandsAside:
    """A peer that cannot run on this data, with the reason as a sentence."""

    reason: str


class Peer(Protocol):
    """A tool that judges records."""

    @property
    def name(self) -> str:
        """The tool and its method, as tables show it."""
        ...

    def judge(self, data: PeerInput) -> PeerResult | StandsAside:
        """Judge every record of the batch, or say why that cannot be."""
        ...


def every_peer() -> tuple[Peer, ...]:
    """All peers, in the order of the tables; one that is not installed stands aside when asked to judge."""
    from benchmarks.peers_art import ActivationClustering, SpectralSignatures
    from benchmarks.peers_cleanlab import Cleanlab
    from benchmarks.peers_pyod import ECOD, KNN, EmbeddingOutliers, IForest

    return (
        ActivationClustering("smaller"),
        ActivationClustering("silhouette-scores"),
        SpectralSignatures(),
        Cleanlab(),
        IForest(),
        KNN(),
        ECOD(),
        EmbeddingOutliers(),
    )


def missing(*modules: str) -> StandsAside | None:
    """Stand aside where one of these modules is not installed."""
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    return StandsAside(f"{', '.join(absent)} is not installed: make peers") if absent else None


def measured(
    judge: Callable[[], tuple[Scores, Flags]], *, seed: int, shared: Shared | None = None
) -> PeerResult | StandsAside:
    """Run a peer with seeded generators, and measure its time and memory, those of what it shares included.

    A result with a score that is no finite number ranks nothing, so it becomes the reason to stand aside.
    """
    before = reset_peak()
    began = time.perf_counter()
    with seeded(seed):
        scores, flagged = judge()
    seconds = time.perf_counter() - began
    peak = peak_above(before)
    wrong = int((~np.isfinite(scores)).sum())
    if wrong:
        return StandsAside(f"{wrong} of its {len(scores)} scores are not finite numbers")
    if shared is not None:
        seconds += shared.seconds
        peak = None if peak is None or shared.peak_mib is None else max(peak, shared.peak_mib)
    return PeerResult(scores, flagged, seconds, peak)


def made_once(data: PeerInput, name: str, make: Callable[[], object]) -> Shared:
    """What ``make`` makes with seeded generators, the first time it is asked for on this data."""
    if name not in data.shared:
        before = reset_peak()
        began = time.perf_counter()
        with seeded(data.seed):
            thing = make()
        data.shared[name] = Shared(thing, time.perf_counter() - began, peak_above(before))
    return data.shared[name]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of numpy and torch, which some peers draw from, and put them back as they were."""
    import torch

    state = np.random.get_state()  # noqa: NPY002  the generator that scikit-learn uses inside the peers
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  the same
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002  the same
