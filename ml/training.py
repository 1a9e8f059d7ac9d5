"""Fitting a head on labelled embeddings: about a second, and the same answer for the same seed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ml.arrays import FloatArray, check_table
from ml.heads import LogisticHead

# Embeddings are scaled to about this norm, so that one weight decay fits every backbone.
FEATURE_NORM = 5.0


class NotEnoughLabelsError(Exception):
    """Fewer than two classes have labels: there is nothing to tell apart."""


@dataclass(frozen=True)
class HeadConfig:
    """How a head is fitted.

    Attributes:
        weight_decay: L2 penalty on the weights, added to the mean loss.
        max_iterations: of L-BFGS.
        tolerance: the fit ends when the gradient is smaller.
    """

    weight_decay: float = 0.005
    max_iterations: int = 200
    tolerance: float = 1e-5


def fit_head(
    embeddings: FloatArray,
    targets: Any,
    *,
    n_classes: int,
    kind: str = "one_class",
    seed: int = 0,
    config: HeadConfig | None = None,
) -> LogisticHead:
    """Fit a logistic regression with weight decay by L-BFGS.

    The problem is convex, so the result does not depend on a random start.

    Args:
        embeddings: shape (n_items, dim).
        targets: shape (n_items,) class indices, or (n_items, n_classes) of 0 and 1 when an image
            can have several classes.
        n_classes: how many classes the head tells apart, labelled or not.
        kind: ``one_class`` or ``several_classes``.
        seed: kept for heads whose fit is random; unused by this one.
        config: how to fit.

    Raises:
        NotEnoughLabelsError: fewer than two classes (one class: fewer than two images) are there.
        BadArrayError: an embedding is not finite; the error names its row.
    """
    del seed
    config = config or HeadConfig()
    features = np.asarray(embeddings, dtype=np.float32)
    if len(features):
        check_table(features, "embeddings")
    _check_targets(np.asarray(targets), kind)
    mean = features.mean(axis=0)
    centred = features - mean
    scale = _scale_of(centred)
    centred *= scale
    weights, bias = _minimise(centred, np.asarray(targets), n_classes, kind, config)
    return LogisticHead(weights=weights, bias=bias, mean=mean, scale=scale, kind=kind)


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


def _minimise(
    features: FloatArray, targets: Any, n_classes: int, kind: str, config: HeadConfig
) -> tuple[FloatArray, FloatArray]:
    x = torch.from_numpy(np.ascontiguousarray(features))
    several = kind == "several_classes"
    y = torch.from_numpy(targets.astype(np.float32 if several else np.int64))
    weights = torch.zeros((n_classes, x.shape[1]), requires_grad=True)
    bias = torch.zeros(n_classes, requires_grad=True)
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
        logits = x @ weights.T + bias
        data = (
            # Summed over the classes: each class is a regression of its own with the same decay.
            functional.binary_cross_entropy_with_logits(logits, y) * n_classes
            if several
            else functional.cross_entropy(logits, y)
        )
        # The tiny decay of the bias keeps classes without labels finite.
        total = data + 0.5 * config.weight_decay * (weights**2).sum() + 1e-4 * (bias**2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach().numpy().copy(), bias.detach().numpy().copy()
