"""Reads of the work queue."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Exists, F, Max, Min, OuterRef, Prefetch, QuerySet, Subquery

from annotator.accounts.models import User
from annotator.events.models import Event
from annotator.jobs.models import Job
from annotator.labeling.models import Annotation, AnnotationRegion, Image, LabelClass, Project
from annotator.prepared import Given, Prepared
from workqueue import stopping
from workqueue.models import (
    Lease,
    QueueSettings,
    QueueState,
    RankedImage,
    Ranking,
    Replay,
    Round,
    Skip,
)

# SQLite takes some thousand parameters a statement.
IDS_AT_ONCE = 5_000
OPEN_JOBS = [Job.State.QUEUED, Job.State.RUNNING]


# What people poll.
_QUEUE = Prepared(
    lambda: Project.objects.select_related(
        "queue_settings", "queue_state__ranking", "queue_state__model_version"
    ).filter(pk=Given("project"))
)
_NEWEST_ROUND = Prepared(
    lambda: (
        Round.objects.filter(project=Given("project")).select_related("job").order_by("-number")[:1]
    )
)
_NEWEST_JOBS = Prepared(
    lambda: Job.objects.filter(
        pk__in=Job.objects.filter(project=Given("project"))
        .exclude(kind="round")
        .order_by()
        .values("kind")
        .annotate(newest=Max("pk"))
        .values("newest")
    ).order_by("-pk")
)
_LIVE = {"project": Given("project"), "state": Lease.State.LIVE, "expires_at__gt": Given("now")}
_N_LEASED = Prepared(
    lambda: (
        Lease.objects.filter(**_LIVE)
        .order_by()
        .values("project")
        .annotate(n=Count("image", distinct=True))
        .values_list("n", flat=True)
    )
)
_N_HELD = Prepared(
    lambda: (
        Lease.objects.filter(user=Given("user"), **_LIVE)
        .order_by()
        .values("project")
        .annotate(n=Count("pk"))
        .values_list("n", flat=True)
    )
)


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
    related = QueueSettings.objects.select_related("updated_by", "project")
    found = related.filter(project=project).first()
    return found or QueueSettings(project=project)


def queue_state(project: Project) -> QueueState:
    """Return the project's pointers and counters, or zeroes as an unsaved row."""
    related = QueueState.objects.select_related("ranking__model_version", "model_version")
    return related.filter(project=project).first() or QueueState(project=project)


@dataclass(frozen=True)
class Queue:
    """A project's counters, settings and pointers, of one moment."""

    project: Project
    settings: QueueSettings
    state: QueueState


def queue_of(project: Project) -> Queue:
    """Return all that is kept of a project's queue, read at once: people poll it."""
    (found,) = _QUEUE.all(project=project)
    return Queue(
        found,
        # A row that was never written is missing as an attribute, too.
        getattr(found, "queue_settings", None) or QueueSettings(project=found),
        getattr(found, "queue_state", None) or QueueState(project=found),
    )


def newest_round(project: Project) -> Round | None:
    """Return the last round that was asked for."""
    return _NEWEST_ROUND.first(project=project)


def newest_fine_tuned_round(project: Project) -> Round | None:
    """Return the last finished round that trained the whole network."""
    return (
        Round.objects.filter(
            project=project, model_version__training=QueueSettings.Training.FINE_TUNE
        )
        .order_by("-number")
        .first()
    )


def live_leases(project: Project, now: datetime) -> QuerySet[Lease]:
    """Return who holds what until when."""
    return (
        Lease.objects.filter(project=project, state=Lease.State.LIVE, expires_at__gt=now)
        .select_related("user", "image")
        .order_by("expires_at")
    )


def own_lease(project: Project, user: User, token: str) -> Lease | None:
    """Return a lease of the person, whatever became of it."""
    found = Lease.objects.filter(token=token, user=user, project=project)
    return found.select_related("image", "project").first()


