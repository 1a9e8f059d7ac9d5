"""The job that writes an export: the labels of one moment, then the file, then the row.

What is said of the images is read in one go, in seconds, into a file beside the export. The
pictures never change: they are copied afterwards, for as long as that takes.
"""

import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from typing import IO, Any

from django.conf import settings
from django.db import connection

from annotator.clock import database_now
from annotator.events import services as events
from annotator.exports.formats import FORMATS, Format, Source
from annotator.exports.formats.names import download_name
from annotator.exports.models import Export
from annotator.exports.records import Contents, Wanted, write_records
from annotator.jobs.models import Job
from annotator.jobs.running import PROGRESS_EVERY_S, JobRun
from annotator.jobs.services import JobFailedError

READ_BYTES = 1024**2
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Files:
    """The files of one attempt, in the folder of exports; no other attempt has the same."""

    records: Path
    part: Path
    finished: Path


def run_export(run: JobRun) -> None:
    """Do a job of kind ``export``; a killed worker's export is done again, of a later moment.

    Raises:
        JobFailedError: trying again would not help.
    """
    export = Export.objects.filter(pk=run.params["export_id"]).first()
    if export is None:
        raise JobFailedError("This export was deleted.")
    chosen = FORMATS[export.format]
    wanted = Wanted.of(export.options)
    with _files(export, chosen) as files, _told_to_people():
        contents = _read(run, wanted, files.records)
        tell = _Pace(run, contents.n_images * chosen.passes)
        source = Source(files.records, contents, wanted, run.project_id, tell)
        sha256 = _write(chosen, source, files)
        tell.finish()
        _publish(run, export, chosen, contents, files, sha256)


@contextmanager
def _files(export: Export, chosen: Format) -> Iterator[Files]:
    """Name the files of an attempt; whatever was not published is deleted at the end.

    The sweeper takes nothing of an export whose job is open.
    """
    root: Path = settings.EXPORTS_ROOT
    root.mkdir(parents=True, exist_ok=True)
    stem = f"{export.key.hex}-{secrets.token_hex(4)}"
    files = Files(root / f"{stem}.records", root / f"{stem}.part", root / f"{stem}.{chosen.ending}")
    try:
        yield files
    except BaseException:
        files.finished.unlink(missing_ok=True)
        raise
    finally:
        files.records.unlink(missing_ok=True)
        files.part.unlink(missing_ok=True)


@contextmanager
def _told_to_people() -> Iterator[None]:
    """Say in words what trying again at once would not mend.

    Raises:
        JobFailedError: the disk is full, or a picture is gone.
    """
    try:
        yield
    except FileNotFoundError as error:
        name = Path(str(error.filename or error)).parent.name
        raise JobFailedError(
            f"A picture is missing in the storage (key {name}). Run the doctor, "
            "or delete the image, then export again."
        ) from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise JobFailedError(
            "The server's disk is full. Delete old exports or free some space, then export again."
        ) from error


class _StoppedError(Exception):
    """The job has ended while its labels were being read."""


class _Progress:
    """What the reading thread tells the one that watches the job, and the other way round."""

    def __init__(self) -> None:
        self.now = (0, 0)
        self.stop = Flag()

    def tell(self, done: int, total: int) -> None:
        if self.stop.is_set():
            raise _StoppedError
        self.now = (done, total)


def _read(run: JobRun, wanted: Wanted, target: Path) -> Contents:
    """Read the labels in a thread of its own, whose connection sees one moment only.

    This thread's goes on seeing what happens: progress is written, a cancelled job ends.
    """
    progress = _Progress()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_read_and_close, run.project_id, wanted, target, progress.tell)
        try:
            while not wait([reading], timeout=PROGRESS_EVERY_S).done:
                run.progress(*progress.now, "reading labels")
        except BaseException:
            progress.stop.set()
            raise
    return reading.result()


def _read_and_close(
    project_id: int, wanted: Wanted, target: Path, tell: Callable[[int, int], None]
) -> Contents:
    try:
        return write_records(project_id, wanted, target, tell)
    finally:
        connection.close()


class _Pace:
    """Shows how far the writing is; asks the database at most twice a second."""

    def __init__(self, run: JobRun, total: int) -> None:
        self._run = run
        self._total = total
        self._done = 0
        self._next = 0.0

    def __call__(self) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_EVERY_S
            self._run.progress(min(self._done, self._total), self._total, "writing the file")
        self._done += 1

    def finish(self) -> None:
        """Show that all is written."""
        self._run.progress(self._total, self._total, "writing the file")


def _write(chosen: Format, source: Source, files: Files) -> str:
    """Write the file under its final name, on the disk for good, and return its sha-256."""
    with files.part.open("wb") as target:
        chosen.write(source, target)
        target.flush()
        os.fsync(target.fileno())
    with files.part.open("rb") as written:
        sha256 = _hash(written, source.tell)
    files.part.rename(files.finished)
    return sha256


def _hash(written: IO[bytes], tell: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    while piece := written.read(READ_BYTES):
        digest.update(piece)
        tell()
    return digest.hexdigest()


def _publish(
    run: JobRun, export: Export, chosen: Format, contents: Contents, files: Files, sha256: str
) -> None:
    with run.commit():
        n_bytes = files.finished.stat().st_size
        Export.objects.filter(pk=export.pk).update(
            stored_name=files.finished.name,
            file_name=download_name(contents.project, export.pk, chosen.name, chosen.ending),
            sha256=sha256,
            n_bytes=n_bytes,
            contents=contents.as_json(),
            finished_at=database_now(),
        )
        _note(
            export,
            kind="export.done",
            sha256=sha256,
            images=contents.n_images,
            labels=contents.n_labels,
        )


def export_failed(job_id: int) -> None:
    """Tell that an export has failed; one that was cancelled was told of already."""
    job = Job.objects.get(pk=job_id)
    export = Export.objects.filter(job=job).first()
    if export and job.state == Job.State.FAILED:
        _note(export, kind="export.failed", error=job.error)


def _note(export: Export, *, kind: str, **more: Any) -> None:
    events.record(
        kind=kind,
        project_id=export.project_id,
        actor_id=export.created_by_id,
        payload={"export": export.pk, "format": export.format, **more},
    )
