"""Every detector in the table keeps the laws; a detector that breaks one is caught."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from lazaretto.detector import Views, detector_id, fit
from lazaretto.detectors.company import Company
from lazaretto.detectors.conformance import LawBroken, check_detector, made_views
from lazaretto.detectors.label_noise import Margin, MarginScorer, Nothing
from lazaretto.detectors.table import DETECTORS, make_detectors
from lazaretto.errors import ContractError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_detector_keeps_the_laws(name: str) -> None:
    check_detector(DETECTORS[name]())


def test_company_keeps_the_laws_where_it_says_something() -> None:
    company = Company(nearest=10, classes=3)
    assert np.ptp(fit(company, [views := made_views(300, 0)]).score(views)) > 0
    check_detector(company)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_fits_from_partitions_equal_the_fit_of_the_whole(name: str, seed: int) -> None:
    views = made_views(257, seed)
    cuts = np.sort(np.random.default_rng(seed).integers(1, 256, 3))
    parts = [views.take(index) for index in np.split(np.arange(257), cuts) if len(index)]
    detector = DETECTORS[name]()
    np.testing.assert_allclose(fit(detector, parts).score(views), fit(detector, [views]).score(views), rtol=1e-6)


@dataclass(frozen=True)
class _Ranked(MarginScorer):
    def score(self, views: Views) -> NDArray[np.float64]:
        return super().score(views).argsort().astype(np.float64)


@dataclass(frozen=True)
class _Generous(MarginScorer):
    def score(self, views: Views) -> NDArray[np.float64]:
        return np.nan_to_num(super().score(views))


@dataclass(frozen=True)
class _Broken(Margin):
    scorer: type[MarginScorer] = _Ranked
    family: ClassVar[str] = "label"

    def finish(self, summary: Nothing) -> MarginScorer:
        return self.scorer(summary.classes)


@pytest.mark.parametrize(
    ("scorer", "law"),
    [(_Ranked, "alone and among others|scores follow"), (_Generous, "scores NaN, never low")],
)
def test_a_detector_that_breaks_a_law_is_caught(scorer: type[MarginScorer], law: str) -> None:
    with pytest.raises(LawBroken, match=law):
        check_detector(_Broken(scorer=scorer))


def test_names_in_the_table_are_the_detectors_own() -> None:
    assert all(make().name == name for name, make in DETECTORS.items())


def test_an_id_tells_every_parameter() -> None:
    detector = DETECTORS["whitened"]()
    assert "rank=16" in detector_id(detector)
    assert detector_id(dataclasses.replace(detector, rank=8)) != detector_id(detector)  # type: ignore[type-var]  # all are dataclasses


def test_a_misspelt_detector_is_named_with_the_nearest() -> None:
    with pytest.raises(ContractError) as caught:
        make_detectors(["iforrest"])
    assert "iforest" in str(caught.value.hint)
