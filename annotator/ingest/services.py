"""Bytes to images: uploads one by one, uploads in pieces, and zips."""

import fcntl
import hashlib
import math
import os
import re
import shutil
import tempfile
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.db.models import Count, F
from django.utils import timezone

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.ingest import hooks
from annotator.ingest.decoding import Decoded, RefusalError
from annotator.ingest.models import Import, ImportEntry, Upload
from annotator.ingest.sandbox import decoder_pool
from annotator.ingest.zips import BadZipError, EntryRefusedError, SafeZip
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.jobs.running import JobRun, YieldedError
from annotator.labeling.models import Image, Project

COPY_BYTES = 1024**2
ENTRIES_AT_ONCE = 16
KEEP_FREE_BYTES = 256 * 1024**2

_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


class OffsetMismatchError(Exception):
    """A piece does not start where the upload stands."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"The upload stands at {offset} bytes.")
        self.offset = offset


class StorageFullError(OSError):
    """There is not enough room for an upload."""


@dataclass(frozen=True)
class ImageResult:
    """What became of one file: ``added``, ``duplicate`` or ``refused`` with a reason."""

    file_name: str
    result: str
    code: str = ""
    reason: str = ""
    image: Image | None = None


def clean_file_name(name: str) -> str:
    """Return a file name as harmless text of at most 255 characters.

    Only its last path segment is kept; invisible and direction-changing characters are dropped. It
    is never used as a path.
    """
    visible = _visible(re.split(r"[\\/]", name)[-1])
    if len(visible) > 255:
        stem, dot, ending = visible.rpartition(".")
        kept = ending[:20] if dot else ""
        visible = (stem or visible)[: 254 - len(kept)] + dot + kept
    return visible if visible.strip(". ") else "unnamed"


def clean_entry_name(name: str) -> str:
    """Return the path of an archive's entry as harmless text; of a long one the end is kept.

    It is shown to people, who look for the file in its folder, and never used as a path.
    """
    return _visible(name)[-255:] or "unnamed"


def _visible(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c) not in _UNPRINTABLE).strip()


def add_image(
    *,
    project: Project,
    file: Path | Iterable[bytes],
    file_name: str,
    user: User,
    external_id: str = "",
) -> ImageResult:
    """Check, decode and store one picture; the same bytes in the project are the same image.

    An external id stands for one image: another picture with it is refused, and so is another id
    for a picture that has one. A picture that is here without one takes it.

    Args:
        project: where to.
        file: a local file, or the chunks of an upload.
        file_name: as the sender calls it; kept as text.
        user: who uploads.
        external_id: what the sender's own system calls it, if anything.

    Raises:
        OSError: the disk is full or broken; nothing is left behind.
    """
    name = clean_file_name(file_name)
    with working_folder() as folder:
        source = folder / "source"
        try:
            sha256, n_bytes = _receive(file, source)
            known = _find(project, sha256)
            if known:
                return _duplicate(name, known, external_id)
            _refuse_taken_id(project, external_id)
            decoded = decoder_pool(settings.THREADS).decode(
                source, folder / "display.jpg", folder / "thumbnail.jpg"
            )
            image = _new_image(project, user, name, sha256, n_bytes, decoded)
            image.external_id = external_id
            return _store(image, folder)
        except RefusalError as refusal:
            return ImageResult(name, "refused", refusal.code, refusal.reason)


@contextmanager
def working_folder() -> Iterator[Path]:
    """Make a folder for one file's bytes and renditions, and remove it at the end."""
    settings.UPLOADS_ROOT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.UPLOADS_ROOT) as folder:
        yield Path(folder)


def _receive(file: Path | Iterable[bytes], target: Path) -> tuple[str, int]:
    """Write the bytes to the target while hashing them; return sha-256 and size."""
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as written:
        for chunk in _chunks(file):
            size += len(chunk)
            if size > settings.MAX_IMAGE_BYTES:
                limit = settings.MAX_IMAGE_BYTES // 1024**2
                raise RefusalError("too-large", f"The file is larger than {limit} MB.")
            digest.update(chunk)
            written.write(chunk)
    return digest.hexdigest(), size


