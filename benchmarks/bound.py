"""How many wrong labels anyone could find: what models know that were taught the right label of every other record.

    make bench-bound DATA=FOLDER
    python -m benchmarks.bound [--short] [--data DIR] [--seeds 5] [--first-seed 0] [--dataset NAME] [--record FILE]

The label attacks of `benchmarks.detection`, on the same batches. No detector has what these models have: the *right*
labels of the batch's other four fifths, of the trusted set and of all records left over, and which attack it is. A
record scores how much likelier another label is than its own, by

- multinomial logistic regression, extremely randomised trees, gradient boosting, each by itself;
- the mean of their log probabilities.

Of a pair flip they know the pair, of a poisoned source the source: all other records score lowest. All read the view
that the probe reads. The best of the four, chosen with hindsight, is no strict bound, for a still better model may be
found; but where it lies far below a target, what the target asks for is not in the data.

Development used seeds 100 and up; what is reported uses 0, 1, 2, ... With --record everything measured is appended to a
file, and what is in it already is not measured again.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from benchmarks import asked
from benchmarks.data import DATA_SETS, DataSet
from benchmarks.detection import recall_of
from benchmarks.machine import machine
from benchmarks.plans import PLANS, Case, Plan, Unplantable, case

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

ENTRIES = ("flip_random", "flip_pair", "flip_boundary", "source")
_FOLDS = 5
_FLOOR = 1e-3
"""Probability that no model is believed to undercut."""
_SHORT = 600


@dataclass(frozen=True)
class Bound:
    """What could be found of one attack."""

    data: str
    attack: str
    title: str
    seed: int
    poisons: int
    taught: int
    """Records whose right labels a model was taught, beside those of the batch."""
    recalls: dict[str, float]
    """Model -> recall at 1 %."""
    accuracy: float
    """Share of the batch's records whose right label is the one that the models together find likeliest."""
    seconds: float

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes it another."""
        return self.data, self.attack, self.seed


def bound(data: DataSet, entry: str, seed: int, kept: Path) -> Bound:
    """Teach the models, and see how many of an attack's wrong labels they tell.

    Raises:
        ValueError: The attack changed more than labels.
    """
    began = time.perf_counter()
    found = case(data, entry, seed, kept)
    label = data.contract.label or ""
    before = data.draw(seed)[1]
    given, right = (_words(batch[label]) for batch in (found.batch, before))
    if not np.array_equal(given != right, found.truth) or not found.batch.drop(label).equals(before.drop(label)):
        raise ValueError(f"{entry} changes more than labels")
    classes, numbers = np.unique(np.concatenate([right, given]), return_inverse=True)
    true, claimed = np.split(numbers, 2)
    more = pl.concat([found.trusted, found.rest])
    more = more.filter(more[label].cast(pl.String).is_in(classes.tolist()))
    features = _features(data, found.batch, more)
    taught = features[len(found.batch) :], np.searchsorted(classes, _words(more[label]))
    logs = {name: _crossed(make, features[: len(true)], true, taught, seed) for name, make in _models(seed).items()}
    logs["together"] = np.mean(list(logs.values()), axis=0)
    sought = _sought(data, entry, found, true, claimed)
    recalls = {name: recall_of(_doubt(log, claimed, sought), found) for name, log in logs.items()}
    accuracy = float((logs["together"].argmax(axis=1) == true).mean())
    title, poisons = Plan.named(entry, data).title, int(found.truth.sum())
    seconds = round(time.perf_counter() - began, 1)
    return Bound(data.name, entry, title, seed, poisons, len(more), recalls, accuracy, seconds)


def _words(labels: pl.Series) -> NDArray[np.str_]:
    return labels.cast(pl.String).fill_null("").to_numpy().astype(np.str_)


def _features(data: DataSet, batch: pl.DataFrame, more: pl.DataFrame) -> NDArray[np.float32]:
    """(rows of both, d) the probe's input, fitted on the batch."""
    import torch

    from lazaretto.detectors.views.encode import Encoder

    encoder, arrays, _ = Encoder.fit(batch, data.contract, 0, torch.device("cpu"))
    parts = [arrays["features"]]
    parts += [encoder.encode(part)[0]["features"] for part in more.iter_slices(5_000)]
    features: NDArray[np.float32] = np.concatenate(parts).astype(np.float32)
    return features


