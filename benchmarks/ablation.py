"""What each family of detectors is worth, and what a rare class costs: recall without the one, and with the other.

    make bench-ablation DATA=FOLDER
    python -m benchmarks.ablation [--short] [--data DIR] [--seeds 5] [--first-seed 0] [--dataset NAME] [--record FILE]

The batches are those of `benchmarks.detection`, judged in memory without a trusted set.

- Each family out: the panel that would be fitted without the family's detectors, on the same batch. Neither views,
  probe nor neighbours depend on which detectors there are: their consensus and their weights are computed anew, and
  detectors that go by what the others say are fitted anew. A test holds this equal to fitting again.
- All by name: the panel with the detectors too that run only where a contract names them.
- A rare class: of the poisoned batch, clean records of one class are left out until the largest class has so many times
  more; the poisons stay as they are. Once it is the class that most poisons are labelled, once the one they were.

Development used seeds 100 and up; what is reported uses 0, 1, 2, ... With --record everything measured is appended to a
file, and what is in it already is not measured again. Remove the file after a change to the code.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from benchmarks import asked
from benchmarks.data import DATA_SETS, DataSet
from benchmarks.detection import RATE, recall_of
from benchmarks.machine import machine
from benchmarks.plans import PLANS, Case, Plan, Unplantable, case
from lazaretto.detectors.table import DETECTORS, ONLY_BY_NAME
from lazaretto.pipelines.digests import digests
from lazaretto.records import DIGEST

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

    from lazaretto.contract import Contract
    from lazaretto.detector import Views
    from lazaretto.detectors.drawn import Drawn
    from lazaretto.detectors.panel import Panel

FAMILIES = ("hygiene", "outlier", "label", "representation", "gradient", "trigger")
RATIOS = (10, 100)
"""How many times more records than the rare class the largest has."""
_SHORT_BATCH = 900


@dataclass(frozen=True)
class Ablated:
    """One batch judged by all families, and without each."""

    data: str
    attack: str
    """An entry of `PLANS`."""
    title: str
    seed: int
    poisons: int
    recall: float
    """At 1 %, of all families."""
    without: dict[str, float]
    """Family -> recall without it; only families that judge such records."""
    alone: dict[str, float]
    """Detector -> its recall by itself."""
    seconds: float
    by_name: float | None = None
    """Recall with the detectors too that run only by name; None where the contract names its own."""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it another."""
        return self.data, self.attack, str(self.seed)


@dataclass(frozen=True)
class Skewed:
    """The same batch with one class made rare."""

    data: str
    attack: str
    title: str
    seed: int
    role: str
    """target, the class that most poisons are labelled; or source, the one that most of them were."""
    label: str
    ratio: int
    drawn: int
    """Clean records of the class as it was drawn."""
    left: int
    """Clean records of the class that are left."""
    largest: int
    """Clean records of the largest class."""
    labelled: int
    """Poisons that are labelled as of the class."""
    poisons: int
    balanced: float
    """Recall at 1 % on the batch as it was drawn."""
    recall: float
    """Recall at 1 % on the skewed one."""
    seconds: float
    held: float | None = None
    """Share of the clean records of the skewed one with a p-value of at most `RATE`; None where it was not measured."""

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it another."""
        return self.data, self.attack, str(self.seed), self.role, str(self.ratio)


class Measured:
    """All that was measured, in memory and, where a file is named, appended to it."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.found: dict[tuple[str, ...], Ablated | Skewed] = {}
        for line in path.read_text().splitlines() if path is not None and path.exists() else ():
            fields = json.loads(line)
            one = Skewed(**fields) if "ratio" in fields else Ablated(**fields)
            self.found[one.key] = one

    def add(self, one: Ablated | Skewed) -> None:
        """Print it, keep it, and append it to the file."""
        about = f"{one.data}: {one.title}, seed {one.seed}"
        if isinstance(one, Ablated):
            least = min(one.without, key=lambda name: one.without[name], default="-")
            said = f"recall {one.recall:.3f}, without {least} {one.without.get(least, one.recall):.3f}"
        else:
            said = f"{one.role} {one.label!r} {one.ratio}:1, recall {one.recall:.3f} after {one.balanced:.3f}"
        print(f"{about}: {said}, {one.seconds:.1f} s", flush=True)
        self.found[one.key] = one
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(asdict(one)) + "\n")

    @property
    def ablated(self) -> list[Ablated]:
        """The batches without each family."""
        return [one for one in self.found.values() if isinstance(one, Ablated)]

    @property
    def skewed(self) -> list[Skewed]:
        """The batches with a rare class."""
        return [one for one in self.found.values() if isinstance(one, Skewed)]