def _chunks(file: Path | Iterable[bytes]) -> Iterator[bytes]:
    if not isinstance(file, Path):
        yield from file
        return
    with file.open("rb") as opened:
        while chunk := opened.read(COPY_BYTES):
            yield chunk


def _find(project: Project, sha256: str) -> Image | None:
    return Image.objects.filter(project=project, sha256=sha256, deleted_at=None).first()


def _refuse_taken_id(project: Project, external_id: str) -> None:
    taken = Image.objects.filter(project=project, external_id=external_id, deleted_at=None)
    holder = taken.first() if external_id else None
    if holder:
        raise RefusalError(
            "external-id-taken",
            f"The external id “{external_id}” belongs to another picture, “{holder.file_name}”.",
        )


def _duplicate(name: str, known: Image, external_id: str) -> ImageResult:
    if external_id and not known.external_id:
        _give_id(known, external_id)
    if external_id and known.external_id != external_id:
        raise RefusalError(
            "external-id-differs",
            f"The same picture is here with the external id “{known.external_id}”.",
        )
    return ImageResult(
        name, "duplicate", "duplicate", f"The same picture is here as “{known.file_name}”.", known
    )


def _give_id(image: Image, external_id: str) -> None:
    """Let an image without an external id have one, unless another one is faster."""
    try:
        with transaction.atomic():
            Image.objects.filter(pk=image.pk, external_id="").update(external_id=external_id)
    except IntegrityError:
        _refuse_taken_id(image.project, external_id)
        raise
    image.refresh_from_db(fields=["external_id"])


def _new_image(
    project: Project, user: User, name: str, sha256: str, n_bytes: int, decoded: Decoded
) -> Image:
    key = uuid.uuid4()
    return Image(
        project=project,
        key=key,
        random_key=Image.random_key_of(key),
        sha256=sha256,
        file_name=name,
        n_bytes=n_bytes,
        uploaded_by=user,
        **asdict(decoded),
    )


def _store(image: Image, folder: Path) -> ImageResult:
    """Store the files, then the row: a row never names a file that is not there."""
    stored: list[str] = []
    try:
        for source, name in (
            ("source", image.original_name),
            ("display.jpg", image.display_name),
            ("thumbnail.jpg", image.thumbnail_name),
        ):
            with (folder / source).open("rb") as opened:
                stored.append(default_storage.save(name, File(opened)))
        with transaction.atomic():
            image.save(force_insert=True)
            Project.objects.filter(pk=image.project_id).update(n_images=F("n_images") + 1)
            transaction.on_commit(partial(hooks.images_added, image.project_id), robust=True)
    except IntegrityError:
        _forget(stored)
        known = _find(image.project, image.sha256)
        if known is None:
            _refuse_taken_id(image.project, image.external_id)
            raise
        return _duplicate(image.file_name, known, image.external_id)
    except BaseException:
        _forget(stored)
        raise
    return ImageResult(image.file_name, "added", image=image)


def _forget(stored: Iterable[str]) -> None:
    for name in stored:
        default_storage.delete(name)


def known_hashes(project: Project, hashes: list[str]) -> list[str]:
    """Return those of the sha-256 sums whose pictures are in the project already."""
    known = Image.objects.filter(project=project, sha256__in=hashes, deleted_at=None)
    return list(known.values_list("sha256", flat=True))


def note_upload(*, project: Project, user: User, results: list[ImageResult]) -> None:
    """Write one event for the files of one request."""
    added = sum(result.result == "added" for result in results)
    if added:
        events.record(
            kind="images.added",
            project_id=project.pk,
            actor_id=user.pk,
            payload={"added": added, "of": len(results)},
        )


# --- Uploads in pieces (tus 1.0) --------------------------------------------------------------


def start_upload(*, project: Project, user: User, file_name: str, length: int) -> Upload:
    """Begin an upload that arrives in pieces.

    Raises:
        StorageFullError: the disk has no room for it.
    """
    settings.UPLOADS_ROOT.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(settings.UPLOADS_ROOT).free < length + KEEP_FREE_BYTES:
        raise StorageFullError(28, "not enough room for this upload")
    upload = Upload.objects.create(
        project=project, user=user, file_name=clean_file_name(file_name), length=length
    )
    upload_path(upload).touch()
    return upload


