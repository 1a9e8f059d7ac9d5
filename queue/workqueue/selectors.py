"""Reads of the work queue."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, OuterRef, QuerySet

from annotator.accounts.models import User
from annotator.jobs.models import Job
from annotator.labeling.models import Annotation, Image, LabelClass, Project
from workqueue import stopping
from workqueue.models import (
    Lease,
    QueueSettings,
    QueueState,
    RankedImage,
    Replay,
    Round,
    Skip,
)

OPEN_JOBS = [Job.State.QUEUED, Job.State.RUNNING]


@dataclass(frozen=True)
class EmptyQueue:
    """Why a person got no image, and when that may change."""

    reason: str
    sentence: str
    n_leased: int = 0
    n_skipped_by_you: int = 0
    next_free_at: datetime | None = None


def queue_settings(project: Project) -> QueueSettings:
    """Return the project's settings, or the defaults as an unsaved row."""
    found = QueueSettings.objects.select_related("updated_by").filter(project=project).first()
    return found or QueueSettings(project=project)


def queue_state(project: Project) -> QueueState:
    """Return the project's pointers and counters, or zeroes as an unsaved row."""
    related = QueueState.objects.select_related("ranking__model_version", "model_version")
    return related.filter(project=project).first() or QueueState(project=project)


def newest_round(project: Project) -> Round | None:
    """Return the last round that was asked for."""
    return Round.objects.filter(project=project).select_related("job").order_by("-number").first()


def newest_fine_tuned_round(project: Project) -> Round | None:
    """Return the last finished round that trained the whole network."""
    return (
        Round.objects.filter(
            project=project, model_version__training=QueueSettings.Training.FINE_TUNE
        )
        .order_by("-number")
        .first()
    )


def newest_job(project: Project, kind: str) -> Job | None:
    """Return the last job of a kind, whatever became of it."""
    return Job.objects.filter(project=project, kind=kind).order_by("-pk").first()


def live_leases(project: Project, now: datetime) -> QuerySet[Lease]:
    """Return who holds what until when."""
    return (
        Lease.objects.filter(project=project, state=Lease.State.LIVE, expires_at__gt=now)
        .select_related("user", "image")
        .order_by("expires_at")
    )


def why_empty(project: Project, user: User, now: datetime) -> EmptyQueue:
    """Return the honest reason why there is no image for the person."""
    counts = Project.objects.values("n_images", "n_labelled").get(pk=project.pk)
    if counts["n_images"] == 0:
        return EmptyQueue("no_images", "This project has no images yet. Add some to start.")
    stop = stopping.advice(project, queue_settings(project))
    if stop.closes_queue:
        return EmptyQueue("stopped", " ".join(["Labeling is complete.", *stop.reasons]))
    leased = live_leases(project, now).exclude(user=user)
    n_leased = leased.count()
    skipped = Skip.objects.filter(
        user=user,
        image__project=project,
        image__status=Image.Status.OPEN,
        image__deleted_at=None,
    ).count()
    if n_leased:
        first = leased[0]
        return EmptyQueue(
            "leased",
            f"{_images(n_leased)} left, and other people have "
            f"{'it' if n_leased == 1 else 'them'} on their screens. "
            "What they do not label comes back to the queue.",
            n_leased=n_leased,
            n_skipped_by_you=skipped,
            next_free_at=first.expires_at,
        )
    own = live_leases(project, now).filter(user=user).count()
    if own:
        return EmptyQueue(
            "leased",
            f"{_images(own)} left, and another tab or program of yours has "
            f"{'it' if own == 1 else 'them'}. Go on there, or close it.",
            n_leased=own,
            n_skipped_by_you=skipped,
        )
    if skipped:
        return EmptyQueue(
            "skipped",
            f"{_images(skipped)} left, and you skipped {'it' if skipped == 1 else 'them all'}. "
            "Somebody else can label them, or take them back.",
            n_skipped_by_you=skipped,
        )
    return EmptyQueue("done", f"All {counts['n_images']} images are labelled. Thank you!")


def _images(n: int) -> str:
    return "One image is" if n == 1 else f"{n} images are"


def ranked_images(project: Project) -> QuerySet[RankedImage]:
    """Return the positions of the current ranking whose images are still open."""
    state = queue_state(project)
    return (
        RankedImage.objects.filter(
            ranking=state.ranking_id,
            image__status=Image.Status.OPEN,
            image__deleted_at=None,
        )
        .select_related("image", "ranking__model_version")
        .order_by("position")
    )


def own_annotations(project: Project, user: User) -> QuerySet[Annotation]:
    """Return the person's current labels, the newest first."""
    return (
        Annotation.objects.filter(author=user, image__project=project, is_current=True)
        .select_related("image", "author")
        .prefetch_related("regions")
        .order_by("-pk")
    )


def gallery(
    project: Project, *, status: str = "", class_id: int | None = None, text: str = ""
) -> QuerySet[Image]:
    """Return the project's living images, filtered, with their current annotations."""
    images = Image.objects.filter(project=project, deleted_at=None)
    if status:
        images = images.filter(status=status)
    if class_id is not None:
        said = Annotation.objects.filter(
            image=OuterRef("pk"), is_current=True, regions__label_class=class_id
        )
        images = images.filter(Exists(said))
    if text:
        images = images.filter(file_name__icontains=text)
    return images


def what_is_gone(image_id: int, class_ids: list[int]) -> str:
    """Return what a label cannot be used without: the image, or else the class by its name."""
    if Image.objects.filter(pk=image_id).exclude(deleted_at=None).exists():
        return "The image"
    deleted = LabelClass.objects.filter(pk__in=class_ids).exclude(deleted_at=None).first()
    return f"The class “{deleted.name}”" if deleted else "The project"


def current_annotations(images: list[Image]) -> dict[int, Annotation]:
    """Return image id -> its earliest current annotation, with regions and author."""
    found: dict[int, Annotation] = {}
    annotations = (
        Annotation.objects.filter(image__in=images, is_current=True)
        .select_related("author")
        .prefetch_related("regions")
        .order_by("pk")
    )
    for annotation in annotations:
        found.setdefault(annotation.image_id, annotation)
    return found


def queue_counts(project: Project, now: datetime) -> dict[str, int]:
    """Return how many images there are, labelled, open and on somebody's screen."""
    counts = Project.objects.values("n_images", "n_labelled").get(pk=project.pk)
    leased = Lease.objects.filter(project=project, state=Lease.State.LIVE, expires_at__gt=now)
    return {
        "n_images": counts["n_images"],
        "n_labelled": counts["n_labelled"],
        "n_open": counts["n_images"] - counts["n_labelled"],
        "n_leased": leased.aggregate(n=Count("pk"))["n"],
    }


def replays(project: Project) -> QuerySet[Replay]:
    """Return the project's bake-offs, newest first."""
    return Replay.objects.filter(project=project).select_related("job").order_by("-pk")


def failed_jobs(project: Project) -> list[Job]:
    """Return the newest job of each kind, where it has failed; rounds tell of themselves."""
    newest: dict[str, Job] = {}
    for job in Job.objects.filter(project=project).exclude(kind="round").order_by("-pk")[:50]:
        newest.setdefault(job.kind, job)
    return [job for job in newest.values() if job.state == Job.State.FAILED]
