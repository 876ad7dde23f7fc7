"""Fits a detector that goes by what the others say, when they are fitted and before the panel is calibrated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lazaretto.detector import Detector, Views, fit
from lazaretto.detectors.calibrating import oddity
from lazaretto.detectors.panel import Panel, complaint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lazaretto.detectors.drawn import Drawn


def with_listener(
    panel: Panel,
    crossed: NDArray[np.float64],
    drawn: Drawn,
    listener: Detector[Any],
    outside: Sequence[Views],
    judged: Sequence[Views],
) -> tuple[Panel, NDArray[np.float64]]:
    """The panel with a detector that goes by what those say which are in it, and the scores with its own.

    Args:
        panel: Not yet calibrated.
        crossed: (fitted, detectors) its cross-fitted scores.
        drawn: What was drawn for what.
        listener: To be fitted.
        outside: What each fold's probe sees in the records that the fold is fitted on.
        judged: The views of each fold's own records.
    """
    said = oddity(panel, crossed, drawn)
    if said is None:
        reason = "there is no other detector whose scores it could go by"
        return replace(panel, stood_aside={**panel.stood_aside, listener.name: reason}), crossed
    column, folds = np.empty(len(crossed)), []
    try:
        for number, (fold, views) in enumerate(zip(panel.folds, outside, strict=True)):
            scorer = fit(listener, [views.with_arrays({"oddity": said[drawn.shown[number]]})])
            folds.append(replace(fold, scorers={**fold.scorers, listener.name: scorer}))
            column[drawn.which == number] = scorer.score(judged[number])
    except Exception as error:  # noqa: BLE001  one broken detector holds the batch, it must not hide the others
        return replace(panel, failed={**panel.failed, listener.name: complaint(error)}), crossed
    panel = replace(panel, folds=tuple(folds), detectors=(*panel.detectors, listener))
    return panel, np.column_stack([crossed, column])
