"""The probe: the small model trained only to look at the data, once per scan, cross-fitted, on the device."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from lazaretto.detector import UNKNOWN_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray

_PROJECTED = 8


@dataclass(frozen=True)
class Reading:
    """What a probe that has not seen them says of some records.

    Attributes:
        labels: (rows,) class index that was given, `UNKNOWN_LABEL` for none.
        predicted: (rows,) class index that the probe predicts.
        sure: (rows,) the probability it gives that class; NaN where it was not asked.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    sure: NDArray[np.float64]

    @classmethod
    def laid_out(cls, rows: int, places: Sequence[NDArray[np.int64]], parts: Sequence[Reading]) -> Reading:
        """Of ``rows`` records, each part at its places."""
        whole = cls(np.full(rows, UNKNOWN_LABEL), np.zeros(rows, dtype=np.int64), np.full(rows, np.nan))
        for place, part in zip(places, parts, strict=True):
            whole.labels[place], whole.predicted[place], whole.sure[place] = part.labels, part.predicted, part.sure
        return whole

    @classmethod
    def of(cls, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Reading:
        """From (rows, checkpoints, classes): the class that the mean over the checkpoints gives most."""
        shares = softmax(logits.astype(np.float64).mean(axis=1), axis=1)
        return cls(labels, shares.argmax(axis=1), shares.max(axis=1))

    def take(self, index: NDArray[Any]) -> Reading:
        """Of the records at ``index`` (integers or a boolean mask), in that order."""
        return Reading(self.labels[index], self.predicted[index], self.sure[index])


@dataclass(frozen=True)
class Recipe:
    """How the probe is trained; every value influences the scores."""

    epochs: int = 15
    longest: int = 0
    """Passes up to which training goes on, each time for twice as many, while the loss on unseen records falls."""
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    hidden: int = 128
    checkpoints: int = 8
    dropped: int = 0
    """Times that half of the hidden units are left out, others each time; 0 where no detector asks."""
    seed: int = 0


@dataclass(frozen=True)
class Probe:
    """One two-layer perceptron per fold, trained together as stacked tensors on the rows outside its fold.

    Attributes:
        first: (checkpoints, folds, features, hidden) weights, ``first_bias`` (checkpoints, folds, hidden).
        second: (checkpoints, folds, hidden, classes) weights, ``second_bias`` (checkpoints, folds, classes).
        project: random matrices for the Kronecker projections, by name.
    """

    first: torch.Tensor
    first_bias: torch.Tensor
    second: torch.Tensor
    second_bias: torch.Tensor
    project: dict[str, torch.Tensor]
    kept: torch.Tensor
    """(times, hidden) whether a hidden unit is kept, and its weight then: 2, for half of them are."""

    def views(self, fold: int, features: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """What fold ``fold``'s probe sees in the records.

        Returns:
            logits: (rows, checkpoints, classes).
            hidden: (rows, hidden), rectified activations at the last checkpoint.
            gradient_norms: (rows, checkpoints), norms of the last layer's per-sample gradients, bias included.
            gradients: (rows, 128), Kronecker projections of both layers' per-sample gradients, last checkpoint.
            dropped: (rows, times), probability of the label at the last checkpoint with half of the hidden units; not
                there where it is not asked for.
        """
        import torch

        chunks = []
        for start in range(0, max(len(features), 1), 16_384):
            rows = slice(start, start + 16_384)
            with torch.no_grad():
                chunks.append(self._views(fold, features[rows], labels[rows]))
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def _views(self, fold: int, features: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        import torch

        x = torch.as_tensor(features, device=self.first.device)
        target = torch.as_tensor(np.maximum(labels, 0), device=x.device)
        logits, norms = [], []
        for w1, b1, w2, b2 in zip(self.first, self.first_bias, self.second, self.second_bias, strict=True):
            hidden = torch.relu(torch.addmm(b1[fold], x, w1[fold]))
            out = torch.addmm(b2[fold], hidden, w2[fold])
            error = out.softmax(dim=1)
            error[torch.arange(len(x)), target] -= 1.0
            logits.append(out)
            norms.append((error.square().sum(dim=1) * (hidden.square().sum(dim=1) + 1.0)).sqrt())
        own = torch.arange(len(x)), target
        dropped = [torch.addmm(b2[fold], hidden * kept, w2[fold]).softmax(dim=1)[own] for kept in self.kept]
        asked = {"dropped": torch.stack(dropped, dim=1).cpu().numpy()} if dropped else {}
        back = (error @ w2[fold].T) * (hidden > 0)
        last = torch.einsum("no,ni->noi", error @ self.project["classes"], hidden @ self.project["hidden_in"])
        deep = torch.einsum("no,ni->noi", back @ self.project["hidden_out"], x @ self.project["features"])
        return {
            "logits": torch.stack(logits, dim=1).cpu().numpy(),
            "hidden": hidden.cpu().numpy(),
            "gradient_norms": torch.stack(norms, dim=1).cpu().numpy(),
            "gradients": torch.cat([last.flatten(1), deep.flatten(1)], dim=1).cpu().numpy(),
            **asked,
        }

    def slope(self, fold: int, features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
        """(rows, features): gradient of the margin against the label; times the input, positive pulls away from it."""
        import torch

        x = torch.as_tensor(features, device=self.first.device).requires_grad_()
        target = torch.as_tensor(np.maximum(labels, 0), device=x.device)
        hidden = torch.relu(x @ self.first[-1, fold] + self.first_bias[-1, fold])
        out = hidden @ self.second[-1, fold] + self.second_bias[-1, fold]
        own = out.gather(1, target[:, None])[:, 0]
        other = out.scatter(1, target[:, None], -torch.inf).max(dim=1).values
        (gradient,) = torch.autograd.grad((other - own).sum(), x)
        return np.asarray(gradient.cpu().numpy(), dtype=np.float32)


def softened(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Signed square roots: activations and gradients are far from normal, their roots are nearer."""
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)), dtype=np.float64)


def train(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    shown: NDArray[np.bool_],
    classes: int,
    recipe: Recipe,
    device: torch.device,
) -> Probe:
    """Train the stacked probes, each on the rows it is shown that have a known label.

    Args:
        features: (rows, features).
        labels: (rows,) class indices, `UNKNOWN_LABEL` for none.
        shown: (folds, rows) whether the fold's probe sees the row; none sees a row of its own fold.
        classes: Number of classes.
        recipe: How to train.
        device: Where to train.
    """
    import torch

    count = len(shown)
    generator = torch.Generator().manual_seed(recipe.seed)
    x = torch.as_tensor(features, device=device)
    y = torch.as_tensor(labels, device=device)
    width = features.shape[1]
    weights = [
        torch.randn(count, width, recipe.hidden, generator=generator) * (1.0 / width) ** 0.5,
        torch.zeros(count, 1, recipe.hidden),
        torch.randn(count, recipe.hidden, classes, generator=generator) * (1.0 / recipe.hidden) ** 0.5,
        torch.zeros(count, 1, classes),
    ]
    weights = [w.to(device).requires_grad_() for w in weights]
    optimiser = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    inside = [torch.as_tensor(np.flatnonzero(seen & (labels != UNKNOWN_LABEL))) for seen in shown]
    # All folds take steps of one size, the smallest fold's where that has less than a batch; without a label, none.
    fewest = min(len(rows) for rows in inside)
    size = min(recipe.batch, fewest)
    steps = fewest // size if size else 0
    lengths = _lengths(recipe)
    keep_at = {length: _checkpoints(length, recipe.checkpoints) for length in lengths}
    snapshots: dict[int, list[torch.Tensor]] = {}
    unseen = _unseen(shown, labels) if len(lengths) > 1 else []
    length, least, drawn_so_far = lengths[0], np.inf, generator.get_state()
    with _one_thread():
        for epoch in range(1, lengths[-1] + 1):
            order = [rows[torch.randperm(len(rows), generator=generator)] for rows in inside]
            for step in range(steps):
                picked = torch.stack([rows[step * size : (step + 1) * size] for rows in order]).to(device)
                hidden = torch.relu(torch.baddbmm(weights[1], x[picked], weights[0]))
                out = torch.baddbmm(weights[3], hidden, weights[2])
                loss = torch.nn.functional.cross_entropy(out.flatten(0, 1), y[picked].flatten(), reduction="sum")
                optimiser.zero_grad()
                (loss / picked.shape[1]).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimiser.step()
            if any(epoch in at for at in keep_at.values()):
                snapshots[epoch] = [w.detach().clone() for w in weights]
            if epoch in lengths:
                now = _loss(weights, x, y, unseen)
                if now >= least:
                    break
                length, least, drawn_so_far = epoch, now, generator.get_state()
                if not unseen or now >= _loss(snapshots[keep_at[epoch][-2]], x, y, unseen):
                    break
    generator.set_state(drawn_so_far)
    stacked = [torch.stack(parts) for parts in zip(*(snapshots[e] for e in keep_at[length]), strict=True)]
    project = {
        "features": _projection(width, generator, device),
        "hidden_out": _projection(recipe.hidden, generator, device),
        "hidden_in": _projection(recipe.hidden, generator, device),
        "classes": _projection(classes, generator, device),
    }
    drawn = torch.rand(recipe.dropped, recipe.hidden, generator=generator).argsort(dim=1) < recipe.hidden // 2
    kept_units = 2.0 * drawn.to(device, torch.float32)
    return Probe(stacked[0], stacked[1].squeeze(2), stacked[2], stacked[3].squeeze(2), project, kept_units)


def _lengths(recipe: Recipe) -> list[int]:
    """Passes after which training may end: the recipe's own, doubled up to the longest."""
    lengths = [recipe.epochs]
    while lengths[-1] < recipe.longest:
        lengths.append(min(2 * lengths[-1], recipe.longest))
    return lengths


def _checkpoints(epochs: int, count: int) -> list[int]:
    """Passes after which weights are kept, the last of ``epochs`` among them."""
    return sorted({round(e) for e in np.linspace(1, epochs, min(count, epochs))})


def _unseen(shown: NDArray[np.bool_], labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Per fold the rows of its own, with a label and without those that look like one in another fold."""
    alone = shown.sum(axis=0) == len(shown) - 1
    rows = [np.flatnonzero(~seen & alone & (labels != UNKNOWN_LABEL)) for seen in shown]
    return rows if all(len(mine) for mine in rows) else []


def _loss(
    weights: Sequence[torch.Tensor], x: torch.Tensor, y: torch.Tensor, unseen: Sequence[NDArray[np.int64]]
) -> float:
    """Mean cross-entropy of the folds' probes on the records that each has not seen."""
    import torch

    total = 0.0
    with torch.no_grad():
        for fold, rows in enumerate(unseen):
            picked = torch.as_tensor(rows, device=x.device)
            hidden = torch.relu(torch.addmm(weights[1][fold], x[picked], weights[0][fold]))
            out = torch.addmm(weights[3][fold], hidden, weights[2][fold])
            total += float(torch.nn.functional.cross_entropy(out, y[picked], reduction="sum"))
    return total / max(sum(len(rows) for rows in unseen), 1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """A step of training is too small to be shared: two threads would wait for each other longer than they work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _projection(width: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """(width, 8) Gaussian projection that keeps lengths on average."""
    import torch

    projection: torch.Tensor = (torch.randn(width, _PROJECTED, generator=generator) / _PROJECTED**0.5).to(device)
    return projection
