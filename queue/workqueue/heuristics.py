"""What a lead reads about the choices of the queue settings.

The formulas are in ``ml.heuristics``, which the web process does not load; a test keeps the two
lists equal.
"""

from typing import Any

from workqueue.models import QueueSettings

_WEAK = "Weak before there are about 10 labels per class: prefer Margin until then."

HEURISTICS: list[dict[str, str]] = [
    {
        "value": "margin",
        "title": "Margin",
        "sentence": "Asks first where the two most likely classes are closest together. "
        "The safest choice for most projects.",
        "warning": "",
    },
    {
        "value": "entropy",
        "title": "Entropy",
        "sentence": "Asks first where the probability is spread over the most classes.",
        "warning": _WEAK,
    },
    {
        "value": "variance",
        "title": "Variance",
        "sentence": "Asks first where the class probabilities differ least from each other.",
        "warning": _WEAK,
    },
    {
        "value": "least_confidence",
        "title": "Least confidence",
        "sentence": "Asks first where even the most likely class is unlikely.",
        "warning": _WEAK,
    },
    {
        "value": "random",
        "title": "Random",
        "sentence": "Asks in random order: the baseline every heuristic must beat.",
        "warning": "",
    },
    {
        "value": "none",
        "title": "None (file order)",
        "sentence": "Asks in the order the images were added; the model still trains and suggests.",
        "warning": "",
    },
]

BUDGETS: list[dict[str, str]] = [
    {
        "value": "whole_pool",
        "title": "The whole pool",
        "sentence": "Every image nobody has labelled is ranked. Fast enough for most projects.",
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

CHOICES: dict[str, Any] = {"heuristic": HEURISTICS, "budget_kind": BUDGETS}

_TITLES = {entry["value"]: entry["title"] for entry in HEURISTICS} | {
    "coverage": "Coverage start",
    "": "Not ranked",
}


def title_of(heuristic: str) -> str:
    """Return the name people read."""
    return _TITLES.get(heuristic, QueueSettings.Heuristic.MARGIN.label)
