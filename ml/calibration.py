"""Making probabilities mean what they say."""

from typing import Any

import numpy as np

from ml.arrays import FloatArray
from ml.heads import to_probabilities

LOWEST, HIGHEST = 0.25, 8.0
BINS = 10
FOLDS = 5


def fit_temperature(logits: FloatArray, truth: Any, *, kind: str = "one_class") -> float:
    """Return the temperature under which out-of-fold logits explain the truth best.

    Args:
        logits: shape (n_items, n_classes), of heads that have not seen these items.
        truth: shape (n_items,) class indices, or (n_items, n_classes) of 0 and 1.
        kind: ``one_class`` or ``several_classes``.

    Returns:
        From 0.25 to 8; above 1 the head was too sure of itself.

    Source: Guo et al. (2017), "On calibration of modern neural networks", section 4.2.
    """
    grid = np.exp(np.linspace(np.log(LOWEST), np.log(HIGHEST), 121))
    losses = [_negative_log_likelihood(logits / value, truth, kind) for value in grid]
    return float(grid[int(np.argmin(losses))])


def cross_calibrated(logits: FloatArray, truth: Any, *, kind: str = "one_class") -> FloatArray:
    """Return logits divided by temperatures that were fitted on other items.

    What is measured on them, unlike on logits divided by :func:`fit_temperature` of the same items,
    says how well a temperature works on items it has not seen.

    Args:
        logits: shape (n_items, n_classes), of a head that has not seen these items, in any order
            that does not depend on the classes.
        truth: shape (n_items,) class indices, or (n_items, n_classes) of 0 and 1.
        kind: ``one_class`` or ``several_classes``.
    """
    fold = np.arange(len(logits)) % FOLDS
    calibrated = np.empty_like(logits)
    for number in range(FOLDS):
        here = fold == number
        temperature = fit_temperature(logits[~here], truth[~here], kind=kind)
        calibrated[here] = logits[here] / temperature
    return calibrated


def _negative_log_likelihood(logits: FloatArray, truth: Any, kind: str) -> float:
    if kind == "several_classes":
        # log(1 + exp(-z)) for a label that is there, log(1 + exp(z)) for one that is not.
        signed = np.where(np.asarray(truth) > 0.5, -logits, logits)
        return float(np.logaddexp(0.0, signed).mean())
    top = logits.max(axis=1, keepdims=True)
    log_sums = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
    return float((log_sums - logits[np.arange(len(logits)), truth]).mean())


def expected_calibration_error(logits: FloatArray, truth: Any, *, kind: str = "one_class") -> float:
    """Return the mean gap between confidence and accuracy over ten equal bins.

    Args:
        logits: shape (n_items, n_classes), calibrated and out of fold.
        truth: shape (n_items,) class indices, or (n_items, n_classes) of 0 and 1.
        kind: ``one_class`` or ``several_classes``.

    Returns:
        From 0 (confidence equals accuracy) to 1.

    Source: Naeini, Cooper and Hauskrecht (2015); Guo et al. (2017), section 2.
    """
    probabilities = to_probabilities(logits, kind)
    if kind == "several_classes":
        confidence = np.maximum(probabilities, 1.0 - probabilities).ravel()
        right = ((probabilities > 0.5) == (np.asarray(truth) > 0.5)).ravel()
    else:
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(confidence[bins == index].mean() - right[bins == index].mean()) * (bins == index).mean()
        for index in np.unique(bins)
    ]
    return float(sum(gaps))
