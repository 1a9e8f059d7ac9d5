"""Honest figures: never on training data, always with an interval and a count."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.arrays import BoolArray, FloatArray
from ml.calibration import expected_calibration_error
from ml.training import HeadConfig, NotEnoughLabelsError, fit_head

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """A share of ``n`` with its 95 % Wilson interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class AccuracyReport:
    """What a head gets right on a random sample it has not seen.

    Attributes:
        accuracy: share of images whose class (or whole set of classes) is right.
        low: lower end of its 95 % Wilson interval.
        high: upper end.
        n: images measured on.
        per_class: recall of each class, with the number of its images.
        micro_f1: over all labels; equals the accuracy when an image has one class.
        ece: expected calibration error.
    """

    accuracy: float
    low: float
    high: float
    n: int
    per_class: list[Share]
    micro_f1: float
    ece: float


def wilson_interval(correct: float, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a share.

    Args:
        correct: how many were right.
        total: of how many; with none the interval is 0 to 1.
        z: quantile of the normal distribution; the default gives 95 %.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if total == 0:
        return 0.0, 1.0
    centre = correct + z * z / 2
    half = z * np.sqrt(correct * (total - correct) / total + z * z / 4)
    size = total + z * z
    return max(float((centre - half) / size), 0.0), min(float((centre + half) / size), 1.0)


def share(correct: float, total: int) -> Share:
    """Return a share with its interval."""
    low, high = wilson_interval(correct, total)
    return Share(float(correct / total) if total else 0.0, low, high, total)


def out_of_fold(
    embeddings: FloatArray,
    targets: Any,
    measured: BoolArray,
    *,
    n_classes: int,
    kind: str = "one_class",
    folds: int = 5,
    seed: int = 0,
    config: HeadConfig | None = None,
) -> FloatArray:
    """Return logits of the measured items, each by a head that has not seen the item.

    Only the measured items are dealt into folds. All other labelled items train every head: they
    were chosen by the queue, so they may be learned from but not measured on.

    Args:
        embeddings: shape (n_items, dim).
        targets: as for :func:`ml.training.fit_head`.
        measured: shape (n_items,), which items are a random sample of the collection.
        n_classes: how many classes there are.
        kind: ``one_class`` or ``several_classes``.
        folds: how many; fewer when fewer items are measured.
        seed: deals the folds.
        config: how to fit.

    Returns:
        Shape (n_measured, n_classes), before any temperature. Where leaving a fold out leaves
        fewer than two classes, nothing can be known and the logits are zero.
    """
    rows = np.flatnonzero(measured)
    fold_of = np.random.default_rng(seed).permutation(len(rows)) % min(folds, max(len(rows), 1))
    logits = np.zeros((len(rows), n_classes), dtype=np.float32)
    for fold in np.unique(fold_of):
        held_out = rows[fold_of == fold]
        seen = np.ones(len(embeddings), dtype=bool)
        seen[held_out] = False
        try:
            head = fit_head(
                embeddings[seen], targets[seen], n_classes=n_classes, kind=kind, config=config
            )
        except NotEnoughLabelsError:
            continue
        logits[fold_of == fold] = head.logits(embeddings[held_out])
    return logits


def accuracy_report(logits: FloatArray, truth: Any, *, kind: str = "one_class") -> AccuracyReport:
    """Return accuracy, per-class recall and calibration of out-of-fold logits.

    Args:
        logits: shape (n_items, n_classes), divided by the temperature.
        truth: shape (n_items,) class indices, or (n_items, n_classes) of 0 and 1.
        kind: ``one_class`` or ``several_classes``.
    """
    n_items, n_classes = logits.shape
    if kind == "several_classes":
        actual = np.asarray(truth) > 0.5
        said = logits > 0
    else:
        actual = np.asarray(truth)[:, None] == np.arange(n_classes)
        said = logits.argmax(axis=1)[:, None] == np.arange(n_classes)
    hits = actual & said
    whole = share(float((actual == said).all(axis=1).sum()), n_items)
    labels = int(actual.sum() + said.sum())
    return AccuracyReport(
        accuracy=whole.value,
        low=whole.low,
        high=whole.high,
        n=n_items,
        per_class=[
            share(float(hits[:, index].sum()), int(actual[:, index].sum()))
            for index in range(n_classes)
        ],
        micro_f1=2.0 * int(hits.sum()) / labels if labels else 1.0,
        ece=expected_calibration_error(logits, truth, kind=kind),
    )
