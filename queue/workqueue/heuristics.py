"""What a lead reads about the choices of the queue settings.

The formulas are in ``ml.heuristics``, which the web process does not load; a test keeps the two
lists equal.
"""

from typing import Any

from workqueue.models import QueueSettings

_WEAK = "Weak before there are about 10 labels per class: prefer Auto or Margin until then."
_SLOW_START = "Often worse than random order with few labels."
_OUTLIERS = "Likes odd pictures; with a frozen network often worse than random."


def _entry(value: str, group: str, sentence: str, warning: str = "") -> dict[str, str]:
    title = QueueSettings.Heuristic(value).label
    return {
        "value": value, "title": str(title), "group": group, "sentence": sentence,
        "warning": warning,
    }  # fmt: skip


RECOMMENDED, SCORES, BATCHES, BASELINES = (
    "Recommended", "One score per image", "Diverse batches", "Without a model",
)  # fmt: skip

HEURISTICS: list[dict[str, str]] = [
    _entry(
        "auto",
        RECOMMENDED,
        "Typical images first, then the uncertain ones that differ from each other. Changes to "
        "another heuristic only when a bake-off shows that it is really better here.",
    ),
    _entry(
        "diverse_margin",
        RECOMMENDED,
        "Takes the images with the closest two classes and spreads the batch over different looks.",
    ),
    _entry(
        "margin",
        RECOMMENDED,
        "Asks first where the two most likely classes are closest together.",
    ),
    _entry(
        "entropy",
        SCORES,
        "Asks first where the probability is spread over the most classes.",
        _WEAK,
    ),
    _entry(
        "variance",
        SCORES,
        "Asks first where the class probabilities differ least from each other.",
        _WEAK,
    ),
    _entry(
        "least_confidence",
        SCORES,
        "Asks first where even the most likely class is unlikely.",
        _WEAK,
    ),
    _entry(
        "power_margin",
        SCORES,
        "Draws images with a chance that grows with their margin score, so a batch is less alike.",
    ),
    _entry(
        "variation_ratio",
        SCORES,
        "Trains five heads on different draws of the labels; asks where their votes differ.",
        _SLOW_START,
    ),
    _entry(
        "bald",
        SCORES,
        "Trains five heads; asks where each is sure of itself and yet they disagree.",
        _SLOW_START,
    ),
    _entry(
        "badge",
        BATCHES,
        "Takes images that would each change the model much, and in different directions.",
    ),
    _entry(
        "cluster_margin",
        BATCHES,
        "Takes turns over groups of alike images, the smallest group first. For large batches.",
    ),
    _entry(
        "drop_query",
        BATCHES,
        "Hides parts of what the network sees; asks where the answer changes.",
        _SLOW_START,
    ),
    _entry(
        "typiclust",
        BATCHES,
        "The most typical image of each region that has no label yet. Best for the first labels.",
    ),
    _entry(
        "k_center",
        BATCHES,
        "The image least like anything labelled so far.",
        _OUTLIERS,
    ),
    _entry(
        "random",
        BASELINES,
        "Asks in random order: the baseline every heuristic must beat.",
    ),
    _entry(
        "none",
        BASELINES,
        "Asks in the order the images were added; the model still trains and suggests.",
    ),
]

BUDGETS: list[dict[str, str]] = [
    {
        "value": "whole_pool",
        "title": "The whole pool",
        "sentence": "Every image nobody has labelled is ranked. A million takes about a second.",
    },
    {
        "value": "percent",
        "title": "A percentage of the pool",
        "sentence": "A random part of the pool is ranked; the rest follows in random order.",
    },
    {
        "value": "number",
        "title": "A number of images",
        "sentence": "That many images, drawn at random, are ranked; the rest follows.",
    },
]

HEADS: list[dict[str, str]] = [
    {
        "value": "logistic",
        "title": "Logistic regression",
        "sentence": "Trains in well under a second and is hard to beat on few labels.",
    },
    {
        "value": "mlp",
        "title": "One hidden layer",
        "sentence": "Can learn more once there are some 50 labels per class.",
    },
    {
        "value": "ensemble",
        "title": "Ensemble of five",
        "sentence": "Five regressions on different draws of the labels; steadier probabilities.",
    },
]

CHOICES: dict[str, Any] = {"heuristic": HEURISTICS, "budget_kind": BUDGETS, "head": HEADS}

_TITLES = {entry["value"]: entry["title"] for entry in HEURISTICS} | {
    "coverage": "Coverage start",
    "": "Not ranked",
}


def title_of(heuristic: str) -> str:
    """Return the name people read."""
    return _TITLES.get(heuristic, heuristic)


def budget_effect(n_candidates: int, n_pool: int) -> str:
    """Return in words what a rank budget costs; nothing when the whole pool is ranked.

    The best of n random images stands on average at place (N + 1) / (n + 1) of all N.
    """
    if n_candidates >= n_pool or not n_candidates:
        return ""
    place = round((n_pool + 1) / (n_candidates + 1))
    return (
        f"Of {n_pool:,} images {n_candidates:,} were looked at: the first one served stands on "
        f"average at place {place:,} of the whole order."
    )
