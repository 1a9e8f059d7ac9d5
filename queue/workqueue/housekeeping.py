"""What the clock does: find work that nobody asked for, and clear what nobody needs."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from annotator.accounts import services as accounts
from annotator.api import services as api
from annotator.ingest import services as ingest
from annotator.jobs.models import Job
from annotator.labeling.models import Image, Project
from workqueue.models import Embedding, Lease, QueueState, Ranking, Round, Segment
from workqueue.requests import request_embedding, request_round_if_due

# Positions of older rankings are dropped; the Ranking rows and the "why" of each label stay.
RANKINGS_KEPT = 20
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
    _drop_old_positions(now)
    _drop_orphan_rankings(now)
    api.forget_answers(before=now - ANSWERS_KEPT)
    accounts.forget_old_counts(before=now - COUNTS_KEPT)
    ingest.sweep_uploads(before=now - UPLOADS_KEPT)


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
    waiting = Project.objects.filter(deleted_at=None).filter(
        Exists(without) | Exists(deleted) | Exists(other_backbone), ~Exists(just_failed)
    )
    for pk in waiting.values_list("pk", flat=True)[:100]:
        request_embedding(project_id=pk)


def _find_lost_rounds() -> None:
    """Rounds whose job vanished, and batches that became full while a round was ending."""
    Round.objects.filter(state__in=[Round.State.QUEUED, Round.State.RUNNING]).filter(
        Q(job=None) | Q(job__state__in=[Job.State.DONE, Job.State.CANCELLED, Job.State.FAILED])
    ).update(state=Round.State.FAILED, error="The round's job has ended without a result.")
    for state in QueueState.objects.filter(labels_since_round__gt=0).select_related("project"):
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
            ranking.positions.all().delete()


def _drop_orphan_rankings(now: datetime) -> None:
    """Rankings whose round died before its flip: nothing points to them, and nothing will."""
    orphans = Ranking.objects.filter(rounds=None, created_at__lt=now - timedelta(hours=1)).exclude(
        pk__in=QueueState.objects.exclude(ranking=None).values("ranking")
    )
    orphans.filter(pk__in=list(orphans.values_list("pk", flat=True)[:20])).delete()
