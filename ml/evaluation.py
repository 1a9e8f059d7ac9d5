"""Honest figures: never on training data, always with an interval and a count."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml.arrays import BoolArray, FloatArray, IntArray
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


@dataclass(frozen=True)
class MeanDifference:
    """A mean of paired differences with its 95 % t-interval.

    Attributes:
        mean: of the differences.
        low: lower end; minus infinity with fewer than two pairs.
        high: upper end.
        wins: pairs in which the first was larger.
        n: pairs.
    """

    mean: float
    low: float
    high: float
    wins: int
    n: int

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom (any statistics table).
T_95 = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
]  # fmt: skip


def paired_difference(first: Sequence[float], second: Sequence[float]) -> MeanDifference:
    """Return how much larger the first is, pair by pair.

    Args:
        first: shape (n,).
        second: shape (n,), the partner of each.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n = len(differences)
    mean, wins = float(differences.mean()), int((differences > 0).sum())
    if n < 2:
        return MeanDifference(mean, -np.inf, np.inf, wins, n)
    quantile = T_95[n - 2] if n - 2 < len(T_95) else Z_95
    half = float(quantile * differences.std(ddof=1) / np.sqrt(n))
    return MeanDifference(mean, mean - half, mean + half, wins, n)


def sign_flip_p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Return how often chance alone would make paired differences so large, 0 to 1.

    If the two did not differ, every difference could as well have the other sign. All sign
    patterns are tried up to 16 pairs, 65,536 random ones above.

    Args:
        first: shape (n,).
        second: shape (n,), the partner of each.

    Returns:
        The two-sided p-value of the mean difference.

    Source: Fisher (1935), "The design of experiments", section 21 (randomisation test).
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n = len(differences)
    if n <= 16:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        patterns = np.random.default_rng(0).integers(0, 2, size=(65_536, n))
    means = np.abs((patterns * 2 - 1) @ differences)
    return float((means >= abs(differences.sum()) - 1e-12).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for having looked at all of them.

    Args:
        p_values: shape (n,).

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def cohens_kappa(first: IntArray, second: IntArray) -> float:
    """Return how far two labelings agree beyond chance, at most 1.

    Args:
        first: shape (n,), class indices.
        second: shape (n,), class indices.

    Source: Cohen (1960), "A coefficient of agreement for nominal scales".
    """
    n_classes = int(max(first.max(initial=0), second.max(initial=0))) + 1
    agreed = float((first == second).mean())
    by_chance = float(
        (np.bincount(first, minlength=n_classes) / len(first))
        @ (np.bincount(second, minlength=n_classes) / len(second))
    )
    return 1.0 if by_chance >= 1.0 else (agreed - by_chance) / (1.0 - by_chance)


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
