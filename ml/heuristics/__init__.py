"""The registry of heuristics: which image to ask for first, and which batch to ask for together.

A heuristic has a ``score`` (how uncertain is the head of this image, 0 to 1, higher is asked
sooner), a ``pick`` (which images make a good batch), or both: then the score makes the shortlist
the batch is picked from. The formulas with their sources are in docs/heuristics.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ml.arrays import FloatArray, IntArray
from ml.heads import Head, to_probabilities
from ml.heuristics import batch, committee, uncertainty
from ml.heuristics.batch import Shortlist
from ml.parallel import computed_once

__all__ = [
    "DEFAULT_HEURISTIC",
    "HEURISTICS",
    "Heuristic",
    "Predictions",
    "ScoredBlock",
    "Shortlist",
]

DROP_MASKS, DROPPED_SHARE = 3, 0.75
Pick = Callable[[Shortlist, int, np.random.Generator], IntArray]


@dataclass(frozen=True)
class Predictions:
    """What a model outside says of some images, in place of the trained head.

    Attributes:
        kind: ``one_class`` or ``several_classes``.
        read: reads the class probabilities of some images, (m, n_classes) float32.
    """

    kind: str
    read: Callable[[IntArray], FloatArray]


@dataclass
class ScoredBlock:
    """Some images of the pool as a heuristic sees them; nothing is computed before it is asked for.

    Attributes:
        read: reads the embeddings, (n, dim) float16.
        keys: shape (n,), a fixed number of each image.
        head: the trained head, if there is one.
        members: heads of a committee, for the heuristics that need one.
        seed: of the round, the same for all its blocks.
        predictions: what is asked instead of the head, about the images ``which``.
        which: shape (n,), indices of the images for ``predictions``.
    """

    read: Callable[[], FloatArray]
    keys: IntArray
    head: Head | None = None
    members: list[Head] = field(default_factory=list)
    seed: int = 0
    predictions: Predictions | None = None
    which: IntArray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.keys)

    @computed_once
    def embeddings(self) -> FloatArray:
        """The embeddings, (n, dim) float16."""
        return self.read()

    @property
    def kind(self) -> str:
        """One class per image, or several."""
        return self.predictions.kind if self.predictions else self.trained_head.kind

    @property
    def trained_head(self) -> Head:
        """The head.

        Raises:
            ValueError: there is none.
        """
        if self.head is None:
            raise ValueError("this heuristic needs a trained head")
        return self.head

    @computed_once
    def logits(self) -> FloatArray:
        """What the head says before its temperature, (n, n_classes)."""
        return self.trained_head.logits(self.embeddings)

    @computed_once
    def probabilities(self) -> FloatArray:
        """Class probabilities, (n, n_classes); the head's are calibrated."""
        if self.predictions:
            return self.predictions.read(self.which)
        return to_probabilities(self.logits / self.trained_head.temperature, self.kind)

    @computed_once
    def members_probabilities(self) -> FloatArray:
        """What each member says, (n_members, n, n_classes)."""
        return np.stack([member.probabilities(self.embeddings) for member in self.members])


Needs = Literal["nothing", "probabilities", "committee", "embeddings"]


@dataclass(frozen=True)
class Heuristic:
    """A way to choose images.

    Attributes:
        name: what settings and files call it.
        needs: what its score is computed from; ``nothing`` needs no head and has no cold start.
            All that need ``probabilities`` but those that ask the head again (``asks_head``) work
            with the predictions of any model.
        score: images of a block to scores, or None where only embeddings count.
        pick: a shortlist to a diverse batch, or None for a plain order by score.
        shuffles: the order is drawn with chances that grow with the score.
        asks_head: it asks the head about altered embeddings, which no stored prediction answers.
    """

    name: str
    needs: Needs
    score: Callable[[ScoredBlock], FloatArray] | None = None
    pick: Pick | None = None
    shuffles: bool = False
    asks_head: bool = False

    @property
    def takes_predictions(self) -> bool:
        """Whether the predictions of a model outside can take the place of the head."""
        return self.needs != "committee" and not self.asks_head


def _from_probabilities(function: Callable[[FloatArray], FloatArray]) -> Callable[..., FloatArray]:
    several = uncertainty.for_several_classes(function)

    def score(block: ScoredBlock) -> FloatArray:
        chosen = several if block.kind == "several_classes" else function
        return chosen(block.probabilities)

    return score


def _random(block: ScoredBlock) -> FloatArray:
    return uncertainty.random(block.keys, block.seed)


def _from_committee(name: str) -> Callable[[ScoredBlock], FloatArray]:
    function = {"variation_ratio": committee.variation_ratio, "bald": committee.bald}[name]

    def score(block: ScoredBlock) -> FloatArray:
        if block.kind == "several_classes":
            return committee.for_several_classes(block.members_probabilities, name)
        return function(block.members_probabilities)

    return score


def _drop_disagreement(block: ScoredBlock) -> FloatArray:
    """Return the share of dropout masks under which the likeliest label changes.

    Half a step of margin is added below it, so that images with as many changes are ordered.

    Source: Gupte et al. (2024), "Revisiting active learning in the era of vision foundation
    models", section 4.
    """
    rng = np.random.default_rng(block.seed)
    embeddings = np.asarray(block.embeddings, dtype=np.float32)
    said = _labels(block.probabilities, block.kind)
    changed = np.zeros(len(block), dtype=np.float32)
    for _ in range(DROP_MASKS):
        kept = rng.random(embeddings.shape[1]) >= DROPPED_SHARE
        mask = np.asarray(kept, dtype=np.float32) / (1.0 - DROPPED_SHARE)
        masked = (embeddings * mask).astype(np.float32)
        labels = _labels(block.trained_head.probabilities(masked), block.kind)
        changed += (labels != said).any(axis=1)
    margin = _from_probabilities(uncertainty.margin)(block)
    return (changed + 0.5 * margin) / (DROP_MASKS + 0.5)


def _labels(probabilities: FloatArray, kind: str) -> IntArray:
    if kind == "several_classes":
        return (probabilities > 0.5).astype(np.int8)
    return probabilities.argmax(axis=1)[:, None]


_margin = _from_probabilities(uncertainty.margin)
DEFAULT_HEURISTIC = "diverse_margin"

HEURISTICS: dict[str, Heuristic] = {
    entry.name: entry
    for entry in (
        Heuristic("diverse_margin", "probabilities", _margin, batch.diverse_margin),
        Heuristic("margin", "probabilities", _margin),
        Heuristic("cluster_margin", "probabilities", _margin, batch.cluster_margin),
        Heuristic("power_margin", "probabilities", _margin, shuffles=True),
        Heuristic("badge", "probabilities", _margin, batch.badge),
        Heuristic("entropy", "probabilities", _from_probabilities(uncertainty.entropy)),
        Heuristic("variance", "probabilities", _from_probabilities(uncertainty.variance)),
        Heuristic(
            "least_confidence", "probabilities", _from_probabilities(uncertainty.least_confidence)
        ),
        Heuristic("variation_ratio", "committee", _from_committee("variation_ratio")),
        Heuristic("bald", "committee", _from_committee("bald")),
        Heuristic(
            "drop_query",
            "probabilities",
            _drop_disagreement,
            batch.diverse_margin,
            asks_head=True,
        ),
        Heuristic("typiclust", "embeddings", None, batch.typiclust),
        Heuristic("k_center", "embeddings", None, batch.k_center),
        Heuristic("random", "nothing", _random),
        Heuristic("none", "nothing", None),
    )
}
