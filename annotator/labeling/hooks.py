"""Who wants to know what became of images; filled by the apps above when they are ready."""

from collections.abc import Callable, Sequence

_on_reopened: list[Callable[[int, Sequence[int]], object]] = []
_on_recalled: list[Callable[[int, Sequence[int]], object]] = []
_on_archived: list[Callable[[int], object]] = []
_on_brought_back: list[Callable[[int], object]] = []


def on_images_reopened(callback: Callable[[int, Sequence[int]], object]) -> None:
    """Call ``callback(project_id, image_ids)`` in the transaction that deletes their only class."""
    _on_reopened.append(callback)


def images_reopened(project_id: int, image_ids: Sequence[int]) -> None:
    """Tell everybody who asked."""
    for callback in _on_reopened:
        callback(project_id, image_ids)


def on_labels_recalled(callback: Callable[[int, Sequence[int]], object]) -> None:
    """Call ``callback(project_id, image_ids)`` in the transaction that lets labels count again."""
    _on_recalled.append(callback)


def labels_recalled(project_id: int, image_ids: Sequence[int]) -> None:
    """Tell everybody who asked."""
    for callback in _on_recalled:
        callback(project_id, image_ids)


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
