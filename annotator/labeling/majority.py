"""What several people's labels of one image say together."""

from collections import Counter


def majority(labels: list[list[int]], *, several: bool) -> list[int]:
    """Return the class ids most people chose; where people are equal the earlier label decides.

    Args:
        labels: the class ids each person chose, the earliest label first.
        several: each class is voted on by itself; else the labels are voted on.
    """
    if len(labels) == 1:
        return labels[0]
    if not several:
        votes = Counter(tuple(label) for label in labels)
        most = max(votes.values())
        return list(next(label for label, n in votes.items() if n == most))
    votes_of_class = Counter(pk for label in labels for pk in label)
    return [
        pk
        for pk, n in votes_of_class.items()
        if 2 * n > len(labels) or (2 * n == len(labels) and pk in labels[0])
    ]
