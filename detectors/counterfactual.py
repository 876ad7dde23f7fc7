"""The counterfactual of a mined trigger: the same record with the trigger taken out, shown to the probe.

A trigger of a backdoor carries its label: without it, a model that learnt it calls the record what it is. A token that
only goes with a label, as natural ones do, takes nothing with it. The probe is of other folds: it has not seen the
record, and may have learnt the trigger from those that carry it. Where it has not, and does not go along with the label
to begin with, there is nothing to ask.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.special import softmax

from lazaretto.detectors.views.images import WINDOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lazaretto.detector import Views
    from lazaretto.detectors.panel import Panel

    Places = Sequence[NDArray[np.int64]]

_GOES_ALONG = 0.5
"""Share that the probe must give the label as the record is."""
_TAKEN_OUT = "with that taken out"
_USUAL = "with usual values in its place"
_COLUMNS = re.compile(r"(.+?)(?: with (.+?))? \((?:exact value|range)\)$")


def asked_without(
    panel: Panel, number: int, frame: pl.DataFrame, views: Views, places: Places, tokens: str = "tokens"
) -> list[str]:
    """What the probe says of records without some of their tokens; empty where there is nothing to ask.

    Images are filled in from around the pattern, or lose the wave; values of a table become usual ones (a missing value
    would be something that the probe has hardly ever seen), words of a text are left out.

    Args:
        panel: The fitted panel.
        number: The fold whose probe is asked.
        frame: (rows) canonical records.
        views: Of the same records.
        places: (rows,) for each record the columns of the view with the tokens that are taken out.
        tokens: Its name.
    """
    if panel.probe is None or not len(frame):
        return [""] * len(frame)
    if tokens == "waves":
        changed, pixels, done = frame, *_waveless(panel, frame, places)
    else:
        changed, pixels, done = _without(panel, frame, views, places, views.names.get("tokens", ()))
    before = _shares(panel, number, views["features"], views.labels)
    after = _shares(panel, number, panel.encoder.features_of(changed, pixels), views.labels)
    said = []
    for row, label in enumerate(views.labels.tolist()):
        how = done[row]
        if not how or label < 0 or before[row, label] < _GOES_ALONG:
            said.append("")
            continue
        change = f"({before[row, label]:.0%} before, {after[row, label]:.0%} after)"
        top, given = int(after[row].argmax()), repr(panel.classes[label])
        if top == label:
            said.append(f"; {how}, the probe still says {given} {change}, which speaks for the record")
        else:
            said.append(f"; {how}, the probe no longer says {given} {change} but {panel.classes[top]!r}")
    return said


def _without(
    panel: Panel, frame: pl.DataFrame, views: Views, places: Places, names: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, NDArray[np.uint8]], list[str]]:
    """The records without the tokens, their images as pixels, and how each differs; empty where it does not."""
    encoder = panel.encoder
    pixels = encoder.decoded(frame)
    windows = 0
    done = [""] * len(frame)
    if encoder.images:
        first = next(iter(encoder.images))
        across = encoder.images[first].side - WINDOW + 1
        windows = across**2
        filled = pixels[first].copy()
        for row, mine in enumerate(places):
            inside = mine[mine < windows]
            if len(inside):
                filled[row] = _filled(filled[row], [divmod(int(place), across) for place in inside])
                done[row] = _TAKEN_OUT
        pixels[first] = filled
    columns: dict[str, list[object]] = {}
    for row, mine in enumerate(places):
        for place in mine[mine >= windows].tolist():
            for name, value in _changes(panel, frame, views, row, int(place), names[place] if names else ""):
                columns.setdefault(name, frame[name].to_list())
                kept = columns[name][row]
                if value is None:
                    # Several tokens may be of one column: what is usual is so beside the record's own value.
                    usual = _usual(panel, name, frame.schema[name], frame[name][row])
                    columns[name][row] = kept if usual is None else usual
                else:
                    # Words are taken out one after the other.
                    columns[name][row] = None if kept is None else re.sub(value, " ", str(kept))
                if columns[name][row] != frame[name][row]:
                    done[row] = _USUAL if value is None else _TAKEN_OUT
    changed = frame.with_columns(pl.Series(name, values, frame.schema[name]) for name, values in columns.items())
    return changed, pixels, done


def _usual(panel: Panel, name: str, kind: pl.DataType, kept: object) -> object:
    """Another value of a column, one that says little of a record; None where the column has no such."""
    column = panel.encoder.columns.get(f"{name} date" if isinstance(kind, pl.Datetime) else name)
    if column is None:
        return None
    if isinstance(kept, bool):
        return not kept
    if isinstance(kind, pl.Datetime):
        seconds = column.usual_but(kept.timestamp() if isinstance(kept, dt.datetime) else kept)
        return None if seconds is None else dt.datetime.fromtimestamp(float(seconds), tz=dt.UTC)
    value = column.usual_but(kept)
    return round(value) if isinstance(value, float) and kind.is_integer() else value


def _waveless(panel: Panel, frame: pl.DataFrame, places: Places) -> tuple[dict[str, NDArray[np.uint8]], list[str]]:
    """The pixels of the records without their waves in these bins, and how each differs; empty where it does not."""
    encoder = panel.encoder
    pixels = encoder.decoded(frame)
    if encoder.waves is None:
        return pixels, [""] * len(frame)
    first = next(iter(encoder.images))
    without = encoder.waves.without
    pixels[first] = np.stack([without(image, mine) for image, mine in zip(pixels[first], places, strict=True)])
    return pixels, [_TAKEN_OUT if len(mine) else "" for mine in places]


def _changes(
    panel: Panel, frame: pl.DataFrame, views: Views, row: int, place: int, name: str
) -> list[tuple[str, re.Pattern[str] | None]]:
    """Column -> what is taken out of its text, None for its whole value."""
    if name.startswith("words of "):
        words = views.words[row].get(int(views["tokens"][row, place])) if views.words else None
        if words is None:
            return []
        apart = r"\W+".join(re.escape(word) for word in words.split())
        return [(name.removeprefix("words of "), re.compile(rf"\b{apart}\b", re.IGNORECASE))]
    found = _COLUMNS.match(name)
    if found is None:
        return []
    # A timestamp is several columns, named after it.
    known = [one if one in frame.columns else one.rsplit(" ", 1)[0] for one in found.groups() if one is not None]
    return [(one, None) for one in known if one in panel.encoder.plain]


def _filled(image: NDArray[np.uint8], corners: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """(side, side, channels) with windows, and a pixel around them, filled with the median of what surrounds them."""
    from scipy.ndimage import binary_dilation

    inside = np.zeros(image.shape[:2], dtype=np.bool_)
    for top, left in corners:
        inside[top : top + WINDOW, left : left + WINDOW] = True
    hidden = binary_dilation(inside)
    around = binary_dilation(hidden, iterations=2) & ~hidden
    if not around.any():
        return image
    filled = image.copy()
    filled[hidden] = np.median(image[around], axis=0).astype(np.uint8)
    return filled


def _shares(panel: Panel, number: int, features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(rows, classes) probabilities that the fold's probe gives at the end of its training."""
    if panel.probe is None:
        raise ValueError("there is no probe")
    logits = panel.probe.views(number, features, labels)["logits"][:, -1].astype(np.float64)
    return np.asarray(softmax(logits, axis=1), dtype=np.float64)