def upload_path(upload: Upload) -> Path:
    """Return where an upload's bytes are collected."""
    root: Path = settings.UPLOADS_ROOT
    return root / f"{upload.key.hex}.part"


def bytes_received(upload: Upload) -> int:
    """Return how many bytes are on disk: what was written counts, also of a broken request."""
    path = upload_path(upload)
    return path.stat().st_size if path.exists() else 0


def append_to_upload(*, upload: Upload, offset: int, source: IO[bytes], length: int) -> int:
    """Append a piece and return the new offset; a cut connection keeps what arrived.

    Args:
        upload: which.
        offset: where the sender thinks it stands.
        source: the request's body.
        length: how many bytes the piece has.

    Raises:
        OffsetMismatchError: the upload stands elsewhere, or another request is writing to it.
    """
    with upload_path(upload).open("ab") as target:
        received = _locked_end(target)
        if offset != received or received + length > upload.length:
            raise OffsetMismatchError(received)
        try:
            left = length
            while left > 0 and (chunk := source.read(min(COPY_BYTES, left))):
                target.write(chunk)
                left -= len(chunk)
        finally:
            target.flush()
            os.fsync(target.fileno())
        received = target.tell()
    Upload.objects.filter(pk=upload.pk).update(offset=received, touched_at=timezone.now())
    if received == upload.length:
        _start_import(upload)
    return received


def _locked_end(target: IO[bytes]) -> int:
    """Return how many bytes there are, with the file to ourselves until it is closed.

    A request whose connection broke may still be writing what has arrived of it.
    """
    try:
        fcntl.flock(target, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OffsetMismatchError(target.seek(0, os.SEEK_END)) from error
    return target.seek(0, os.SEEK_END)


@transaction.atomic
def _start_import(upload: Upload) -> Import:
    import_run, created = Import.objects.get_or_create(
        upload=upload, defaults={"project_id": upload.project_id}
    )
    if created:
        import_run.job = jobs.enqueue(
            kind="import",
            queue="ingest",
            project_id=upload.project_id,
            params={"import_id": import_run.pk},
            user_id=upload.user_id,
        )
        import_run.save(update_fields=["job"])
    return import_run


class UploadFinishedError(Exception):
    """The upload is complete, and what is in it is being imported."""


def drop_upload(*, upload: Upload) -> None:
    """Forget an unfinished upload and its bytes.

    Raises:
        UploadFinishedError: there is an import of it.
    """
    if Import.objects.filter(upload=upload).exists():
        raise UploadFinishedError("This upload is complete. Cancel its import instead.")
    upload_path(upload).unlink(missing_ok=True)
    upload.delete()


def sweep_uploads(*, before: datetime) -> int:
    """Forget unfinished uploads nobody has touched since; return how many."""
    stale = Upload.objects.filter(touched_at__lt=before, import_run=None)
    for upload in stale[:100]:
        drop_upload(upload=upload)
    return len(stale)


# --- Zips -------------------------------------------------------------------------------------


def run_import(run: JobRun) -> None:
    """Do a job of kind ``import``: unpack a zip; a killed worker goes on where it was.

    Raises:
        JobFailedError: the archive cannot be read at all.
    """
    import_run = Import.objects.select_related("upload__user", "project").get(
        pk=run.params["import_id"]
    )
    upload = import_run.upload
    if upload is None:
        raise jobs.JobFailedError("This import has no zip.")
    path = upload_path(upload)
    try:
        archive = SafeZip(path)
    except BadZipError as error:
        path.unlink(missing_ok=True)
        raise jobs.JobFailedError(str(error)) from error
    try:
        take = partial(_import_entry, import_run, archive, upload.user)
        import_entries(
            run, import_run, list(archive.entries()), take,
            threads=settings.THREADS, doing="unpacking pictures",
        )  # fmt: skip
    finally:
        archive.close()
    finish_import(run, import_run, actor_id=upload.user_id)
    path.unlink(missing_ok=True)


def finish_import(run: JobRun, import_run: Import, *, actor_id: int | None) -> None:
    """End the job of an import, with its event."""
    with run.commit():
        _count_entries(import_run)
        events.record(
            kind="import.done",
            project_id=import_run.project_id,
            actor_id=actor_id,
            payload={"import": import_run.pk, "added": import_run.n_added},
        )


def import_entries(
    run: JobRun,
    import_run: Import,
    entries: Sequence[Any],
    take: Callable[[Any], ImageResult],
    *,
    threads: int,
    doing: str,
    yields_after_s: float = math.inf,
) -> None:
    """Take every entry that has no result yet, some at a time, and keep what became of each.

    Args:
        run: the job.
        import_run: what the results belong to.
        entries: each with a ``position`` and a ``file_name``.
        take: turns one entry into an image.
        threads: how many are taken at once.
        doing: what people read meanwhile.
        yields_after_s: how long others that wait for the worker wait at most.

    Raises:
        YieldedError: the time is over; the job goes on later.
    """
    began = time.monotonic()
    done = set(import_run.entries.values_list("position", flat=True))
    Import.objects.filter(pk=import_run.pk).update(n_entries=len(entries))
    waiting = [entry for entry in entries if entry.position not in done]
    finished = len(done)
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(waiting), ENTRIES_AT_ONCE):
            run.progress(finished, len(entries), doing)
            if start and time.monotonic() - began > yields_after_s:
                raise YieldedError
            group = waiting[start : start + ENTRIES_AT_ONCE]
            # Copying out of an archive is serial, decoding is not.
            results = list(pool.map(_connection_closed(take), group))
            finished += len(results)
            with run.step():
                ImportEntry.objects.bulk_create(
                    [
                        ImportEntry(
                            import_run=import_run,
                            position=entry.position,
                            file_name=clean_entry_name(entry.file_name),
                            result=result.result,
                            code=result.code,
                            reason=result.reason[:300],
                            image=result.image,
                        )
                        for entry, result in zip(group, results, strict=True)
                    ]
                )
                _count_entries(import_run)
    run.progress(len(entries), len(entries), "finished")


