"""Why the panel suspects a record: its strongest detectors, each with a sentence an analyst can check.

A detector that reads a learnt view has no words of its own for it; the columns or pixels behind it are added here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.detectors.behind import behind
from lazaretto.detectors.counterfactual import asked_without
from lazaretto.detectors.drawn import FEWEST_OF_A_CLASS
from lazaretto.detectors.panel import complaint, fold_of
from lazaretto.detectors.trigger import TriggerScorer
from lazaretto.detectors.views.encode import expanded
from lazaretto.tails import SMALLEST_P

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lazaretto.detector import Scorer, Views
    from lazaretto.detectors.panel import Panel, Scores

_RARE = 0.05
"""A p-value above this is no reason, unless there is no smaller one."""
_UNEXPLAINED = "explaining, "
"""Begins the error of a detector that scored but could not explain."""


def explain(
    panel: Panel, frame: pl.DataFrame, scores: Scores, most: int = 3
) -> list[list[tuple[str, float, float, str]]]:
    """For each record its strongest detectors, one at least: (name, score, p-value, sentence), the strongest first.

    A detector that cannot explain is named in ``scores.faults``, and its sentence says so.
    """
    base = panel.views(frame)
    if panel.encoder.texts:
        # What is personal is in the views, and in no sentence.
        plain = frame.with_columns(pl.lit(None, pl.String).alias(n) for n in panel.withheld & set(panel.encoder.texts))
        base = replace(base, words=tuple(panel.encoder.spoken(record) for record in plain.iter_slices(1)))
    which = fold_of(base.keys, len(panel.folds))
    said: list[list[tuple[str, float, float, str]]] = [[] for _ in range(len(base))]
    # The sum over detectors is led by the largest shares; those are the ones that drove the record.
    for number, fold in enumerate(panel.folds):
        index = np.flatnonzero(which == number)
        if not len(index):
            continue
        views = panel.enriched(number, base.take(index))
        share = fold.shares(scores.p_values[index], views.labels)[:, :-1]
        order = np.argsort(-share, axis=1, kind="stable")[:, :most]
        told = partial(_sentences, faults=scores.faults)
        drivers = behind(panel, number, frame[index], views, told)
        for column, name in enumerate(panel.names):
            rows = np.flatnonzero((order == column).any(axis=1))
            if not len(rows):
                continue
            sentences = _sentences(fold.scorers[name], name, views.take(rows), scores.faults)
            sentences = _asked(panel, number, (frame[index[rows]], views.take(rows)), name, sentences, scores.faults)
            for row, why in zip(rows.tolist(), sentences, strict=True):
                raw, p = scores.raw[index[row], column], scores.p_values[index[row], column]
                said[index[row]].append((name, float(raw), float(p), why))
        for place, (row, columns) in enumerate(zip(index.tolist(), order.tolist(), strict=True)):
            rank = {panel.names[column]: place for place, column in enumerate(columns)}
            said[row].sort(key=lambda item: rank[item[0]])
            said[row] = _once(said[row], {name: more[place] for name, more in drivers.items()})
            # A detector that finds nothing rare says nothing true of what is suspicious here.
            said[row] = [item for place, item in enumerate(said[row]) if place == 0 or item[2] <= _RARE]
    for row in np.flatnonzero(panel.unknown(base)).tolist():
        said[row].insert(0, ("label", 1.0, SMALLEST_P, _stranger(panel, frame[row])))
    silence = _Silence.of(panel)
    return [
        [(*item[:3], silence.over(_valued(panel, frame[row], item))) for item in items]
        for row, items in enumerate(said)
    ]


def _once(items: list[tuple[str, float, float, str]], more: Mapping[str, str]) -> list[tuple[str, float, float, str]]:
    """The sentences with what is behind them, which the first says of those that have it from the same."""
    heard: set[str] = set()
    out = []
    for name, raw, p, why in items:
        behind_it = more.get(name, "")
        out.append((name, raw, p, why if behind_it in heard else why + behind_it))
        heard.add(behind_it)
    return out


_MINED = re.compile(r"(.+?)(?: with (.+?))? \((exact value|range)\): ")


def _valued(panel: Panel, record: pl.DataFrame, item: tuple[str, float, float, str]) -> str:
    """The sentence with the values, or the stretches of values, of the columns that was mined."""
    why = item[3]
    found = _MINED.match(why)
    if found is None or not panel.encoder.columns:
        return why
    *named, kind = found.groups()
    names = [name for name in named if name is not None]
    if kind == "exact value":
        if not set(names) <= set(record.columns) - panel.withheld:
            return why
        said = " with ".join(f"{name} = {_short(record[name][0])}" for name in names)
        return f"{said} (exact value): {why[found.end() :]}"
    # A timestamp is several columns, named after it.
    bare = {name if name in record.columns else name.rsplit(" ", 1)[0] for name in names}
    columns = {name: panel.encoder.columns[name] for name in names if name in panel.encoder.columns}
    if len(columns) < len(names) or bare & panel.withheld:
        return why
    values = expanded(record, columns)
    said = " with ".join(f"{name} {column.coarsely(values[name])}" for name, column in columns.items())
    return f"{said}: {why[found.end() :]}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return "missing" if value is None else repr(str(value)[:40]) if isinstance(value, str) else str(value)


_PROBE = re.compile(r"'[^']*'|the probe\b")
_SMALL_MODEL = "a small model trained on other records"
"""What a detector calls the probe, in words for somebody who has not read how it works."""


@dataclass(frozen=True)
class _Silence:
    """Takes the values of personal columns out of sentences: names of categories, and labels."""

    values: tuple[tuple[str, str], ...]
    """What is said -> what is said in its place, the longest first."""

    @classmethod
    def of(cls, panel: Panel) -> _Silence:
        found = {}
        for column in sorted(panel.withheld & set(panel.encoder.columns)):
            for name in panel.encoder.columns[column].names:
                if name.startswith(f"{column} = "):
                    found[name] = f"{column} (withheld)"
        if panel.label in panel.withheld:
            found |= {repr(label): "(withheld)" for label in panel.classes}
        return cls(tuple(sorted(found.items(), key=lambda item: (-len(item[0]), item[0]))))

    def over(self, sentence: str) -> str:
        for value, instead in self.values:
            sentence = sentence.replace(value, instead)
        # What stands in quotes is the data's own.
        return _PROBE.sub(lambda found: _SMALL_MODEL if found[0] == "the probe" else found[0], sentence)


def _stranger(panel: Panel, record: pl.DataFrame) -> str:
    value = None if panel.label is None else record[panel.label][0]
    if value is not None and panel.label in panel.withheld:
        value = "(withheld)"
    if value is None:
        return "it has no label"
    if panel.null_kind == "trusted":
        return f"its label {str(value)[:60]!r} occurs in no trusted record"
    return f"its label {str(value)[:60]!r} occurs in fewer than {FEWEST_OF_A_CLASS} of the records fitted on"


def _explained(scorer: Scorer, views: Views) -> list[str]:
    said = [str(text) for text in scorer.explain(views)]
    if len(said) != len(views):
        raise ValueError(f"it gave {len(said)} sentences for {len(views)} records")
    return said


def _asked(
    panel: Panel,
    number: int,
    records: tuple[pl.DataFrame, Views],
    name: str,
    sentences: list[str],
    faults: dict[str, str],
) -> list[str]:
    """The sentences of a mined trigger with what the probe says once it is taken out; all others as they are."""
    scorer = panel.folds[number].scorers[name]
    if not isinstance(scorer, TriggerScorer) or name in faults:
        return sentences
    frame, views = records
    try:
        asked = asked_without(panel, number, frame, views, scorer.tells(views), scorer.tokens)
    except Exception as error:  # noqa: BLE001  the verdict stands without its counterfactual
        faults[name] = _UNEXPLAINED + complaint(error)
        return sentences
    return [why + more for why, more in zip(sentences, asked, strict=True)]


def _sentences(scorer: Scorer, name: str, views: Views, faults: dict[str, str]) -> list[str]:
    """One sentence per record; where the detector fails, one that says so."""
    if name in faults and not faults[name].startswith(_UNEXPLAINED):
        return [f"it failed ({faults[name]}), and a missing score counts as the most suspicious"] * len(views)
    try:
        return _explained(scorer, views)
    except Exception as error:  # noqa: BLE001  the verdict stands without its explanation
        faults[name] = _UNEXPLAINED + complaint(error)
        return [f"the explanation failed ({complaint(error)})"] * len(views)
