"""Embedding new images, and taking deleted ones out of the store."""

import time
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from annotator.jobs.models import Job
from annotator.jobs.running import JobRun, YieldedError
from annotator.labeling.models import Image, Project
from workqueue import learning
from workqueue.models import Embedding, QueueState, Round, Segment
from workqueue.requests import request_round, state_of

FIRST_SLICE = 64
SLICE = 256
YIELD_AFTER_S = 4.0
# Well below the time limit of a job.
YIELD_ALWAYS_AFTER_S = 600.0
# The first order is made as soon as this many images are embedded, not when all are.
FIRST_RANKING_FROM = 200
# Many small files are merged, so that a scan of the pool opens few.
MERGE_FROM = 32
MERGED_ROWS = 8192
# So many rows change in one transaction: labels are written between two.
AT_ONCE = 1000


def run_embedding(run: JobRun) -> None:
    """Do a job of kind ``embed``: embed all images of the project that have no embedding yet."""
    project = Project.objects.get(pk=run.project_id)
    state_of(project)
    _forget_other_backbones(run, project)
    _purge_deleted(run, project)
    _recount(run, project)
    started = time.monotonic()
    size, last = FIRST_SLICE, 0
    # From the last one on: looking for the next slice must not read all that are embedded already.
    while images := list(waiting_images(project).filter(pk__gt=last).order_by("pk")[:size]):
        _embed_slice(run, project, images)
        size, last = SLICE, images[-1].pk
        if state_of(project).n_embedded >= FIRST_RANKING_FROM and not _has_round(project):
            request_round(project=project, trigger=Round.Trigger.IMAGES)
        spent = time.monotonic() - started
        if spent > YIELD_ALWAYS_AFTER_S or (spent > YIELD_AFTER_S and _others_wait()):
            raise YieldedError
    _merge_small(run, project)
    learning.remove_stray_segments(keep=set(Segment.objects.values_list("name", flat=True)))
    with run.commit():
        pass
    request_round(project=project, trigger=Round.Trigger.IMAGES)


def waiting_images(project: Project) -> QuerySet[Image]:
    """Return the living images without an embedding (and without a failed try)."""
    return Image.objects.filter(project=project, deleted_at=None).filter(
        ~Exists(Embedding.objects.filter(image=OuterRef("pk")))
    )


def _embed_slice(run: JobRun, project: Project, images: list[Image]) -> None:
    done = state_of(project).n_embedded
    run.progress(done, project_size(project), "embedding images")
    embedded = learning.embed_images(images, on_batch=lambda _: run.check())
    with run.step():
        rows: list[Embedding] = []
        if embedded.segment:
            segment = _register(project, embedded.segment)
            rows = [
                Embedding(image_id=pk, segment=segment, row=row)
                for row, pk in enumerate(embedded.image_ids)
            ]
        rows += [
            Embedding(image_id=pk, error=reason[:300]) for pk, reason in embedded.failures.items()
        ]
        Embedding.objects.bulk_create(rows)
        # Not counted anew: that would read all images while labels wait.
        QueueState.objects.filter(project=project).update(
            n_embedded=F("n_embedded") + len(rows) - len(embedded.failures),
            n_embedding_failures=F("n_embedding_failures") + len(embedded.failures),
        )
    run.progress(state_of(project).n_embedded, project_size(project), "embedding images")


def project_size(project: Project) -> int:
    """Return how many living images the project has."""
    return Project.objects.values_list("n_images", flat=True).get(pk=project.pk)


def _register(project: Project, stored: Any) -> Segment:
    return Segment.objects.create(
        project=project,
        backbone=learning.BACKBONE,
        name=stored.name,
        n_rows=stored.rows,
        dim=stored.dim,
        sha256=stored.sha256,
    )


