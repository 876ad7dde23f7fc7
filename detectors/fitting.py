"""Fits the panel: views, probe, every detector across folds, tails, fusion, and the null.

See `lazaretto.detectors.panel` for why records are judged by the folds they are not in.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.detector import Detector, Views, fit
from lazaretto.detectors.calibrating import calibrated_by_able
from lazaretto.detectors.drawn import FEWEST_OF_A_CLASS, MANY_ROWS, Drawn, require_trusted
from lazaretto.detectors.gradients import trusted_direction
from lazaretto.detectors.listening import with_listener
from lazaretto.detectors.panel import (
    Crossed,
    Fold,
    Near,
    Panel,
    complaint,
    encode_labels,
    enriched,
    raw_scores,
)
from lazaretto.detectors.views.encode import Encoder
from lazaretto.detectors.views.images import HALVES, PARTS
from lazaretto.detectors.views.neighbours import Neighbours
from lazaretto.detectors.views.probe import Reading, Recipe, train
from lazaretto.detectors.views.sample import record_keys
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from lazaretto.contract import Contract
    from lazaretto.detector import Scorer
    from lazaretto.detectors.views.probe import Probe

SAMPLE_ROWS = {"table": 20_000, "image": 10_000}
"""Most records of a batch the panel is fitted on; a larger batch is represented by its bottom-k sample."""
FEWEST_ROWS = 200
"""Fewer fitted records than this say nothing: the batch is held."""
FEWEST_DISTINCT = 20
"""Fewer different records than this in a batch, and it is held: they cannot be judged by folds they are not in."""

_NEIGHBOURS = 15
_INDEXED = 4_000
_FEWEST_VOTERS = 200
"""With fewer trusted records in the fit they do not vote."""
_MOST_CLASSES = 1_000
_DROPPED = 16
"""Times that the probe is asked with half of its hidden units, where a detector wants to know."""
_FEWEST_STEPS = 2_400
"""Of a thousand records the usual passes may be too few: classes in a row were read one as the next, and clean batches
of them waited. Where labels are noisy more passes only learn the noise, so they must pay (`Recipe.longest`)."""
_FITTED_VIEWS = {
    "hidden",
    "neighbour_labels",
    "coarse_votes",
    "neighbour_distances",
    "class_distances",
    "logits",
    "gradient_norms",
    "gradients",
    "dropped",
    "oddity",
}
"""Views that a fold's probe and neighbours add to those of the encoder."""

_LACKING = {
    "characters": "text",
    "tones": "image",
    "pixels": "image",
    "luminance": "image",
    "detail": "image",
    "fine": "image larger than what detectors look at",
    "waves": "image",
    "coarse_votes": "image",
    "values": "two columns to compare",
    "missing": "two columns with missing values",
    "tokens": "image, text or pair of columns",
    "prompt_tokens": "prompt with a response",
    "answers": "prompt with a response",
    "votes": "trusted set that is large enough to vote",
    "alignment": "trusted set that is large enough to compare with",
}
"""View -> what the records would need to have for it."""


