"""Gradient detectors: what training on the record would do to the probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL
from lazaretto.detectors.label_noise import Nothing
from lazaretto.detectors.spectral import SpectralSignatures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lazaretto.detector import Views


@dataclass(frozen=True)
class GradientNorm:
    """Norm of the last layer's per-sample gradient, in closed form (Katharopoulos and Fleuret 2018).

    For a linear layer with inputs a and output error d the per-sample gradient is the outer product d a', so its
    squared norm is ``|d|^2 (|a|^2 + 1)`` with the bias counted; no gradient is ever materialised. Averaged over the
    probe's checkpoints.
    """

    name: str = "grad_norm"
    reads: tuple[str, ...] = ("gradient_norms",)
    family: ClassVar[str] = "gradient"
    needs_label: ClassVar[bool] = True
    tail: ClassVar[str] = "narrow"

    def summarise(self, views: Views) -> Nothing:
        """The probe is the fit."""
        return Nothing(views.classes)

    def finish(self, summary: Nothing) -> NormScorer:  # noqa: ARG002  one protocol for all
        """Nothing to compute."""
        return NormScorer(power=1)


@dataclass(frozen=True)
class SelfInfluence:
    """TracIn self-influence (Pruthi et al. 2020): the squared last-layer gradient norm summed over checkpoints.

    Departures: the last layer only, in closed form; a constant learning rate, so that its factor is left out; and the
    probe is cross-fitted, so that it is the influence training on the record *would* have.
    """

    name: str = "tracin"
    reads: tuple[str, ...] = ("gradient_norms",)
    family: ClassVar[str] = "gradient"
    needs_label: ClassVar[bool] = True
    tail: ClassVar[str] = "narrow"

    def summarise(self, views: Views) -> Nothing:
        """The probe is the fit."""
        return Nothing(views.classes)

    def finish(self, summary: Nothing) -> NormScorer:  # noqa: ARG002  one protocol for all
        """Nothing to compute."""
        return NormScorer(power=2)


@dataclass(frozen=True)
class NormScorer:
    """A power mean of the (rows, checkpoints) gradient norms."""

    power: int

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) log of the mean over checkpoints of the norm to the given power; NaN for an unknown label."""
        norms = views["gradient_norms"].astype(np.float64)
        return np.where(views.labels == UNKNOWN_LABEL, np.nan, np.log((norms**self.power).mean(axis=1) + 1e-9))

    def explain(self, views: Views) -> list[str]:
        """How hard the record would pull."""
        norms = views["gradient_norms"].astype(np.float64).mean(axis=1)
        return [f"learning from it would change a small model unusually much (by {norm:.2f})" for norm in norms]


@dataclass(frozen=True)
class GradientSpectral(SpectralSignatures):
    """Spectral score of per-sample gradients (Sever, Diakonikolas et al. 2019), Kronecker-projected.

    The gradient of a layer is an outer product, so a random projection of each factor projects the whole gradient
    without forming it. Centred per class; Sever centres over all classes.
    """

    name: str = "grad_spectral"
    view: str = "gradients"
    family: ClassVar[str] = "gradient"
    needs_label: ClassVar[bool] = True
