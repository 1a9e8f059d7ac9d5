"""Every change of an export that a person or the clock asks for."""

import re
import uuid
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.exports.formats import FORMATS
from annotator.exports.models import Export, kept_for
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling.models import Project

MOST_OPEN = 5
OPEN = Q(job__state__in=[Job.State.QUEUED, Job.State.RUNNING], stored_name="")


class TooManyExportsError(Exception):
    """Enough exports of the project are being written."""


class UnknownClassesError(Exception):
    """Images of classes are asked for that the project does not have."""


class UnfitFormatError(Exception):
    """The format cannot say what the project's labels say."""


@transaction.atomic
def start_export(
    *, project: Project, actor: User, format_name: str, options: dict[str, Any]
) -> Export:
    """Let a worker write an export.

    Args:
        project: whose images and labels.
        actor: who asks.
        format_name: one of ``FORMATS``.
        options: the fields of :class:`annotator.exports.records.Wanted`.

    Raises:
        UnfitFormatError: the format needs one class an image, and the project has several.
        UnknownClassesError: the project has no such classes.
        TooManyExportsError: enough of them are under way.
    """
    chosen = FORMATS[format_name]
    if chosen.needs_one_class and project.kind != Project.Kind.ONE_CLASS:
        raise UnfitFormatError(
            f"“{chosen.title}” puts each picture into the folder of its one class; images of this "
            "project can have several. Take “Hugging Face” instead."
        )
    class_ids = set(options.get("class_ids", ()))
    if project.classes.filter(pk__in=class_ids, deleted_at=None).count() != len(class_ids):
        raise UnknownClassesError("A class is not of this project, or was deleted.")
    # The lock counts for two people who ask at the same instant.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    if Export.objects.filter(OPEN, project=project).count() >= MOST_OPEN:
        raise TooManyExportsError(
            f"{MOST_OPEN} exports of this project are under way. Wait for one, or cancel it."
        )
    export = Export.objects.create(
        project=project, format=format_name, options=options, created_by=actor
    )
    export.job = jobs.enqueue(
        kind="export",
        queue="ingest",
        project_id=project.pk,
        params={"export_id": export.pk},
        user_id=actor.pk,
    )
    export.save(update_fields=["job"])
    _note(export, actor, kind="export.requested", options=options)
    return export


@transaction.atomic
def cancel_export(*, export: Export, actor: User, now: datetime) -> None:
    """Stop an export that is not finished."""
    if export.job and export.is_open:
        jobs.cancel(job=export.job, now=now)
        _note(export, actor, kind="export.cancelled")


@transaction.atomic
def delete_export(*, export: Export, actor: User, now: datetime) -> None:
    """Forget an export and its file; one that is being written is stopped."""
    if export.job:
        jobs.cancel(job=export.job, now=now)
    _note(export, actor, kind="export.deleted")
    _drop(export)


def sweep_exports(*, now: datetime) -> int:
    """Forget finished exports that are old, and files nobody needs; return how many exports.

    Safe to run twice at once. The files are listed first: one that comes afterwards is not looked
    at, and what is being written belongs to an export whose job is open.
    """
    listed = _listed()
    before = now - kept_for()
    ended_long_ago = Q(finished_at__lt=before) | Q(finished_at=None, created_at__lt=before)
    old = list(Export.objects.filter(ended_long_ago).exclude(OPEN)[:100])
    for export in old:
        with transaction.atomic():
            _drop(export)
    _drop_leftovers(listed)
    return len(old)


def _drop(export: Export) -> None:
    """Delete the row, and once that is certain the file."""
    path = export.path if export.is_ready else None
    export.delete()
    if path:
        transaction.on_commit(lambda: path.unlink(missing_ok=True), robust=True)


def _listed() -> list[Path]:
    root: Path = settings.EXPORTS_ROOT
    return sorted(root.iterdir()) if root.is_dir() else []


def _drop_leftovers(listed: list[Path]) -> None:
    """Delete the files of attempts that were killed, and those whose row is gone."""
    of_key: dict[uuid.UUID, list[Path]] = defaultdict(list)
    for path in listed:
        if key := _key_of(path):
            of_key[key].append(path)
    for export in Export.objects.filter(key__in=of_key).select_related("job"):
        paths = of_key.pop(export.key)
        if not export.is_open:
            _unlink(path for path in paths if path.name != export.stored_name)
    _unlink(path for paths in of_key.values() for path in paths)


def _key_of(path: Path) -> uuid.UUID | None:
    digits = path.name.partition("-")[0]
    return uuid.UUID(digits) if re.fullmatch("[0-9a-f]{32}", digits) else None


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _note(export: Export, actor: User, *, kind: str, **more: Any) -> None:
    events.record(
        kind=kind,
        project_id=export.project_id,
        actor_id=actor.pk,
        payload={"export": export.pk, "format": export.format, **more},
    )
