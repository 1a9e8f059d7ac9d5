"""What was deleted is brought back, and the labels that were kept meanwhile count again.

Deleting only hides. A label counts again when what it names is back, unless its author has labelled
the image since, or enough others have: it never replaces what was said later.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from django.db import IntegrityError, transaction
from django.db.models import F, Q

from annotator.accounts.models import User
from annotator.events import services as events
from annotator.jobs import services as jobs
from annotator.jobs.running import JobRun
from annotator.labeling import hooks
from annotator.labeling.models import Annotation, AnnotationRegion, Image, LabelClass, Project
from annotator.labeling.services import (
    AT_ONCE,
    MAX_CLASSES,
    InvalidClassesError,
    follow_labels,
    has_name,
    images_naming,
    locked_images,
    locked_project,
    n_labels_of,
    settle_later,
    withdraw_without_class,
)


class ImageExistsError(Exception):
    """The same picture, or another with its external id, was uploaded since it was deleted."""


@transaction.atomic
def restore_project(*, project: Project, actor: User) -> int | None:
    """Bring an archived project back to all its members.

    Returns:
        How many labels count again, which were on their way when it was archived; None when there
        are so many that a job sees to them.
    """
    # Who is giving a label holds its classes: it is kept before we look, or given afterwards.
    _lock_classes(project.pk)
    image_ids = _images_with_kept_labels(project.pk)
    are_few = len(image_ids) <= AT_ONCE
    if are_few:
        locked_images(image_ids)
    archived = Project.objects.filter(pk=project.pk).exclude(deleted_at=None)
    if not archived.update(deleted_at=None):
        return 0
    project.deleted_at = None
    n_recalled = None
    if are_few:
        n_recalled = _recall(project.pk, image_ids)
    else:
        jobs.enqueue(
            kind="settle_project",
            queue="interactive",
            project_id=project.pk,
            params={"project_id": project.pk},
            user_id=actor.pk,
        )
    hooks.images_brought_back(project.pk)
    events.record(kind="project.restored", project_id=project.pk, actor_id=actor.pk, payload={})
    return n_recalled


@transaction.atomic
def restore_class(*, label_class: LabelClass, actor: User) -> int | None:
    """Bring a deleted class back; its key is dropped when another class has it by now.

    Returns:
        How many labels count again; None when there are so many that a job sees to them.

    Raises:
        InvalidClassesError: another class has its name, or there are too many classes.
    """
    project_id = label_class.project_id
    # Classes, then images, then the project, as in everything that gives labels.
    _lock_classes(project_id, even=label_class.pk)
    image_ids = _images_with_kept_labels(project_id, label_class)
    are_few = len(image_ids) <= AT_ONCE
    if are_few:
        locked_images(image_ids)
    locked_project(project_id)
    living = LabelClass.objects.filter(project=label_class.project_id, deleted_at=None)
    if has_name(living.exclude(pk=label_class.pk), label_class.name):
        raise InvalidClassesError(
            f"There is another class called “{label_class.name}” by now. Rename that one first."
        )
    if living.count() >= MAX_CLASSES:
        raise InvalidClassesError(f"A project can have at most {MAX_CLASSES} classes.")
    hotkey = "" if living.filter(hotkey=label_class.hotkey).exists() else label_class.hotkey
    deleted = LabelClass.objects.filter(pk=label_class.pk).exclude(deleted_at=None)
    if not deleted.update(deleted_at=None, hotkey=hotkey):
        return 0
    label_class.deleted_at, label_class.hotkey = None, hotkey
    n_recalled = None
    if are_few:
        n_recalled = _recall(project_id, image_ids)
    else:
        settle_later(label_class, actor=actor)
    events.record(
        kind="class.restored",
        project_id=label_class.project_id,
        actor_id=actor.pk,
        payload={
            "class": label_class.pk,
            "name": label_class.name,
            "labels_recalled": n_recalled,
        },
    )
    return n_recalled


@transaction.atomic
def restore_image(*, image: Image, actor: User) -> int:
    """Bring a deleted image back with its labels; return how many that were kept count again.

    Raises:
        ImageExistsError: the same picture, or another with its external id, is in the project.
    """
    _lock_classes(image.project_id)
    locked = Image.objects.select_for_update().get(pk=image.pk)
    if locked.deleted_at is None:
        return 0
    try:
        with transaction.atomic():
            Image.objects.filter(pk=image.pk).update(deleted_at=None)
    except IntegrityError as error:
        raise ImageExistsError(_why_it_stays_away(image)) from error
    was_labelled = int(locked.status == Image.Status.LABELLED)
    Project.objects.filter(pk=image.project_id).update(
        n_labelled=F("n_labelled") + was_labelled,
        n_labels=F("n_labels") + n_labels_of([image.pk])[image.pk],
        n_images=F("n_images") + 1,
    )
    n_recalled = _recall(image.project_id, [image.pk])
    hooks.images_brought_back(image.project_id)
    events.record(
        kind="image.restored",
        project_id=image.project_id,
        actor_id=actor.pk,
        payload={"image": image.pk, "file_name": image.file_name, "labels_recalled": n_recalled},
    )
    return n_recalled


def _why_it_stays_away(image: Image) -> str:
    again = Image.objects.filter(project=image.project_id, sha256=image.sha256, deleted_at=None)
    if again.exists():
        return f"The picture “{image.file_name}” was uploaded again since; that copy is in use."
    return f"Another picture was uploaded with the external id “{image.external_id}” since."


def settle_class(run: JobRun) -> None:
    """Do a job of kind ``settle_class``: labels follow a class that was deleted or came back.

    A few images a transaction; done again after a crash it finds what is left.
    """
    label_class = LabelClass.objects.get(pk=run.params["class_id"])
    is_deleted = label_class.deleted_at is not None
    image_ids = (
        images_naming(label_class)
        if is_deleted
        else _images_with_kept_labels(label_class.project_id, label_class)
    )
    n_changed = 0
    for number, some in enumerate(_by(AT_ONCE, image_ids)):
        run.progress(number * AT_ONCE, len(image_ids), "labels follow a class")
        with run.step():
            # If it was deleted or brought back meanwhile, there is nothing to do any more.
            _lock_classes(label_class.project_id, even=label_class.pk)
            n_changed += (
                withdraw_without_class(label_class, some)
                if is_deleted
                else _recall(label_class.project_id, some)
            )
    with run.commit():
        events.record(
            kind="class.settled",
            project_id=label_class.project_id,
            actor_id=run.user_id,
            payload={
                "class": label_class.pk,
                "images_reopened" if is_deleted else "labels_recalled": n_changed,
            },
        )


def settle_project(run: JobRun) -> None:
    """Do a job of kind ``settle_project``: the labels kept meanwhile count again."""
    project_id = run.params["project_id"]
    image_ids = _images_with_kept_labels(project_id)
    n_recalled = 0
    for number, some in enumerate(_by(AT_ONCE, image_ids)):
        run.progress(number * AT_ONCE, len(image_ids), "labels follow their project")
        with run.step():
            n_recalled += _recall(project_id, some)
    with run.commit():
        events.record(
            kind="project.settled",
            project_id=project_id,
            actor_id=run.user_id,
            payload={"labels_recalled": n_recalled},
        )


def _by(n: int, ids: list[int]) -> Iterable[list[int]]:
    return (ids[start : start + n] for start in range(0, len(ids), n))


# --- Labels that were kept ----------------------------------------------------------------------

KEPT = Q(outcome=Annotation.Outcome.ORPHANED) | Q(due_to_class__isnull=False)


def _images_with_kept_labels(project_id: int, label_class: LabelClass | None = None) -> list[int]:
    """Return the images that want people and have labels kept, or withdrawn with their class."""
    # While a change of the overlap is being followed, one that wants people may not be open yet.
    wants_people = Q(image__status=Image.Status.OPEN) | Q(image__project__is_settling=True)
    kept = Annotation.objects.filter(
        wants_people,
        image__project=project_id,
        image__deleted_at=None,
        replaced_by=None,
    )
    orphaned = kept.filter(outcome=Annotation.Outcome.ORPHANED)
    if label_class is None:
        found = [orphaned]
    else:
        withdrawn = kept.filter(due_to_class__isnull=False)
        found = [
            orphaned.filter(regions__label_class=label_class),
            withdrawn.filter(replaces__regions__label_class=label_class),
        ]
    return sorted({pk for rows in found for pk in rows.values_list("image_id", flat=True)})


def _recall(project_id: int, image_ids: list[int]) -> int:
    """Let kept labels of a few images count again; return how many.

    Called in a transaction that holds no lock on an image but of those.
    """
    living = _lock_classes(project_id)
    images = [image for image in locked_images(image_ids) if image.deleted_at is None]
    project = locked_project(project_id)
    n_before = n_labels_of(image_ids)
    short = [image for image in images if n_before[image.pk] < project.annotators_per_image]
    rows = (
        Annotation.objects.filter(image__in=short)
        .prefetch_related("regions", "replaces__regions")
        .order_by("pk")
    )
    of_image: dict[int, list[Annotation]] = defaultdict(list)
    for row in rows:
        of_image[row.image_id].append(row)
    back = {
        pk: _recallable(said, living, is_shared=project.annotators_per_image > 1)
        for pk, said in of_image.items()
    }
    _append_again([entry for entries in back.values() for entry in entries])
    _count_again(project, short, n_before, back)
    return sum(len(entries) for entries in back.values())


def _lock_classes(project_id: int, even: int = 0) -> set[int]:
    """Lock the living classes, before any image, and return them: none is deleted meanwhile."""
    classes = LabelClass.objects.select_for_update(no_key=True).filter(project=project_id)
    classes = classes.filter(Q(deleted_at=None) | Q(pk=even)).order_by("pk")
    return {entry.pk for entry in classes if entry.deleted_at is None}


def _recallable(
    said: list[Annotation], living: set[int], *, is_shared: bool
) -> list[tuple[Annotation, Annotation]]:
    """Return the kept rows of an image that count again, each with the row that says what.

    Args:
        said: the image's whole history, the oldest first.
        living: the classes there are.
        is_shared: whether several people are asked; what one says then leaves the others' alone.
    """
    replaced = {row.replaces_id for row in said}
    found: dict[int, tuple[Annotation, Annotation]] = {}
    for row in said:
        if row.outcome == Annotation.Outcome.AFTER_REMOVAL:
            continue
        withdrawn_with_class = row.due_to_class_id is not None
        if not withdrawn_with_class and row.outcome != Annotation.Outcome.ORPHANED:
            if row.action != Annotation.Action.WITHDRAW:
                # Labelled since: by its author, or by the one person who is asked.
                found.pop(row.author_id, None) if is_shared else found.clear()
            continue
        statement = row.replaces if withdrawn_with_class and row.replaces else row
        names = {region.label_class_id for region in statement.regions.all()}
        if row.pk not in replaced and (names & living or not names):
            found[row.author_id] = (row, statement)
        else:
            # Their last word names what is not there: an earlier one does not stand for it.
            found.pop(row.author_id, None)
    # An earlier label of theirs that stands is not replaced either.
    standing = {row.author_id for row in said if row.is_current}
    return [entry for author, entry in found.items() if author not in standing]


def _append_again(recalled: list[tuple[Annotation, Annotation]]) -> None:
    orphaned = Annotation.Outcome.ORPHANED
    accepted = Annotation.Outcome.ACCEPTED
    again = Annotation.objects.bulk_create(
        Annotation(
            image_id=row.image_id, author_id=row.author_id, action=Annotation.Action.RESTORE,
            outcome=accepted if statement.outcome == orphaned else statement.outcome,
            source=statement.source, served=statement.served, seconds=statement.seconds,
            replaces=row,
        )
        for row, statement in recalled
    )  # fmt: skip
    AnnotationRegion.objects.bulk_create(
        (
            AnnotationRegion(
                annotation=row,
                label_class_id=region.label_class_id,
                shape=region.shape,
                geometry=region.geometry,
            )
            for row, (_, statement) in zip(again, recalled, strict=True)
            for region in statement.regions.all()
        ),
        # PostgreSQL takes 65,535 parameters a statement.
        batch_size=5000,
    )


def _count_again(
    project: Project,
    images: Sequence[Image],
    n_before: Mapping[int, int],
    back: Mapping[int, list[tuple[Annotation, Annotation]]],
) -> None:
    """Let living images follow the labels that stand again, and tell who asked.

    Args:
        project: locked.
        images: locked.
        n_before: image id -> how many labels stood before.
        back: image id -> the labels that stand again.
    """
    changed = [image for image in images if back.get(image.pk)]
    if not changed:
        return
    wanted = project.annotators_per_image
    n_labels = {image.pk: n_before[image.pk] + len(back[image.pk]) for image in changed}
    n_recalled = sum(len(back[image.pk]) for image in changed)
    follow_labels(project, changed, n_labels, n_more=n_recalled)
    recalled = [
        hooks.Recalled(
            pk,
            authors=tuple(row.author_id for row, _ in back[pk]),
            n_counted=min(n, wanted) - n_before[pk],
            has_enough=n >= wanted,
        )
        for pk, n in n_labels.items()
    ]
    hooks.labels_recalled(project.pk, recalled)
