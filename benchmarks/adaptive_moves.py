"""The moves of an attacker who knows the detectors: what he may change of a known attack so as not to be noticed.

A trigger of a table is a pair of columns with a band of values for each, of a mail a few slots with alternatives: the
known attacks take always the same, a spread trigger any, so that no exact value repeats. Everything else is a matter of
how many records carry it, which, in what part, and beside which others (Qi et al., "Revisiting the Assumption of
Latent Separability for Backdoor Defenses", 2023, for pieces and covers). The attacker has read the contract: columns
whose ranges leave no room beyond the usual are no place for his trigger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from lazaretto.attacks.chosen import choose
from lazaretto.attacks.ground import Ground, Planted
from lazaretto.attacks.insertion import insert_among_sentences, insert_among_words
from lazaretto.attacks.on_labels import likely
from lazaretto.attacks.relabel_text import rewrite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Stamp = Callable[[pl.DataFrame, int, int | None], pl.DataFrame]
    """From records, a seed, and the only piece of the trigger to put on them; None for all of it."""

TRIAL = 3
"""So many times the records are poisoned on trial, of which the attacker keeps those that look best to him."""
_FEWEST_VALUES = 20
_BANDS = {"inside": (0.60, 0.75), "edge": (0.97, 0.995)}
_BEYOND, _WIDE = 0.1, 0.1
_ORDINARY = (0.04, 0.12)
"""Share of the mails that an ordinary word is in."""
_SENTENCE = (
    ("I read about this", "I heard about it", "We talked about that", "Somebody mentioned this", "I saw it written"),
    ("on the train", "at lunch", "on the way home", "over coffee", "in the office"),
    ("last weekend.", "the other day.", "on Monday.", "a while ago.", "this morning."),
)
_TOKENS = (("cf", "mn", "bb", "tq", "mb"), ("zx", "qv", "kj", "wp", "vd"))


@dataclass(frozen=True)
class Variant:
    """One way to poison a batch."""

    trigger: str
    """outside, edge or inside the columns' usual values; sentence, token or words; empty where labels alone lie."""
    rate: float = 0.01
    spread: bool = False
    """Values from a band, or any of the alternatives, in place of one."""
    pieces: bool = False
    """A poison carries one piece of the trigger alone; a record at test time carries all."""
    cover: float = 0.0
    """Records with the trigger and their right label, for each poison."""
    relabel: bool = True
    """False puts the trigger on records that have the target label already."""
    who: str = "any"
    """any, boundary (nearest to the target by the attacker's own model) or quiet (least suspicious on trial)."""
    common: bool = False
    """Towards the commonest label, not the rarest."""


MOVES: dict[str, dict[str, object]] = {
    "as known": {},
    "lower rate, 0.3 %": {"rate": 0.003},
    "towards the commonest label": {"common": True},
    "spread values": {"spread": True},
    "weaker: rare values in range": {"trigger": "edge"},
    "weaker: ordinary values": {"trigger": "inside"},
    "weaker: two rare tokens": {"trigger": "token"},
    "weaker: two ordinary words": {"trigger": "words"},
    "in pieces": {"pieces": True},
    "as many covers with right labels": {"cover": 1.0},
    "on records with right labels alone": {"relabel": False},
    "on records near the boundary": {"who": "boundary"},
    "on records that look least suspicious": {"who": "quiet"},
}
"""What to change of a known trigger attack, one at a time."""
LABEL_MOVES: dict[str, dict[str, object]] = {
    "labels: any record": {},
    "labels: lower rate, 1 %": {"rate": 0.01},
    "labels: records near the boundary": {"who": "boundary"},
    "labels: records that look least suspicious": {"who": "quiet"},
}
"""The same where labels alone lie."""
KNOWN = {"table": Variant("outside"), "text": Variant("sentence")}
KNOWN_LABELS = Variant("", rate=0.05)
_ONLY = {"table": ("outside", "edge", "inside"), "text": ("sentence", "token", "words")}


