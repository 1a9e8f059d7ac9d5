"""What a lead decides about the queue."""

from typing import Any

from django.db import transaction

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.labeling import services as labeling
from annotator.labeling.models import Project
from workqueue.models import QueueSettings
from workqueue.overlap import follow_overlap
from workqueue.requests import settings_of

OVERLAP = "annotators_per_image"


class SettingsChangedError(Exception):
    """Somebody changed the settings meanwhile; ``current`` is what they are now."""

    def __init__(self, current: QueueSettings) -> None:
        super().__init__("Somebody changed the settings meanwhile.")
        self.current = current


def change_settings(
    *, project: Project, actor: User, changes: dict[str, Any], version: int | None = None
) -> QueueSettings:
    """Change the queue settings; they are used from the next ranking on, the overlap at once.

    Args:
        project: whose queue.
        actor: the lead.
        changes: field -> new value, already validated; ``annotators_per_image`` among them.
        version: the version the lead saw, or None to overwrite whatever is there.

    Raises:
        SettingsChangedError: the settings have another version by now.
    """
    settings = _change(project, actor, changes, version)
    if settings.project.is_settling:
        follow_overlap(settings.project, user_id=actor.pk)
    return settings


@transaction.atomic
def _change(
    project: Project, actor: User, changes: dict[str, Any], version: int | None
) -> QueueSettings:
    settings_of(project)
    locked = QueueSettings.objects.select_for_update(of=("self",), no_key=True)
    settings = locked.select_related("project").get(project=project)
    if version is not None and settings.version != version:
        raise SettingsChangedError(settings)
    stored = {name: settings.project if name == OVERLAP else settings for name in changes}
    difference = {
        name: [getattr(stored[name], name), value]
        for name, value in changes.items()
        if getattr(stored[name], name) != value
    }
    if not difference:
        return settings
    for name, (_, value) in difference.items():
        setattr(stored[name], name, value)
    if OVERLAP in difference:
        labeling.change_overlap(project_id=project.pk, annotators_per_image=changes[OVERLAP])
        settings.project.refresh_from_db()
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
