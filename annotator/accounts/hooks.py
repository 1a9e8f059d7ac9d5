"""Who wants to know that a person left a project; filled by the apps above when they are ready."""

from collections.abc import Callable

_callbacks: list[Callable[[int, int], object]] = []


def on_member_removed(callback: Callable[[int, int], object]) -> None:
    """Call ``callback(project_id, user_id)`` in the transaction that ends the membership."""
    _callbacks.append(callback)


def member_removed(project_id: int, user_id: int) -> None:
    """Tell everybody who asked."""
    for callback in _callbacks:
        callback(project_id, user_id)
