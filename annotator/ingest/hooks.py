"""Who wants to know that images were added; filled by the apps above when they are ready."""

from collections.abc import Callable

_callbacks: list[Callable[[int], None]] = []


def on_images_added(callback: Callable[[int], None]) -> None:
    """Call ``callback(project_id)`` after each commit that added images to a project."""
    _callbacks.append(callback)


def images_added(project_id: int) -> None:
    """Tell everybody who asked."""
    for callback in _callbacks:
        callback(project_id)
