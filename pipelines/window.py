"""Evidence across batches: what no single night shows, tested on the last nights together with the new batch.

Four questions are asked, each with a share of one budget: over any ``window`` batches in a row, a stream without poison
has a finding with probability at most ``window_chance``. No rate of poison is assumed anywhere. The union bound over
the nights needs no independence between them; over what is tested in one night it is Bonferroni's.

*Triggers*: does a token go with a label that the rest of its records contradicts? A bet on every record that has the
token (Shafer 2021; Waudby-Smith and Ramdas 2024): a share `STAKE` of the wealth says that its label is the one in
question. If, whatever the token, a label is at most `TOLERATED` times as probable as a probe that has not seen the
record says, the wealth is a product of factors with mean at most 1, and by Markov's inequality it exceeds ``tests /
chance`` with probability at most ``chance / tests`` for each of the tests. Sums of the factors' logarithms merge; that
is why a poison may come one record a night. Everything that is not known exactly is taken against the token: collisions
of the sketch, tokens that were not kept, the probe's doubt where there are several other labels, and its being too sure
of itself over the window (the gains are lowered by as much).

*Mild suspicion*: of a source, a label, or a label of a source, are more records at p <= 0.05, 0.01 or 0.001 than of the
calibrating trusted records of the same kind (Fisher's exact test)?

*Wrong labels*: `lazaretto.pipelines.sources` on the counts of all batches.

*Copies*: is a look more frequent than among the trusted records (the exact conditional test of two Poisson rates,
Przyborowski and Wilenski 1940)?

What is assumed: that clean records are like the trusted ones of their kind, and that the probe errs no more than is
tolerated on records with a token in common. A new kind of honest record, all of one label and like those of another,
breaks that; a person decides.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.pipelines.memory import LEVELS, STAKE, TOLERATED, UNIT, Memory, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from lazaretto.pipelines.marks import Marked

    Flags = NDArray[np.bool_]

_SHARES = {"trigger": 0.4, "suspicion": 0.2, "labels": 0.2, "copies": 0.2}
"""What each question gets of the budget."""
_FEWEST = 50
"""Calibrating records of a kind below which its suspicion is not tested."""
_FEW = 5
"""Records below which nothing is found: a person would see no pattern."""
_MOST_TOKENS = 5_000
_AGREEING = float(-np.log(1 - STAKE + STAKE / TOLERATED))
"""Most that the wealth loses, as a logarithm, by a record whose label the probe expects for certain."""
_MOST_FINDINGS = 50


@dataclass(frozen=True)
class Past:
    """What an ingest gives a judging to remember by.

    Attributes:
        key: The workspace's secret for digests.
        batches: Id and memory of the batches before, oldest first, at most one less than the window.
        admitting: Ids of those whose admitted records are in the store, for the caps.
    """

    key: bytes = field(repr=False)
    batches: tuple[tuple[str, Memory], ...] = ()
    admitting: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Carried:
    """Some records, as findings ask for them; all (records,) but the marks."""

    sources: NDArray[np.uint64]
    labels: NDArray[np.uint64]
    p_values: NDArray[np.float64]
    contradicted: Flags
    tokens: Marked
    looks: Marked


@dataclass(frozen=True)
class Finding:
    """One thing that the window shows and no batch did.

    Attributes:
        kind: trigger, suspicion, labels or copies.
        says: The reason of every record that carries it.
        records: How many of the window's records speak for it.
        batches: In how many batches.
        expected: How many would by chance.
        p_value: Bound on the chance of such a finding among all that was tested in one night.
        source: Digest, 0 for any.
        label: Digest, 0 for any.
        marks: Tokens or looks.
        level: p-value up to which a record speaks for it.
    """

    kind: str
    says: str
    records: int
    batches: int
    expected: float
    p_value: float
    source: int = 0
    label: int = 0
    marks: tuple[int, ...] = ()
    level: float = 1.0

    @property
    def told(self) -> dict[str, Any]:
        """For the summary: no digests."""
        return {name: value for name, value in asdict(self).items() if name not in {"marks", "source", "label"}}

    def id(self, batch: str) -> str:
        """``f-`` and twelve digits, of the batch that completed it and what it is."""
        said = json.dumps([batch, self.kind, self.source, self.label, self.level, sorted(self.marks)[:1]])
        return "f-" + hashlib.sha256(said.encode()).hexdigest()[:12]

    def carried_by(self, seen: Carried) -> Flags:
        """(records,) which carry it."""
        found = np.ones(len(seen.p_values), dtype=np.bool_)
        if self.source:
            found &= seen.sources == np.uint64(self.source)
        if self.label:
            found &= seen.labels == np.uint64(self.label)
        if self.kind == "labels":
            return found & seen.contradicted
        if self.kind == "suspicion":
            return found & ~(seen.p_values > self.level)
        marked = seen.tokens if self.kind == "trigger" else seen.looks
        return found & marked.having(np.array(self.marks, dtype=np.uint64), len(found))


@dataclass(frozen=True)
class Tonight:
    """What is known beside the memories.

    Attributes:
        sources: Digest -> name, of the new batch's sources.
        labels: Digest -> name, of its labels.
        calibrating: ``source``, ``label`` digests and ``p_value`` of the calibrating trusted records, among themselves.
        trusted: ``look`` and ``records`` of the trusted set.
        trusted_records: How many there are.
    """

    sources: Mapping[int, str]
    labels: Mapping[int, str]
    calibrating: pl.DataFrame | None = None
    trusted: pl.DataFrame | None = None
    trusted_records: int = 0


def find(past: Sequence[Memory], new: Memory, tonight: Tonight, window: int, chance: float) -> tuple[Finding, ...]:
    """What the window shows; only what the new batch may carry.

    Args:
        past: Memories of the batches before, of the new one's scheme.
        new: The new batch's.
        tonight: Names and the trusted set.
        window: How many batches look back on each other, the new one included.
        chance: Of a false finding in any so many batches.
    """
    every = [*past, new]
    whole = merged(every, sketch=False)
    budget = {kind: chance * share / window for kind, share in _SHARES.items()}
    found = [
        *_triggers(every, whole, tonight, budget["trigger"]),
        *_suspicions(every, whole, new, tonight, budget["suspicion"]),
        *_wrong_labels(every, whole, tonight, budget["labels"]),
        *_copies(every, whole, new, tonight, budget["copies"]),
    ]
    return tuple(sorted(found, key=lambda one: (one.p_value, one.kind, one.says))[:_MOST_FINDINGS])


def named(finding: Finding, what: str) -> Finding:
    """A trigger's finding with its token in words."""
    return replace(finding, says=finding.says.replace("{token}", what))


