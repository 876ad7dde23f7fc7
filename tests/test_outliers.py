"""What the outlier detectors say of a record is in units a person can make sense of."""

from __future__ import annotations

import re

import numpy as np

from lazaretto.detector import Views, fit
from lazaretto.detectors.outliers import Histogram


def test_a_common_category_is_not_said_to_be_many_deviations_away() -> None:
    rng = np.random.default_rng(0)
    hot = (rng.uniform(size=300) < 1 / 3).astype(np.float32)
    shape = np.stack([hot, np.zeros(300, dtype=np.float32), rng.normal(size=300).astype(np.float32)], axis=1)
    names = {"shape": ("country = IT", "country = XX", "amount")}
    views = Views(np.arange(300, dtype=np.uint64), np.full(300, -1), {"shape": shape}, names)
    said = " ".join(fit(Histogram(), [views]).explain(views))
    assert "country = IT" in said
    assert max(abs(float(number)) for number in re.findall(r"\(([+-][\d.]+) standard deviations", said)) < 5
