"""The laws every detector keeps, as one suite: run it on your own before you register it.

from lazaretto.detectors.conformance import check_detector
check_detector(MyDetector())
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from lazaretto.detector import UNKNOWN_LABEL, Views, detector_id, fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from lazaretto.detector import Detector, Scorer

_CLASSES = ("a", "b", "c")
_FAMILIES = {"hygiene", "outlier", "label", "representation", "gradient", "trigger"}


class LawBroken(AssertionError):  # noqa: N818  reads as what happened
    """A detector does not keep a law; the message says which."""


def made_views(rows: int, seed: int) -> Views:
    """Random but well-formed views of every kind the panel makes: three classes that differ, distinct keys."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(_CLASSES), rows)
    centres = np.random.default_rng(0).normal(size=(len(_CLASSES), 12)) * 2
    base = (centres[labels] + rng.normal(size=(rows, 12))).astype(np.float32)
    hidden = np.maximum(base, 0)
    logits = rng.normal(size=(rows, 4, len(_CLASSES))).astype(np.float32)
    logits[np.arange(rows), :, labels] += 2.0
    arrays: dict[str, Any] = {
        "features": base,
        "compact": base[:, :8],
        "raw": base,
        "shape": base[:, :6],
        "pixels": base[:, :6],
        "luminance": base[:, :6],
        "detail": np.tanh(base[:, 6:]),
        "fine": np.tanh(base[:, 5:]),
        "tones": base[:, :6],
        "values": rng.integers(0, 6, (rows, 5)).astype(np.uint32),
        "tokens": rng.integers(0, 50, (rows, 20)).astype(np.uint32) * np.uint32(2654435761),
        "prompt_tokens": rng.integers(0, 20, (rows, 6)).astype(np.uint32),
        "answers": base / np.linalg.norm(base, axis=1, keepdims=True),
        "copies": rng.geometric(0.8, rows),
        "copies_rarity": rng.uniform(0.01, 1.0, rows),
        "characters": rng.poisson(0.2, (rows, 7)).astype(np.float64),
        "hidden": hidden,
        "logits": logits,
        "gradient_norms": rng.gamma(2.0, size=(rows, 4)).astype(np.float32),
        "gradients": rng.normal(size=(rows, 16)).astype(np.float32),
        "dropped": rng.beta(5.0, 2.0, (rows, 6)).astype(np.float32),
        "alignment": rng.uniform(-1.0, 1.0, rows),
        "neighbour_distances": np.sort(rng.gamma(2.0, size=(rows, 7)), axis=1).astype(np.float32),
        "neighbour_labels": rng.integers(0, len(_CLASSES), (rows, 7)),
        "votes": rng.integers(0, len(_CLASSES), (rows, 7)),
        "class_distances": rng.gamma(3.0, size=(rows, len(_CLASSES))).astype(np.float32),
    }
    together = rng.random((rows, 1)) < 0.1  # noqa: PLR2004  values that are missing together in a tenth of the records
    arrays["missing"] = (rng.random((rows, 5)) < 0.05) | (together & (np.arange(5) < 2))  # noqa: PLR2004  two columns
    arrays["waves"] = rng.integers(0, 50, (rows, 12)).astype(np.uint32) * np.uint32(2654435761)
    arrays["coarse_votes"] = rng.integers(0, len(_CLASSES), (rows, 7))
    arrays["oddity"] = rng.gamma(2.0, 0.2, rows)
    keys = rng.permutation(np.arange(1, rows + 1)).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    names = {name: tuple(f"{name}[{i}]" for i in range(a.shape[1])) for name, a in arrays.items() if a.ndim > 1}
    return Views(keys, labels.astype(np.int64), arrays, names, _CLASSES)


def check_detector(detector: Detector[Any], *, seed: int = 0) -> None:
    """Hold a detector to every law.

    Raises:
        LawBroken: With the name of the law.
    """
    views = made_views(300, seed)
    scorer = fit(detector, [views])
    for law in (
        _declares_itself,
        _scores_every_row,
        _merges_in_any_order_and_partition,
        _ignores_batch_mates,
        _is_pure,
        _repeats,
        _calls_what_it_cannot_judge_suspicious,
        _explains_every_row,
        _listens_only_while_it_is_fitted,
    ):
        law(detector, scorer, views)


def _hold(kept: bool, law: str, detector: Detector[Any]) -> None:
    if not kept:
        raise LawBroken(f"{detector.name}: {law}")


def _same(a: Any, b: Any) -> bool:  # noqa: ANN401  arrays
    return bool(np.allclose(a, b, rtol=1e-6, atol=1e-8, equal_nan=True))


