"""What each image attack does to a model trained on it: is the poison that we look for one that works?

    python -m benchmarks.effects [--data DIR] [--dataset fashion] [--attack TEXT] [--seeds 2] [--first-seed 100]

A seed halves the pool into training and test records, and makes the poison and the models. One model is trained on the
poisoned records and one on the clean ones; both see the same triggered test records. The attack works where the first
calls them what the attacker wants and the second does not.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.data import DATA_SETS
from benchmarks.effect import image_classifier
from benchmarks.machine import machine
from lazaretto.attacks import adaptive_blend, all_to_all, badnets, blend, feature_collision, narcissus, sig, tact, wanet
from lazaretto.attacks.ground import read_images
from lazaretto.attacks.label_flip import flip_boundary, flip_random
from lazaretto.attacks.surrogate import probabilities, train_surrogate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Images = NDArray[np.uint8]
    Labels = NDArray[np.int64]

SOURCE, TARGET = 1, 3
SURROGATE_SEED = 500
"""Added to the seed: the attacker's network starts from other weights than the victim's."""
SURROGATES = 4


@dataclass(frozen=True)
class Draw:
    """One seed's halves of a pool."""

    train: tuple[Images, Labels]
    test: tuple[Images, Labels]
    classes: int
    seed: int

    @property
    def others(self) -> Images:
        """Test records that are not of the target class."""
        found: Images = self.test[0][self.test[1] != TARGET]
        return found


@dataclass(frozen=True)
class Trial:
    """Poisoned training records, and the test records the attacker cares about."""

    train: tuple[Images, Labels]
    triggered: Images | None = None
    """(n, ...) with the trigger on; None where the attack has none."""
    wanted: Labels | int = TARGET
    """(n,) what the attacker wants each called, or one class for all."""


@dataclass(frozen=True)
class Run:
    """One attack, one seed; shares between 0 and 1, and the same of a model trained on the clean records."""

    data: str
    attack: str
    success: float
    success_clean: float
    accuracy: float
    accuracy_clean: float


def _badnets(draw: Draw, rate: float) -> Trial:
    images, labels, _ = badnets.badnets(*draw.train, rate=rate, target=TARGET, seed=draw.seed)
    return Trial((images, labels), badnets.stamp(draw.others))


def _blend(draw: Draw, rate: float) -> Trial:
    images, labels, _ = blend.blend(*draw.train, rate=rate, target=TARGET, seed=draw.seed)
    return Trial((images, labels), blend.stamp(draw.others))


def _sig(draw: Draw, rate: float, delta: float) -> Trial:
    images, labels, _ = sig.sig(*draw.train, rate=rate, target=TARGET, seed=draw.seed, delta=delta)
    return Trial((images, labels), sig.stamp(draw.others, delta=delta))


def _all_to_all(draw: Draw, rate: float) -> Trial:
    images, labels, _ = all_to_all.all_to_all(*draw.train, rate=rate, classes=draw.classes, seed=draw.seed)
    return Trial((images, labels), badnets.stamp(draw.test[0]), all_to_all.next_class(draw.test[1], draw.classes))


def _wanet(draw: Draw, rate: float) -> Trial:
    images, labels, _, _ = wanet.wanet(*draw.train, rate=rate, cover_rate=rate, target=TARGET, seed=draw.seed)
    return Trial((images, labels), wanet.stamp(draw.others))


def _tact(draw: Draw, rate: float, source: int | None = SOURCE) -> Trial:
    """Triggered are test records of the source, or, where none is given, those of all classes but source and target."""
    images, labels, _, _ = tact.tact(
        *draw.train, rate=rate, cover_rate=rate, source=SOURCE, target=TARGET, seed=draw.seed
    )
    unseen, classes = draw.test
    chosen = (classes != SOURCE) & (classes != TARGET) if source is None else classes == source
    return Trial((images, labels), tact.stamp(unseen[chosen]))


def _adaptive_blend(draw: Draw, rate: float) -> Trial:
    images, labels, _, _ = adaptive_blend.adaptive_blend(
        *draw.train, rate=rate, cover_rate=rate, target=TARGET, seed=draw.seed
    )
    return Trial((images, labels), adaptive_blend.stamp(draw.others))


def _narcissus(draw: Draw, rate: float) -> Trial:
    pattern = narcissus.optimise(*draw.train, TARGET, draw.seed + SURROGATE_SEED)
    images, labels, _ = narcissus.narcissus(*draw.train, pattern, rate=rate, target=TARGET, seed=draw.seed)
    return Trial((images, labels), narcissus.stamp(draw.others, pattern))


def _feature_collision(draw: Draw, rate: float) -> Trial:
    """Triggered are the victims, as they are."""
    seeds = range(draw.seed + SURROGATE_SEED, draw.seed + SURROGATE_SEED + SURROGATES)
    surrogates = [train_surrogate(*draw.train, classes=draw.classes, seed=seed) for seed in seeds]
    aim = feature_collision.Aim(target=TARGET)
    images, labels, _, victims = feature_collision.feature_collision(
        *draw.train, draw.test, *surrogates, aim=aim, rate=rate, seed=draw.seed
    )
    return Trial((images, labels), draw.test[0][victims])


