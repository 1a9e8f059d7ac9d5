"""Who wants to know that images are open again; filled by the apps above when they are ready."""

from collections.abc import Callable, Sequence

_callbacks: list[Callable[[int, Sequence[int]], None]] = []


def on_images_reopened(callback: Callable[[int, Sequence[int]], None]) -> None:
    """Call ``callback(project_id, image_ids)`` in the transaction that deletes their only class."""
    _callbacks.append(callback)


def images_reopened(project_id: int, image_ids: Sequence[int]) -> None:
    """Tell everybody who asked."""
    for callback in _callbacks:
        callback(project_id, image_ids)
