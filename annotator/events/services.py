"""Writing the event log."""

from typing import Any

from django.db import transaction

from annotator.events import hooks
from annotator.events.models import Event
from annotator.prepared import insert


@transaction.atomic(savepoint=False)
def record(
    *, kind: str, project_id: int | None, actor_id: int | None, payload: dict[str, Any]
) -> Event:
    """Append one event, inside the transaction of the change it tells of."""
    event = insert(Event(kind=kind, project_id=project_id, actor_id=actor_id, payload=payload))
    hooks.recorded(event)
    return event
