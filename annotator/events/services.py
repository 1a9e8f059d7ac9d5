"""Writing the event log."""

from typing import Any

from annotator.events.models import Event


def record(
    *, kind: str, project_id: int | None, actor_id: int | None, payload: dict[str, Any]
) -> Event:
    """Append one event, inside the transaction of the change it tells of."""
    return Event.objects.create(
        kind=kind, project_id=project_id, actor_id=actor_id, payload=payload
    )