def n_held(project: Project, user: User, now: datetime) -> int:
    """Return how many images the person holds, in all their tabs and programs."""
    return _N_HELD.first(project=project, user=user, now=now) or 0


def why_empty(project: Project, user: User, now: datetime) -> EmptyQueue:
    """Return the honest reason why there is no image for the person."""
    counts = Project.objects.values("n_images", "annotators_per_image").get(pk=project.pk)
    if counts["n_images"] == 0:
        return EmptyQueue("no_images", "This project has no images yet. Add some to start.")
    stop = stopping.advice(project, queue_settings(project))
    if stop.closes_queue:
        return EmptyQueue("stopped", " ".join(["Labeling is complete.", *stop.reasons]))
    # What others do with an image the person has labelled does not bring it back.
    labelled = Annotation.objects.filter(image=OuterRef("image"), author=user, is_current=True)
    others = live_leases(project, now).exclude(user=user).filter(~Exists(labelled))
    # One look: between two, the last of these leases may end.
    leased = others.order_by().aggregate(
        n=Count("image", distinct=True), first_end=Min("expires_at")
    )
    skipped = Skip.objects.filter(
        user=user,
        image__project=project,
        image__status=Image.Status.OPEN,
        image__deleted_at=None,
    ).count()
    if n_leased := leased["n"]:
        return EmptyQueue(
            "leased",
            f"{_images(n_leased)} left, and other people have "
            f"{'it' if n_leased == 1 else 'them'} on their screens. "
            "What they do not label comes back to the queue.",
            n_leased=n_leased,
            n_skipped_by_you=skipped,
            next_free_at=leased["first_end"],
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
    waiting = Annotation.objects.filter(
        author=user,
        is_current=True,
        image__project=project,
        image__status=Image.Status.OPEN,
        image__deleted_at=None,
    ).count()
    if waiting:
        them = "it" if waiting == 1 else "them all"
        return EmptyQueue(
            "waiting",
            f"{_images(waiting)} left, and you have labelled {them}: "
            f"this project asks {counts['annotators_per_image']} people for each image.",
        )
    return EmptyQueue("done", f"All {counts['n_images']} images are labelled. Thank you!")


def _images(n: int) -> str:
    return "One image is" if n == 1 else f"{n} images are"


def rankings(project: Project) -> QuerySet[Any]:
    """Return the project's rankings, the newest first, each with whether its positions are kept.

    One that is being written, or whose round died before its end, was never served and is no
    ranking yet.
    """
    ended = Round.objects.filter(ranking=OuterRef("pk"))
    current = QueueState.objects.filter(ranking=OuterRef("pk"))
    positions = RankedImage.objects.filter(ranking=OuterRef("pk"))
    return (
        Ranking.objects.filter(Exists(ended) | Exists(current), project=project)
        .annotate(is_kept=Exists(positions), is_current=Exists(current))
        .select_related("model_version")
        .order_by("-number")
    )


def positions_of(ranking: Ranking) -> QuerySet[RankedImage]:
    """Return all positions of a ranking but those of deleted images, as they were made."""
    return (
        RankedImage.objects.filter(ranking=ranking, image__deleted_at=None)
        .select_related("image", "ranking__model_version")
        .order_by("position")
    )


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
    project: Project,
    *,
    status: str = "",
    class_id: int | None = None,
    text: str = "",
    external_id: str = "",
    annotator_id: int | None = None,
    scores: tuple[float | None, float | None] = (None, None),
    uploaded_after: datetime | None = None,
    disagreed: bool = False,
) -> QuerySet[Image]:
    """Return the project's images, filtered.

    Args:
        project: whose images.
        status: open, labelled or deleted; deleted ones are never among the others.
        class_id: a class somebody says of them now.
        text: a part of the file name.
        external_id: what their sender calls them.
        annotator_id: who has labelled them.
        scores: the least and the greatest score in the current ranking; None is no limit.
        uploaded_after: the time.
        disagreed: whether people say different classes of them.
    """
    is_deleted = status == Image.DELETED
    images = Image.objects.filter(project=project, deleted_at__isnull=not is_deleted)
    if status and not is_deleted:
        images = images.filter(status=status)
    if class_id is not None:
        # From the class to its images: the other way a rare class is looked for in all of them.
        said = AnnotationRegion.objects.filter(label_class=class_id, annotation__is_current=True)
        images = images.filter(pk__in=said.order_by().values("annotation__image"))
    if text:
        images = images.filter(file_name__icontains=text)
    if external_id:
        images = images.filter(external_id=external_id)
    if annotator_id is not None:
        theirs = Annotation.objects.filter(author=annotator_id, is_current=True)
        images = images.filter(pk__in=theirs.order_by().values("image"))
    if scores != (None, None):
        images = images.filter(pk__in=_scored(project, *scores))
    if uploaded_after is not None:
        images = images.filter(created_at__gt=uploaded_after)
    if disagreed:
        images = images.filter(pk__in=_disagreed(project))
    return images