def _models(seed: int) -> Mapping[str, Callable[[], Any]]:
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
        "trees": lambda: ExtraTreesClassifier(200, min_samples_leaf=2, random_state=seed),
        "boosting": lambda: HistGradientBoostingClassifier(max_iter=80, random_state=seed),
    }


def _crossed(
    make: Callable[[], Any],
    features: NDArray[np.float32],
    true: NDArray[np.int64],
    taught: tuple[NDArray[np.float32], NDArray[np.int64]],
    seed: int,
) -> NDArray[np.float64]:
    """(rows, classes) log probabilities of the batch's records, each from a model that was not taught its own label."""
    fold = np.random.default_rng((seed, 7)).integers(_FOLDS, size=len(true))
    classes = int(true.max()) + 1
    logs = np.full((len(true), classes), np.log(_FLOOR))
    for number in range(_FOLDS):
        here = fold == number
        known = np.concatenate([features[~here], taught[0]]), np.concatenate([true[~here], taught[1]])
        model = make().fit(*known)
        logs[np.ix_(here, model.classes_)] = np.log(np.maximum(model.predict_proba(features[here]), _FLOOR))
    return logs


def _sought(
    data: DataSet, entry: str, found: Case, true: NDArray[np.int64], claimed: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], int | None]:
    """(rows,) records that the attack may have touched, and the label that they had, None where it may be any."""
    if entry == "flip_pair":
        first = int(np.flatnonzero(found.truth)[0])
        return claimed == claimed[first], int(true[first])
    if entry == "source":
        named = found.batch[data.contract.source or ""]
        return named.eq_missing(named.filter(pl.Series(found.truth))[0]).to_numpy(), None
    return np.ones(len(true), dtype=np.bool_), None


def _doubt(
    logs: NDArray[np.float64], claimed: NDArray[np.int64], sought: tuple[NDArray[np.bool_], int | None]
) -> NDArray[np.float64]:
    """(rows,) how much likelier another label is than the one claimed."""
    possible, was = sought
    rows = np.arange(len(claimed))
    own, others = logs[rows, claimed], logs.copy()
    others[rows, claimed] = -np.inf
    other = others.max(axis=1) if was is None else logs[:, was]
    return np.where(possible, other - own, -np.inf)


def read(path: Path | None) -> dict[tuple[str, str, int], Bound]:
    """What a record holds."""
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    bounds = [Bound(**json.loads(line)) for line in lines]
    return {one.key: one for one in bounds}


def _arguments() -> argparse.Namespace:
    parser = asked.parser(__doc__, "one attack on few flights")
    asked.add_batches(parser)
    asked.add_kept(parser)
    parser.add_argument("--detection", type=Path, action="append", default=[], help="its record, to compare with")
    return parser.parse_args()


def measure(found: dict[tuple[str, str, int], Bound], data: DataSet, given: argparse.Namespace) -> None:
    """Of one data set what is not measured yet."""
    entries = [entry for entry in PLANS[data.name] if entry in ENTRIES]
    for seed in asked.seeds(given):
        for entry in entries[:1] if given.short else entries:
            if (data.name, entry, seed) in found:
                continue
            try:
                one = bound(data, entry, seed, given.kept)
            except Unplantable as error:
                print(f"{data.name}: {entry}, seed {seed} is left out: {error}")
                continue
            found[one.key] = one
            print(f"{one.data}: {one.title}, seed {seed}: {one.recalls}, {one.seconds} s", flush=True)
            if given.record is not None:
                with given.record.open("a") as file:
                    file.write(json.dumps(asdict(one)) + "\n")


def main() -> None:
    """Run, print, and write `bound.md` with its plot."""
    from benchmarks.bound_report import write_report

    given = _arguments()
    found = read(given.record)
    names = [] if given.report else given.dataset or (["flights"] if given.short else list(DATA_SETS))
    with tempfile.TemporaryDirectory() as scratch:
        given.kept = given.kept or Path(scratch)
        for data in asked.opened(names, given.data):
            measure(found, replace(data, batch=min(data.batch, _SHORT)) if given.short else data, given)
    if not found:
        raise asked.nothing_measured()
    out = None if given.short else given.out
    print(write_report(list(found.values()), given.detection, out, machine()))


if __name__ == "__main__":
    main()
