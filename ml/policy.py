"""Which heuristic a ranking uses: coverage while the head knows too little, then the chosen one."""

from ml.arrays import IntArray
from ml.heuristics import DEFAULT_HEURISTIC, HEURISTICS

AUTO = "auto"
COLD_START = "typiclust"
# Below this many labels a class has not been seen well enough for a score to mean anything.
LABELS_PER_CLASS = 2
# Coverage helps for the first labels only: it ends after so many batches in any case.
COLD_BATCHES = 2


def heuristic_now(
    chosen: str,
    class_counts: IntArray,
    *,
    batch_size: int,
    preferred: str | None = None,
    has_predictions: bool = False,
) -> str:
    """Return the heuristic the next ranking uses.

    Args:
        chosen: a name of :data:`ml.heuristics.HEURISTICS`, or ``auto``.
        class_counts: shape (n_classes,), labels of each declared class.
        batch_size: labels from one ranking to the next.
        preferred: what ``auto`` stands for where a replay has found a better one.
        has_predictions: a model outside is asked instead of the head, so nothing is cold.

    Returns:
        A name of the registry. Coverage while fewer than two classes have labels, in the first
        batch, and in the second as long as some class has fewer than two labels.

    Source: Doucet et al. (2024), "Bridging diversity and uncertainty in active learning with
    self-supervised pre-training" (coverage first, then margin, with an early switch).
    """
    name = (preferred or DEFAULT_HEURISTIC) if chosen == AUTO else chosen
    if has_predictions:
        return name if HEURISTICS[name].takes_predictions else DEFAULT_HEURISTIC
    needs = HEURISTICS[name].needs
    if needs in {"nothing", "embeddings"}:
        return name
    return COLD_START if is_cold(class_counts, batch_size=batch_size) else name


def is_cold(class_counts: IntArray, *, batch_size: int) -> bool:
    """Return whether the head knows too little to say what it does not know.

    Args:
        class_counts: shape (n_classes,), labels of each declared class.
        batch_size: labels from one ranking to the next.
    """
    n_labels = int(class_counts.sum())
    if n_labels < batch_size or int((class_counts > 0).sum()) < 2:
        return True
    is_unseen = bool((class_counts < LABELS_PER_CLASS).any())
    return is_unseen and n_labels < COLD_BATCHES * batch_size
