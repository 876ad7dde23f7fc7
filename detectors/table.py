"""The detectors by name. Another package adds its own under the entry point group ``lazaretto.detectors``."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from lazaretto.detectors.company import Company
from lazaretto.detectors.components import HiddenComponents
from lazaretto.detectors.gradients import GradientNorm, GradientSpectral, SelfInfluence, TrustedAlignment
from lazaretto.detectors.hygiene import Copies, HiddenCharacters, Payload
from lazaretto.detectors.isolated import IsolatedGradients
from lazaretto.detectors.label_noise import KnnLabel, Margin
from lazaretto.detectors.learning import DropoutConsistency, EarlyLoss
from lazaretto.detectors.missing import Missingness
from lazaretto.detectors.neighbours import Crowding, KnnDistance
from lazaretto.detectors.outliers import Histogram, IsolationForest
from lazaretto.detectors.pairs import Pairs
from lazaretto.detectors.responses import ResponseMiner
from lazaretto.detectors.shared_detail import SharedDetail
from lazaretto.detectors.spectral import Mahalanobis, SpectralSignatures, WhitenedSpectral
from lazaretto.detectors.trigger import TriggerMiner
from lazaretto.detectors.two_components import TwoComponents
from lazaretto.detectors.wrong_label import WrongLabel
from lazaretto.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lazaretto.detector import Detector

DETECTORS: dict[str, Callable[[], Detector[Any]]] = {
    "copies": Copies,
    "crowding": Crowding,
    "hidden_characters": HiddenCharacters,
    "payload": Payload,
    "iforest": IsolationForest,
    "hbos": Histogram,
    "hbos_pixels": lambda: Histogram(name="hbos_pixels", reads=("pixels",)),
    "knn_distance": KnnDistance,
    "margin": Margin,
    "knn_label": KnnLabel,
    "wrong_label": WrongLabel,
    "mahalanobis": Mahalanobis,
    "mahalanobis_tones": lambda: Mahalanobis(name="mahalanobis_tones", view="tones"),
    "mahalanobis_hidden": lambda: Mahalanobis(name="mahalanobis_hidden", view="hidden"),
    "components": HiddenComponents,
    "shared_detail": SharedDetail,
    "shared_detail_fine": lambda: SharedDetail(name="shared_detail_fine", reads=("fine", "luminance"), tail="light"),
    "scan_two_component": TwoComponents,
    "whitened": WhitenedSpectral,
    "spectral": SpectralSignatures,
    "grad_norm": GradientNorm,
    "tracin": SelfInfluence,
    "grad_spectral": GradientSpectral,
    "trigger": TriggerMiner,
    "trigger_trusted": lambda: TriggerMiner(name="trigger_trusted", votes="votes"),
    "trigger_waves": lambda: TriggerMiner(name="trigger_waves", tokens="waves", votes="coarse_votes"),
    "pairs": Pairs,
    "missingness": Missingness,
    "response_trigger": ResponseMiner,
    "early_loss": EarlyLoss,
    "dropout_consistency": DropoutConsistency,
    "trusted_alignment": TrustedAlignment,
    "isolated_gradients": IsolatedGradients,
    "company": Company,
}
"""Name in a contract's ``policy.detectors`` -> constructor with the default parameters."""

ONLY_BY_NAME = frozenset(
    {
        "hbos",
        "mahalanobis",
        "mahalanobis_tones",
        "mahalanobis_hidden",
        "whitened",
        "grad_norm",
        "tracin",
        "early_loss",
        "dropout_consistency",
        "trusted_alignment",
        "trigger_waves",
        "isolated_gradients",
    }
)
"""Detectors that run only where a contract names them.

All share one rate of false alarms: a detector that no attack needs costs the others recall, and time. Of these, others
of the family find in every attack of the benchmark what they find (docs/contract.md has the figures).
"""


def make_detectors(names: str | Sequence[str]) -> tuple[Detector[Any], ...]:
    """The detectors a policy asks for.

    Args:
        names: ``default`` for all of `DETECTORS` that are not in `ONLY_BY_NAME`, or names from there and from installed
            entry points.

    Raises:
        ContractError: If a name is not known; the nearest known one is named.
    """
    if names == "default":
        return tuple(make() for name, make in DETECTORS.items() if name not in ONLY_BY_NAME)
    installed = {point.name: point for point in entry_points(group="lazaretto.detectors")}
    made = []
    for name in names:
        if name in DETECTORS:
            made.append(DETECTORS[name]())
        elif name in installed:
            made.append(installed[name].load()())
        else:
            known = sorted({*DETECTORS, *installed})
            near = get_close_matches(name, known, n=1)
            raise ContractError(
                f"policy.detectors names {name!r}, which is no detector",
                hint=f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}",
            )
    return tuple(made)