def _triggers(every: Sequence[Memory], whole: Memory, tonight: Tonight, chance: float) -> Iterable[Finding]:
    doubted = max(1.0, (whole.doubted[0] + 1) / (whole.doubted[1] / UNIT + 1))
    least = float(np.log(max(whole.occurrences, 1) / chance))
    strong = whole.gains.filter((pl.col("gain") > least * UNIT) & (pl.col("records") >= _FEW))
    strong = strong.sort("gain", "token", descending=[True, False]).head(_MOST_TOKENS)
    records = strong["records"].to_numpy()
    own, others, here = _held(every, whole, strong)
    # A record with the label that the probe agrees with loses little; one with another label what was bet.
    loss = own * _AGREEING - others * np.log1p(-STAKE)
    wealth = strong["gain"].to_numpy() / UNIT - records * np.log(doubted) - loss
    doubt = whole.doubted[1] / UNIT / max(whole.records, 1)
    told = strong.with_columns(
        wealth=pl.Series(wealth),
        usual=pl.Series(strong["expected"].to_numpy() / UNIT + (own + others) * doubt),
        here=pl.Series(here),
    )
    for (label,), group in told.filter((pl.col("wealth") > least) & pl.col("here")).group_by(
        ["label"], maintain_order=True
    ):
        if label not in tonight.labels:
            continue
        best = group.sort("wealth", "token", descending=[True, False]).row(0, named=True)
        in_batches = sum(
            len(one.gains.filter((pl.col("token") == best["token"]) & (pl.col("label") == label))) > 0 for one in every
        )
        says = (
            f"{{token}} with label {tonight.labels[label]!r}: {best['records']:,} records in {_batches(in_batches)}"
            f" have it against the rest of their content, {best['usual']:.1f} expected"
        )
        bound = float(np.exp(min(least - best["wealth"], 0.0)) * chance)
        # The strongest token first: it is the one that is named.
        marks = [best["token"], *(token for token in group["token"].to_list() if token != best["token"])]
        yield Finding(
            "trigger", says, best["records"], in_batches, best["usual"], bound, label=label, marks=tuple(marks)
        )


