"""From a pool to the order in which it is served: score, shortlist, pick, spread.

The pool is read once, block by block, each core with its own blocks, so memory does not grow with
it. Only a shortlist of the highest scores is looked at twice.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ml.arrays import BadArrayError, FloatArray, IntArray, check_finite, rows_of
from ml.heads import Head
from ml.heuristics import HEURISTICS, Heuristic, Predictions, ScoredBlock, Shortlist
from ml.parallel import on_every_core
from ml.selection import class_weights, defer_near_duplicates, rank_candidates

# Large enough that the calls cost nothing, small enough for the columns to stay in the cache.
BLOCK_ROWS = 8_192
SHORTLIST_PER_PICK, SHORTLIST_LEAST, SHORTLIST_MOST = 10, 200, 20_000
# A batch is picked for diversity; people may be a batch ahead of the next round.
DIVERSE_BATCHES, DIVERSE_MOST = 2, 500


@dataclass(frozen=True)
class Candidates:
    """The images a ranking looks at.

    Attributes:
        gather: reads the embeddings of some candidates, (m, dim) float16; several threads at once,
            fastest for neighbours.
        tie_order: shape (n,), fixed numbers that decide between equal scores.
        predictions: what a model outside says of some candidates, to be asked instead of the head.
    """

    gather: Callable[[IntArray], FloatArray]
    tie_order: IntArray
    predictions: Predictions | None = None

    def __len__(self) -> int:
        return len(self.tie_order)

    @classmethod
    def of(cls, embeddings: FloatArray, tie_order: IntArray | None = None) -> "Candidates":
        """Return candidates that are in memory (or mapped).

        Args:
            embeddings: shape (n, dim).
            tie_order: shape (n,); the given order without.
        """
        ties = np.arange(len(embeddings)) if tie_order is None else tie_order
        return cls(lambda which: rows_of(embeddings, which), ties)


@dataclass(frozen=True)
class RankingConfig:
    """What a lead may choose about a ranking.

    Attributes:
        heuristic: a name of :data:`ml.heuristics.HEURISTICS`.
        batch_size: labels from one ranking to the next.
        spread_duplicates: images nearly like one already chosen wait until after the batch.
        balance_classes: images that look like a class with few labels come sooner.
    """

    heuristic: str
    batch_size: int = 20
    spread_duplicates: bool = True
    balance_classes: bool = False


@dataclass(frozen=True)
class LabelledView:
    """What a ranking knows of the labels.

    Attributes:
        embeddings: shape (m, dim).
        class_counts: shape (n_classes,), labels of each class.
    """

    embeddings: FloatArray
    class_counts: IntArray


@dataclass(frozen=True)
class RankedCandidates:
    """An order of candidates.

    Attributes:
        order: shape (n_positions,), indices of candidates, first is served first.
        scores: shape (n,), 0 to 1; NaN where the heuristic gives none.
    """

    order: IntArray
    scores: FloatArray


@dataclass
class Ranker:
    """Everything one ranking needs; :meth:`rank` does it."""

    config: RankingConfig
    head: Head | None
    members: list[Head] = field(default_factory=list)
    seed: int = 0

    @property
    def heuristic(self) -> Heuristic:
        """The heuristic of the registry."""
        return HEURISTICS[self.config.heuristic]

    def rank(
        self, candidates: Candidates, labelled: LabelledView, *, n_positions: int
    ) -> RankedCandidates:
        """Order the candidates.

        Args:
            candidates: the images to look at.
            labelled: what has labels.
            n_positions: how many to order at most.

        Raises:
            BadArrayError: an embedding is not finite; the error names its row.
            ValueError: the heuristic needs a head and there is none.
        """
        n_positions = min(n_positions, len(candidates))
        if not len(candidates):
            return RankedCandidates(np.empty(0, np.int64), np.empty(0, np.float32))
        scores = self._scores(candidates, labelled)
        order = self._by_score(scores, candidates, n_positions)
        if self.heuristic.pick:
            order = self._diverse_first(order, scores, candidates, labelled)
        elif self.config.spread_duplicates and self.heuristic.needs != "nothing":
            order = self._without_near_duplicates(order, candidates)
        return RankedCandidates(order[:n_positions], scores)

    # --- Scoring ------------------------------------------------------------------------------

    def _scores(self, candidates: Candidates, labelled: LabelledView) -> FloatArray:
        score = self.heuristic.score
        if score is None:
            return np.full(len(candidates), np.nan, dtype=np.float32)
        looks = self.heuristic.needs != "nothing"
        weights = class_weights(labelled.class_counts) if self.config.balance_classes else None
        scores = np.empty(len(candidates), dtype=np.float32)

        def score_block(start: int) -> None:
            which = np.arange(start, min(start + BLOCK_ROWS, len(candidates)))
            block = ScoredBlock(
                lambda: candidates.gather(which),
                candidates.tie_order[which],
                self.head,
                self.members,
                self.seed,
                candidates.predictions,
                which,
            )
            if looks and candidates.predictions is None:
                _check_embeddings(block, start)
            found = score(block)
            if weights is not None and looks:
                found = found * weights[block.probabilities.argmax(axis=1)]
            scores[which] = found

        on_every_core(score_block, range(0, len(candidates), BLOCK_ROWS))
        return scores

    # --- Ordering -----------------------------------------------------------------------------

    def _by_score(self, scores: FloatArray, candidates: Candidates, n_positions: int) -> IntArray:
        """Return the highest scores in order; without scores by the fixed numbers."""
        if np.isnan(scores).any():
            return np.argsort(candidates.tie_order, kind="stable")
        if self.heuristic.shuffles:
            return _drawn_by_power(scores, self.seed)
        wanted = max(n_positions, SHORTLIST_MOST)
        return rank_candidates(scores, tie_order=candidates.tie_order, n=wanted)

    def _diverse_first(
        self,
        order: IntArray,
        scores: FloatArray,
        candidates: Candidates,
        labelled: LabelledView,
    ) -> IntArray:
        """Pick batch after batch for diversity; after them by score again."""
        pick = self.heuristic.pick
        assert pick is not None  # noqa: S101 - the caller looked
        size = min(self.config.batch_size, DIVERSE_MOST // DIVERSE_BATCHES)
        rng = np.random.default_rng(self.seed)
        length = int(np.clip(SHORTLIST_PER_PICK * size, SHORTLIST_LEAST, SHORTLIST_MOST))
        if self.heuristic.needs == "embeddings":
            length = SHORTLIST_MOST
        short = order[:length]
        embeddings = np.asarray(candidates.gather(short), dtype=np.float32)
        check_finite(embeddings, "embeddings")
        seen = np.asarray(labelled.embeddings, dtype=np.float32)
        probabilities = self._probabilities(candidates, short, embeddings)
        left = np.arange(len(short))
        picked: list[int] = []
        for _ in range(DIVERSE_BATCHES):
            if not len(left):
                break
            shortlist = Shortlist(
                embeddings[left],
                np.nan_to_num(scores[short[left]]),
                None if probabilities is None else probabilities[left],
                seen,
            )
            chosen = left[pick(shortlist, min(size, len(left)), rng)]
            picked += chosen.tolist()
            left = np.setdiff1d(left, chosen)
            seen = np.concatenate([seen.reshape(-1, embeddings.shape[1]), embeddings[chosen]])
        first = short[picked]
        return np.concatenate([first, order[~np.isin(order, first)]])

    def _probabilities(
        self, candidates: Candidates, which: IntArray, embeddings: FloatArray
    ) -> FloatArray | None:
        if candidates.predictions:
            return candidates.predictions.read(which)
        return self.head.probabilities(embeddings) if self.head else None

    def _without_near_duplicates(self, order: IntArray, candidates: Candidates) -> IntArray:
        n_first = min(DIVERSE_BATCHES * self.config.batch_size, DIVERSE_MOST)
        length = int(np.clip(SHORTLIST_PER_PICK * n_first, SHORTLIST_LEAST, SHORTLIST_MOST))
        head, rest = order[:length], order[length:]
        kept_order = defer_near_duplicates(candidates.gather(head), n_first=n_first)
        return np.concatenate([head[kept_order], rest])


def _check_embeddings(block: ScoredBlock, start: int) -> None:
    """Refuse embeddings that are not finite: whatever is not, shows in the logits.

    Raises:
        BadArrayError: the error names the candidates.
    """
    bad = np.flatnonzero(~np.isfinite(block.logits).all(axis=1))[:10] + start
    if len(bad):
        raise BadArrayError(
            f"the embedding of candidate {bad[0]} is not finite; embed its image again",
            bad.tolist(),
        )


def _drawn_by_power(scores: FloatArray, seed: int) -> IntArray:
    """Return an order drawn without replacement with chances proportional to the scores.

    Source: Kirsch et al. (2023), "Stochastic batch acquisition", section 3 (power, beta 1).
    """
    noise = np.random.default_rng(seed).gumbel(size=len(scores))
    keys = np.log(np.maximum(scores, 1e-12)) + noise
    return np.argsort(-keys, kind="stable")


def top_classes(head: Head, embeddings: FloatArray, n: int) -> list[list[tuple[int, float]]]:
    """Return the likeliest classes of some images with their probabilities, likeliest first.

    Args:
        head: the trained head.
        embeddings: shape (m, dim).
        n: how many classes of each image.
    """
    return likeliest(head.probabilities(embeddings), n) if len(embeddings) else []


def likeliest(table: FloatArray, n: int) -> list[list[tuple[int, float]]]:
    """Return the likeliest classes of each row with their probabilities, likeliest first.

    Args:
        table: shape (m, n_classes), probabilities.
        n: how many classes of each row.
    """
    first = np.argsort(-table, axis=1, kind="stable")[:, :n]
    return [
        [(int(index), round(float(table[row, index]), 4)) for index in chosen]
        for row, chosen in enumerate(first)
    ]