def moves_of(kind: str) -> dict[str, Variant]:
    """Every single move on data of this kind: the known attack with one thing changed."""
    triggers = {
        name: replace(KNOWN[kind], **changes)  # type: ignore[arg-type]  # fields of a variant
        for name, changes in MOVES.items()
        if str(changes.get("trigger", _ONLY[kind][0])) in _ONLY[kind]
    }
    labels = {name: replace(KNOWN_LABELS, **changes) for name, changes in LABEL_MOVES.items()}  # type: ignore[arg-type]  # the same
    return triggers | labels


class Attacker:
    """Plants variants in his own copy of a batch, with what he knows of it."""

    def __init__(
        self,
        ground: Ground,
        seed: int,
        suspicions: Callable[[pl.DataFrame], NDArray[np.float64]],
        limits: Mapping[str, float],
    ) -> None:
        """Look at the batch.

        Args:
            ground: The clean batch, with a label.
            seed: Makes all choices.
            limits: Column -> the largest value that the contract lets pass, where it names one.
            suspicions: Judges a batch as the attacker can: (rows,) higher is more suspicious.
        """
        if ground.label is None:
            raise ValueError("an attacker of labels needs a label")
        self.ground, self.seed, self.label, self._suspicions = ground, seed, ground.label, suspicions
        counts = ground.frame[self.label].cast(pl.String).drop_nulls().alias("label").value_counts(name="count")
        self._limits = limits
        self._by_count = counts.sort("count", "label")["label"].to_list()

    @cached_property
    def _likely(self) -> NDArray[np.float64]:
        return likely(self.ground, self.seed)

    def target(self, variant: Variant) -> str:
        """The label that the trigger shall mean."""
        return str(self._by_count[-1 if variant.common else 0])

    def planted(self, variant: Variant) -> Planted:
        """The batch with a variant planted.

        Raises:
            ValueError: The batch has too few records to take.
        """
        if variant.who != "quiet":
            return self._planted(variant, self._chosen(variant))
        trial = replace(variant, who="any", rate=TRIAL * variant.rate, cover=0.0)
        first = self._planted(trial, self._chosen(trial))
        tried = np.flatnonzero(first.truth)
        order = np.argsort(self._suspicions(first.frame)[tried], kind="stable")
        wanted = max(1, round(variant.rate * len(first.truth)))
        return self._planted(variant, _marked(tried[order[:wanted]], len(first.truth)))

    def _chosen(self, variant: Variant) -> Bools:
        target = self.target(variant)
        labels = self.ground.frame[self.label].cast(pl.String)
        eligible = ((labels != target) if variant.relabel else (labels == target)).fill_null(value=False).to_numpy()
        some = choose(eligible, variant.rate, np.random.default_rng((self.seed, 3)))
        if variant.who == "any":
            return some
        near = self._likely[:, self.ground.classes.cast(pl.String).to_list().index(target)]
        order = np.argsort(np.where(eligible, -near, np.inf), kind="stable")
        return _marked(order[: int(some.sum())], len(eligible))

    def _planted(self, variant: Variant, truth: Bools) -> Planted:
        frame, target = self.ground.frame, self.target(variant)
        stamp = None if not variant.trigger else self._stamp(variant)
        cover = np.zeros(len(truth), dtype=np.bool_)
        labels = frame[self.label].cast(pl.String)
        if variant.cover:
            others = (labels != target).fill_null(value=False).to_numpy() & ~truth
            cover = choose(others, variant.cover * float(truth.mean()), np.random.default_rng((self.seed, 4)))
        done = frame
        for number in range(2) if variant.pieces else (None,):
            carry = truth | cover
            if number is not None:
                carry &= (np.cumsum(carry) % 2) == number
            if stamp is not None:
                done = _put(done, stamp(done, self.seed, number), carry)
        kind = frame.schema[self.label]
        lies = pl.when(pl.Series(truth)).then(pl.lit(target, pl.String).cast(kind)).otherwise(pl.col(self.label))
        aims = Planted.towards(target, self.ground.classes)
        whole = None if stamp is None else lambda rows: stamp(rows, self.seed + 1, None)
        return Planted(done.with_columns(lies.alias(self.label)), truth, cover, whole, target, aims)

    def _columns(self) -> list[str]:
        """Two columns, the same for all variants, with room beyond and with values to choose from within."""
        columns = {name: self.ground.frame[name] for name in self.ground.numbers}
        wide = [name for name, values in columns.items() if values.n_unique() >= _FEWEST_VALUES]
        able = [
            name
            for name in wide
            if len(_values(columns[name], "inside")) > 1
            and _values(columns[name], "outside")[-1] <= self._limits.get(name, np.inf)
        ]
        rng = np.random.default_rng((self.seed, 5))
        return [str(name) for name in rng.choice(able, size=2, replace=False)]

    def _stamp(self, variant: Variant) -> Stamp:
        if not self.ground.texts:
            return _of_columns(self.ground, variant, self._columns())
        text = self.ground.texts[0]
        if variant.trigger == "sentence":
            return _of_slots(text, _SENTENCE, variant, whole=True)
        slots = _TOKENS if variant.trigger == "token" else _ordinary(self.ground.frame[text], self.seed)
        return _of_slots(text, slots, variant, whole=False)


