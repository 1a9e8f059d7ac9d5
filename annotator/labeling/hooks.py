"""Who wants to know what became of labels; filled by the apps above when they are ready."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Withdrawn:
    """What one image lost when a class was deleted.

    Attributes:
        image_id: the image.
        authors: whose labels do not stand any more.
        n_counted: how many labels it lacks now; none when it was deleted or has enough others.
        is_short: whether it has fewer labels than wanted now, be it deleted or not.
    """

    image_id: int
    authors: tuple[int, ...]
    n_counted: int
    is_short: bool


@dataclass(frozen=True)
class Recalled:
    """What one image got back when something deleted was brought back.

    Attributes:
        image_id: the image.
        authors: whose labels stand again.
        n_counted: how many labels it lacked that it has now.
        has_enough: whether as many labels as wanted stand now.
    """

    image_id: int
    authors: tuple[int, ...]
    n_counted: int
    has_enough: bool


_on_withdrawn: list[Callable[[int, Sequence[Withdrawn]], object]] = []
_on_recalled: list[Callable[[int, Sequence[Recalled]], object]] = []
_on_archived: list[Callable[[int], object]] = []
_on_brought_back: list[Callable[[int], object]] = []


def on_labels_withdrawn(callback: Callable[[int, Sequence[Withdrawn]], object]) -> None:
    """Call ``callback(project_id, withdrawn)`` in each transaction that withdraws with a class."""
    _on_withdrawn.append(callback)


def labels_withdrawn(project_id: int, withdrawn: Sequence[Withdrawn]) -> None:
    """Tell everybody who asked."""
    for callback in _on_withdrawn:
        callback(project_id, withdrawn)


def on_labels_recalled(callback: Callable[[int, Sequence[Recalled]], object]) -> None:
    """Call ``callback(project_id, recalled)`` in the transaction that lets labels count again."""
    _on_recalled.append(callback)


def labels_recalled(project_id: int, recalled: Sequence[Recalled]) -> None:
    """Tell everybody who asked."""
    for callback in _on_recalled:
        callback(project_id, recalled)


def on_project_archived(callback: Callable[[int], object]) -> None:
    """Call ``callback(project_id)`` in the transaction that archives a project."""
    _on_archived.append(callback)


def project_archived(project_id: int) -> None:
    """Tell everybody who asked."""
    for callback in _on_archived:
        callback(project_id)


def on_images_brought_back(callback: Callable[[int], object]) -> None:
    """Call ``callback(project_id)`` in the transaction that brings images or a project back."""
    _on_brought_back.append(callback)


def images_brought_back(project_id: int) -> None:
    """Tell everybody who asked."""
    for callback in _on_brought_back:
        callback(project_id)