def fit_panel(
    sample: pl.DataFrame,
    trusted: pl.DataFrame | None,
    contract: Contract,
    detectors: Sequence[Detector[Any]],
    seed: int,
    device: torch.device,
    keys: int | None = None,
) -> Panel:
    """Fit every detector.

    Args:
        sample: Canonical records of the batch (its bottom-k sample).
        trusted: Canonical trusted records, or None.
        contract: Names the features and the label.
        detectors: The detectors the policy asks for.
        seed: Fixes probe, projections and forests.
        device: Where torch computes.
        keys: The `key_seed` that draws folds and calibration records; by default the seed itself.

    Raises:
        UsageError: If the trusted set is too small for the policy's false-quarantine rate, or the policy wants classes
            calibrated by themselves and there is none.
    """
    require_trusted(contract.policy, given=trusted is not None)
    clock = _Clock()
    keys = seed if keys is None else keys
    # In the order of their keys, as the batch's: sums of another order differ, and so do borderline verdicts.
    order = np.arange(0) if trusted is None else np.argsort(record_keys(trusted, keys), kind="stable")
    everything = sample if trusted is None else pl.concat([sample, trusted[order]])
    waved = any("waves" in detector.reads for detector in detectors)
    encoder, arrays, names = Encoder.fit(everything, contract, seed, device, waved=waved)
    classes = _classes(sample, trusted, contract)
    label = contract.label if classes else None
    labels = encode_labels(everything, label, classes)
    base = Views(record_keys(everything, keys), labels, arrays, names, classes)
    clock.lap("views")
    drawn = Drawn.of(base, len(sample), contract.policy)
    fitted, which = drawn.fitted, drawn.which
    probe = None
    if len(classes) > 1:
        recipe = _recipe(len(fitted), drawn.folds, seed, detectors)
        probe = train(fitted["features"], fitted.labels, drawn.shown, len(classes), recipe, device)
        clock.lap("probe")
    voters = None
    if drawn.is_reference.sum() >= _FEWEST_VOTERS:
        voters = _index(fitted.take(drawn.is_reference), "compact", _INDEXED, device)
    vouched = {"votes", "alignment"} if voters else set()
    able, aside = _able(detectors, fitted, classes, _FITTED_VIEWS | vouched)
    listeners = tuple(d for d in able if getattr(d, "listens", False))
    able = tuple(d for d in able if d not in listeners)
    folds, judged, outside, failed = _fit_folds(able, drawn, probe, voters, device, clock)
    kept = tuple(d for d in able if d.name not in failed)
    withheld = frozenset(name for name, column in contract.all_columns.items() if column.pii)
    panel = Panel(encoder, probe, classes, label, keys, kept, folds, aside, failed, clock.seconds, withheld)
    crossed = np.full((len(fitted), len(kept)), np.nan)
    for number, views in enumerate(judged):
        crossed[which == number], broken = raw_scores(folds[number].scorers, panel.names, views)
        failed.update(broken)
    for listener in listeners:
        panel, crossed = with_listener(panel, crossed, drawn, listener, outside, judged)
        clock.lap(listener.name)
    done = calibrated_by_able(panel, crossed, drawn)
    if done.names:
        # A trusted record of the fit is nobody's to score.
        left = [panel.names.index(name) for name in done.names]
        batch = ~drawn.is_reference
        reading = None
        if probe is not None:
            readings = [Reading.of(views["logits"], views.labels) for views in judged]
            places = [np.flatnonzero(which == number) for number in range(drawn.folds)]
            reading = Reading.laid_out(len(fitted), places, readings).take(batch)
        done = replace(done, crossed=Crossed.of(sample[DIGEST], crossed[batch][:, left], reading))
    done = _in_their_order(done, np.argsort(order))
    clock.lap("calibration")
    return done


def _in_their_order(panel: Panel, order: NDArray[np.int64]) -> Panel:
    """The panel, with what it says of the trusted records in the order they came in."""
    unvouched, vouched = (None if said is None else said[order] for said in (panel.unvouched, panel.vouched))
    return replace(panel, unvouched=unvouched, vouched=vouched)


