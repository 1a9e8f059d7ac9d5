"""Uncertainty of one head: class probabilities to one score per image.

Every score lies from 0 (the model is sure) to 1 (it has no clue), so that they can be shown beside
each other. Higher always means *ask sooner*.
"""

from collections.abc import Callable

import numpy as np

from ml.arrays import FloatArray, IntArray, check_label_probabilities, check_probabilities

# How many of an image's most uncertain labels count when an image can have several.
MOST_UNCERTAIN_LABELS = 3
GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def margin(probabilities: FloatArray) -> FloatArray:
    """Return 1 minus the gap between the two most likely classes.

    Args:
        probabilities: shape (n_items, n_classes), rows summing to 1.

    Returns:
        Shape (n_items,), from 0 (one class is certain) to 1 (two classes are equally likely).

    Raises:
        BadArrayError: not a table of probabilities.

    Source: Scheffer, Decomain and Wrobel (2001), "Active hidden Markov models"; Joshi et al.
    (2009), "Multi-class active learning for image classification".
    """
    check_probabilities(probabilities)
    first, second = two_highest(probabilities)
    return np.clip(1.0 - (first - second), 0.0, 1.0)


def two_highest(table: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the highest and the second highest number of each row.

    One pass over the columns: sorting or partitioning short rows takes about five times as long.

    Args:
        table: shape (n_items, n_classes), at least two classes.
    """
    first = np.maximum(table[:, 0], table[:, 1])
    second = np.minimum(table[:, 0], table[:, 1])
    for column in table.T[2:]:
        np.maximum(second, np.minimum(first, column), out=second)
        np.maximum(first, column, out=first)
    return first, second


def least_confidence(probabilities: FloatArray) -> FloatArray:
    """Return how far the most likely class is from certain, scaled by K/(K-1).

    Args:
        probabilities: shape (n_items, n_classes), rows summing to 1.

    Returns:
        Shape (n_items,), from 0 (certain) to 1 (all classes equally likely).

    Raises:
        BadArrayError: not a table of probabilities.

    Source: Lewis and Gale (1994), "A sequential algorithm for training text classifiers".
    """
    check_probabilities(probabilities)
    n_classes = probabilities.shape[1]
    doubt = 1.0 - probabilities.max(axis=1)
    return np.clip(doubt * n_classes / (n_classes - 1), 0.0, 1.0)


def entropy(probabilities: FloatArray) -> FloatArray:
    """Return the Shannon entropy of each item's distribution, divided by ln K.

    Args:
        probabilities: shape (n_items, n_classes), rows summing to 1.

    Returns:
        Shape (n_items,), from 0 (certain) to 1 (all classes equally likely).

    Raises:
        BadArrayError: not a table of probabilities.

    Source: Shannon (1948); Settles (2009), "Active learning literature survey", section 3.1.
    """
    check_probabilities(probabilities)
    logs = np.log(probabilities, where=probabilities > 0, out=np.zeros_like(probabilities))
    nats = -(probabilities * logs).sum(axis=1)
    return np.clip(nats / np.log(probabilities.shape[1]), 0.0, 1.0)


def population_variance(probabilities: FloatArray) -> FloatArray:
    """Return the variance of each item's class probabilities, divided by K (not K-1).

    Args:
        probabilities: shape (n_items, n_classes), rows summing to 1.

    Returns:
        Shape (n_items,), from 0 (all equal) to (K-1)/K**2 (one class is certain).

    Source: Hasty's documentation of its Variance heuristic (cloudfactory.com wiki). Its example
    (0.5, 0.45, 0.05) is 0.0406 by this formula; its second one is 0.0022, not the 0.0067 printed
    there, which is the sum of squares before the division by K.
    """
    check_probabilities(probabilities)
    n_classes = probabilities.shape[1]
    return ((probabilities - 1.0 / n_classes) ** 2).sum(axis=1) / n_classes


def variance(probabilities: FloatArray) -> FloatArray:
    """Return 1 minus Hasty's variance scaled to its maximum: the lowest variance is asked first.

    Args:
        probabilities: shape (n_items, n_classes), rows summing to 1.

    Returns:
        Shape (n_items,), from 0 (one class is certain) to 1 (all classes equally likely).

    Raises:
        BadArrayError: not a table of probabilities.

    Source: as :func:`population_variance`. It orders exactly as the Gini impurity.
    """
    spread = population_variance(probabilities)
    n_classes = probabilities.shape[1]
    scaled = spread * n_classes**2 / (n_classes - 1)
    return np.clip(1.0 - scaled, 0.0, 1.0)


def random(keys: IntArray, seed: int) -> FloatArray:
    """Return one uniform number per item: the baseline, and reproducible.

    An item's number depends on its key and the seed alone, not on what else is in the pool.

    Args:
        keys: shape (n_items,), a fixed number of each item.
        seed: the same seed gives the same numbers.

    Returns:
        Shape (n_items,), float64, from 0 to below 1.

    Source: Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators"
    (the mixing function of SplitMix64).
    """
    mixed = np.asarray(keys).astype(np.uint64) + np.uint64((seed + 1) * GOLDEN_GAMMA % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) * 2.0**-53


def for_several_classes(score: Callable[[FloatArray], FloatArray]) -> Callable[..., FloatArray]:
    """Return the version of a heuristic for images that can have several classes.

    Each label is a question with two answers, scored by the heuristic on (q, 1 - q); the image's
    score is the mean over its most uncertain labels.
    """

    def scored(probabilities: FloatArray) -> FloatArray:
        check_label_probabilities(probabilities)
        n_items, n_classes = probabilities.shape
        clipped = np.clip(probabilities, 0.0, 1.0)
        pairs = np.stack([clipped, 1.0 - clipped], axis=-1).reshape(-1, 2)
        each = score(pairs).reshape(n_items, n_classes)
        n_top = min(MOST_UNCERTAIN_LABELS, n_classes)
        return np.partition(each, n_classes - n_top, axis=1)[:, -n_top:].mean(axis=1)

    return scored
