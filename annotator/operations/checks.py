"""The checks of ``manage.py doctor``: small functions, each of which leaves nothing behind."""

import random
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from celery import current_app
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import NotSupportedError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Max, Model, QuerySet
from django.utils import timezone
from kombu import Producer

from annotator.clock import database_now
from annotator.events import history as event_history
from annotator.jobs.selectors import silent_queues
from annotator.labeling.models import Annotation, Image
from annotator.operations import archives, stores
from annotator.operations.doctor import Finding, check, failed, ok, warning
from workqueue.models import ModelVersion, Segment
from workqueue.self_test import try_queue

LITTLE_BYTES = 2 * 1024**3
FULL_BYTES = 256 * 1024**2
CLOCKS_DIFFER = timedelta(seconds=2)
FUTURE = timedelta(minutes=1)
SAMPLED = 20
BACKBONE_TIMEOUT_S = 300.0

# --- Database ---------------------------------------------------------------------------------

SQLITE_WANTED = {
    "journal_mode": ("wal", "people wait for each other"),
    "synchronous": (2, "an answered label may not survive a power cut"),
    "foreign_keys": (1, "rows may point nowhere"),
}
POSTGRESQL_WANTED = {
    "synchronous_commit": (
        {"on", "local", "remote_write", "remote_apply"},
        "an answered label may not survive a power cut",
    ),
    "fsync": ({"on"}, "an answered label may not survive a power cut"),
    # Stricter ones refuse what meets, where ours waits for a lock and looks again.
    "transaction_isolation": ({"read committed"}, "labels fail under load"),
}


@check(
    "database",
    mend="Remove what changes the database's mode: the settings shipped with Annotator set it.",
)
def database_mode() -> Finding:
    """Labels that were answered must last, and people must not wait for each other."""
    try:
        connection.ensure_connection()
        connection.check_database_version_supported()
    except NotSupportedError as error:
        return failed(str(error), "Upgrade the database server.")
    except OperationalError as error:
        return failed(f"Not reached: {error}", "Start the database ANNOTATOR_DATABASE_URL names.")
    if connection.vendor == "sqlite":
        faults, version = _sqlite_faults(), _scalar("SELECT sqlite_version()")
    else:
        shown = {name: _scalar(f"SHOW {name}") for name in POSTGRESQL_WANTED}
        faults, version = postgresql_faults(shown), _scalar("SHOW server_version")
    if faults:
        return failed("; ".join(faults))
    return ok(f"{connection.display_name} {version}, every answered label is on disk")


def _sqlite_faults() -> list[str]:
    faults = []
    for pragma, (wanted, harm) in SQLITE_WANTED.items():
        found = _scalar(f"PRAGMA {pragma}")
        if found != wanted:
            faults.append(f"{pragma} is {found}, not {wanted}: {harm}")
    if connection.transaction_mode != "IMMEDIATE":  # type: ignore[attr-defined]
        faults.append("transactions are not IMMEDIATE: labels fail under load")
    return faults


def postgresql_faults(shown: dict[str, str]) -> list[str]:
    """Return what is wrong with PostgreSQL's settings, and what that costs."""
    return [
        f"{name} is {shown[name]}: {harm}"
        for name, (wanted, harm) in POSTGRESQL_WANTED.items()
        if shown[name] not in wanted
    ]


def _scalar(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


@check("migrations", mend="Run: bin/run manage migrate")
def migrations() -> Finding:
    """The tables are those this version of the code expects."""
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if waiting:
        first = waiting[0][0]
        return failed(f"{len(waiting)} migrations are not applied, the first is {first}")
    applied = executor.loader.applied_migrations
    unknown = [key for key in applied if key not in executor.loader.disk_migrations]
    if unknown:
        return failed(
            f"The database was used by a newer version (migration {'.'.join(min(unknown))})",
            "Install that version again, or restore a backup made by this one.",
        )
    return ok(f"{len(applied)} applied")


@check("history", mend="Run: bin/run manage protect_history, and ask who took them away.")
def history() -> Finding:
    """The database itself refuses to change what happened."""
    missing = event_history.missing_triggers()
    if missing:
        return failed(f"The history could be changed: {', '.join(missing)} missing or switched off")
    return ok("the database refuses to change it")


@check("clock", mend="Set the clocks of both machines by NTP.")
def clock() -> Finding:
    """Leases are given for a time: web servers, workers and database must agree on it."""
    here = timezone.now()
    apart = abs(database_now() - here)
    if apart > CLOCKS_DIFFER:
        return failed(f"The database's clock is {apart.total_seconds():.0f} s away from this one's")
    newest = Annotation.objects.order_by("-pk").values_list("created_at", flat=True).first()
    if newest and newest > here + FUTURE:
        return warning(f"The newest label is of {newest:%Y-%m-%d %H:%M}: the clock was set back")
    return ok("app and database agree")


# --- Background work --------------------------------------------------------------------------


@check(
    "broker",
    mend="Start the broker ANNOTATOR_BROKER_URL names. Labeling goes on; rounds wait meanwhile.",
)
def broker() -> Finding:
    """A message put into the broker comes out again."""
    queue, token = f"doctor-{uuid.uuid4().hex}", uuid.uuid4().hex
    with current_app.connection_for_write() as link:
        link.ensure_connection(max_retries=1, timeout=5)
        channel: Any = link.default_channel
        # The default exchange takes a message to the queue of that name without declaring it.
        Producer(channel).publish({"token": token}, exchange="", routing_key=queue)
        message = channel.basic_get(queue, no_ack=True)
    if message is None or message.decode() != {"token": token}:
        return failed("A message that was sent did not arrive")
    return ok(f"{'embedded' if settings.EMBEDDED_BROKER else 'Redis'}, a message went round")


@check(
    "workers",
    mend="Start bin/run, or the workers in docs/operations.md; one beat must run with them.",
)
def workers() -> Finding:
    """Each queue has a worker that was heard of lately."""
    silent = silent_queues(now=database_now())
    if silent:
        return failed(f"No worker listens on: {', '.join(silent)}")
    return ok(f"heard of on {', '.join(settings.QUEUES)}")


# --- Files ------------------------------------------------------------------------------------


def storage_root(setting: str) -> Finding:
    """A folder can be written to and has room."""
    folder: Path = getattr(settings, setting)
    # Most are made when first used.
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"x")
    except OSError as error:
        return failed(
            f"{folder} cannot be written: {error}",
            f"Let the user Annotator runs as write to {existing}, or make room on its disk.",
        )
    return room(existing)


