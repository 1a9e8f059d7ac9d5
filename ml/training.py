"""Fitting a head on labelled embeddings: about a second, and the same answer for the same seed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ml.arrays import FloatArray, IntArray, check_table
from ml.heads import EnsembleHead, Head, LogisticHead, MlpHead

# Embeddings are scaled to about this norm, so that one weight decay fits every backbone.
FEATURE_NORM = 5.0
COMMITTEE_SIZE = 5
MLP_HIDDEN, MLP_STEPS, MLP_LEARNING_RATE, MLP_BATCH = 128, 300, 3e-3, 256


class NotEnoughLabelsError(Exception):
    """Fewer than two classes have labels: there is nothing to tell apart."""


@dataclass(frozen=True)
class HeadConfig:
    """How a head is fitted.

    Attributes:
        head: a name of :data:`FITS`.
        weight_decay: L2 penalty on the weights, added to the mean loss.
        max_iterations: of L-BFGS.
        tolerance: the fit ends when the gradient is smaller.
        balanced: classes count alike, however many labels each has.
    """

    head: str = "logistic"
    weight_decay: float = 0.005
    max_iterations: int = 200
    tolerance: float = 1e-5
    balanced: bool = False


@dataclass(frozen=True)
class _Problem:
    """A fit's input: features centred and scaled, targets checked, a weight for each label."""

    features: FloatArray
    targets: Any
    mean: FloatArray
    scale: float
    n_classes: int
    kind: str
    weights: FloatArray  # (n_items,), mean 1

    @property
    def is_several(self) -> bool:
        return self.kind == "several_classes"


def fit_head(
    embeddings: FloatArray,
    targets: Any,
    *,
    n_classes: int,
    kind: str = "one_class",
    seed: int = 0,
    config: HeadConfig | None = None,
    start_from: Head | None = None,
) -> Head:
    """Fit a head.

    The default, a logistic regression with weight decay, is a convex problem: the result depends
    neither on the seed nor on where the fit starts.

    Args:
        embeddings: shape (n_items, dim).
        targets: shape (n_items,) class indices, or (n_items, n_classes) of 0 and 1 when an image
            can have several classes.
        n_classes: how many classes the head tells apart, labelled or not.
        kind: ``one_class`` or ``several_classes``.
        seed: for heads whose fit is random.
        config: how to fit.
        start_from: a former head of as many classes, to be there sooner.

    Raises:
        NotEnoughLabelsError: fewer than two classes (one class: fewer than two images) are there.
        BadArrayError: an embedding is not finite; the error names its row.
    """
    config = config or HeadConfig()
    problem = _prepare(embeddings, targets, n_classes, kind, config)
    return FITS[config.head](problem, config, seed, start_from)


def fit_committee(
    embeddings: FloatArray,
    targets: Any,
    *,
    n_classes: int,
    kind: str = "one_class",
    seed: int = 0,
    config: HeadConfig | None = None,
) -> list[LogisticHead]:
    """Fit the members of a committee, each on a draw of the labels with replacement.

    Args:
        embeddings: shape (n_items, dim).
        targets: as for :func:`fit_head`.
        n_classes: how many classes the heads tell apart.
        kind: ``one_class`` or ``several_classes``.
        seed: of the draws.
        config: how to fit each member.

    Raises:
        NotEnoughLabelsError: fewer than two classes have labels.

    Source: Breiman (1996), "Bagging predictors".
    """
    config = config or HeadConfig()
    problem = _prepare(embeddings, targets, n_classes, kind, config)
    rng = np.random.default_rng(seed)
    return [_logistic(problem, config, _draw(problem, rng)) for _ in range(COMMITTEE_SIZE)]


def _draw(problem: _Problem, rng: np.random.Generator) -> FloatArray:
    """Return how often each label was drawn; weights do what repeated rows would."""
    n_items = len(problem.features)
    drawn = np.bincount(rng.integers(0, n_items, n_items), minlength=n_items)
    return (problem.weights * drawn).astype(np.float32)


def _prepare(
    embeddings: FloatArray, targets: Any, n_classes: int, kind: str, config: HeadConfig
) -> _Problem:
    features = np.asarray(embeddings, dtype=np.float32)
    if len(features):
        check_table(features, "embeddings")
    targets = np.asarray(targets)
    _check_targets(targets, kind)
    mean = features.mean(axis=0)
    centred = features - mean
    scale = _scale_of(centred)
    centred *= scale
    weights = np.ones(len(features), dtype=np.float32)
    if config.balanced and kind == "one_class":
        weights = balanced_weights(targets)
    return _Problem(centred, targets, mean, scale, n_classes, kind, weights)


def balanced_weights(targets: IntArray) -> FloatArray:
    """Return a weight for each label, mean 1, with which all classes count alike.

    Args:
        targets: shape (n_items,), class indices.
    """
    counts = np.bincount(targets)
    weights = 1.0 / counts[targets]
    return (weights / weights.mean()).astype(np.float32)


def _check_targets(targets: Any, kind: str) -> None:
    if kind == "several_classes":
        if len(targets) < 2 or not targets.any() or targets.all():
            raise NotEnoughLabelsError("at least one class must be on some images and off others")
    elif len(np.unique(targets)) < 2:
        found = len(np.unique(targets))
        raise NotEnoughLabelsError(
            "labels of at least two classes are needed, "
            + ("there are none yet" if not found else "there is only one class so far")
        )


