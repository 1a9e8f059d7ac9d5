"""Selection: from scores (or nothing yet) to the order in which images are served."""

from dataclasses import dataclass

import numpy as np

from ml.arrays import BoolArray, FloatArray, IntArray, check_table

PCA_DIMS = 50
# k-means runs on a sample of a large pool; every image is assigned to the centres found.
KMEANS_SAMPLE = 5_000
KMEANS_ITERATIONS = 12
MAX_CLUSTERS = 300
NEIGHBOURS = 20


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


def rank_candidates(scores: FloatArray, *, tie_order: IntArray) -> IntArray:
    """Return the indices by falling score; equal scores by rising ``tie_order``.

    Args:
        scores: shape (n,), finite, higher is asked sooner.
        tie_order: shape (n,), any fixed numbers, so that ties never follow the storage order.
    """
    check_table(scores[:, None], "scores")
    return np.lexsort((tie_order, -scores))


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


def coverage_order(
    embeddings: FloatArray,
    *,
    labelled: FloatArray | None,
    n_positions: int,
    per_round: int,
    seed: int,
) -> IntArray:
    """Return an order for a cold start: typical images first, each from another region.

    The pool is clustered; clusters without a labelled image come first, larger ones before smaller
    ones, and each gives its most typical image (the one closest to its neighbours). Once every
    cluster has given one, they give their next. It follows TypiClust, with one clustering for the
    whole order instead of one per batch.

    Args:
        embeddings: shape (n, dim), the pool.
        labelled: shape (m, dim), what has labels already, or None.
        n_positions: how many positions to fill.
        per_round: the batch size; it sets the number of clusters.
        seed: for the starts of k-means.

    Returns:
        Shape (min(n, n_positions),), indices into the pool.

    Source: Hacohen, Dekel and Weinshall (2022), "Active learning on a budget", section 3.
    """
    check_table(embeddings, "embeddings")
    n_items = len(embeddings)
    rng = np.random.default_rng(seed)
    n_labelled = 0 if labelled is None else len(labelled)
    both = embeddings if labelled is None or not n_labelled else np.vstack([embeddings, labelled])
    points = _project(both.astype(np.float32), rng)
    n_clusters = int(np.clip(n_labelled + per_round, 2, min(MAX_CLUSTERS, n_items)))
    cluster_of = _k_means(points, n_clusters, rng)
    in_pool = cluster_of[:n_items]
    covered = np.bincount(cluster_of[n_items:], minlength=n_clusters)
    sizes = np.bincount(in_pool, minlength=n_clusters)
    queues = [
        _by_typicality(points[:n_items], np.flatnonzero(in_pool == cluster), rng)
        for cluster in range(n_clusters)
    ]
    turn = sorted(range(n_clusters), key=lambda c: (covered[c] > 0, -int(sizes[c])))
    return _round_robin([queues[cluster] for cluster in turn], min(n_items, n_positions))


def _round_robin(queues: list[IntArray], n_positions: int) -> IntArray:
    longest = max((len(queue) for queue in queues), default=0)
    order: list[int] = []
    for depth in range(longest):
        order += [int(queue[depth]) for queue in queues if depth < len(queue)]
        if len(order) >= n_positions:
            break
    return np.array(order[:n_positions], dtype=np.int64)


def _project(points: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the points on their first principal axes, which a sample is enough to find."""
    centred = points - points.mean(axis=0)
    if centred.shape[1] <= PCA_DIMS:
        return centred
    sample = centred[rng.permutation(len(centred))[:2_000]]
    covariance = sample.T @ sample
    # A few rounds of subspace iteration: only the leading axes matter, and only roughly.
    axes = np.linalg.qr(rng.standard_normal((centred.shape[1], PCA_DIMS)).astype(np.float32))[0]
    for _ in range(6):
        axes = np.linalg.qr(covariance @ axes)[0]
    projected: FloatArray = centred @ axes
    return projected


def _k_means(points: FloatArray, n_clusters: int, rng: np.random.Generator) -> IntArray:
    """Return the cluster of each point; equal points share one, so clusters may stay empty."""
    sample = points[rng.permutation(len(points))[:KMEANS_SAMPLE]]
    centres = sample[rng.choice(len(sample), size=min(n_clusters, len(sample)), replace=False)]
    for _ in range(KMEANS_ITERATIONS):
        nearest = _nearest(sample, centres)
        counts = np.bincount(nearest, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, sample)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
    return _nearest(points, centres)


def _nearest(points: FloatArray, centres: FloatArray) -> IntArray:
    distances = (centres**2).sum(axis=1) - 2.0 * points @ centres.T
    return distances.argmin(axis=1)


def _by_typicality(points: FloatArray, members: IntArray, rng: np.random.Generator) -> IntArray:
    """Return a cluster's members, the most typical first.

    Typicality is one over the mean distance to the nearest neighbours. In a large cluster the
    neighbours are looked for in a sample of it.
    """
    if len(members) <= 2:
        return members
    inside = points[members]
    sample = inside[rng.permutation(len(inside))[:500]]
    squared = (inside**2).sum(axis=1)[:, None] + (sample**2).sum(axis=1) - 2.0 * inside @ sample.T
    near = min(NEIGHBOURS, squared.shape[1] - 1)
    closest = np.partition(squared, near, axis=1)[:, : near + 1]
    mean_distance = np.sqrt(np.maximum(closest, 0.0)).mean(axis=1)
    return members[np.argsort(mean_distance, kind="stable")]
