"""What a lead reads about the choices of the queue settings.

The formulas are in ``ml.heuristics``, which the web process does not load; a test keeps the two
lists equal.
"""

from typing import Any

from workqueue.models import QueueSettings, Round

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

TRAININGS: list[dict[str, str]] = [
    {
        "value": "head",
        "title": "Head only",
        "sentence": "Each image is embedded once; a round trains a small head on that. Seconds.",
    },
    {
        "value": "fine_tune",
        "title": "Whole network",
        "sentence": "A round trains the network itself on your labels and looks anew at the images "
        "the rank budget allows. Without a GPU that takes minutes: about 0.9 seconds per label, at "
        "most six minutes, and 0.03 seconds per image of the budget. Worth it where the head alone "
        "stops getting better.",
    },
]

CHOICES: dict[str, Any] = {
    "heuristic": HEURISTICS, "budget_kind": BUDGETS, "training": TRAININGS, "head": HEADS,
}  # fmt: skip

_TITLES = {entry["value"]: entry["title"] for entry in HEURISTICS} | {
    "coverage": "Coverage start",
    "": "Not ranked",
}


def title_of(heuristic: str) -> str:
    """Return the name people read."""
    return _TITLES.get(heuristic, heuristic)


# Seconds of two CPU cores, as measured in docs/heuristics.md: to learn from all labels or as many
# as fit into the most steps, and to embed one image.
TRAIN_S_PER_LABEL, TRAIN_S_MOST, EMBED_S = 0.9, 360.0, 0.03
LONG_S = 600.0


def training_cost(
    config: QueueSettings, *, n_labelled: int, n_pool: int, measured: Round | None
) -> str:
    """Return in words how long a round will take; nothing when only a head is trained.

    Args:
        config: the project's queue settings.
        n_labelled: labelled images.
        n_pool: images that are not.
        measured: the newest round that fine-tuned, if there is one.
    """
    if config.training != QueueSettings.Training.FINE_TUNE:
        return ""
    n_candidates = config.n_candidates(n_pool)
    train_s = min(TRAIN_S_PER_LABEL * n_labelled, TRAIN_S_MOST)
    embed_s, source = EMBED_S, "on two processor cores without a GPU"
    if measured and measured.n_candidates:
        train_s = measured.seconds["fine_tune"]
        embed_s = measured.seconds["embed_candidates"] / measured.n_candidates
        source = f"going by round {measured.number}"
    total_s = train_s + embed_s * (n_candidates + n_labelled)
    sentence = (
        f"A round trains the whole network and embeds {n_candidates:,} images anew: about "
        f"{_minutes(total_s)}, {source}. Labeling goes on meanwhile in the old order."
    )
    if total_s < LONG_S:
        return sentence
    return (
        f"{sentence} The rank budget decides how long it takes: a smaller one, such as 2,000 "
        "images, is done sooner and costs little, because it is drawn at random."
    )


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return "a minute"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours"


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
