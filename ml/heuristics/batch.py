"""Picking a batch that is diverse: from a shortlist to distinct images in an order.

A score alone fills a batch with images that are alike. These functions look at the embeddings too.
Each takes a :class:`Shortlist` and returns the indices of the images picked, first is served first.
"""

from dataclasses import dataclass

import numpy as np

from ml.arrays import FloatArray, IntArray
from ml.clustering import (
    by_typicality,
    draw,
    k_means,
    nearest_points,
    principal_projection,
    squared_distances,
    squared_lengths,
)

MAX_CLUSTERS = 300
# TypiClust leaves out clusters too small to have a typical member.
SMALLEST_CLUSTER = 5


@dataclass(frozen=True)
class Shortlist:
    """The candidates a batch is picked from.

    Attributes:
        embeddings: shape (n, dim), float32.
        scores: shape (n,), 0 to 1, higher is asked sooner.
        probabilities: shape (n, n_classes), or None before there is a head.
        labelled: shape (m, dim), float32, what has labels already.
    """

    embeddings: FloatArray
    scores: FloatArray
    probabilities: FloatArray | None
    labelled: FloatArray

    def __len__(self) -> int:
        return len(self.embeddings)


def _filled(picked: IntArray, shortlist: Shortlist, n: int) -> IntArray:
    """Fill a batch that came out too small by falling score."""
    taken = set(picked.tolist())
    rest = [index for index in np.argsort(-shortlist.scores, kind="stable") if index not in taken]
    return np.array([*picked.tolist(), *rest][:n], dtype=np.int64)


def diverse_margin(shortlist: Shortlist, n: int, rng: np.random.Generator) -> IntArray:
    """Cluster the most uncertain images, weighted by score; take the one nearest to each centre.

    Args:
        shortlist: the images with the highest scores.
        n: how many to pick.
        rng: for the starts of k-means.

    Returns:
        Shape (min(n, len(shortlist)),), by falling score.

    Source: Zhdanov (2019), "Diverse mini-batch active learning", section 3.
    """
    if n >= len(shortlist):
        return np.argsort(-shortlist.scores, kind="stable")
    points = principal_projection(shortlist.embeddings, rng)
    _, centres = k_means(points, n, rng, weights=np.maximum(shortlist.scores, 1e-6))
    picked = nearest_points(points, centres)
    picked = picked[np.argsort(-shortlist.scores[picked], kind="stable")]
    return _filled(picked, shortlist, n)


def cluster_margin(shortlist: Shortlist, n: int, rng: np.random.Generator) -> IntArray:
    """Take turns over clusters of the most uncertain images, the smallest cluster first.

    The paper clusters once by average linkage; k-means stands in for it here, because it needs no
    table of all pairs.

    Args:
        shortlist: the images with the highest scores.
        n: how many to pick.
        rng: for the starts of k-means.

    Returns:
        Shape (min(n, len(shortlist)),).

    Source: Citovsky et al. (2021), "Batch active learning at scale", algorithm 2.
    """
    points = principal_projection(shortlist.embeddings, rng)
    n_clusters = int(np.clip(n, 2, min(MAX_CLUSTERS, len(shortlist))))
    cluster_of, _ = k_means(points, n_clusters, rng)
    queues = [
        members[np.argsort(-shortlist.scores[members], kind="stable")]
        for cluster in range(n_clusters)
        if len(members := np.flatnonzero(cluster_of == cluster))
    ]
    return take_turns(sorted(queues, key=len), min(n, len(shortlist)))


def badge(shortlist: Shortlist, n: int, rng: np.random.Generator) -> IntArray:
    """Draw images by k-means++ on the gradients that their likeliest labels would cause.

    The gradient of the last layer is the outer product of ``p - one_hot(argmax p)`` and the
    embedding. Its inner products factor, so it is never written out: each pick costs
    n * (dim + n_classes).

    Args:
        shortlist: candidates with probabilities.
        n: how many to pick.
        rng: draws the images.

    Returns:
        Shape (min(n, len(shortlist)),).

    Source: Ash et al. (2020), "Deep batch active learning by diverse, uncertain gradient lower
    bounds", algorithm 1.
    """
    if shortlist.probabilities is None:
        raise ValueError("BADGE needs probabilities")
    residual = shortlist.probabilities - _pseudo_labels(shortlist.probabilities)
    points = shortlist.embeddings
    lengths = squared_lengths(residual) * squared_lengths(points)
    picked = [int(lengths.argmax())]
    distance = np.full(len(points), np.inf)
    while len(picked) < min(n, len(points)):
        last = picked[-1]
        products = (residual @ residual[last]) * (points @ points[last])
        distance = np.minimum(distance, np.maximum(lengths + lengths[last] - 2 * products, 0.0))
        distance[picked] = 0.0
        total = distance.sum(dtype=np.float64)
        if total <= 0:
            break
        picked.append(draw(distance, total, rng))
    return _filled(np.array(picked, dtype=np.int64), shortlist, min(n, len(points)))