def _recount(run: JobRun, project: Project) -> None:
    """Count anew, once a job and outside of the transaction that writes the figures."""
    totals = Embedding.objects.filter(image__project=project).aggregate(
        embedded=Count("pk", filter=Q(segment__isnull=False)),
        failed=Count("pk", filter=Q(segment__isnull=True)),
    )
    with run.step():
        QueueState.objects.filter(project=project).update(
            n_embedded=totals["embedded"], n_embedding_failures=totals["failed"]
        )


def _forget_other_backbones(run: JobRun, project: Project) -> None:
    """Drop what another backbone embedded: its vectors cannot be compared with the new ones."""
    others = Segment.objects.filter(project=project).exclude(backbone=learning.BACKBONE)
    if others.exists():
        _delete(run, Embedding.objects.filter(segment__in=others))
        _delete(run, Embedding.objects.filter(image__project=project, segment=None))
        with run.step():
            others.delete()


def _delete(run: JobRun, embeddings: QuerySet[Embedding]) -> None:
    """Delete embeddings, a few a transaction."""
    while ids := list(embeddings.order_by("pk").values_list("pk", flat=True)[:AT_ONCE]):
        with run.step():
            Embedding.objects.filter(pk__in=ids).delete()


def _purge_deleted(run: JobRun, project: Project) -> None:
    """Rewrite the segments that hold embeddings of deleted images without them."""
    gone = Embedding.objects.filter(image__project=project, image__deleted_at__isnull=False)
    if not gone.exists():
        return
    segments = list(
        Segment.objects.filter(project=project, embeddings__image__deleted_at__isnull=False)
        .distinct()
        .order_by("pk")
    )
    for some in _groups(segments):
        _rewrite(run, project, some)
    _delete(run, gone.filter(segment=None))


def _merge_small(run: JobRun, project: Project) -> None:
    small = list(Segment.objects.filter(project=project, n_rows__lte=SLICE).order_by("pk"))
    if len(small) >= MERGE_FROM:
        for some in _groups(small):
            _rewrite(run, project, some)


def _groups(segments: list[Segment]) -> Iterator[list[Segment]]:
    """Return the segments some at a time: as many rows as one file should have."""
    group: list[Segment] = []
    for segment in segments:
        group.append(segment)
        if sum(entry.n_rows for entry in group) >= MERGED_ROWS:
            yield group
            group = []
    if group:
        yield group


def _rewrite(run: JobRun, project: Project, segments: list[Segment]) -> None:
    """Copy the rows of living images into a new segment, repoint them, then delete the old ones.

    A few rows a transaction: until the last one each embedding points into the old file or into the
    new one, and both are there. After a crash what still points into the old ones is done again.
    """
    places = Embedding.objects.filter(segment__in=segments).order_by("segment_id", "row")
    keep: dict[str, list[int]] = {}
    embeddings: list[Embedding] = []
    for embedding in places.filter(image__deleted_at=None).select_related("segment"):
        if embedding.segment:
            keep.setdefault(embedding.segment.name, []).append(embedding.row)
            embeddings.append(embedding)
    if embeddings:
        _repoint(run, project, embeddings, learning.compact(keep)[0])
    _delete(run, places)
    with run.step():
        Segment.objects.filter(pk__in=[segment.pk for segment in segments]).delete()
    for segment in segments:
        learning.remove_segment_file(segment.name)


def _repoint(run: JobRun, project: Project, embeddings: list[Embedding], stored: Any) -> None:
    with run.step():
        segment = _register(project, stored)
    for row, embedding in enumerate(embeddings):
        embedding.segment, embedding.row = segment, row
    for start in range(0, len(embeddings), AT_ONCE):
        with run.step():
            some = embeddings[start : start + AT_ONCE]
            Embedding.objects.bulk_update(some, ["segment", "row"], batch_size=500)


def _has_round(project: Project) -> bool:
    return Round.objects.filter(project=project).exists()


def _others_wait() -> bool:
    queues = [queue for queue in settings.QUEUES if queue in {"train", "embed"}]
    return Job.objects.filter(state=Job.State.QUEUED, queue__in=queues).exists()