def _scale_of(centred: FloatArray) -> float:
    norm = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return FEATURE_NORM / norm if norm > 1e-12 else 1.0


def data_loss(
    logits: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, *, several: bool
) -> torch.Tensor:
    """Return the weighted mean loss of some items.

    Args:
        logits: shape (n_items, n_classes).
        y: shape (n_items,) class indices, or (n_items, n_classes) of 0 and 1.
        weights: shape (n_items,).
        several: an item can have several classes.
    """
    if several:
        each = functional.binary_cross_entropy_with_logits(logits, y, reduction="none")
        # Summed over the classes: each class is a regression of its own with the same decay.
        return (each.sum(dim=1) * weights).mean()
    return (functional.cross_entropy(logits, y, reduction="none") * weights).mean()


def decay(weights: torch.Tensor, bias: torch.Tensor, weight_decay: float) -> torch.Tensor:
    """Return the penalty on a head's weights, (n_classes, dim), and bias, (n_classes,)."""
    # The tiny decay of the bias keeps classes without labels finite.
    return 0.5 * weight_decay * (weights**2).sum() + 1e-4 * (bias**2).sum()


def _tensors(problem: _Problem, weights: FloatArray) -> tuple[torch.Tensor, ...]:
    y = problem.targets.astype(np.float32 if problem.is_several else np.int64)
    return torch.from_numpy(problem.features), torch.from_numpy(y), torch.from_numpy(weights)


def _logistic(
    problem: _Problem,
    config: HeadConfig,
    label_weights: FloatArray,
    start_from: LogisticHead | None = None,
) -> LogisticHead:
    x, y, counted = _tensors(problem, label_weights)
    weights, bias = _start(problem, start_from)
    optimiser = torch.optim.LBFGS(
        [weights, bias],
        max_iter=config.max_iterations,
        tolerance_grad=config.tolerance,
        tolerance_change=1e-9,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        data = data_loss(torch.addmm(bias, x, weights.T), y, counted, several=problem.is_several)
        total = data + decay(weights, bias, config.weight_decay)
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return LogisticHead(
        weights=weights.detach().numpy().copy(),
        bias=bias.detach().numpy().copy(),
        mean=problem.mean,
        scale=problem.scale,
        kind=problem.kind,
    )


def _start(problem: _Problem, former: LogisticHead | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where L-BFGS starts: at zero, or at a former head in today's centre and scale."""
    shape = (problem.n_classes, problem.features.shape[1])
    if former is None or former.weights.shape != shape:
        return torch.zeros(shape, requires_grad=True), torch.zeros(shape[0], requires_grad=True)
    weights = former.weights * (former.scale / problem.scale)
    bias = former.bias + (former.weights * former.scale) @ (problem.mean - former.mean)
    return (
        torch.tensor(weights, dtype=torch.float32, requires_grad=True),
        torch.tensor(bias, dtype=torch.float32, requires_grad=True),
    )


def _fit_logistic(
    problem: _Problem, config: HeadConfig, seed: int, start_from: Head | None
) -> Head:
    del seed
    former = start_from if isinstance(start_from, LogisticHead) else None
    return _logistic(problem, config, problem.weights, former)


def _fit_ensemble(
    problem: _Problem, config: HeadConfig, seed: int, start_from: Head | None
) -> Head:
    del start_from
    rng = np.random.default_rng(seed)
    members = [_logistic(problem, config, _draw(problem, rng)) for _ in range(COMMITTEE_SIZE)]
    return EnsembleHead(tuple(members), kind=problem.kind)


def _fit_mlp(problem: _Problem, config: HeadConfig, seed: int, start_from: Head | None) -> Head:
    """Fit one hidden layer by Adam with a falling learning rate, always from the seed's start."""
    del start_from
    x, y, counted = _tensors(problem, problem.weights)
    generator = torch.Generator().manual_seed(seed)
    dim = x.shape[1]

    def drawn(rows: int, columns: int) -> torch.Tensor:
        start = torch.randn((rows, columns), generator=generator) * (2.0 / columns) ** 0.5
        return start.requires_grad_()

    layers = [drawn(MLP_HIDDEN, dim), torch.zeros(MLP_HIDDEN, requires_grad=True)]
    layers += [
        torch.zeros((problem.n_classes, MLP_HIDDEN), requires_grad=True),
        torch.zeros(problem.n_classes, requires_grad=True),
    ]
    optimiser = torch.optim.AdamW(layers, lr=MLP_LEARNING_RATE, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, MLP_STEPS)
    for _ in range(MLP_STEPS):
        chosen = torch.randperm(len(x), generator=generator)[:MLP_BATCH]
        hidden = torch.relu(torch.addmm(layers[1], x[chosen], layers[0].T))
        logits = torch.addmm(layers[3], hidden, layers[2].T)
        loss = data_loss(logits, y[chosen], counted[chosen], several=problem.is_several)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    hidden_weights, hidden_bias, weights, bias = (layer.detach().numpy().copy() for layer in layers)
    return MlpHead(
        hidden_weights, hidden_bias, weights, bias, problem.mean, problem.scale, kind=problem.kind
    )


FITS: dict[str, Callable[[_Problem, HeadConfig, int, Head | None], Head]] = {
    "logistic": _fit_logistic,
    "mlp": _fit_mlp,
    "ensemble": _fit_ensemble,
}
