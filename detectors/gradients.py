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
class TrustedAlignment:
    """How far a record's gradient points away from that of trusted records like it (after FLTrust, Cao et al. 2021).

    The paper weighs a client's update by its cosine with one that the server computes on data of its own. Here it is a
    record's Kronecker-projected gradient, and the mean of those of the trusted records that have the label which the
    probe expects of it: those of its own label point the same way whatever else is wrong. Minus the cosine is the
    score.

    Only by name: what it finds are labels that do not fit, which `lazaretto.detectors.wrong_label` tells by more.
    """

    name: str = "trusted_alignment"
    reads: tuple[str, ...] = ("gradients", "alignment")
    family: ClassVar[str] = "gradient"
    needs_label: ClassVar[bool] = True

    def summarise(self, views: Views) -> Nothing:
        """The trusted records' gradients are the fit."""
        return Nothing(views.classes)

    def finish(self, summary: Nothing) -> AlignmentScorer:  # noqa: ARG002  one protocol for all
        """Nothing to compute."""
        return AlignmentScorer()


@dataclass(frozen=True)
class AlignmentScorer:
    """Reads the (rows,) cosine."""

    def score(self, views: Views) -> NDArray[np.float64]:
        """(rows,) minus the cosine; NaN for a label that is unknown or no trusted record's."""
        scores: NDArray[np.float64] = -views["alignment"].astype(np.float64)
        return np.where(views.labels == UNKNOWN_LABEL, np.nan, scores)

    def explain(self, views: Views) -> list[str]:
        """How it points."""
        return [
            f"what a small model would learn from it goes {'with' if cosine > 0 else 'against'} what trusted records"
            f" like it teach (agreement {cosine:+.2f} of 1)"
            for cosine in views["alignment"].tolist()
        ]


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


def trusted_direction(views: Views, trusted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(classes, projections) unit mean of the gradients of the trusted records of each class; NaN where there are none.

    Args:
        views: With gradients.
        trusted: (rows,) which of them are trusted.
    """
    gradients = views["gradients"].astype(np.float64)
    found = np.full((len(views.classes), gradients.shape[1]), np.nan)
    for label in range(len(found)):
        mine = trusted & (views.labels == label)
        if mine.any():
            mean = gradients[mine].mean(axis=0)
            found[label] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return found
