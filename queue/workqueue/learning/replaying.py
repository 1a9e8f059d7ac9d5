"""The bake-off of a project: heuristics replayed on the labels it has."""

import dataclasses
from typing import Any

import numpy as np

from ml import replay
from ml.replay import KnownSet, ReplayConfig, ReplayedCurve
from workqueue.learning.heads import head_config
from workqueue.learning.labels import LabelledSet
from workqueue.models import QueueSettings

REPLAY_FROM = 60
# With fewer random images than this the test set is made of chosen ones too.
TEST_FROM = 50
MOST_POINTS = 12
SMALLEST_BATCH = 5


class TooFewLabelsError(Exception):
    """There is too little to replay; the text says how much is needed."""


@dataclasses.dataclass(frozen=True)
class BakeOff:
    """What a replay of a project runs on.

    Attributes:
        pool: labels that can be asked for.
        test: labels that accuracy is measured on.
        config: how to run.
        is_indicative: the test set is no random sample of the collection.
    """

    pool: KnownSet
    test: KnownSet
    config: ReplayConfig
    is_indicative: bool


def bake_off(labelled: LabelledSet, config: QueueSettings, *, batch_size: int) -> BakeOff:
    """Split a project's labels into what is replayed and what is measured on.

    Raises:
        TooFewLabelsError: fewer than sixty labels, or only one class.
    """
    n = len(labelled)
    if n < REPLAY_FROM or int((labelled.class_counts > 0).sum()) < 2:
        raise TooFewLabelsError(
            f"A bake-off needs at least {REPLAY_FROM} labels of two classes; there are {n}."
        )
    # A random part of a random sample is one too: what is not needed to measure is replayed.
    rng = np.random.default_rng(0)
    test_rows = rng.permutation(np.flatnonzero(labelled.measured))[: max(TEST_FROM, n // 3)]
    is_indicative = len(test_rows) < TEST_FROM or n - len(test_rows) < n // 3
    if is_indicative:
        test_rows = rng.permutation(n)[: n // 3]
    is_test = np.zeros(n, dtype=bool)
    is_test[test_rows] = True
    vectors = np.asarray(labelled.vectors, dtype=np.float32)

    def part(rows: Any) -> KnownSet:
        n_classes = len(labelled.class_ids)
        return KnownSet(vectors[rows], labelled.targets[rows], n_classes, labelled.kind)

    pool = part(~is_test)
    # Beyond half of the pool every order has asked for much the same.
    n_labels = len(pool) // 2
    size = max(SMALLEST_BATCH, min(batch_size, n_labels // 4), -(-n_labels // MOST_POINTS))
    settings = ReplayConfig(
        batch_size=size, n_labels=n_labels, random_start=False, head=head_config(config)
    )
    return BakeOff(pool, part(is_test), settings, is_indicative)


def replay_once(bake: BakeOff, heuristic: str, *, seed: int) -> dict[str, Any]:
    """Replay one heuristic with one seed; return its curve as plain numbers."""
    curve = replay.replay_curve(bake.pool, bake.test, heuristic, seed=seed, config=bake.config)
    return dataclasses.asdict(curve)


def summary(bake: BakeOff, curves: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the table of a bake-off.

    Args:
        bake: what it ran on.
        curves: heuristic -> one curve per seed.
    """
    rows = replay.summarise(
        {name: [ReplayedCurve(**curve) for curve in found] for name, found in curves.items()}
    )
    return {
        "rows": [dataclasses.asdict(row) | {"is_real": row.is_real} for row in rows],
        "n_pool": len(bake.pool),
        "n_test": len(bake.test),
        "is_indicative": bake.is_indicative,
        "better_than_auto": replay.better_than(rows, "auto"),
    }
