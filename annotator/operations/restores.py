"""Putting a backup back.

The whole backup is verified before anything changes. Then files are added (the same name always
stands for the same bytes, so that none in use is harmed), the database is replaced in one step, and
what nobody names any more is removed last: until the step, the installation is what it was.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.migrations.loader import MigrationLoader

from annotator.accounts.models import User
from annotator.labeling.models import Project
from annotator.operations import archives, databases, stores
from annotator.operations.backups import room_of

KEEP_FREE_BYTES = 256 * 1024**2
Say = Callable[[str], None]


class RestoreRefusedError(Exception):
    """The backup does not fit this installation; nothing was changed."""


class AuditError(Exception):
    """What was restored is not what was backed up; the text says where."""


def restore(file: Path, *, force: bool, say: Say) -> archives.Manifest:
    """Replace this installation by the one in a backup.

    Args:
        file: the backup.
        force: also where people have worked already.
        say: is told of each step.

    Raises:
        BadBackupError: it is damaged or no backup; nothing was changed.
        RestoreRefusedError: it does not fit, or the installation runs or is not empty.
        DatabaseToolError: the database could not be put in place; the old one is there still.
        AuditError: the result differs from the backup.
    """
    with _stopped(), archives.opened(file) as backup:
        manifest = backup.manifest
        _check_fits(manifest)
        if not force:
            _check_empty()
        databases.check_unused()
        _check_room(manifest)
        say("Verifying the backup …")
        backup.verify()
        say("Copying the files …")
        _put_files(backup)
        say("Replacing the database …")
        _put_database(backup)
        say("Auditing …")
        _audit_rows(manifest)
        # Migrations of a newer version of the product, and the table of a cache in the database.
        call_command("migrate", verbosity=0)
        call_command("createcachetable", verbosity=0)
        _remove_others(manifest)
        _audit_files(manifest)
    return manifest


@contextmanager
def _stopped() -> Iterator[None]:
    """Hold the lock that bin/run holds while it runs, so that neither starts meanwhile.

    Raises:
        RestoreRefusedError: it runs.
    """
    settings.DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (settings.DATA_DIR / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RestoreRefusedError(
                f"Annotator is running with the data in {settings.DATA_DIR}. Stop it first."
            ) from error
        yield


def _check_fits(manifest: archives.Manifest) -> None:
    if manifest.vendor != connection.vendor:
        raise RestoreRefusedError(
            f"The backup is of a {manifest.vendor} database and this installation uses "
            f"{connection.vendor}: set ANNOTATOR_DATABASE_URL accordingly."
        )
    if manifest.has_images != stores.images_are_local():
        raise RestoreRefusedError(
            "The images of the backup are in it: unset ANNOTATOR_S3_BUCKET."
            if manifest.has_images
            else "The images of the backup are in a bucket: name that in ANNOTATOR_S3_BUCKET."
        )
    loader = MigrationLoader(None)
    known = {f"{app}.{name}" for app, name in loader.disk_migrations}
    unknown = sorted(set(manifest.migrations) - known)
    if unknown:
        raise RestoreRefusedError(
            f"The backup was made by version {manifest.version}, which is newer than this one "
            f"(migration {unknown[0]}). Install that version first."
        )


def _check_empty() -> None:
    """Refuse where somebody has worked; the first admin alone is made by bin/run.

    Raises:
        RestoreRefusedError: there are projects, people or files.
    """
    tables = connection.introspection.table_names()
    has_rows = (Project._meta.db_table in tables and Project.objects.exists()) or (
        User._meta.db_table in tables and User.objects.count() > 1
    )
    has_files = any(next(_names_in(store), None) for store in stores.backed_up().values())
    if has_rows or has_files:
        raise RestoreRefusedError(
            "This installation is not empty. --force replaces everything in it by the backup; "
            "make a backup of it first."
        )


def _check_room(manifest: archives.Manifest) -> None:
    # Once as files, and the database once more while it is put in place.
    needed = sum(entry.n_bytes for entry in manifest.files.values()) + KEEP_FREE_BYTES
    if room_of(settings.DATA_DIR) < needed:
        raise RestoreRefusedError(
            f"The backup needs {needed // 1024**2} MB and {settings.DATA_DIR} has less free."
        )


def _put_files(backup: archives.Reader) -> None:
    places = stores.backed_up()
    for name, entry in backup.manifest.files.items():
        store, _, rest = name.partition("/")
        if store in places and _stored(places[store], rest) != entry:
            with backup.open(name) as source:
                _save(places[store], rest, source)


def _stored(store: Storage, name: str) -> archives.Entry | None:
    """Return size and hash of a stored file, or None where there is none."""
    try:
        with store.open(name) as opened:
            return archives.hash_of(opened)
    except FileNotFoundError:
        return None


def _save(store: Storage, name: str, source: IO[bytes]) -> None:
    store.delete(name)
    if store.save(name, File(source)) != name:
        raise RestoreRefusedError(f"The file {name} could not be stored under its name.")


def _put_database(backup: archives.Reader) -> None:
    (name,) = (name for name in backup.manifest.files if name.startswith("database/"))
    home = databases.home()
    with tempfile.TemporaryDirectory(dir=home, prefix=".restore-") as work:
        copy = Path(work) / name.removeprefix("database/")
        with backup.open(name) as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target)
        # The step must not outlive a power cut that the new database and its files do not.
        os.sync()
        databases.replace(copy)
    archives.sync_folder(home)


def _audit_rows(manifest: archives.Manifest) -> None:
    if databases.count_rows(connection) != manifest.rows:
        raise AuditError("The restored tables do not have as many rows as the backup's manifest.")
    if databases.applied_migrations(connection) != manifest.migrations:
        raise AuditError("The restored database has other migrations than the backup's manifest.")
    connection.check_constraints()


def _remove_others(manifest: archives.Manifest) -> None:
    """Delete what was here before: a model of a lost round would be in the way of the next."""
    for store_name, store in stores.backed_up().items():
        for name in list(_names_in(store)):
            if f"{store_name}/{name}" not in manifest.files:
                store.delete(name)


def _names_in(store: Storage, folder: str = "") -> Iterator[str]:
    if isinstance(store, FileSystemStorage) and not store.exists(folder):
        return
    folders, files = store.listdir(folder)
    yield from (f"{folder}{name}" for name in files)
    for name in folders:
        yield from _names_in(store, f"{folder}{name}/")


def _audit_files(manifest: archives.Manifest) -> None:
    places = stores.backed_up()
    for name, entry in manifest.files.items():
        store, _, rest = name.partition("/")
        if store in places and _stored(places[store], rest) != entry:
            raise AuditError(f"{name} is not what the backup's manifest says.")
    known = manifest.files.keys() | set(manifest.missing)
    for file in stores.named_files(DEFAULT_DB_ALIAS):
        if file.path not in known:
            raise AuditError(f"A row names {file.path}, which the backup does not hold.")
