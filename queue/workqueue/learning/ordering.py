"""From a pool and a head to the order that is served."""

import dataclasses
from typing import Any

import numpy as np

from ml import policy, training
from ml.arrays import FloatArray, IntArray
from ml.heads import Head
from ml.heuristics import HEURISTICS, Predictions
from ml.ranking import Candidates, Ranker, RankingConfig, likeliest, top_classes
from ml.selection import Selection, mix_exploration
from workqueue.learning.heads import TrainedHead, head_config
from workqueue.learning.labels import LabelledSet, Pool
from workqueue.learning.predictions import Predicted
from workqueue.models import QueueSettings

N_TOP_CLASSES = 5


@dataclasses.dataclass(frozen=True)
class RankedPool:
    """The order to serve, as rows of the pool, with what is to be remembered of each."""

    heuristic: str
    selection: Selection
    scores: dict[int, float]  # row of the pool -> score
    top_classes: dict[int, list[tuple[int, float]]]  # row -> (class index, probability)
    n_candidates: int


@dataclasses.dataclass(frozen=True)
class Reembedded:
    """The candidates as a fine-tuned network sees them."""

    rows: IntArray  # (n,) rows of the pool
    vectors: FloatArray  # (n, dim)
    n_allowed: int  # by the rank budget; more than n when the time was up or files are unreadable


def rank_pool(
    pool: Pool,
    labelled: LabelledSet,
    trained: TrainedHead | None,
    config: QueueSettings,
    *,
    n_positions: int,
    seed: int,
    preferred: str = "",
    reembedded: Reembedded | None = None,
    predicted: Predicted | None = None,
) -> RankedPool:
    """Order the candidates the rank budget allows, mixed with the exploration share.

    Args:
        pool: the open images.
        labelled: the labels.
        trained: the head, or None before there is one.
        config: the project's queue settings.
        n_positions: how many images to order at most.
        seed: of everything drawn.
        preferred: what a replay found best, for the heuristic ``auto``.
        reembedded: the candidates, when a fine-tuned network has embedded them; ``labelled`` then
            holds its embeddings too.
        predicted: what an external model says, to be asked instead of the head; images it says
            nothing of follow in random order.
    """
    candidates = reembedded.rows if reembedded else candidate_rows(pool, config, seed)
    if predicted:
        candidates = predicted.among(candidates)
    counts = labelled.class_counts
    name = policy.heuristic_now(
        config.heuristic,
        counts,
        batch_size=config.batch_size,
        preferred=preferred or None,
        has_predictions=predicted is not None,
    )
    if not (trained or predicted) and HEURISTICS[name].needs not in {"nothing", "embeddings"}:
        name = policy.COLD_START
    head = trained.head if trained else None
    ranker = Ranker(
        RankingConfig(
            name,
            config.batch_size,
            spread_duplicates=config.spread_duplicates,
            balance_classes=config.balance_classes,
        ),
        head,
        _committee(name, labelled, config, seed),
        seed=seed,
    )
    ranked = ranker.rank(
        Candidates.of(reembedded.vectors, _tie_order(name, pool, candidates))
        if reembedded
        else Candidates(
            gather=lambda which: pool.vectors(candidates[which]),
            tie_order=_tie_order(name, pool, candidates),
            predictions=_predictions(predicted, candidates),
        ),
        labelled.view,
        n_positions=n_positions,
    )
    selection = mix_exploration(
        candidates[ranked.order],
        np.argsort(pool.random_keys, kind="stable"),
        share=config.exploration_share,
        n_positions=n_positions,
        pool_size=len(pool),
    )
    scores = dict(
        zip(candidates[ranked.order].tolist(), ranked.scores[ranked.order].tolist(), strict=True)
    )
    return RankedPool(
        heuristic=name,
        selection=selection,
        scores={row: score for row, score in scores.items() if not np.isnan(score)},
        top_classes=_said_by(predicted, selection.order)
        if predicted
        else _top_classes(head, pool, selection.order, reembedded),
        n_candidates=len(candidates),
    )


def _committee(name: str, labelled: LabelledSet, config: QueueSettings, seed: int) -> list[Head]:
    if HEURISTICS[name].needs != "committee":
        return []
    return list(
        training.fit_committee(
            labelled.vectors,
            labelled.targets,
            n_classes=len(labelled.class_ids),
            kind=labelled.kind,
            seed=seed,
            config=head_config(config),
        )
    )


def _predictions(predicted: Predicted | None, candidates: IntArray) -> Predictions | None:
    if predicted is None:
        return None
    table = predicted.of(candidates)
    return Predictions(predicted.kind, lambda which: table[which])


def _said_by(predicted: Predicted, rows: IntArray) -> dict[int, Any]:
    known = predicted.among(rows)
    return dict(zip(known.tolist(), likeliest(predicted.of(known), N_TOP_CLASSES), strict=True))


def _tie_order(name: str, pool: Pool, candidates: IntArray) -> IntArray:
    """Return what decides between equals: the random list, or the file order if asked for."""
    return (pool.image_ids if name == "none" else pool.random_keys)[candidates]


def _top_classes(
    head: Head | None, pool: Pool, rows: IntArray, reembedded: Reembedded | None
) -> dict[int, Any]:
    if reembedded:
        # Of what it has not seen (drawn at random, outside the budget) the network says nothing.
        rows = rows[np.isin(rows, reembedded.rows)]
    if head is None or not len(rows):
        return {}
    if reembedded:
        by_row = np.argsort(reembedded.rows)
        places = by_row[np.searchsorted(reembedded.rows, rows, sorter=by_row)]
        vectors = reembedded.vectors[places]
    else:
        vectors = pool.vectors(rows)
    found = top_classes(head, vectors, N_TOP_CLASSES)
    return dict(zip(rows.tolist(), found, strict=True))


def candidate_rows(pool: Pool, config: QueueSettings, seed: int) -> IntArray:
    """Return the rows of the pool the rank budget allows, drawn at random."""
    size = config.n_candidates(len(pool))
    if size >= len(pool):
        return np.arange(len(pool))
    drawn = np.random.default_rng(seed).choice(len(pool), size=size, replace=False)
    return np.sort(drawn)
