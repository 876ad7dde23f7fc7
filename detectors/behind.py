"""What of the record itself is behind a sentence about a learnt view: its columns, and the words of its texts.

Where the probe speaks against a label, columns and words are ranked by input times gradient of its margin (Shrikumar,
Greenside and Kundaje 2017); where a record is far from the others, by the part each has in the distance, the axes of
the view taken back. Words count through the reduced TF-IDF, which is linear in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lazaretto.detectors.outliers import PyodScorer
from lazaretto.detectors.spectral import FrameScorer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import polars as pl
    from numpy.typing import NDArray

    from lazaretto.detector import Views
    from lazaretto.detectors.panel import Panel

    Sentences = Callable[[FrameScorer, str, Views], list[str]]

_MOST = 3
_PROBE_VIEWS = frozenset({"hidden", "gradients", "logits", "gradient_norms"})
_ASKED = frozenset({"logits", "gradient_norms"})
"""What the probe says, which even beside distances column by column only it explains."""
_FEATURES = frozenset({"compact", "shape", "hidden"})
"""Views that are the features, turned or not, where no image stands in their place and no probe has read them."""


def behind(panel: Panel, number: int, frame: pl.DataFrame, views: Views, explained: Sentences) -> dict[str, list[str]]:
    """What to add to the sentences of detectors that read a view without names, record by record.

    Args:
        panel: The panel.
        number: The fold the records are in.
        frame: The records.
        views: Of the records, as that fold sees them.
        explained: Gives the sentences of a scorer, whatever happens.
    """
    words: dict[str, list[str]] = {}
    scorers = panel.folds[number].scorers
    learnt = {"hidden", "gradients"} | {view for view, named in views.names.items() if not named}
    distances = scorers.get("mahalanobis")
    if isinstance(distances, FrameScorer) and distances.names:
        said = [
            f"; in the record itself {text.rsplit('; ', 1)[-1]}" for text in explained(distances, "mahalanobis", views)
        ]
        words.update({d.name: said for d in panel.detectors if learnt & set(d.reads)})
        learnt = set()
    if not panel.encoder.columns and not panel.encoder.texts:
        return words
    if panel.probe is not None:
        slope = panel.probe.slope(number, views["features"], views.labels)
        against = [f"; against the label speak {text}" for text in _named(panel, frame, views, slope)]
        words.update({d.name: against for d in panel.detectors if ((learnt & _PROBE_VIEWS) | _ASKED) & set(d.reads)})
    for name, scorer in scorers.items():
        outward = None if name in words else _outward(panel, scorer, views)
        if outward is not None:
            words[name] = [f"; most of it is {text}" for text in _named(panel, frame, views, outward)]
    return words


def _outward(panel: Panel, scorer: object, views: Views) -> NDArray[np.float64] | None:
    """(rows, features) the direction in which the features go away from what is usual; None where that is no question.

    Sentences that name columns already are left alone, unless the columns are texts, of which only words say anything.
    """
    if not isinstance(scorer, PyodScorer | FrameScorer) or scorer.view not in _FEATURES or panel.encoder.images:
        return None
    if scorer.view == "hidden" and panel.probe is not None:
        return None
    if scorer.names and not panel.encoder.texts:
        return None
    outward = scorer.outward(views)
    axes = panel.encoder.axes
    return outward if axes is None else outward @ axes.T.astype(np.float64)


def _named(panel: Panel, frame: pl.DataFrame, views: Views, slope: NDArray[np.floating]) -> list[str]:
    """For each record its columns, or the words of its texts, that go furthest along the slope."""
    names = views.names["features"]
    return [
        _ranked(panel, frame[row], names, views["features"][row].astype(np.float64) * slope[row], slope[row])
        for row in range(len(views))
    ]


def _ranked(
    panel: Panel,
    record: pl.DataFrame,
    names: tuple[str, ...],
    moved: NDArray[np.float64],
    slope: NDArray[np.floating],
) -> str:
    totals: dict[str, float] = {}
    for name, value in zip(names, moved.tolist(), strict=True):
        totals[name] = totals.get(name, 0.0) + value
    spoken = _wordings(panel, record, slope)
    top = [name for name in sorted(totals, key=lambda n: -totals[n])[:_MOST] if totals[name] > 0]
    return ", ".join(spoken.get(name, name) for name in top) or "no single column"


def _wordings(panel: Panel, record: pl.DataFrame, slope: NDArray[np.floating]) -> Mapping[str, str]:
    """``wording of X`` -> the words of column X that go furthest along the slope; none of a personal column."""
    said = {}
    start = sum(len(column.names) for column in panel.encoder.columns.values())
    for name, texts in panel.encoder.texts.items():
        text = record[name][0]
        if text and name not in panel.withheld:
            found = _apart(texts.pull(text, np.asarray(slope[start : start + texts.rank], dtype=np.float64)))
            if found:
                said[f"wording of {name}"] = f"words of {name} ({', '.join(map(repr, found))})"
        start += len(texts.names)
    return said


def _apart(pulls: Mapping[str, float]) -> list[str]:
    """The n-grams that pull most, none that shares a word with a stronger one."""
    chosen: list[str] = []
    used: set[str] = set()
    for gram in sorted(pulls, key=lambda gram: (-pulls[gram], gram)):
        if pulls[gram] <= 0 or len(chosen) == _MOST:
            break
        if not used & set(gram.split()):
            chosen.append(gram)
            used |= set(gram.split())
    return chosen
