"""What exports ask of the apps above, which answer when they are ready."""

from collections.abc import Callable
from dataclasses import dataclass

from annotator.labeling.models import Project


@dataclass(frozen=True)
class RandomSample:
    """The labelled images that are a uniform sample of the collection, whoever chose them.

    Attributes:
        below: those at earlier places of the random list.
        until: the newest image the sample stands for.
    """

    below: int = 0
    until: int = 0

    def holds(self, *, random_key: int, image_id: int) -> bool:
        """Return whether a labelled image is one of them."""
        return random_key < self.below and image_id <= self.until


_sample_of: list[Callable[[Project], RandomSample]] = []


def on_sample_asked(callback: Callable[[Project], RandomSample]) -> None:
    """Let ``callback(project)`` say which images are the random sample."""
    _sample_of[:] = [callback]


def random_sample(project: Project) -> RandomSample:
    """Return the random sample of a project; an empty one where nobody keeps any."""
    return _sample_of[0](project) if _sample_of else RandomSample()
