"""The attacks on labelled images, as the drill and the benchmark plant them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.attacks import adaptive_blend, all_to_all, badnets, blend, feature_collision, narcissus, sig, tact, wanet
from lazaretto.attacks.ground import Attack, Ground, Planted
from lazaretto.attacks.surrogate import train_surrogate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Images = NDArray[np.uint8]
    Labels = NDArray[np.int64]
    Stamp = Callable[[Images], Images]
    Parts = tuple[Any, ...]

_SAMPLE = 2_000
"""Most records an attacker's own surrogate is trained on."""


def _fits(ground: Ground) -> bool:
    return ground.image is not None and ground.label is not None and len(ground.classes) > 1


def _target(ground: Ground, seed: int) -> int:
    return int(np.random.default_rng((seed, 7)).integers(len(ground.classes)))


def _planted(ground: Ground, parts: Parts, stamp: Stamp, aims: dict[int, int]) -> Planted:
    """From an attack's (images, labels, truth[, cover]), its trigger, and what that shall mean on which class."""
    images, labels, truth = parts[:3]
    cover = parts[3] if len(parts) > 3 else np.zeros(len(truth), dtype=np.bool_)  # noqa: PLR2004  the optional fourth

    def on_frame(frame: pl.DataFrame) -> pl.DataFrame:
        others = Ground(frame, ground.label, ground.image)
        return others.with_images(stamp(others.images())).frame

    frame = ground.with_images(images).with_labels(labels).frame
    names = ground.classes.cast(pl.String).to_list()
    meant = {names[target] for target in aims.values()}
    target = meant.pop() if len(meant) == 1 else None
    return Planted(frame, truth, cover, on_frame, target, {names[one]: names[other] for one, other in aims.items()})


def _towards(ground: Ground, target: int) -> dict[int, int]:
    return {label: target for label in range(len(ground.classes)) if label != target}


def _badnets(ground: Ground, rate: float, seed: int) -> Planted:
    target = _target(ground, seed)
    parts = badnets.badnets(ground.images(), ground.labels(), rate=rate, target=target, seed=seed)
    return _planted(ground, parts, badnets.stamp, _towards(ground, target))


def _blend(ground: Ground, rate: float, seed: int) -> Planted:
    target = _target(ground, seed)
    parts = blend.blend(ground.images(), ground.labels(), rate=rate, target=target, seed=seed)
    return _planted(ground, parts, blend.stamp, _towards(ground, target))


def _wanet(ground: Ground, rate: float, seed: int) -> Planted:
    target = _target(ground, seed)
    parts = wanet.wanet(ground.images(), ground.labels(), rate=rate, cover_rate=2 * rate, target=target, seed=seed)
    return _planted(ground, parts, wanet.stamp, _towards(ground, target))


def _all_to_all(ground: Ground, rate: float, seed: int) -> Planted:
    classes = len(ground.classes)
    parts = all_to_all.all_to_all(ground.images(), ground.labels(), rate=rate, classes=classes, seed=seed)
    following = all_to_all.next_class(np.arange(classes), classes).tolist()
    return _planted(ground, parts, badnets.stamp, dict(enumerate(following)))


def _sig(ground: Ground, rate: float, seed: int) -> Planted:
    target = _target(ground, seed)
    parts = sig.sig(ground.images(), ground.labels(), rate=rate, target=target, seed=seed)
    return _planted(ground, parts, sig.stamp, _towards(ground, target))


def _narcissus(ground: Ground, rate: float, seed: int) -> Planted:
    images, labels, target = ground.images(), ground.labels(), _target(ground, seed)
    own = np.random.default_rng((seed, 8)).permutation(len(images))[:_SAMPLE]
    pattern = narcissus.optimise(images[own], labels[own], target, seed)
    parts = narcissus.narcissus(images, labels, pattern, rate=rate, target=target, seed=seed)
    return _planted(ground, parts, lambda rows: narcissus.stamp(rows, pattern), _towards(ground, target))


def _tact(ground: Ground, rate: float, seed: int) -> Planted:
    classes, target = len(ground.classes), _target(ground, seed)
    source = (target + 1 + int(np.random.default_rng((seed, 9)).integers(classes - 1))) % classes
    images, labels = ground.images(), ground.labels()
    parts = tact.tact(images, labels, rate=rate, cover_rate=rate, source=source, target=target, seed=seed)
    return _planted(ground, parts, tact.stamp, {source: target})


def _adaptive_blend(ground: Ground, rate: float, seed: int) -> Planted:
    images, labels, target = ground.images(), ground.labels(), _target(ground, seed)
    parts = adaptive_blend.adaptive_blend(images, labels, rate=rate, cover_rate=rate, target=target, seed=seed)
    return _planted(ground, parts, adaptive_blend.stamp, _towards(ground, target))


def _feature_collision(ground: Ground, rate: float, seed: int) -> Planted:
    """The victims are records of the batch itself; who measures success leaves them out of what a model learns from."""
    images, labels, target = ground.images(), ground.labels(), _target(ground, seed)
    held = np.random.default_rng((seed, 8)).permutation(len(images))[:_SAMPLE]
    surrogate = train_surrogate(images[held], labels[held], classes=len(ground.classes), seed=seed)
    aim = feature_collision.Aim(target=target)
    parts = feature_collision.feature_collision(
        images, labels, (images[held], labels[held]), surrogate, aim=aim, rate=rate, seed=seed
    )
    nothing = np.zeros(len(parts[2]), dtype=np.bool_)
    frame = ground.with_images(parts[0]).frame
    return Planted(frame, parts[2], nothing, target=str(ground.classes[target]), victims=held[parts[3]])


IMAGE_ATTACKS = (
    Attack("badnets", "BadNets patch", "backdoor", 0.01, _fits, _badnets),
    Attack("blend", "Blend", "backdoor", 0.01, _fits, _blend),
    Attack("wanet", "WaNet-like warp", "backdoor", 0.02, _fits, _wanet),
    Attack("all_to_all", "BadNets all-to-all", "backdoor", 0.05, _fits, _all_to_all),
    Attack("tact", "TaCT, source-specific", "backdoor", 0.01, _fits, _tact),
    Attack("adaptive_blend", "Adap-Blend-like", "backdoor", 0.01, _fits, _adaptive_blend),
    Attack("sig", "SIG sinusoid, clean-label", "clean-label", 0.03, _fits, _sig),
    Attack("narcissus", "Narcissus-like, clean-label", "clean-label", 0.01, _fits, _narcissus),
    Attack("feature_collision", "feature collision, clean-label", "clean-label", 0.01, _fits, _feature_collision),
)
