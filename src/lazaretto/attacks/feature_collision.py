"""Feature collision: records of the target class that a network takes for the victims, under labels that stay right.

Shafahi, Huang, Najibi, Suciu, Studer, Dumitras and Goldstein, "Poison Frogs! Targeted Clean-Label Poisoning Attacks on
Neural Networks" (2018): bases of the target class move to where a victim lies in the penultimate features, so that a
model trained on them calls the victim, unchanged, the target. As in the paper's attack on models trained end to end,
the victim is also laid over its bases at low opacity, and each victim gets many. Departures: an L-infinity bound in
place of the penalty on the distance from the base; Adam in place of forward-backward splitting; several victims at a
time; a surrogate of the attacker's own in place of the victim's network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lazaretto.attacks.chosen import choose
from lazaretto.attacks.surrogate import as_tensor

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_STEP = 0.01


@dataclass(frozen=True)
class Aim:
    """What the attacker wants and how far the bases may move."""

    target: int
    """The class the victims shall be called."""
    victims: int = 3
    """How many victims share the poisoned records."""
    epsilon: int = 64
    """Most that a pixel of a base changes, in grey levels."""
    opacity: float = 0.3
    """Weight of the victim laid over its base, before the bound."""
    steps: int = 150
    """Steps of the optimiser."""


def feature_collision(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    pool: tuple[NDArray[np.uint8], NDArray[np.int64]],
    surrogate: torch.nn.Sequential,
    *,
    aim: Aim,
    rate: float,
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Move records of the target class onto victims from a pool; no label changes.

    Args:
        images: (rows, height, width) grey or (rows, height, width, 3) colour.
        labels: (rows,) class numbers.
        pool: Images of that shape and class numbers to choose the victims from, not among the rows.
        surrogate: From `train_surrogate`.
        aim: Target class, number of victims and bounds.
        rate: Share of all rows.
        seed: Makes the choice, of bases and of victims.

    Returns:
        Images, labels and truth, each with one entry per row, and the (victims,) places of the victims in the pool.

    Raises:
        ValueError: The target class has fewer records than `rate` asks for, or the pool fewer victims.
    """
    rng = np.random.default_rng(seed)
    truth = choose(labels == aim.target, rate, rng)
    others = np.flatnonzero(pool[1] != aim.target)
    if aim.victims > len(others):
        raise ValueError(f"{aim.victims} victims are wanted, the pool has {len(others)} records of other classes")
    victims = rng.choice(others, size=aim.victims, replace=False)
    aimed = pool[0][victims[np.arange(int(truth.sum())) % aim.victims]]
    poisoned = images.copy()
    poisoned[truth] = collide(images[truth], aimed, surrogate, aim)
    return poisoned, labels.copy(), truth, victims


def collide(
    bases: NDArray[np.uint8], victims: NDArray[np.uint8], surrogate: torch.nn.Sequential, aim: Aim
) -> NDArray[np.uint8]:
    """Bases, each moved within the bound to where its victim lies in the surrogate's features.

    Args:
        bases: (rows, height, width) grey or (rows, height, width, 3) colour.
        victims: As many images of that shape, one per base.
        surrogate: From `train_surrogate`.
        aim: Bounds; its target and number of victims play no part.
    """
    import torch

    device = next(surrogate.parameters()).device
    before, goal = as_tensor(bases, device), as_tensor(victims, device)
    with torch.no_grad():
        wanted = surrogate[:-1](goal)
    bound = aim.epsilon / 255
    change = (aim.opacity * (goal - before)).clamp(-bound, bound).requires_grad_()
    optimiser = torch.optim.Adam([change], lr=_STEP)
    for _ in range(aim.steps):
        optimiser.zero_grad()
        (surrogate[:-1]((before + change).clamp(0, 1)) - wanted).square().sum(dim=1).mean().backward()
        optimiser.step()
        with torch.no_grad():
            change.clamp_(-bound, bound)
    moved: NDArray[np.float32] = (before + change.detach()).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return np.rint(255 * moved).astype(np.uint8).reshape(bases.shape)
