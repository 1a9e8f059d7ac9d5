"""Who wants to know of events; filled by the apps above when they are ready."""

from collections.abc import Callable

from annotator.events.models import Event

_callbacks: list[Callable[[Event], None]] = []


def on_recorded(callback: Callable[[Event], None]) -> None:
    """Call ``callback(event)`` in the transaction that records an event."""
    _callbacks.append(callback)


def recorded(event: Event) -> None:
    """Tell everybody who asked."""
    for callback in _callbacks:
        callback(event)
