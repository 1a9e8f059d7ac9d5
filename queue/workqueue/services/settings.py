"""What a lead decides about the queue."""

from typing import Any

from django.db import transaction

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling.models import Project
from workqueue.models import QueueSettings
from workqueue.requests import settings_of


class SettingsChangedError(Exception):
    """Somebody changed the settings meanwhile; ``current`` is what they are now."""

    def __init__(self, current: QueueSettings) -> None:
        super().__init__("Somebody changed the settings meanwhile.")
        self.current = current


@transaction.atomic
def change_settings(
    *, project: Project, actor: User, changes: dict[str, Any], version: int | None = None
) -> QueueSettings:
    """Change the queue settings; they are used from the next ranking on.

    Args:
        project: whose queue.
        actor: the lead.
        changes: field -> new value, already validated.
        version: the version the lead saw, or None to overwrite whatever is there.

    Raises:
        SettingsChangedError: the settings have another version by now.
    """
    settings_of(project)
    settings = QueueSettings.objects.select_for_update().get(project=project)
    if version is not None and settings.version != version:
        raise SettingsChangedError(settings)
    difference = {
        name: [getattr(settings, name), value]
        for name, value in changes.items()
        if getattr(settings, name) != value
    }
    if not difference:
        return settings
    for name, (_, value) in difference.items():
        setattr(settings, name, value)
    settings.version += 1
    settings.updated_by = actor
    settings.save()
    events.record(
        kind="queue.settings_changed",
        project_id=project.pk,
        actor_id=actor.pk,
        payload={"changes": difference, "version": settings.version},
    )
    return settings