def _scored(project: Project, least: float | None, greatest: float | None) -> QuerySet[Any, Any]:
    """Return the images of the current ranking with a score in the range.

    What was drawn at random shows no score, so it has none here.
    """
    ranked = RankedImage.objects.filter(
        ranking=queue_state(project).ranking_id, explored=False, score__isnull=False
    )
    if least is not None:
        ranked = ranked.filter(score__gte=least)
    if greatest is not None:
        ranked = ranked.filter(score__lte=greatest)
    return ranked.order_by().values("image")


def place_of(project: Project, image: Image) -> RankedImage | None:
    """Return the image's position in the current ranking, if it has one."""
    ranked = RankedImage.objects.filter(ranking=queue_state(project).ranking_id, image=image)
    return ranked.select_related("image", "ranking__model_version").first()


def image_ids_of(project: Project, external_ids: Collection[str]) -> dict[str, int]:
    """Return external id -> image id, of the project's living images."""
    wanted = list(external_ids)
    found: dict[str, int] = {}
    for start in range(0, len(wanted), IDS_AT_ONCE):
        some = Image.objects.filter(
            project=project, external_id__in=wanted[start : start + IDS_AT_ONCE], deleted_at=None
        )
        found |= dict(some.exclude(external_id="").values_list("external_id", "pk"))
    return found


def _disagreed(project: Project) -> QuerySet[Any, Any]:
    """Return the images that somebody says a class of which somebody else does not say."""
    standing = Annotation.objects.filter(
        image=OuterRef("annotation__image"), is_current=True
    ).order_by()
    n_people = standing.values("image").annotate(n=Count("pk")).values("n")
    said = AnnotationRegion.objects.filter(
        annotation__is_current=True, annotation__image__project=project
    ).order_by()
    return (
        said.values("annotation__image", "label_class")
        .annotate(n_votes=Count("annotation"), n_people=Subquery(n_people))
        .filter(n_votes__lt=F("n_people"))
        .values("annotation__image")
    )


def what_is_gone(image_id: int, class_ids: list[int]) -> str:
    """Return in words what a label cannot be used without: image, class or project."""
    if Image.objects.filter(pk=image_id).exclude(deleted_at=None).exists():
        return "The image was deleted"
    deleted = LabelClass.objects.filter(pk__in=class_ids).exclude(deleted_at=None).first()
    return f"The class “{deleted.name}” was deleted" if deleted else "The project was archived"


def holds_or_held(project_id: int, user: User, token: str) -> bool:
    """Return whether the person was once given an image with this lease."""
    return Lease.objects.filter(token=token, user=user, project=project_id).exists()


