"""Who wants to know that labels were withdrawn; filled by the apps above when they are ready."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Withdrawn:
    """What one image lost when a class was deleted.

    Attributes:
        image_id: the image.
        authors: whose labels do not stand any more.
        n_counted: how many labels it lacks now; none when it was deleted or has enough others.
    """

    image_id: int
    authors: tuple[int, ...]
    n_counted: int


_callbacks: list[Callable[[int, Sequence[Withdrawn]], None]] = []


def on_labels_withdrawn(callback: Callable[[int, Sequence[Withdrawn]], None]) -> None:
    """Call ``callback(project_id, withdrawn)`` in the transaction that deletes a class."""
    _callbacks.append(callback)


def labels_withdrawn(project_id: int, withdrawn: Sequence[Withdrawn]) -> None:
    """Tell everybody who asked."""
    for callback in _callbacks:
        callback(project_id, withdrawn)