def _held(
    every: Sequence[Memory], whole: Memory, strong: pl.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """(tokens,) records with token and label that are not among its gains; with another label; any in the new batch."""
    tokens, labels = strong["token"].to_numpy(), strong["label"].to_numpy()
    own, others, here = (
        np.zeros(len(strong), np.int64),
        np.zeros(len(strong), np.int64),
        np.zeros(len(strong), np.bool_),
    )
    for label in whole.tallies["label"].unique().to_list() if len(strong) else ():
        # Each sketch says too much if anything: a sum of what they say is nearer than what one of all would.
        by_batch, mine = [one.holding(tokens, label) for one in every], labels == label
        count = np.sum(by_batch, axis=0)
        own += np.where(mine, count, 0)
        others += np.where(mine, 0, count)
        here |= mine & (by_batch[-1] > 0)
    return np.maximum(own - strong["records"].to_numpy(), 0), others, here


def _suspicions(
    every: Sequence[Memory], whole: Memory, new: Memory, tonight: Tonight, chance: float
) -> Iterable[Finding]:
    if tonight.calibrating is None:
        return
    from scipy.stats import hypergeom

    scopes = [scope for scope in _scopes(new.tallies) if len(_within(tonight.calibrating, scope)) >= _FEWEST]
    for scope in scopes:
        mine, known = _within(whole.tallies, scope), _within(tonight.calibrating, scope)
        n = int(mine["records"].sum())
        for number, level in enumerate(LEVELS):
            low, usual = int(mine[f"at{number}"].sum()), int((known["p_value"] <= level).sum())
            p = float(hypergeom.sf(low - 1, n + len(known), low + usual, n)) * len(scopes) * len(LEVELS)
            if p > chance or low < _FEW:
                continue
            source, label = scope
            spread = sum(int(_within(one.tallies, scope)[f"at{number}"].sum()) > 0 for one in every)
            expected = n * usual / len(known)
            says = (
                f"{_kind(source, label, tonight)}: {low:,} of {n:,} records in {_batches(spread)} have a p-value of at"
                f" most {level:g}, {expected:.1f} expected by the trusted records of that kind"
            )
            yield Finding("suspicion", says, low, spread, expected, p, source, label, level=level)
            break


def _wrong_labels(every: Sequence[Memory], whole: Memory, tonight: Tonight, chance: float) -> Iterable[Finding]:
    from lazaretto.pipelines.sources import SourceCounts, judged_sources

    classes = sorted(whole.told["predicted"].unique().to_list())
    if not len(whole.told) or len(classes) < 2 or len(every) < 2:  # noqa: PLR2004  one label, or one batch, is no window
        return
    place = pl.col("predicted").replace_strict(classes, list(range(len(classes))), return_dtype=pl.Int64)
    source = pl.when(pl.col("source") == "").then(None).otherwise(pl.col("source")).alias("source")
    counts = SourceCounts(whole.told.with_columns(place.alias("predicted"), source))
    for digest, said in judged_sources(counts, len(classes), chance).items():
        name = tonight.sources.get(int(digest))
        if not said["named"] or name is None:
            continue
        mine = whole.told.filter(pl.col("source") == digest)
        wrong = int(mine.filter(~pl.col("agrees"))["records"].sum())
        spread = sum(len(one.told.filter(pl.col("source") == digest)) > 0 for one in every)
        says = (
            f"source {name!r}: about {said['share']:.0%} of its labels in {_batches(spread)} look wrong beside the"
            f" other sources', and this one the rest of the record contradicts"
        )
        usual = wrong - said["share"] * int(mine["records"].sum())
        yield Finding("labels", says, wrong, spread, max(usual, 0.0), float(said["p_value"]), source=int(digest))


def _copies(every: Sequence[Memory], whole: Memory, new: Memory, tonight: Tonight, chance: float) -> Iterable[Finding]:
    if tonight.trusted is None:
        return
    from scipy.stats import binom

    many = whole.looks.filter(pl.col("records") >= _FEW).join(new.looks.select("look"), on="look", how="semi")
    many = many.join(tonight.trusted.rename({"records": "known"}), on="look", how="left").fill_null(0).sort("look")
    share = whole.records / (whole.records + tonight.trusted_records)
    records, known = many["records"].to_numpy(), many["known"].to_numpy()
    # A record has as many looks as bands and hashes: six at the most.
    p = binom.sf(records - 1, records + known, share) * 6 * whole.records
    for place in np.flatnonzero(p <= chance)[np.argsort(p[p <= chance], kind="stable")][:_MOST_FINDINGS].tolist():
        look = int(many["look"][place])
        spread = sum(len(one.looks.filter(pl.col("look") == look)) > 0 for one in every)
        expected = float(known[place]) * whole.records / max(tonight.trusted_records, 1)
        says = (
            f"copies of one record, exact or near: {records[place]:,} in {_batches(spread)}, {expected:.1f} expected by"
            f" the trusted records"
        )
        yield Finding("copies", says, int(records[place]), spread, expected, float(p[place]), marks=(look,))


def _scopes(tallies: pl.DataFrame) -> list[tuple[int, int]]:
    """Source and label digests of what is tested: each source, each label, each label of each source."""
    pairs = [(int(source), int(label)) for source, label in tallies.select("source", "label").iter_rows()]
    sources = {(source, 0) for source, _ in pairs if source}
    labels = {(0, label) for _, label in pairs if label}
    return sorted(sources | labels | {pair for pair in pairs if all(pair)})


def _within(frame: pl.DataFrame, scope: tuple[int, int]) -> pl.DataFrame:
    for name, digest in zip(("source", "label"), scope, strict=True):
        if digest:
            frame = frame.filter(pl.col(name) == digest)
    return frame


def _kind(source: int, label: int, tonight: Tonight) -> str:
    said = [f"source {tonight.sources.get(source, '?')!r}"] if source else []
    said += [f"label {tonight.labels.get(label, '?')!r}"] if label else []
    return ", ".join(said)


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count} batches"