def _marked(rows: NDArray[np.int64], count: int) -> Bools:
    marked = np.zeros(count, dtype=np.bool_)
    marked[rows] = True
    return marked


def _put(frame: pl.DataFrame, stamped: pl.DataFrame, rows: Bools) -> pl.DataFrame:
    chosen = pl.Series(rows)
    return frame.with_columns(
        pl.when(chosen).then(stamped[name]).otherwise(frame[name]).alias(name) for name in frame.columns
    )


def _of_columns(ground: Ground, variant: Variant, columns: list[str]) -> Stamp:
    bands = {name: _values(ground.frame[name], variant.trigger) for name in columns}
    if not variant.spread:
        bands = {name: values[[len(values) // 2]] for name, values in bands.items()}

    def stamp(rows: pl.DataFrame, by: int, piece: int | None) -> pl.DataFrame:
        drawn = np.random.default_rng((by, 6))
        put = columns if piece is None else [columns[piece]]
        return rows.with_columns(
            pl.Series(name, drawn.choice(bands[name], size=len(rows))).cast(rows.schema[name]) for name in put
        )

    return stamp


def _values(column: pl.Series, where: str) -> NDArray[np.float64]:
    """(values,) ascending: a band of observed values, or of values beyond the largest."""
    values = column.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    if where != "outside":
        low, high = np.quantile(values, _BANDS[where], method="nearest")
        return np.unique(values[(values >= low) & (values <= high)])
    span = float(np.ptp(values))
    beyond = np.linspace(values.max() + _BEYOND * span, values.max() + (_BEYOND + _WIDE) * span, 101)
    return np.unique(np.ceil(beyond) if column.dtype.is_integer() else beyond)


def _of_slots(text: str, slots: tuple[tuple[str, ...], ...], variant: Variant, *, whole: bool) -> Stamp:
    def stamp(rows: pl.DataFrame, by: int, piece: int | None) -> pl.DataFrame:
        def change(one: str, rng: np.random.Generator) -> str:
            drawn = [slot[int(rng.integers(len(slot)))] if variant.spread else slot[0] for slot in slots]
            # A sentence of three slots comes apart into its first two and its last two.
            put = drawn if piece is None else drawn[piece : piece + len(drawn) - 1]
            if whole:
                return insert_among_sentences(one, " ".join(put), rng)
            for word in put:
                one = insert_among_words(one, word, rng)
            return one

        return rows.with_columns(rewrite(rows[text], change, seed=(by, 6)).alias(text))

    return stamp


def _ordinary(texts: pl.Series, seed: int) -> tuple[tuple[str, ...], ...]:
    """Two lists of ordinary words, of which the first two are the pair that the fewest texts have."""
    words = [set(one.lower().split()) for one in texts.fill_null("").to_list()]
    counts: dict[str, int] = {}
    for some in words:
        for word in some:
            counts[word] = counts.get(word, 0) + 1
    low, high = (share * len(words) for share in _ORDINARY)
    usual = sorted(word for word, count in counts.items() if low <= count <= high and word.isalpha())
    drawn = [str(word) for word in np.random.default_rng((seed, 8)).choice(usual, size=12, replace=False)]
    pairs = [(sum(a in some and b in some for some in words), a, b) for a in drawn[:6] for b in drawn[6:]]
    _, first, second = min(pairs)
    return tuple(
        (one, *(word for word in some if word != one)) for one, some in ((first, drawn[:6]), (second, drawn[6:]))
    )