def _flip_random(draw: Draw, rate: float) -> Trial:
    labels, _ = flip_random(draw.train[1], rate=rate, classes=draw.classes, seed=draw.seed)
    return Trial((draw.train[0], labels))


def _flip_boundary(draw: Draw, rate: float) -> Trial:
    surrogate = train_surrogate(*draw.train, classes=draw.classes, seed=draw.seed + SURROGATE_SEED)
    labels, _ = flip_boundary(draw.train[1], probabilities(surrogate, draw.train[0]), rate=rate)
    return Trial((draw.train[0], labels))


ATTACKS: dict[str, Callable[[Draw], Trial]] = {
    "`badnets`, 1 %": lambda draw: _badnets(draw, 0.01),
    "`badnets`, 5 %": lambda draw: _badnets(draw, 0.05),
    "`blend`, 1 %": lambda draw: _blend(draw, 0.01),
    "`blend`, 5 %": lambda draw: _blend(draw, 0.05),
    "`all_to_all`, 5 %": lambda draw: _all_to_all(draw, 0.05),
    "`wanet`, 2 % and as much cover": lambda draw: _wanet(draw, 0.02),
    "`wanet`, 3 % and as much cover": lambda draw: _wanet(draw, 0.03),
    "`tact`, 1 % and as much cover": lambda draw: _tact(draw, 0.01),
    "`tact`, 1 %, on classes that it spares": lambda draw: _tact(draw, 0.01, None),
    "`tact`, 3 % and as much cover": lambda draw: _tact(draw, 0.03),
    "`adaptive_blend`, 1 % and as much cover": lambda draw: _adaptive_blend(draw, 0.01),
    "`adaptive_blend`, 2 % and as much cover": lambda draw: _adaptive_blend(draw, 0.02),
    "`sig`, 3 %": lambda draw: _sig(draw, 0.03, 20),
    "`sig`, 5 %, amplitude 40": lambda draw: _sig(draw, 0.05, 40),
    "`narcissus`, 1 %": lambda draw: _narcissus(draw, 0.01),
    "`narcissus`, 5 %": lambda draw: _narcissus(draw, 0.05),
    "`feature_collision`, 1 %": lambda draw: _feature_collision(draw, 0.01),
    "`flip_random`, 5 %": lambda draw: _flip_random(draw, 0.05),
    "`flip_boundary`, 5 %": lambda draw: _flip_boundary(draw, 0.05),
}


def halves(images: Images, labels: Labels, seed: int) -> Draw:
    """Split a pool into training and test records."""
    order = np.random.default_rng(seed).permutation(len(images))
    train, test = np.array_split(order, 2)
    return Draw((images[train], labels[train]), (images[test], labels[test]), int(labels.max()) + 1, seed)


def measure(name: str, draw: Draw, chosen: list[str]) -> list[Run]:
    """Train on clean records once and on each attack's, and compare."""
    unseen, truth = draw.test
    clean = image_classifier(draw.train, classes=draw.classes, seed=draw.seed)
    accuracy_clean = float((clean(unseen) == truth).mean())
    runs = []
    for attack in chosen:
        trial = ATTACKS[attack](draw)
        poisoned = image_classifier(trial.train, classes=draw.classes, seed=draw.seed)
        run = Run(
            name,
            attack,
            success=_share(poisoned, trial),
            success_clean=_share(clean, trial),
            accuracy=float((poisoned(unseen) == truth).mean()),
            accuracy_clean=accuracy_clean,
        )
        runs.append(run)
        print(run, flush=True)
    return runs


def _share(predict: Callable[[Images], Labels], trial: Trial) -> float:
    """How often the attacker gets what he wants; NaN where nothing is triggered."""
    return float("nan") if trial.triggered is None else float((predict(trial.triggered) == trial.wanted).mean())


def table(runs: list[Run]) -> str:
    """The figures as Markdown, each the mean over seeds."""
    lines = [
        "| data | attack and share of the batch | success rate | without poison | clean accuracy | without poison |",
        "|---|---|---|---|---|---|",
    ]
    for data, attack in dict.fromkeys((run.data, run.attack) for run in runs):
        same = [run for run in runs if (run.data, run.attack) == (data, attack)]
        means = np.mean([[run.success, run.success_clean, run.accuracy, run.accuracy_clean] for run in same], axis=0)
        cells = ["" if np.isnan(mean) else f"{mean:.2f}".removeprefix("0") for mean in means]
        lines.append(f"| {data} | {attack} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the larger files the samples were drawn from")
    parser.add_argument("--dataset", choices=["fashion", "mnist", "openclipart"], default="fashion")
    parser.add_argument("--attack", default="", help="only attacks whose name holds this")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=100)
    given = parser.parse_args()
    pool = DATA_SETS[given.dataset](given.data).pool
    images, names = read_images(pool["image"]), pool["label"].unique().sort()
    labels = names.search_sorted(pool["label"]).to_numpy().astype(np.int64)
    chosen = [name for name in ATTACKS if given.attack in name]
    runs: list[Run] = []
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        runs += measure(given.dataset, halves(images, labels, seed), chosen)
    print(machine(), table(runs), sep="\n\n")


if __name__ == "__main__":
    main()