def _pseudo_labels(probabilities: FloatArray) -> FloatArray:
    """Return the likeliest labels as 0 and 1; rows that sum to 1 have one each."""
    if np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-3):
        labels = np.zeros_like(probabilities)
        labels[np.arange(len(labels)), probabilities.argmax(axis=1)] = 1.0
        return labels
    return (probabilities > 0.5).astype(probabilities.dtype)


def k_center(shortlist: Shortlist, n: int, rng: np.random.Generator) -> IntArray:
    """Take the image farthest from everything labelled or picked, again and again.

    Args:
        shortlist: candidates; scores and probabilities are not looked at.
        n: how many to pick.
        rng: chooses the first image when nothing is labelled.

    Returns:
        Shape (min(n, len(shortlist)),).

    Source: Gonzalez (1985); Sener and Savarese (2018), "Active learning for convolutional neural
    networks: a core-set approach", algorithm 1.
    """
    points = shortlist.embeddings
    lengths = squared_lengths(points)
    picked: list[int] = []
    distance = _distance_to_labelled(points, lengths, shortlist.labelled)
    if distance is None:
        picked = [int(rng.integers(len(points)))]
        distance = squared_distances(points, lengths, picked[0])
    distance[picked] = -1.0
    while len(picked) < min(n, len(points)):
        picked.append(int(distance.argmax()))
        distance = np.minimum(distance, squared_distances(points, lengths, picked[-1]))
        distance[picked] = -1.0
    return np.array(picked, dtype=np.int64)


def _distance_to_labelled(
    points: FloatArray, lengths: FloatArray, labelled: FloatArray
) -> FloatArray | None:
    if not len(labelled):
        return None
    nearest = np.full(len(points), np.inf, dtype=np.float32)
    for start in range(0, len(labelled), 256):
        some = labelled[start : start + 256]
        apart = lengths[:, None] - 2.0 * points @ some.T + squared_lengths(some)
        nearest = np.minimum(nearest, apart.min(axis=1))
    return np.maximum(nearest, 0.0)


def typiclust(shortlist: Shortlist, n: int, rng: np.random.Generator) -> IntArray:
    """Take the most typical image of each region, regions without a label first, large ones first.

    It follows TypiClust, with one clustering for the whole order instead of one per batch: once
    every cluster has given one image, they give their next.

    Args:
        shortlist: candidates; scores and probabilities are not looked at.
        n: how many to pick.
        rng: for the starts of k-means.

    Returns:
        Shape (min(n, len(shortlist)),).

    Source: Hacohen, Dekel and Weinshall (2022), "Active learning on a budget", section 3.
    """
    n_items, n_labelled = len(shortlist), len(shortlist.labelled)
    both = np.vstack([shortlist.embeddings, shortlist.labelled]) if n_labelled else None
    points = principal_projection(shortlist.embeddings if both is None else both, rng)
    n_clusters = int(np.clip(n_labelled + n, 2, min(MAX_CLUSTERS, max(n_items, 2))))
    cluster_of, _ = k_means(points, n_clusters, rng)
    in_pool = cluster_of[:n_items]
    covered = np.bincount(cluster_of[n_items:], minlength=n_clusters)
    sizes = np.bincount(in_pool, minlength=n_clusters)
    turn = sorted(
        range(n_clusters),
        key=lambda c: (covered[c] > 0, sizes[c] < SMALLEST_CLUSTER, -int(sizes[c])),
    )
    queues = [
        by_typicality(points[:n_items], np.flatnonzero(in_pool == cluster), rng) for cluster in turn
    ]
    return take_turns(queues, min(n_items, n))


def take_turns(queues: list[IntArray], n: int) -> IntArray:
    """Return the first of each queue, then the second of each, until there are n."""
    longest = max((len(queue) for queue in queues), default=0)
    order: list[int] = []
    for depth in range(longest):
        order += [int(queue[depth]) for queue in queues if depth < len(queue)]
        if len(order) >= n:
            break
    return np.array(order[:n], dtype=np.int64)
