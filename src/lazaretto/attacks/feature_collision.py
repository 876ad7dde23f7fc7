"""Feature collision: records of the target class that networks take for the victims, under labels that stay right.

Shafahi, Huang, Najibi, Suciu, Studer, Dumitras and Goldstein, "Poison Frogs! Targeted Clean-Label Poisoning Attacks on
Neural Networks" (2018): bases of the target class move to where a victim lies in the penultimate features, so that a
model trained on them calls the victim, unchanged, the target. As in the paper's attack on models trained end to end,
the victim is also laid over its bases at low opacity, and each victim gets many. Departures: an L-infinity bound in
place of the penalty on the distance from the base; Adam in place of forward-backward splitting; surrogates of the
attacker's own in place of the victim's network, several at once as in Zhu et al., "Transferable Clean-Label Poisoning
Attacks on Deep Neural Nets" (2019), for a collision in one network alone hardly carries over to another; victims are
drawn from those that look most like the target, and their bases are the records nearest them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose
from lazaretto.attacks.surrogate import as_tensor, features, probabilities

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_STEP = 0.01

_ALIKE = 0.1
"""Share of the possible victims that victims are drawn from: those that look most like the target."""


@dataclass(frozen=True)
class Aim:
    """What the attacker wants and how far the bases may move."""

    target: int
    """The class the victims shall be called."""
    victims: int = 3
    """How many victims share the poisoned records."""
    epsilon: int = 64
    """Most that a pixel of a base changes, in grey levels."""
    opacity: float = 0.4
    """Weight of the victim laid over its base, before the bound."""
    steps: int = 150
    """Steps of the optimiser."""


def feature_collision(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    pool: tuple[NDArray[np.uint8], NDArray[np.int64]],
    *surrogates: torch.nn.Sequential,
    aim: Aim,
    rate: float,
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Move records of the target class onto victims from a pool; no label changes.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers.
        pool: Images of that shape and class numbers to choose the victims from, not among the rows.
        *surrogates: From `train_surrogate`, with different seeds; one at least.
        aim: Target class, number of victims and bounds.
        rate: Share of all rows.
        seed: Makes the choice of victims.

    Returns:
        Images, labels and truth, each with one entry per row, and the (victims,) places of the victims in the pool.

    Raises:
        ValueError: The target class has fewer records than `rate` asks for, or the pool fewer victims.
    """
    rng = np.random.default_rng(seed)
    wanted = int(choose(labels == aim.target, rate, rng).sum())  # how many and whether; which, the victims say
    victims = _choose_victims(pool, surrogates, aim, rng)
    aims = victims[np.arange(wanted) % aim.victims]
    own = np.flatnonzero(labels == aim.target)
    bases = own[_nearest(_joint(images[own], surrogates), _joint(pool[0][aims], surrogates))]
    truth = np.zeros(len(labels), dtype=np.bool_)
    truth[bases] = True
    poisoned = images.copy()
    poisoned[bases] = collide(images[bases], pool[0][aims], *surrogates, aim=aim)
    return poisoned, labels.copy(), truth, victims


def collide(
    bases: NDArray[np.uint8], victims: NDArray[np.uint8], *surrogates: torch.nn.Sequential, aim: Aim
) -> NDArray[np.uint8]:
    """Bases, each moved within the bound to where its victim lies in the features of all surrogates.

    Args:
        bases: (rows, height, width) grey or (rows, height, width, 3) colour.
        victims: As many images of that shape, one per base.
        *surrogates: From `train_surrogate`.
        aim: Bounds; its target and number of victims play no part.
    """
    import torch

    device = next(surrogates[0].parameters()).device
    before, goal = as_tensor(bases, device), as_tensor(victims, device)
    with torch.no_grad():
        wanted = [model[:-1](goal) for model in surrogates]
    bound = aim.epsilon / 255
    change = (aim.opacity * (goal - before)).clamp(-bound, bound).requires_grad_()
    optimiser = torch.optim.Adam([change], lr=_STEP)
    for _ in range(aim.steps):
        optimiser.zero_grad()
        moved = (before + change).clamp(0, 1)
        # Divided by the size of the features, for no surrogate's scale shall count more than another's.
        apart = [
            (m[:-1](moved) - w).square().sum() / w.square().mean() for m, w in zip(surrogates, wanted, strict=True)
        ]
        torch.stack(apart).sum().backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimiser.step()
        with torch.no_grad():
            change.clamp_(-bound, bound)
    levels: NDArray[np.float32] = 255 * (before + change.detach()).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return np.rint(levels).astype(np.uint8).reshape(bases.shape)


def _choose_victims(
    pool: tuple[NDArray[np.uint8], NDArray[np.int64]],
    surrogates: tuple[torch.nn.Sequential, ...],
    aim: Aim,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Records of other classes that the surrogates know and find most like the target."""
    likely = np.mean([probabilities(model, pool[0]) for model in surrogates], axis=0)
    known = np.flatnonzero((pool[1] != aim.target) & (likely.argmax(axis=1) == pool[1]))
    if aim.victims > len(known):
        raise ValueError(f"{aim.victims} victims are wanted, the pool has {len(known)} known records of other classes")
    alike = known[np.argsort(-likely[known, aim.target], kind="stable")]
    return rng.choice(alike[: max(aim.victims, round(_ALIKE * len(known)))], size=aim.victims, replace=False)


def _joint(images: NDArray[np.uint8], surrogates: tuple[torch.nn.Sequential, ...]) -> NDArray[np.float64]:
    """(rows, surrogates x 64) features of all surrogates."""
    return np.concatenate([features(model, images) for model in surrogates], axis=1)


def _nearest(candidates: NDArray[np.float64], goals: NDArray[np.float64]) -> list[int]:
    """For each goal in turn the nearest candidate that no goal before it took."""
    taken: list[int] = []
    for goal in goals:
        apart = np.square(candidates - goal).sum(axis=1)
        apart[taken] = np.inf
        taken.append(int(apart.argmin()))
    return taken
