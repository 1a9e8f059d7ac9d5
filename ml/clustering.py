"""Regions of the embedding space: principal axes, k-means and typical members.

Our own because the starts, the empty clusters and the use of a sample must be the same on every
machine, and because workers then need no further library (docs/decisions/0011).
"""

import numpy as np

from ml.arrays import FloatArray, IntArray

PCA_DIMS = 50
# k-means runs on a sample of a large pool; every image is assigned to the centres found.
KMEANS_SAMPLE = 5_000
KMEANS_ITERATIONS = 12
NEIGHBOURS = 20
# Neighbours of a large cluster's members are looked for in a sample of it.
NEIGHBOUR_SAMPLE = 500
BLOCK = 8_192


def principal_projection(points: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return the points on their first principal axes, (n, at most 50) float32.

    A sample and a few rounds of subspace iteration find the axes: only the leading ones matter.

    Args:
        points: shape (n, dim).
        rng: for the sample and the start.
    """
    centred = np.asarray(points, dtype=np.float32)
    centred = centred - centred.mean(axis=0)
    if centred.shape[1] <= PCA_DIMS:
        return centred
    sample = centred[rng.permutation(len(centred))[:2_000]]
    axes = np.linalg.qr(rng.standard_normal((centred.shape[1], PCA_DIMS)).astype(np.float32))[0]
    for _ in range(6):
        axes = np.linalg.qr(sample.T @ (sample @ axes))[0]
    return centred @ axes


def k_means(
    points: FloatArray,
    n_clusters: int,
    rng: np.random.Generator,
    *,
    weights: FloatArray | None = None,
) -> tuple[IntArray, FloatArray]:
    """Return the cluster of each point and the centres; equal points share a cluster.

    Clusters may stay empty. Starts are spread by k-means++ (Arthur and Vassilvitskii, 2007).

    Args:
        points: shape (n, dim).
        n_clusters: at most so many.
        rng: for the starts.
        weights: shape (n,), how much each point pulls its centre; all alike without.
    """
    pull = np.ones(len(points), np.float32) if weights is None else weights.astype(np.float32)
    chosen = rng.permutation(len(points))[:KMEANS_SAMPLE]
    sample, sample_pull = points[chosen], pull[chosen]
    centres = sample[_spread_starts(sample, sample_pull, n_clusters, rng)].copy()
    for _ in range(KMEANS_ITERATIONS):
        cluster = nearest_centre(sample, centres)
        mass = np.bincount(cluster, weights=sample_pull, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, cluster, sample * sample_pull[:, None])
        filled = mass > 0
        moved = centres.copy()
        moved[filled] = sums[filled] / mass[filled, None]
        if np.allclose(moved, centres, atol=1e-6):
            break
        centres = moved
    return nearest_centre(points, centres), centres


def _spread_starts(
    points: FloatArray, weights: FloatArray, n: int, rng: np.random.Generator
) -> IntArray:
    """Draw starts one by one, each with a chance that grows with its distance to the former.

    Of a few draws the one that leaves the points nearest to a start is kept: the greedy variant,
    which misses a group far less often.
    """
    starts = [int(rng.integers(len(points)))]
    lengths = squared_lengths(points)
    distance = squared_distances(points, lengths, starts[-1])
    n_draws = 2 + int(np.log(max(n, 1)))
    while len(starts) < min(n, len(points)):
        chance = distance * weights
        total = chance.sum(dtype=np.float64)
        if total <= 0:
            break
        drawn = [draw(chance, total, rng) for _ in range(n_draws)]
        left = [np.minimum(distance, squared_distances(points, lengths, index)) for index in drawn]
        best = int(np.argmin([rest @ weights for rest in left]))
        starts.append(drawn[best])
        distance = left[best]
    return np.array(starts)


def draw(chance: FloatArray, total: float, rng: np.random.Generator) -> int:
    """Draw one index with chances proportional to ``chance``, whose sum is ``total``."""
    drawn = int(np.searchsorted(np.cumsum(chance, dtype=np.float64), rng.random() * total, "right"))
    return min(drawn, len(chance) - 1)


def squared_lengths(points: FloatArray) -> FloatArray:
    """Return each point's squared distance to the origin, (n,)."""
    return np.einsum("ij,ij->i", points, points)


def squared_distances(points: FloatArray, lengths: FloatArray, to: int) -> FloatArray:
    """Return each point's squared distance to one of them, (n,), never below 0.

    Args:
        points: shape (n, dim).
        lengths: shape (n,), their :func:`squared_lengths`.
        to: index of the one.
    """
    return np.maximum(lengths - 2.0 * (points @ points[to]) + lengths[to], 0.0)


def nearest_centre(points: FloatArray, centres: FloatArray) -> IntArray:
    """Return the index of the centre nearest to each point, (n,)."""
    lengths = squared_lengths(centres)
    parts = [
        (lengths - 2.0 * points[start : start + BLOCK] @ centres.T).argmin(axis=1)
        for start in range(0, len(points), BLOCK)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def nearest_points(points: FloatArray, centres: FloatArray) -> IntArray:
    """Return for each centre its nearest point; each point once, so they may be fewer.

    Args:
        points: shape (n, dim).
        centres: shape (n_centres, dim).
    """
    lengths = squared_lengths(points)
    distance = lengths - 2.0 * centres @ points.T
    return np.array(list(dict.fromkeys(distance.argmin(axis=1).tolist())), dtype=np.int64)


def by_typicality(points: FloatArray, members: IntArray, rng: np.random.Generator) -> IntArray:
    """Return a cluster's members, the most typical first.

    Typicality is one over the mean distance to the nearest neighbours inside the cluster.

    Args:
        points: shape (n, dim), all points.
        members: which of them the cluster has.
        rng: draws the sample that neighbours are looked for in.

    Source: Hacohen, Dekel and Weinshall (2022), "Active learning on a budget", equation 4.
    """
    if len(members) <= 2:
        return members
    inside = points[members]
    sample = inside[rng.permutation(len(inside))[:NEIGHBOUR_SAMPLE]]
    squared = squared_lengths(inside)[:, None] + squared_lengths(sample) - 2.0 * inside @ sample.T
    near = min(NEIGHBOURS, squared.shape[1] - 1)
    closest = np.partition(squared, near, axis=1)[:, : near + 1]
    mean_distance = np.sqrt(np.maximum(closest, 0.0)).mean(axis=1)
    return members[np.argsort(mean_distance, kind="stable")]
