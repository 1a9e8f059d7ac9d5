"""Making a backup while people label.

The database comes first, the files after it. A row names a file only once that is stored, so every
file the snapshot names exists when it is taken; the other way round, an image that came in between
would be a row without a file. From then on only background work can take a file away (segments
that were merged, networks nobody embeds with any more), so those are pinned at once; one that was
deleted in between shows as missing, and then the database is asked again.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from django.core.files.storage import default_storage
from django.db import connection

import annotator
from annotator.operations import archives, databases, stores

SNAPSHOTS_AT_MOST = 5
Say = Callable[[str], None]


class BackupRefusedError(Exception):
    """The backup cannot be made there; the text says why."""


@dataclass(frozen=True)
class _Taken:
    manifest: archives.Manifest
    dump: Path
    images: list[stores.NamedFile]
    pins: stores.Pins


def place_for(given: Path, *, now: datetime) -> Path:
    """Return the file that is named, or in a folder that is named one called after the time."""
    return given / f"annotator-{now:%Y-%m-%d-%H%M%S}.tar" if given.is_dir() else given


def back_up(target: Path, *, now: datetime, say: Say) -> archives.Manifest:
    """Write the whole installation into one file; images in a bucket stay there.

    Args:
        target: the file; must not exist. It appears when it is complete.
        now: the time noted in it.
        say: is told of each step.

    Returns:
        What the backup holds.

    Raises:
        BackupRefusedError: the file exists, or its folder does not, or the database is empty.
        DatabaseToolError: the database cannot be read.
    """
    if target.exists():
        raise BackupRefusedError(f"{target} exists already; a backup never replaces another.")
    if not target.parent.is_dir():
        raise BackupRefusedError(f"There is no folder {target.parent}.")
    if not databases.applied_migrations(connection):
        raise BackupRefusedError(
            "The database is empty. Name the data folder of the installation to be backed up: "
            "bin/run --data DIR manage backup …"
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as work:
        say("Reading the database …")
        with (
            _taken(Path(work), now) as taken,
            archives.written(target, taken.manifest) as archive,
        ):
            archive.add_path(f"database/{taken.dump.name}", taken.dump)
            say("Copying the files …")
            _copy_files(archive, taken)
    return taken.manifest


@contextmanager
def _taken(work: Path, now: datetime) -> Iterator[_Taken]:
    """Hold one moment: the database written to a file, what it names listed, files pinned."""
    seen_missing: list[str] | None = None
    for _ in range(SNAPSHOTS_AT_MOST):
        with ExitStack() as held:
            with databases.snapshot(work) as snapshot:
                files = [*stores.segments(snapshot.using), *stores.models(snapshot.using)]
                pins = held.enter_context(stores.pinned(files))
                # What two snapshots miss was not deleted between a snapshot and its pins.
                if pins.missing and pins.missing != seen_missing:
                    seen_missing = pins.missing
                    continue
                manifest = archives.Manifest(
                    version=annotator.__version__,
                    created_at=now.isoformat(),
                    vendor=connection.vendor,
                    has_images=stores.images_are_local(),
                    migrations=snapshot.migrations(),
                    rows=snapshot.rows(),
                    missing=pins.missing,
                )
                images = list(stores.images(snapshot.using)) if manifest.has_images else []
                taken = _Taken(manifest, snapshot.dump(), images, pins)
            # The snapshot has ended: PostgreSQL need not keep old rows while files are copied.
            yield taken
            return
    raise BackupRefusedError(
        "Files were deleted again and again while the database was read. Try again in a minute."
    )


def _copy_files(archive: archives.Writer, taken: _Taken) -> None:
    for name, path in taken.pins.files():
        archive.add_path(name, path)
    for file in taken.images:
        try:
            archive.add_path(file.path, Path(default_storage.path(file.name)))
        except FileNotFoundError:
            # Lost before the backup: better a backup that says so than none.
            archive.manifest.missing.append(file.path)


def room_of(folder: Path) -> int:
    """Return how many bytes are free there."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