def fitted(
    batch: pl.DataFrame, contract: Contract, seed: int, left_out: str | None = None
) -> tuple[Panel, pl.DataFrame]:
    """The panel that `scan` would fit without a trusted set, and the batch ready to be scored.

    Args:
        batch: The records.
        contract: Of the records; its policy names the detectors.
        seed: Fixes folds, probe and forests.
        left_out: A family whose detectors are not fitted.
    """
    import torch

    from lazaretto.detectors.fitting import fit_panel
    from lazaretto.detectors.table import make_detectors

    detectors = [one for one in make_detectors(contract.policy.detectors) if one.family != left_out]
    frame = batch.with_columns(digests(batch, contract.all_columns).alias(DIGEST))
    return fit_panel(frame, None, contract, detectors, seed, torch.device("cpu")), frame


@dataclass(frozen=True)
class Refit:
    """A panel that was fitted to some records without a trusted set, to be had again without some of its detectors.

    Attributes:
        panel: The panel.
        views: Those that no fold changes, of all records that it was fitted to.
        drawn: Which record is of which fold.
        seen: By fold what its probe sees in them; empty where there is none.
    """

    panel: Panel
    views: Views
    drawn: Drawn
    seen: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, panel: Panel, frame: pl.DataFrame, contract: Contract) -> Refit:
        """From the panel and all records that it was fitted to, and no others."""
        from lazaretto.detectors.drawn import Drawn

        views = panel.views(frame)
        seen = []
        if panel.probe is not None:
            asked = views["features"], views.labels
            seen = [panel.probe.views(number, *asked)["hidden"] for number in range(len(panel.folds))]
        return cls(panel, views, Drawn.of(views, len(frame), contract.policy), tuple(seen))

    def without(self, raw: NDArray[np.float64], left_out: Collection[str]) -> NDArray[np.float64]:
        """(rows,) suspicions of the records by the panel that would be fitted to them without some detectors.

        Args:
            raw: (rows, detectors) the panel's scores of them, each by the fold it is not in.
            left_out: Detectors' names; they may not be all.
        """
        from lazaretto.detectors.calibrating import calibrated_by_able
        from lazaretto.detectors.listening import with_listener

        kept = [one for one in self.panel.detectors if one.name not in left_out]
        listeners = [one for one in kept if getattr(one, "listens", False)]
        others = tuple(one for one in kept if one not in listeners)
        scores = raw[:, [self.panel.names.index(one.name) for one in others]]
        panel = replace(self.panel, detectors=others, crossed=None)
        own = self.drawn.which == np.arange(self.drawn.folds)[:, None]
        for one in listeners:
            outside, judged = self._seen(self.drawn.shown), self._seen(own)
            panel, scores = with_listener(panel, scores, self.drawn, one, outside, judged)
        panel = calibrated_by_able(panel, scores, self.drawn)
        suspicion = np.empty(len(self.views))
        for number, mine in enumerate(own):
            suspicion[mine] = panel.fused(number, scores[mine], self.views.take(mine)).suspicion
        return suspicion

    def _seen(self, inside: NDArray[np.bool_]) -> list[Views]:
        """By fold what its probe sees of the records that are (folds, rows) inside."""
        whole = [replace(self.views, arrays={"hidden": seen}) for seen in self.seen]
        return [views.take(mine) for views, mine in zip(whole, inside, strict=True)]


def ablated(data: DataSet, entry: str, seed: int, kept: Path) -> Ablated:
    """Fit once to an attack's batch, and judge it by all families and without each."""
    found = case(data, entry, seed, kept)
    began = time.perf_counter()
    contract, by_default = data.contract, data.contract.policy.detectors == "default"
    if by_default:
        every = {"policy": contract.policy.model_copy(update={"detectors": tuple(DETECTORS)})}
        contract = contract.model_copy(update=every)
    panel, frame = fitted(found.batch, contract, seed)
    scores, again = panel.score(frame), Refit.of(panel, frame, contract)
    extra = set(ONLY_BY_NAME) & set(panel.names) if by_default else set()

    def recall(left_out: set[str]) -> float:
        return recall_of(again.without(scores.raw, left_out | extra), found)

    less = {}
    for family in FAMILIES:
        names = {one.name for one in panel.detectors if one.family == family}
        if names - extra:
            less[family] = recall(names)
    alone = {
        name: recall_of(scores.raw[:, place], found) for place, name in enumerate(panel.names) if name not in extra
    }
    everybody = recall_of(scores.suspicion, found)
    mine = recall(set()) if extra else everybody
    seconds = round(time.perf_counter() - began, 2)
    poisons, title = int(found.truth.sum()), Plan.named(entry, data).title
    by_name = everybody if by_default else None
    return Ablated(data.name, entry, title, seed, poisons, mine, less, alone, seconds, by_name)


