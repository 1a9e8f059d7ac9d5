"""People who label one image after another, and in which order the images came to them."""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.against_label_studio.tools import Person

TRIES = 5
PAUSE_AFTER_ERROR_S = 0.1


@dataclass
class Stretch:
    """What came of some people labeling for a while.

    Attributes:
        served: file names in the order their answers came.
        labels: file names in the order their labels were acknowledged.
        seconds: from the first request to the last answer.
    """

    served: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    seconds: float = 0.0


def label(people: Sequence[Person], n_each: int, class_of: Mapping[str, str]) -> Stretch:
    """Let people label so many images each, all at once and without a pause.

    Args:
        people: who.
        n_each: how many labels of each of them.
        class_of: file name -> what it shows.
    """
    stretch = Stretch()
    started = time.monotonic()
    if len(people) == 1:
        _label(people[0], n_each, class_of, stretch)
    else:
        threads = [
            threading.Thread(target=_label, args=(person, n_each, class_of, stretch))
            for person in people
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stretch.seconds = time.monotonic() - started
    return stretch


def _label(person: Person, n: int, class_of: Mapping[str, str], stretch: Stretch) -> None:
    """Do one person's part; what fails is tried again as often as a patient person would."""
    for _ in range(n):
        item = None
        for _ in range(TRIES):
            if item := person.next():
                break
            time.sleep(PAUSE_AFTER_ERROR_S)
        if item is None:
            return
        stretch.served.append(item.name)
        for _ in range(TRIES):
            if person.submit(item, class_of[item.name]):
                stretch.labels.append(item.name)
                break
            time.sleep(PAUSE_AFTER_ERROR_S)


def doubles(labels: Sequence[str]) -> int:
    """Return how many labels were of an image that had one already."""
    return sum(times - 1 for times in Counter(labels).values())


def rank_correlation(served: Sequence[str], wanted: Sequence[str]) -> float:
    """Return Spearman's correlation of the order images came in with the order they should.

    Args:
        served: the images as they came; of one that came twice the first time counts.
        wanted: all images, the first one first.

    Returns:
        1 for the same order, about 0 for none, -1 for the opposite one; 0 of fewer than two.
    """
    came = list(dict.fromkeys(served))
    place = {name: number for number, name in enumerate(wanted)}
    ranks = {name: rank for rank, name in enumerate(sorted(came, key=place.__getitem__))}
    n = len(came)
    if n < 2:
        return 0.0
    squares = sum((ranks[name] - turn) ** 2 for turn, name in enumerate(came))
    return 1 - 6 * squares / (n * (n * n - 1))


def share_of_the_first(served: Sequence[str], wanted: Sequence[str]) -> float:
    """Return which share of the images that came are among as many that should come first."""
    came = set(served)
    return len(came & set(wanted[: len(came)])) / max(len(came), 1)