def room(folder: Path) -> Finding:
    """The folder's disk is not about to be full."""
    free = shutil.disk_usage(folder).free
    said = f"{folder}: {free / 1024**3:.1f} GB free"
    if free < FULL_BYTES:
        return failed(f"{said}; uploads are refused")
    return warning(said) if free < LITTLE_BYTES else ok(said)


ROOTS = {
    "data folder": "DATA_DIR",
    "media folder": "MEDIA_ROOT",
    "embeddings folder": "EMBEDDINGS_ROOT",
    "models folder": "MODELS_ROOT",
    "uploads folder": "UPLOADS_ROOT",
}
for _name, _setting in ROOTS.items():
    check(_name, mend="Make room on this disk, or move the data folder to a larger one.")(
        partial(storage_root, _setting)
    )


@check("image storage", mend="See that the media folder or the bucket can be written to.")
def image_storage() -> Finding:
    """What is stored among the images can be read back."""
    content = uuid.uuid4().bytes
    name = default_storage.save(f"doctor-{uuid.uuid4().hex}", ContentFile(content))
    try:
        with default_storage.open(name) as opened:
            found = opened.read()
    finally:
        default_storage.delete(name)
    if found != content:
        return failed("What was read is not what was stored")
    return ok("a file was written, read and deleted")


@check(
    "image files",
    mend="Restore a backup into another data folder and copy the files that are named from there.",
)
def image_files() -> Finding:
    """A sample of images: all files there, the originals as they were uploaded."""
    images = _sample(Image.objects.filter(deleted_at=None))
    return _compared(
        [
            stores.NamedFile("media", name, sha256)
            for image in images
            for name, sha256 in (
                (image.original_name, image.sha256),
                (image.display_name, ""),
                (image.thumbnail_name, ""),
            )
        ]
    )


@check("embedding files", mend="Nothing to do by hand: the next round embeds those images again.")
def embedding_files() -> Finding:
    """A sample of the embeddings is as it was written."""
    found = _sample(Segment.objects.all())
    return _compared([stores.NamedFile("embeddings", row.name, row.sha256) for row in found])


@check("model files", mend="Start a round on the project's progress page: it saves a new model.")
def model_files() -> Finding:
    """A sample of the models is as it was written."""
    found = _sample(ModelVersion.objects.all())
    return _compared(
        [
            stores.NamedFile("models", f"{row.folder}/{stores.MODEL_FILE}", row.sha256)
            for row in found
        ]
    )


def _sample(rows: QuerySet[Any]) -> list[Any]:
    """Return some rows at random, without sorting all of them."""
    last = rows.aggregate(last=Max("pk"))["last"] or 0
    # S311: nothing secret depends on which are looked at.
    starts = {random.randint(1, last) for _ in range(SAMPLED) if last}  # noqa: S311
    found: list[Model | None] = [
        rows.filter(pk__gte=start).order_by("pk").first() for start in sorted(starts)
    ]
    return list({row.pk: row for row in found if row}.values())


def _compared(files: Sequence[stores.NamedFile]) -> Finding:
    places = stores.stores()
    wrong = []
    for file in files:
        try:
            with places[file.store].open(file.name) as opened:
                sha256 = archives.hash_of(opened).sha256
        except FileNotFoundError:
            wrong.append(f"{file.path} is missing")
            continue
        if file.sha256 and sha256 != file.sha256:
            wrong.append(f"{file.path} is altered")
    if wrong:
        return failed(f"{len(wrong)} of {len(files)} looked at: {', '.join(wrong[:3])}")
    return ok(f"{len(files)} looked at")


# --- Learning and serving ---------------------------------------------------------------------


@check(
    "backbone",
    mend="Install the packages again (delete .venv and start bin/run), or see ANNOTATOR_BACKBONE.",
)
def backbone() -> Finding:
    """The backbone embeds a picture, in a process of its own: this one stays without torch."""
    command = [
        sys.executable, "-m", "django", "embed_picture",
        "--settings", settings.SETTINGS_MODULE, "--pythonpath", str(settings.BASE_DIR),
    ]  # fmt: skip
    # S603: our own interpreter and arguments of our own.
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, timeout=BACKBONE_TIMEOUT_S
    )
    if done.returncode:
        return failed(_last_line(done.stderr))
    return ok(_last_line(done.stdout))


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "The process said nothing."


@check(
    "queue",
    mend="Do not label until this is mended: report it with this line and the log of the server.",
)
def queue() -> Finding:
    """Claim, submit, undo and order on a scratch project, all of it taken back."""
    try_queue(now=database_now())
    return ok("claim, submit, repeat, undo and order work")