def _connection_closed(function: Callable[[Any], ImageResult]) -> Callable[[Any], ImageResult]:
    """Close the thread's database connection after each call, as a request would."""

    def call(argument: Any) -> ImageResult:
        from django.db import connection

        try:
            return function(argument)
        finally:
            if not connection.in_atomic_block:
                connection.close()

    return call


def _import_entry(import_run: Import, archive: SafeZip, user: User, entry: Any) -> ImageResult:
    name = clean_file_name(entry.file_name)
    if entry.refusal:
        return ImageResult(name, "refused", entry.refusal.code, entry.refusal.reason)
    with working_folder() as folder:
        copied = folder / "entry"
        try:
            with copied.open("wb") as target:
                archive.copy(entry, target, limit=settings.MAX_IMAGE_BYTES)
        except EntryRefusedError as refusal:
            return ImageResult(name, "refused", refusal.code, refusal.reason)
        return add_image(
            project=import_run.project,
            file=copied,
            file_name=entry.file_name,
            user=user,
        )


def _count_entries(import_run: Import) -> None:
    counted = import_run.entries.order_by().values("result").annotate(n=Count("pk"))
    counts = dict.fromkeys(ImportEntry.Result.values, 0) | dict(counted.values_list("result", "n"))
    import_run.n_added = counts["added"]
    import_run.n_duplicates = counts["duplicate"]
    import_run.n_refused = counts["refused"]
    import_run.save(update_fields=["n_added", "n_duplicates", "n_refused"])


def cancel_import(*, import_run: Import, now: datetime) -> None:
    """Stop an import; the images added so far stay."""
    if import_run.job:
        jobs.cancel(job=import_run.job, now=now)


def import_failed(job_id: int) -> None:
    """Delete the archive of an import that has ended without success."""
    job = Job.objects.get(pk=job_id)
    import_run = Import.objects.select_related("upload").filter(job=job).first()
    if import_run and import_run.upload:
        upload_path(import_run.upload).unlink(missing_ok=True)