def _fit_folds(
    able: Sequence[Detector[Any]],
    drawn: Drawn,
    probe: Probe | None,
    voters: Neighbours | None,
    device: torch.device,
    clock: _Clock,
) -> tuple[tuple[Fold, ...], list[Views], list[Views], dict[str, str]]:
    """The fold states without calibration, and the detectors that failed.

    Between them the views of each fold's own records, and what its probe sees in those that it is fitted on.
    """
    states: list[tuple[Near, dict[str, Scorer]]] = []
    judged: list[Views] = []
    shown: list[Views] = []
    failed: dict[str, str] = {}
    fitted = drawn.fitted
    parts = PARTS if any("coarse_votes" in detector.reads for detector in able) else HALVES
    indexed = _INDEXED if len(fitted) <= MANY_ROWS else _INDEXED // 2

    def fit_each(detectors: Sequence[Detector[Any]], partitions: list[Views], scorers: dict[str, Scorer]) -> None:
        for detector in detectors:
            try:
                scorers[detector.name] = fit(detector, partitions)
            except Exception as error:  # noqa: BLE001  one broken detector holds the batch, it must not hide the others
                failed[detector.name] = complaint(error)
            clock.lap(detector.name)

    for number in range(drawn.folds):
        outside = fitted.take(drawn.shown[number])
        near = Near(
            _index(outside, "compact", indexed, device),
            {part: _index(outside, part, indexed, device) for part in parts if part in outside},
            voters,
        )
        clock.lap("neighbours")
        views = enriched(probe, near, number, outside)
        if any("alignment" in detector.reads for detector in able):
            near = replace(near, direction=trusted_direction(views, drawn.is_reference[drawn.shown[number]]))
            views = near.aligned(views)
        clock.lap("probe views")
        scorers: dict[str, Scorer] = {}
        fit_each([d for d in able if not getattr(d, "crossed", False)], [views], scorers)
        states.append((near, scorers))
        shown.append(replace(views, arrays={"hidden": views["hidden"]}))
        judged.append(enriched(probe, near, number, fitted.take(drawn.which == number)))
    for number, (_, scorers) in enumerate(states):
        seen = [drawn.shown[number][drawn.which == other] for other in range(drawn.folds)]
        others = [views.take(seen[other]) for other, views in enumerate(judged) if other != number]
        fit_each([d for d in able if getattr(d, "crossed", False)], others, scorers)
    return tuple(Fold(near, scorers) for near, scorers in states), judged, shown, failed


def _index(views: Views, view: str, limit: int, device: torch.device) -> Neighbours:
    return Neighbours.of(views[view], views.keys, views.labels, len(views.classes), _NEIGHBOURS, limit, device)


def _able(
    detectors: Sequence[Detector[Any]], views: Views, classes: tuple[str, ...], later: set[str]
) -> tuple[tuple[Detector[Any], ...], dict[str, str]]:
    able, aside = [], {}
    for detector in detectors:
        missing = [view for view in detector.reads if view not in views and view not in later]
        if detector.needs_label and len(classes) <= 1:
            aside[detector.name] = "there is no label to judge"
        elif missing:
            aside[detector.name] = f"these records have no {_LACKING.get(missing[0], f'{missing[0]} view')}"
        else:
            able.append(detector)
    return tuple(able), aside


def _classes(sample: pl.DataFrame, trusted: pl.DataFrame | None, contract: Contract) -> tuple[str, ...]:
    """The labels that are known, in order; none if the label names no classes: a number, or nearly one a record.

    With a trusted set its labels alone decide. Without one a label counts that several records have, so that labels
    made up for a few records can neither become classes nor turn the others into none.
    """
    if contract.label is None or contract.all_columns[contract.label].type not in ("category", "boolean", "integer"):
        return ()
    source, fewest = (sample, FEWEST_OF_A_CLASS) if trusted is None else (trusted, 1)
    labels = source[contract.label].cast(pl.String).drop_nulls().rename("label")
    counts = labels.value_counts(name="records").filter(pl.col("records") >= fewest)
    known = counts.sort(["records", "label"], descending=[True, False]).head(_MOST_CLASSES)
    few_of_many = known["records"].sum() * 2 < len(labels)
    if few_of_many or len(known) * FEWEST_OF_A_CLASS > len(labels) or (trusted is None and len(known) < 2):  # noqa: PLR2004  one label is no class
        return ()
    return tuple(sorted(known["label"].to_list()))


def _recipe(rows: int, folds: int, seed: int, detectors: Sequence[Detector[Any]]) -> Recipe:
    """Fewer passes over more records, more over few: the number of steps, not of passes, is what the probe needs."""
    dropped = _DROPPED if any("dropped" in detector.reads for detector in detectors) else 0
    if rows <= MANY_ROWS:
        short = Recipe(seed=seed, dropped=dropped)
        steps = max(rows * (folds - 1) // folds // short.batch, 1)
        passes = -(-_FEWEST_STEPS // steps)
        return replace(short, longest=passes)
    return Recipe(epochs=8, batch=128, checkpoints=4, seed=seed, dropped=dropped)


class _Clock:
    """Seconds between laps, added up by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
