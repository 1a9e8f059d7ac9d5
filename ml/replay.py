"""Replays: what a heuristic would have reached on labels that are known already.

The same code runs a project's bake-off and the published benchmark, and it ranks with the same
:class:`ml.ranking.Ranker` as the queue.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ml.arrays import FloatArray, IntArray
from ml.evaluation import MeanDifference, holm, paired_difference, sign_flip_p_value
from ml.heads import Head
from ml.heuristics import HEURISTICS
from ml.policy import heuristic_now
from ml.ranking import Candidates, LabelledView, Ranker, RankingConfig
from ml.training import HeadConfig, NotEnoughLabelsError, fit_committee, fit_head

BASELINE = "random"
SIGNIFICANT = 0.05
WORTH_CHANGING = 0.005


@dataclass(frozen=True)
class KnownSet:
    """Embeddings whose labels are known.

    Attributes:
        embeddings: shape (n, dim).
        targets: shape (n,) class indices, or (n, n_classes) of 0 and 1.
        n_classes: how many classes there are.
        kind: ``one_class`` or ``several_classes``.
    """

    embeddings: FloatArray
    targets: Any
    n_classes: int
    kind: str = "one_class"

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True)
class ReplayConfig:
    """How a replay runs.

    Attributes:
        batch_size: labels from one ranking to the next; the first batch is as large.
        n_labels: where the curve ends.
        random_start: the first batch is drawn at random, the same for all heuristics of a seed;
            otherwise each starts as the product does.
        exploration_share: this part of each batch is drawn at random.
        balanced_accuracy: measure the mean recall of the classes instead of the share right.
        head: how the head is fitted.
    """

    batch_size: int = 20
    n_labels: int = 500
    random_start: bool = True
    exploration_share: float = 0.0
    balanced_accuracy: bool = False
    head: HeadConfig = field(default_factory=HeadConfig)


@dataclass(frozen=True)
class ReplayedCurve:
    """One heuristic with one seed.

    Attributes:
        n_labels: shape (n_points,).
        accuracy: shape (n_points,), on the test set, 0 to 1.
    """

    n_labels: list[int]
    accuracy: list[float]

    @property
    def area(self) -> float:
        """Mean accuracy over the curve (the labels are a uniform grid)."""
        return float(np.mean(self.accuracy))


@dataclass(frozen=True)
class Point:
    """Where a replay stands after a batch.

    Attributes:
        labelled: shape (n_labels,), rows of the pool, in the order they were asked.
        random_list: shape (n_pool,), the place of each row in the random list.
        head: fitted on the labelled rows.
    """

    labelled: IntArray
    random_list: IntArray
    head: Head


def replay_curve(
    pool: KnownSet,
    test: KnownSet,
    heuristic: str,
    *,
    seed: int,
    config: ReplayConfig,
    on_point: Callable[[Point], None] | None = None,
) -> ReplayedCurve:
    """Label a known pool in the order of a heuristic and measure after every batch.

    Args:
        pool: what can be asked for.
        test: what accuracy is measured on; none of it is in the pool.
        heuristic: a name of the registry, or ``auto``.
        seed: of the start and of everything drawn.
        config: how to run.
        on_point: called after every batch that had a head.
    """
    rng = np.random.default_rng(seed)
    ties = rng.permutation(len(pool))
    labelled: list[int] = []
    is_open = np.ones(len(pool), dtype=bool)
    n_labels: list[int] = []
    accuracy: list[float] = []
    head: Head | None = None
    while len(labelled) < min(config.n_labels, len(pool)):
        wanted = min(config.batch_size, config.n_labels - len(labelled))
        open_rows = np.flatnonzero(is_open)
        if not labelled and config.random_start:
            batch: IntArray = np.random.default_rng([seed, 1]).permutation(len(pool))[:wanted]
        else:
            batch = _next_batch(
                pool, np.array(labelled, dtype=np.int64), open_rows, ties, head, heuristic,
                wanted, config, [seed, len(labelled)],
            )  # fmt: skip
        labelled += batch.tolist()
        is_open[batch] = False
        head = _fit(pool, labelled, config, seed)
        n_labels.append(len(labelled))
        accuracy.append(_accuracy(head, test, balanced=config.balanced_accuracy))
        if on_point and head:
            on_point(Point(np.array(labelled), ties, head))
    return ReplayedCurve(n_labels, accuracy)


def _fit(pool: KnownSet, labelled: Sequence[int], config: ReplayConfig, seed: int) -> Head | None:
    rows = np.array(labelled)
    try:
        return fit_head(
            pool.embeddings[rows], pool.targets[rows], n_classes=pool.n_classes, kind=pool.kind,
            seed=seed, config=config.head,
        )  # fmt: skip
    except NotEnoughLabelsError:
        return None


def _next_batch(
    pool: KnownSet,
    labelled: IntArray,
    open_rows: IntArray,
    ties: IntArray,
    head: Head | None,
    heuristic: str,
    wanted: int,
    config: ReplayConfig,
    seed: list[int],
) -> IntArray:
    counts = class_counts(pool.targets[labelled], pool.n_classes, pool.kind)
    name = heuristic_now(heuristic, counts, batch_size=config.batch_size)
    if config.random_start and labelled.size and head is not None:
        # Every heuristic is compared from the same start, so none gets a coverage batch more.
        name = heuristic_now(heuristic, np.maximum(counts, 2), batch_size=1)
    rng = np.random.default_rng(seed)
    n_random = int(rng.binomial(wanted, config.exploration_share))
    # The next of the random list, as the queue does it.
    drawn = open_rows[np.argsort(ties[open_rows])][:n_random]
    rest = np.setdiff1d(open_rows, drawn)
    members: list[Head] = []
    if HEURISTICS[name].needs == "committee":
        members += fit_committee(
            pool.embeddings[labelled], pool.targets[labelled], n_classes=pool.n_classes,
            kind=pool.kind, seed=seed[1], config=config.head,
        )  # fmt: skip
    ranker = Ranker(RankingConfig(name, wanted), head, members, seed=seed[0] * 100_003 + seed[1])
    ranked = ranker.rank(
        Candidates.of(pool.embeddings[rest], ties[rest]),
        LabelledView(pool.embeddings[labelled], counts),
        n_positions=wanted - len(drawn),
    )
    return np.concatenate([drawn, rest[ranked.order[: wanted - len(drawn)]]]).astype(np.int64)


def class_counts(targets: Any, n_classes: int, kind: str) -> IntArray:
    """Return how many labels each class has, (n_classes,)."""
    if kind == "several_classes":
        return np.asarray(targets).reshape(-1, n_classes).sum(axis=0).astype(np.int64)
    return np.bincount(np.asarray(targets, dtype=np.int64), minlength=n_classes)


def _accuracy(head: Head | None, test: KnownSet, *, balanced: bool) -> float:
    if head is None:
        return 1.0 / test.n_classes
    logits = head.logits(test.embeddings)
    if test.kind == "several_classes":
        return float(((logits > 0) == (test.targets > 0.5)).all(axis=1).mean())
    right = logits.argmax(axis=1) == test.targets
    if not balanced:
        return float(right.mean())
    return float(np.mean([right[test.targets == c].mean() for c in np.unique(test.targets)]))


@dataclass(frozen=True)
class ReplayedHeuristic:
    """One heuristic over all seeds, against random.

    Attributes:
        heuristic: its name.
        n_labels: shape (n_points,).
        mean: shape (n_points,), mean accuracy over the seeds.
        area: mean over the seeds of the mean accuracy over the curve.
        against_random: difference of the areas, paired by seed, with its interval.
        labels_saved: share of the labels saved to be as good as random's end; None when never.
        areas: the area of each seed.
        p_value: of the difference to random, adjusted for the number of heuristics (Holm).
    """

    heuristic: str
    n_labels: list[int]
    mean: list[float]
    area: float
    against_random: MeanDifference
    labels_saved: float | None
    areas: list[float]
    p_value: float

    @property
    def is_real(self) -> bool:
        """Whether the difference to random is more than chance, with all heuristics looked at."""
        return self.p_value < SIGNIFICANT


def summarise(curves: dict[str, list[ReplayedCurve]]) -> list[ReplayedHeuristic]:
    """Return each heuristic's mean curve and its difference to random, the best first.

    Args:
        curves: heuristic -> one curve per seed, seeds in the same order; ``random`` among them.
    """
    random_areas = [curve.area for curve in curves[BASELINE]]
    random_mean = np.mean([curve.accuracy for curve in curves[BASELINE]], axis=0)
    others = [name for name in curves if name != BASELINE]
    p_values = holm(
        [sign_flip_p_value([c.area for c in curves[name]], random_areas) for name in others]
    )
    p_value_of = dict(zip(others, p_values, strict=True))
    rows = []
    for name, of_seeds in curves.items():
        mean = np.mean([curve.accuracy for curve in of_seeds], axis=0)
        areas = [curve.area for curve in of_seeds]
        n_labels = of_seeds[0].n_labels
        rows.append(
            ReplayedHeuristic(
                heuristic=name,
                n_labels=n_labels,
                mean=[round(float(value), 4) for value in mean],
                area=float(np.mean(areas)),
                against_random=paired_difference(areas, random_areas),
                labels_saved=labels_saved(n_labels, mean, random_mean),
                areas=areas,
                p_value=p_value_of.get(name, 1.0),
            )
        )
    return sorted(rows, key=lambda row: -row.area)


def better_than(rows: Sequence[ReplayedHeuristic], name: str) -> str:
    """Return the best heuristic if it is really better than a named one, else nothing.

    Really means: by at least half a point of area, and more than chance explains when every
    heuristic of the table was tried.

    Args:
        rows: a table that holds the named one.
        name: the heuristic to beat.
    """
    reference = next((row for row in rows if row.heuristic == name), None)
    others = [row for row in rows if row.heuristic not in {name, BASELINE}]
    if reference is None or not others:
        return ""
    p_values = holm([sign_flip_p_value(row.areas, reference.areas) for row in others])
    best, p_value = max(zip(others, p_values, strict=True), key=lambda pair: pair[0].area)
    is_better = best.area - reference.area >= WORTH_CHANGING and p_value < SIGNIFICANT
    return best.heuristic if is_better else ""


def labels_saved(n_labels: Sequence[int], mean: FloatArray, baseline: FloatArray) -> float | None:
    """Return which share of the labels is saved to be as good as the baseline's end.

    Both curves are made monotone first: a noisy curve would reach its own end too early.

    Args:
        n_labels: shape (n_points,).
        mean: shape (n_points,), a heuristic's mean curve.
        baseline: shape (n_points,), random's.

    Returns:
        1 - (labels at which it gets there) / (labels at the end); None when it never does.
    """
    there = np.flatnonzero(np.maximum.accumulate(mean) >= np.maximum.accumulate(baseline)[-1])
    return None if not len(there) else float(1.0 - n_labels[there[0]] / n_labels[-1])
