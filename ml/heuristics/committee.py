"""Disagreement of a committee: several heads' probabilities to one score per image."""

import numpy as np

from ml.arrays import BadArrayError, FloatArray, check_label_probabilities, check_probabilities
from ml.heuristics.uncertainty import MOST_UNCERTAIN_LABELS


def variation_ratio(members: FloatArray) -> FloatArray:
    """Return the share of members that vote against the most popular class, scaled to 0..1.

    Args:
        members: shape (n_members, n_items, n_classes), rows summing to 1.

    Returns:
        Shape (n_items,), from 0 (all vote alike) to 1 (the votes are spread as far as can be).

    Raises:
        BadArrayError: fewer than two members, or not probabilities.

    Source: Freeman (1965), "Elementary applied statistics"; Beluch et al. (2018), "The power of
    ensembles for active learning in image classification".
    """
    _check_members(members)
    n_members, n_items, n_classes = members.shape
    votes = members.argmax(axis=2)
    counts = np.zeros((n_items, n_classes), dtype=np.int64)
    for vote in votes:
        counts[np.arange(n_items), vote] += 1
    most_popular = counts.max(axis=1)
    fewest = -(-n_members // min(n_members, n_classes))
    return (n_members - most_popular) / (n_members - fewest)


def bald(members: FloatArray) -> FloatArray:
    """Return what the members' disagreement adds to the entropy of their mean, over ln K.

    Args:
        members: shape (n_members, n_items, n_classes), rows summing to 1.

    Returns:
        Shape (n_items,), from 0 (all members agree, however unsure) to 1.

    Raises:
        BadArrayError: fewer than two members, or not probabilities.

    Source: Houlsby et al. (2011), "Bayesian active learning for classification and preference
    learning", equation 2.
    """
    _check_members(members)
    gained = _nats(members.mean(axis=0)) - _nats(members).mean(axis=0)
    return np.clip(gained / np.log(members.shape[2]), 0.0, 1.0)


def _nats(probabilities: FloatArray) -> FloatArray:
    logs = np.log(probabilities, where=probabilities > 0, out=np.zeros_like(probabilities))
    return -(probabilities * logs).sum(axis=-1)


def _check_members(members: FloatArray) -> None:
    if members.ndim != 3 or len(members) < 2:
        raise BadArrayError("a committee needs at least two members")
    for member in members:
        check_probabilities(member)


def for_several_classes(members: FloatArray, name: str) -> FloatArray:
    """Return the score of a committee where an image can have several classes.

    Each label is a question with two answers; the image's score is the mean over its most
    disputed labels.

    Args:
        members: shape (n_members, n_items, n_classes), independent probabilities.
        name: ``variation_ratio`` or ``bald``.
    """
    for member in members:
        check_label_probabilities(member)
    n_members, n_items, n_classes = members.shape
    clipped = np.clip(members, 0.0, 1.0)
    pairs = np.stack([clipped, 1.0 - clipped], axis=-1).reshape(n_members, -1, 2)
    score = {"variation_ratio": variation_ratio, "bald": bald}[name]
    each = score(pairs).reshape(n_items, n_classes)
    n_top = min(MOST_UNCERTAIN_LABELS, n_classes)
    return np.partition(each, n_classes - n_top, axis=1)[:, -n_top:].mean(axis=1)
