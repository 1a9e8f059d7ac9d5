"""Selection: from scores (or nothing yet) to the order in which images are served."""

from dataclasses import dataclass

import numpy as np

from ml.arrays import BoolArray, FloatArray, IntArray, check_table

# Photographs whose embeddings are this close show the same thing (series, crops, re-encodings).
NEAR_DUPLICATE_COSINE = 0.97


@dataclass(frozen=True)
class Selection:
    """Which candidates are served, in which order.

    Attributes:
        order: shape (n,), indices of images, first is served first.
        explored: shape (n,), drawn at random instead of by score.
        draw_probability: shape (n,), the probability of that draw; NaN where there was none.
    """

    order: IntArray
    explored: BoolArray
    draw_probability: FloatArray


def rank_candidates(scores: FloatArray, *, tie_order: IntArray, n: int | None = None) -> IntArray:
    """Return the indices by falling score; equal scores by rising ``tie_order``.

    Args:
        scores: shape (n_items,), finite, higher is asked sooner.
        tie_order: shape (n_items,), any fixed numbers, so that ties never follow the storage order.
        n: only so many of the first; all without.

    Raises:
        BadArrayError: a score is not finite.
    """
    check_table(scores[:, None], "scores")
    if n is None or n >= len(scores):
        return np.lexsort((tie_order, -scores))
    # All as high as the n-th are sorted: a partition alone would break ties by chance.
    lowest = np.partition(scores, len(scores) - n)[len(scores) - n]
    high = np.flatnonzero(scores >= lowest)
    return high[np.lexsort((tie_order[high], -scores[high]))][:n]


def class_weights(counts: IntArray) -> FloatArray:
    """Return how much an image that looks like each class is worth, 0 to 1, rare classes most.

    Args:
        counts: shape (n_classes,), labels of each class.

    Returns:
        Shape (n_classes,), proportional to 1 / sqrt(count + 1), the rarest class at 1.
    """
    weights = 1.0 / np.sqrt(np.asarray(counts, dtype=np.float64) + 1.0)
    scaled: FloatArray = (weights / weights.max()).astype(np.float32)
    return scaled


def defer_near_duplicates(embeddings: FloatArray, *, n_first: int) -> IntArray:
    """Return an order whose first images are not nearly alike; those left out follow them.

    Args:
        embeddings: shape (n, dim), in the order of the ranking.
        n_first: how many images must differ from each other.

    Returns:
        Shape (n,), indices. When too few images differ, the first ones are as many as do.
    """
    points = np.asarray(embeddings, dtype=np.float32)
    lengths = np.linalg.norm(points, axis=1)
    points = points / np.maximum(lengths, 1e-12)[:, None]
    kept: list[int] = []
    deferred: list[int] = []
    for index in range(len(points)):
        if len(kept) == n_first:
            break
        alike = points[kept] @ points[index] if kept else np.empty(0)
        # An embedding of zeros says nothing, so it is nobody's duplicate.
        is_copy = lengths[index] > 0 and bool((alike >= NEAR_DUPLICATE_COSINE).any())
        (deferred if is_copy else kept).append(index)
    rest = range(len(kept) + len(deferred), len(points))
    return np.array([*kept, *deferred, *rest], dtype=np.int64)


def mix_exploration(
    ranked: IntArray,
    random_list: IntArray,
    *,
    share: float,
    n_positions: int,
    pool_size: int,
) -> Selection:
    """Spread random images evenly through a ranking.

    Position k (from 0) explores when ``floor((k + 1) * share) > floor(k * share)``; it takes the
    next image of the random list that is not placed yet.

    Args:
        ranked: shape (n_ranked,), distinct indices, best first.
        random_list: shape (n_pool,), distinct indices in random order.
        share: 0 (never) to 1 (always).
        n_positions: how many positions to fill at most.
        pool_size: how many images the random draw is from.
    """
    placed: set[int] = set()
    by_score = iter(ranked.tolist())
    at_random = iter(random_list.tolist())
    order: list[int] = []
    explored: list[bool] = []
    probability: list[float] = []
    while len(order) < n_positions:
        position = len(order)
        explores = int((position + 1) * share + 1e-9) > int(position * share + 1e-9)
        chosen = next((i for i in (at_random if explores else by_score) if i not in placed), None)
        if chosen is None and not explores:
            break
        if chosen is None:
            explores = False
            chosen = next((i for i in by_score if i not in placed), None)
            if chosen is None:
                break
        placed.add(chosen)
        order.append(chosen)
        explored.append(explores)
        probability.append(1.0 / (pool_size - position) if explores else np.nan)
    return Selection(
        np.array(order, dtype=np.int64),
        np.array(explored, dtype=bool),
        np.array(probability, dtype=np.float64),
    )
