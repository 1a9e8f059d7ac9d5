"""Scoring a whole pool, block by block, so that memory stays bounded."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ml.arrays import FloatArray, IntArray, check_finite
from ml.heads import LogisticHead, to_probabilities
from ml.heuristics import HEURISTICS


@dataclass(frozen=True)
class PoolScores:
    """One score per pool image, and what the head thinks of each.

    Attributes:
        scores: shape (n,), float32, 0 to 1, higher is asked sooner.
        top_classes: shape (n, n_top), class indices, most likely first.
        top_probabilities: shape (n, n_top), float32.
    """

    scores: FloatArray
    top_classes: IntArray
    top_probabilities: FloatArray


def score_pool(
    head: LogisticHead,
    heuristic: str,
    blocks: Iterable[FloatArray],
    *,
    seed: int,
    n_top_classes: int = 3,
) -> PoolScores:
    """Score all images of a pool with a head.

    Args:
        head: the trained head.
        heuristic: a name of :data:`ml.heuristics.HEURISTICS`.
        blocks: the embeddings, (m, dim) float16 each, in the order of the pool.
        seed: for the random heuristic.
        n_top_classes: how many of the most likely classes to keep.

    Raises:
        BadArrayError: an embedding is not finite; the error names its row in the pool.
    """
    scores, classes, probabilities = [], [], []
    n_top = min(n_top_classes, len(head.bias))
    weights, bias = head.folded()
    start = 0
    for index, block in enumerate(blocks):
        logits = np.asarray(block, dtype=np.float32) @ weights.T + bias
        check_finite(logits, f"embeddings of block {index} (from image {start})")
        table = to_probabilities(logits / head.temperature, head.kind)
        chosen = HEURISTICS[heuristic].score(table, kind=head.kind, seed=seed + start)
        top = np.argsort(-table, axis=1, kind="stable")[:, :n_top]
        scores.append(chosen.astype(np.float32))
        classes.append(top.astype(np.int32))
        probabilities.append(np.take_along_axis(table, top, axis=1).astype(np.float32))
        start += len(block)
    if not scores:
        nothing = np.empty((0, n_top), np.float32)
        return PoolScores(np.empty(0, np.float32), nothing.astype(np.int32), nothing)
    return PoolScores(
        np.concatenate(scores), np.concatenate(classes), np.concatenate(probabilities)
    )