def labels_kept_unused(project: Project) -> QuerySet[Annotation]:
    """Return the labels that are kept in the history and do not count, the newest first."""
    return (
        Annotation.objects.filter(
            image__project=project,
            outcome__in=[Annotation.Outcome.ORPHANED, Annotation.Outcome.AFTER_REMOVAL],
            replaced_by=None,
        )
        .select_related("author", "image")
        .prefetch_related("regions__label_class")
        .order_by("-pk")
    )


_NOT_LISTED = [
    f"image__{field.name}"
    for field in Image._meta.concrete_fields
    if field.name not in {"id", "external_id"}
]


def annotations_of(project: Project, wanted: dict[str, Any]) -> QuerySet[Annotation]:
    """Return what people said of a project's images, the newest first.

    Args:
        project: whose images.
        wanted: what is chosen by: ``image``, ``external_id``, ``annotator``, ``class``, ``since``
            and whether ``current`` ones only.
    """
    # From the labels to their images, newest first: the other way round all would be sorted for
    # each page.
    theirs = Image.objects.filter(pk=OuterRef("image"), project=project, deleted_at=None)
    found = Annotation.objects.filter(Exists(theirs))
    if wanted["current"] == "true":
        found = found.filter(is_current=True)
    if "image" in wanted:
        found = found.filter(image=wanted["image"])
    if "external_id" in wanted:
        name = wanted["external_id"]
        found = found.filter(image=image_ids_of(project, [name]).get(name))
    if "annotator" in wanted:
        found = found.filter(author=wanted["annotator"])
    if "since" in wanted:
        found = found.filter(created_at__gte=wanted["since"])
    if "class" in wanted:
        said = AnnotationRegion.objects.filter(label_class=wanted["class"])
        found = found.filter(pk__in=said.order_by().values("annotation"))
    # A third of a page's time went into fields nobody sees: few people give all the labels, so that
    # each is read once, and of images and regions only what is shown.
    regions = AnnotationRegion.objects.only("annotation", "label_class")
    return (
        found.select_related("image")
        .defer(*_NOT_LISTED)
        .prefetch_related("author", Prefetch("regions", regions))
        .order_by("-pk")
    )


def history_of(annotation: Annotation) -> QuerySet[Annotation]:
    """Return all its author has said of the image, the oldest first."""
    return (
        Annotation.objects.filter(image=annotation.image_id, author=annotation.author_id)
        .select_related("author", "image", "due_to_class")
        .prefetch_related("regions")
        .order_by("pk")
    )


def changed_by(annotation: Annotation) -> dict[int, str]:
    """Return annotation id -> who made it, where that was not its author or is worth telling."""
    changes = Event.objects.filter(
        project=annotation.image.project_id,
        kind__in=["annotation.edited", "annotation.withdrawn"],
        payload__image=annotation.image_id,
    ).select_related("actor")
    return {
        change.payload["by" if change.kind == "annotation.withdrawn" else "annotation"]: (
            change.actor.shown_name
        )
        for change in changes
        if change.actor
    }


def current_annotations(images: list[Image]) -> dict[int, list[Annotation]]:
    """Return image id -> its current annotations, the earliest first, with regions and author."""
    found: dict[int, list[Annotation]] = {image.pk: [] for image in images}
    annotations = (
        Annotation.objects.filter(image__in=images, is_current=True)
        .select_related("author", "image")
        .prefetch_related("regions")
        .order_by("pk")
    )
    for annotation in annotations:
        found[annotation.image_id].append(annotation)
    return found


def n_leased(project: Project, now: datetime) -> int:
    """Return how many images are on somebody's screen."""
    return _N_LEASED.first(project=project, now=now) or 0


def replays(project: Project) -> QuerySet[Replay]:
    """Return the project's bake-offs, newest first."""
    return Replay.objects.filter(project=project).select_related("job").order_by("-pk")


def newest_jobs(project: Project) -> dict[str, Job]:
    """Return the newest job of each kind, whatever became of it; rounds tell of themselves."""
    return {job.kind: job for job in _NEWEST_JOBS.all(project=project)}