def _declares_itself(detector: Detector[Any], _scorer: Scorer, views: Views) -> None:
    _hold(detector.family in _FAMILIES, f"family is one of {sorted(_FAMILIES)}", detector)
    _hold(all(view in views for view in detector.reads), "reads only views that there are", detector)
    _hold(dataclasses.is_dataclass(detector), "is a dataclass, so that its id can be told", detector)
    for parameter in dataclasses.fields(detector):  # type: ignore[arg-type]  # asked the line before
        changed = copy.copy(detector)
        object.__setattr__(changed, parameter.name, object())
        _hold(detector_id(changed) != detector_id(detector), f"its id tells {parameter.name}", detector)


def _scores_every_row(detector: Detector[Any], scorer: Scorer, views: Views) -> None:
    scores = scorer.score(views)
    _hold(scores.shape == (len(views),), "gives one score per record", detector)
    _hold(scores.dtype == np.float64, "scores are float64", detector)
    _hold(bool(np.isfinite(scores).all()), "sound records get finite scores", detector)
    _hold(len(scorer.score(views.take(np.arange(0)))) == 0, "no records, no scores", detector)


def _merges_in_any_order_and_partition(detector: Detector[Any], scorer: Scorer, views: Views) -> None:
    parts = [views.take(np.arange(start, min(start + 70, len(views)))) for start in range(0, len(views), 70)]
    expected = scorer.score(views)
    arrangements: dict[str, Callable[[], Scorer]] = {
        "one partition equals many": lambda: fit(detector, parts),
        "the order of partitions does not matter": lambda: fit(detector, parts[::-1]),
        "merging is associative": lambda: _merged_from_the_right(detector, parts),
        "the order of records does not matter": lambda: fit(detector, [views.take(np.arange(len(views))[::-1])]),
    }
    for law, refit in arrangements.items():
        _hold(_same(refit().score(views), expected), law, detector)


def _merged_from_the_right(detector: Detector[Any], parts: list[Views]) -> Scorer:
    summaries = [detector.summarise(part) for part in parts]
    merged = summaries[-1]
    for summary in reversed(summaries[:-1]):
        merged = summary.merge(merged)
    return detector.finish(merged)


def _ignores_batch_mates(detector: Detector[Any], scorer: Scorer, views: Views) -> None:
    together = scorer.score(views)
    alone = np.array([scorer.score(views.take(np.array([row])))[0] for row in range(20)])
    _hold(_same(alone, together[:20]), "a record scores the same alone and among others", detector)
    order = np.random.default_rng(1).permutation(len(views))
    _hold(_same(scorer.score(views.take(order)), together[order]), "scores follow their records", detector)
    flood = views.take(np.concatenate([np.arange(20), np.zeros(500, dtype=int)]))
    _hold(_same(scorer.score(flood)[:20], together[:20]), "copies beside a record do not change its score", detector)


def _is_pure(detector: Detector[Any], scorer: Scorer, views: Views) -> None:
    before = {name: array.copy() for name, array in views.arrays.items()}
    first = scorer.score(views)
    _hold(_same(scorer.score(views), first), "scoring twice gives the same", detector)
    same = all(np.array_equal(views[name], array, equal_nan=True) for name, array in before.items())
    _hold(same, "scoring leaves the views as they were", detector)


def _repeats(detector: Detector[Any], scorer: Scorer, views: Views) -> None:
    _hold(_same(fit(detector, [views]).score(views), scorer.score(views)), "fitting twice gives the same", detector)


def _calls_what_it_cannot_judge_suspicious(detector: Detector[Any], scorer: Scorer, views: Views) -> None:
    if detector.needs_label:
        unknown = dataclasses.replace(views, labels=np.full(len(views), UNKNOWN_LABEL))
        scores = scorer.score(unknown)
        _hold(bool(np.isnan(scores).all()), "a record without a known label scores NaN, never low", detector)


def _explains_every_row(detector: Detector[Any], scorer: Scorer, views: Views) -> None:
    some = views.take(np.arange(5))
    said = scorer.explain(some)
    _hold(len(said) == len(some), "explains every record it is asked about", detector)
    _hold(all(isinstance(text, str) and text.strip() for text in said), "an explanation is a sentence", detector)


def _listens_only_while_it_is_fitted(detector: Detector[Any], scorer: Scorer, views: Views) -> None:
    silent = dataclasses.replace(views, arrays={name: views[name] for name in views.arrays if name != "oddity"})
    try:
        kept = _same(scorer.score(silent), scorer.score(views))
    except KeyError:
        kept = False
    _hold(kept, "a record's score needs nothing that the other detectors say of it", detector)
