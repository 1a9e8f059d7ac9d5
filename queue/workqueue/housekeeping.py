"""What the clock does: find work that nobody asked for, and clear what nobody needs."""

from datetime import datetime, timedelta

from django.conf import settings
from django.core.cache import cache
from django.db.models import Exists, F, OuterRef, Q

from annotator.accounts import services as accounts
from annotator.api import services as api
from annotator.exports import services as exports
from annotator.ingest import services as ingest
from annotator.jobs.models import Job
from annotator.labeling.models import Image, Project
from workqueue import overlap
from workqueue.models import Embedding, Lease, QueueState, RankedImage, Ranking, Round, Segment
from workqueue.requests import request_embedding, request_round_if_due

# Positions of older rankings are dropped; the Ranking rows and the "why" of each label stay.
RANKINGS_KEPT = 20
# Labels are written between two such transactions.
DELETED_AT_ONCE = 1000
# Images of a project that are not all looked at every time.
LARGE = 20_000
LOOK_AT_ALL_EVERY_S = 3600
# A broken upload can be gone on with for so long.
UPLOADS_KEPT = timedelta(days=2)
# A program that was cut off sends its request again within this.
ANSWERS_KEPT = timedelta(days=1)
# Longer than any limit looks back.
COUNTS_KEPT = timedelta(hours=1)


def keep_house(*, now: datetime) -> None:
    """Find lost work and old rows; safe to run twice at once."""
    Lease.objects.filter(state=Lease.State.LIVE, expires_at__lte=now).update(
        state=Lease.State.EXPIRED
    )
    _find_lost_embeddings(now)
    _find_lost_rounds()
    overlap.find_unsettled()
    _drop_old_positions(now)
    _drop_orphan_rankings(now)
    api.forget_answers(before=now - ANSWERS_KEPT)
    accounts.forget_old_counts(before=now - COUNTS_KEPT)
    ingest.sweep_uploads(before=now - UPLOADS_KEPT)
    exports.sweep_exports(now=now)


def _find_lost_embeddings(now: datetime) -> None:
    """Images that came in the instant an embedding job ended, or whose segment was torn."""
    without = Image.objects.filter(project=OuterRef("pk"), deleted_at=None).filter(
        ~Exists(Embedding.objects.filter(image=OuterRef("pk")))
    )
    other_backbone = Segment.objects.filter(project=OuterRef("pk")).exclude(
        backbone=settings.BACKBONE
    )
    deleted = Embedding.objects.filter(
        image__project=OuterRef("pk"), image__deleted_at__isnull=False
    )
    # A job that has just failed for good waits for a person, or for an hour.
    just_failed = Job.objects.filter(
        project=OuterRef("pk"),
        kind="embed",
        state=Job.State.FAILED,
        finished_at__gt=now - timedelta(hours=1),
    )
    waiting = Project.objects.filter(pk__in=_looked_at(), deleted_at=None).filter(
        Exists(without) | Exists(deleted) | Exists(other_backbone), ~Exists(just_failed)
    )
    for pk in waiting.values_list("pk", flat=True)[:100]:
        request_embedding(project_id=pk)


def _looked_at() -> list[int]:
    """Return the projects whose images are looked at, which takes seconds where there are many.

    Small ones always, large ones when their counters say that embeddings are missing or left over,
    and all of them once an hour.
    """
    projects = Project.objects.all()
    if not cache.add("all-embeddings-looked-at", True, LOOK_AT_ALL_EVERY_S):
        counted = F("queue_state__n_embedded") + F("queue_state__n_embedding_failures")
        differs = Q(queue_state=None) | ~Q(n_images=counted)
        projects = projects.filter(Q(n_images__lt=LARGE) | differs)
    return list(projects.values_list("pk", flat=True))


def _find_lost_rounds() -> None:
    """Rounds whose job vanished, and batches that became full while a round was ending."""
    Round.objects.filter(state__in=[Round.State.QUEUED, Round.State.RUNNING]).filter(
        Q(job=None) | Q(job__state__in=[Job.State.DONE, Job.State.CANCELLED, Job.State.FAILED])
    ).update(state=Round.State.FAILED, error="The round's job has ended without a result.")
    waiting = QueueState.objects.filter(
        Q(labels_since_round__gt=0) | Q(predictions_since_round__gt=0), project__deleted_at=None
    )
    for state in waiting.select_related("project"):
        newest = Round.objects.filter(project=state.project).order_by("-number").first()
        if newest is None or newest.state != Round.State.FAILED:
            request_round_if_due(project=state.project)


def _drop_old_positions(now: datetime) -> None:
    for state in QueueState.objects.exclude(ranking=None).select_related("ranking"):
        if state.ranking is None:
            continue
        old = Ranking.objects.filter(
            project_id=state.project_id,
            number__lte=state.ranking.number - RANKINGS_KEPT,
            created_at__lt=now - timedelta(hours=1),
            positions__isnull=False,
        ).distinct()
        for ranking in old[:5]:
            _delete_positions(ranking)


def _drop_orphan_rankings(now: datetime) -> None:
    """Rankings whose round died before its flip: nothing points to them, and nothing will."""
    orphans = Ranking.objects.filter(rounds=None, created_at__lt=now - timedelta(hours=1)).exclude(
        pk__in=QueueState.objects.exclude(ranking=None).values("ranking")
    )
    for orphan in orphans[:20]:
        _delete_positions(orphan)
        orphans.filter(pk=orphan.pk).delete()


def _delete_positions(ranking: Ranking) -> None:
    """Delete the positions of a ranking nobody is served from, a few a transaction."""
    positions = RankedImage.objects.filter(ranking=ranking).order_by("position")
    while ids := list(positions.values_list("pk", flat=True)[:DELETED_AT_ONCE]):
        RankedImage.objects.filter(pk__in=ids).delete()