def skewed(data: DataSet, about: Ablated, kept: Path, done: Collection[tuple[str, ...]] = ()) -> Iterator[Skewed]:
    """The same batch with either class made rare; nothing where there are no classes or one is rare already.

    Args:
        data: What the batch is of.
        about: The batch as it is.
        kept: Where poisoned batches are.
        done: Keys of what need not be measured.
    """
    label = data.contract.label
    if label is None:
        return
    found = case(data, about.attack, about.seed, kept)
    now = found.batch[label].cast(pl.String)
    before = data.draw(about.seed)[1][label].cast(pl.String)
    meant, was = (_commonest(labels.filter(pl.Series(found.truth))) for labels in (now, before))
    roles = [("target", meant)] if was == meant else [("target", meant), ("source", was)]
    for role, name in roles:
        for ratio in RATIOS:
            if (about.data, about.attack, str(about.seed), role, str(ratio)) in done:
                continue
            rare, drawn, largest = thinned(found, now, name, ratio, about.seed)
            if rare is None:
                continue
            began = time.perf_counter()
            panel, frame = fitted(rare.batch, data.contract, about.seed)
            scores = panel.score(frame)
            recall, held = recall_of(scores.suspicion, rare), float((scores.p_value[rare.clean] <= RATE).mean())
            seconds = round(time.perf_counter() - began, 2)
            is_class = (rare.batch[label].cast(pl.String) == name).to_numpy()
            left, labelled = int((is_class & rare.clean).sum()), int((is_class & rare.truth).sum())
            what = (
                role,
                name,
                ratio,
                drawn,
                left,
                largest,
                labelled,
                about.poisons,
                about.recall,
                recall,
                seconds,
                held,
            )
            yield Skewed(about.data, about.attack, about.title, about.seed, *what)


def thinned(found: Case, labels: pl.Series, name: str, ratio: int, seed: int) -> tuple[Case | None, int, int]:
    """The batch with so few clean records of a class that the largest other one has ``ratio`` times more.

    Returns:
        The batch, None where the class is as rare already; the clean records of the class, and of the largest other.
    """
    clean = pl.Series(found.clean)
    own = np.flatnonzero(((labels == name).fill_null(value=False) & clean).to_numpy())
    others = labels.filter(clean & (labels != name).fill_null(value=False)).value_counts(name="count")["count"]
    largest = int(others.max() or 0)  # type: ignore[arg-type]  # counts are whole numbers
    wanted = max(1, round(largest / ratio))
    if wanted >= len(own):
        return None, len(own), largest
    stay = np.ones(len(found.batch), dtype=np.bool_)
    stay[np.random.default_rng((seed, 13)).permutation(own)[wanted:]] = False
    rare = replace(found, batch=found.batch.filter(pl.Series(stay)), truth=found.truth[stay], cover=found.cover[stay])
    return rare, len(own), largest


def _commonest(labels: pl.Series) -> str:
    counts = labels.drop_nulls().alias("label").value_counts(name="count")
    return str(counts.sort(["count", "label"], descending=[True, False])["label"][0])


def measure(found: Measured, data: DataSet, given: argparse.Namespace, *, skew: bool) -> None:
    """Of one data set what is not measured yet: its batches without each family, or with a rare class."""
    entries = [entry for entry in PLANS[data.name] if given.attack is None or entry in given.attack]
    for seed in asked.seeds(given):
        for entry in entries[:1] if given.short else entries:
            about = found.found.get((data.name, entry, str(seed)))
            try:
                if not skew and about is None:
                    found.add(ablated(data, entry, seed, given.kept))
                if skew and isinstance(about, Ablated):
                    for one in skewed(data, about, given.kept, found.found):
                        found.add(one)
            except Unplantable as error:
                print(f"{data.name}: {entry}, seed {seed} is left out: {error}")


def _arguments() -> argparse.Namespace:
    parser = asked.parser(__doc__, "one attack on few flights")
    asked.add_batches(parser)
    asked.add_plans(parser)
    return parser.parse_args()


def main() -> None:
    """Run, print, and write `ablation.md` with its plot."""
    given = _arguments()
    found = Measured(given.record)
    names = [] if given.report else given.dataset or (["flights"] if given.short else list(DATA_SETS))
    with tempfile.TemporaryDirectory() as scratch:
        given.kept = given.kept or Path(scratch)
        opened = list(asked.opened(names, given.data))
        if given.short:
            opened = [replace(data, batch=min(data.batch, _SHORT_BATCH)) for data in opened]
        for skew in (False, True):
            for data in opened:
                measure(found, data, given, skew=skew)
    if not found.found:
        raise asked.nothing_measured()
    from benchmarks.ablation_report import write_report

    print(write_report(found.ablated, found.skewed, None if given.short else given.out, machine()))


if __name__ == "__main__":
    main()
