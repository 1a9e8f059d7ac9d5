"""Every write to projects, classes, images and annotations.

One function is one use case in one transaction, with its event beside it.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, IntegerField, Max, OuterRef, QuerySet
from django.db.models.functions import Greatest

from annotator.accounts.models import Membership, Role, User
from annotator.events import services as events
from annotator.jobs import services as jobs
from annotator.labeling import hooks
from annotator.labeling.models import Annotation, AnnotationRegion, Image, LabelClass, Project
from annotator.labeling.names import name_key
from annotator.prepared import Given, Prepared, PreparedUpdate, insert, insert_all

MAX_CLASSES = 1000
# So many images change in one transaction at most; more are left to a job.
AT_ONCE = 200

# Kept in the history beside what stands; the image is asked again.
UNUSED = {Annotation.Outcome.ORPHANED, Annotation.Outcome.AFTER_REMOVAL}

# Many may give labels of a class at once, and none while it is being deleted.
_SHARED_CLASS = Prepared(
    lambda: LabelClass.objects.filter(project=Given("project"), pk=Given("label_class")),
    is_shared=True,
)
_LOCKED_PROJECT = Prepared(
    lambda: Project.objects.select_for_update(no_key=True).filter(pk=Given("project"))
)
_STANDING = Prepared(lambda: Annotation.objects.filter(image=Given("image"), is_current=True))
_SET_STATUS = PreparedUpdate(
    lambda: Image.objects.filter(pk=Given("image")), status=Given("status")
)
_ADD_TO_COUNTERS = PreparedUpdate(
    lambda: Project.objects.filter(pk=Given("project")),
    n_labelled=F("n_labelled") + Given("n_labelled", IntegerField()),
    n_labels=F("n_labels") + Given("n_labels", IntegerField()),
)

# Okabe and Ito's colour-blind safe set (2008), darkened where white text would not be readable,
# then further hues; reused in order when there are more classes.
PALETTE = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7b61ff", "#b23a48",
    "#4c956c", "#8d6a4f", "#3d5a80", "#c9a227", "#a44a9c", "#2a9d8f", "#e76f51", "#6c757d",
]  # fmt: skip


class InvalidClassesError(Exception):
    """The classes given do not fit the project; the text says why."""


class StaleAnnotationError(Exception):
    """The annotation was replaced meanwhile; ``current`` is the newer one."""

    def __init__(self, current: Annotation | None) -> None:
        super().__init__("This label was changed or withdrawn meanwhile.")
        self.current = current


@dataclass(frozen=True)
class ClassSpec:
    """A class to create; colour and hotkey are chosen when empty."""

    name: str
    colour: str = ""
    hotkey: str = ""


@transaction.atomic
def create_project(
    *,
    actor: User,
    name: str,
    kind: str,
    instructions: str = "",
    classes: Sequence[ClassSpec] = (),
) -> Project:
    """Create a project with its classes; the creator is its lead.

    Raises:
        InvalidClassesError: names or hotkeys stand twice, or there are too many classes.
    """
    project = Project.objects.create(
        name=name, kind=kind, instructions=instructions, created_by=actor
    )
    Membership.objects.create(project=project, user=actor, role=Role.LEAD)
    _add_classes(project, classes)
    events.record(
        kind="project.created",
        project_id=project.pk,
        actor_id=actor.pk,
        payload={"name": name, "kind": kind, "classes": [entry.name for entry in classes]},
    )
    return project


class StaleProjectError(Exception):
    """Somebody changed the project meanwhile; ``current`` is what it is now."""

    def __init__(self, current: Project) -> None:
        super().__init__("Somebody changed this project meanwhile.")
        self.current = current


def version_of(project: Project) -> str:
    """Return the version of what people change of a project by hand: its name and instructions."""
    text = f"{project.name}\0{project.instructions}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@transaction.atomic
def update_project(
    *, project: Project, actor: User, changes: dict[str, Any], version: str | None = None
) -> Project:
    """Change the name or the instructions.

    Args:
        project: which.
        actor: the lead.
        changes: field -> new value.
        version: the version the lead saw (`version_of`), or None to overwrite whatever is there.

    Raises:
        StaleProjectError: it has another version by now.
    """
    current = Project.objects.select_for_update().get(pk=project.pk)
    if version is not None and version != version_of(current):
        raise StaleProjectError(current)
    project.name, project.instructions = current.name, current.instructions
    before = {field: getattr(project, field) for field in changes}
    for field, value in changes.items():
        setattr(project, field, value)
    project.save(update_fields=list(changes))
    events.record(
        kind="project.changed",
        project_id=project.pk,
        actor_id=actor.pk,
        payload={"changes": {field: [before[field], changes[field]] for field in changes}},
    )
    return project


@transaction.atomic
def change_overlap(*, project_id: int, annotators_per_image: int) -> None:
    """Change how many people are wanted for an image.

    From now on labels are counted against the new number. Images labelled before follow when they
    are settled (`settle_images`); until then the project says that it is settling.
    """
    Project.objects.filter(pk=project_id).update(
        annotators_per_image=annotators_per_image, is_settling=True
    )


@transaction.atomic
def settle_images(*, project_id: int, image_ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Let the status of some images follow from their labels.

    Returns:
        Which of them are open again, and which have labels enough now.
    """
    images = locked_images(image_ids)
    project = locked_project(project_id)
    opened, finished = follow_labels(project, images, n_labels_of(image_ids))
    return [image.pk for image in opened], [image.pk for image in finished]


@transaction.atomic
def end_settling(*, project_id: int, annotators_per_image: int) -> bool:
    """Note that every image has the status it should, unless the overlap was changed again."""
    if locked_project(project_id).annotators_per_image != annotators_per_image:
        return False
    Project.objects.filter(pk=project_id).update(is_settling=False)
    return True


def locked_images(image_ids: Sequence[int]) -> list[Image]:
    """Lock images before their labels are read: nobody changes what is said of them meanwhile."""
    images = Image.objects.select_for_update(no_key=True)
    return list(images.filter(pk__in=image_ids).order_by("pk"))


def locked_project(project_id: int) -> Project:
    """Lock the project's counters and its overlap; always after the images."""
    (project,) = _LOCKED_PROJECT.all(project=project_id)
    return project


def n_labels_of(image_ids: Sequence[int]) -> Counter[int]:
    """Return image id -> how many people's labels stand for it."""
    standing = Annotation.objects.filter(image__in=image_ids, is_current=True)
    return Counter(standing.values_list("image_id", flat=True))


def follow_labels(
    project: Project,
    images: Sequence[Image],
    n_labels: Mapping[int, int],
    *,
    n_more: int = 0,
) -> tuple[list[Image], list[Image]]:
    """Open the images with too few labels, finish those with enough, and count it.

    Args:
        project: locked, so that its overlap stays what it is.
        images: locked.
        n_labels: image id -> how many people's labels stand for it.
        n_more: how many labels of living images there are more than before.

    Returns:
        Which were opened, and which were finished.
    """
    wanted, status = project.annotators_per_image, Image.Status
    opened = [i for i in images if i.status == status.LABELLED and n_labels[i.pk] < wanted]
    finished = [i for i in images if i.status == status.OPEN and n_labels[i.pk] >= wanted]
    for changed, now_is in ((opened, status.OPEN), (finished, status.LABELLED)):
        if len(changed) == 1:
            _SET_STATUS.run(image=changed[0], status=now_is)
        elif changed:
            Image.objects.filter(pk__in=[image.pk for image in changed]).update(status=now_is)
        for image in changed:
            image.status = now_is
    _count(
        project,
        n_labelled=sum(not image.deleted_at for image in finished)
        - sum(not image.deleted_at for image in opened),
        n_labels=n_more,
    )
    return opened, finished


def _count(project: Project, *, n_labelled: int, n_labels: int) -> None:
    if n_labelled or n_labels:
        _ADD_TO_COUNTERS.run(project=project, n_labelled=n_labelled, n_labels=n_labels)


@transaction.atomic
def delete_project(*, project: Project, actor: User, now: datetime) -> None:
    """Archive a project: hidden from everybody until a lead brings it back.

    Nothing of it is destroyed. Its leases end, and its background work at its next check.
    """
    living = Project.objects.filter(pk=project.pk, deleted_at=None)
    if not living.exists():
        return
    # Leases before the project, as everybody takes them who labels.
    hooks.project_archived(project.pk)
    if not living.update(deleted_at=now):
        return
    events.record(kind="project.deleted", project_id=project.pk, actor_id=actor.pk, payload={})


@transaction.atomic
def add_class(*, project: Project, actor: User, spec: ClassSpec) -> LabelClass:
    """Add one class to a project.

    Raises:
        InvalidClassesError: its name or hotkey is taken, or there are too many classes.
    """
    (label_class,) = _add_classes(project, [spec])
    events.record(
        kind="class.added",
        project_id=project.pk,
        actor_id=actor.pk,
        payload={"class": label_class.pk, "name": label_class.name},
    )
    return label_class


def _add_classes(project: Project, specs: Sequence[ClassSpec]) -> list[LabelClass]:
    Project.objects.select_for_update().get(pk=project.pk)
    existing = list(project.classes.filter(deleted_at=None))
    if len(existing) + len(specs) > MAX_CLASSES:
        raise InvalidClassesError(f"A project can have at most {MAX_CLASSES} classes.")
    names = {name_key(entry.name) for entry in existing}
    hotkeys = {entry.hotkey for entry in existing if entry.hotkey}
    start = project.classes.aggregate(last=Max("position"))["last"]
    position = 0 if start is None else start + 1
    added = []
    for spec in specs:
        if name_key(spec.name) in names:
            raise InvalidClassesError(f"There are two classes called “{spec.name}”.")
        if spec.hotkey and spec.hotkey in hotkeys:
            raise InvalidClassesError(f"The key “{spec.hotkey}” is given to two classes.")
        names.add(name_key(spec.name))
        hotkeys.add(spec.hotkey)
        added.append(
            LabelClass(
                project=project,
                name=spec.name,
                colour=spec.colour or PALETTE[position % len(PALETTE)],
                hotkey=spec.hotkey,
                position=position,
            )
        )
        position += 1
    free = [key for key in "123456789" if key not in hotkeys]
    for label_class in added:
        if not label_class.hotkey and free:
            label_class.hotkey = free.pop(0)
    return LabelClass.objects.bulk_create(added)


def has_name(classes: QuerySet[LabelClass], name: str) -> bool:
    """Return whether one of the classes has this name, or one that looks like it."""
    return name_key(name) in map(name_key, classes.values_list("name", flat=True))


@transaction.atomic
def update_class(*, label_class: LabelClass, actor: User, changes: dict[str, Any]) -> LabelClass:
    """Rename a class or give it another colour, key or position.

    Raises:
        InvalidClassesError: the new name or key is taken.
    """
    others = LabelClass.objects.filter(project=label_class.project_id, deleted_at=None).exclude(
        pk=label_class.pk
    )
    if "name" in changes and has_name(others, changes["name"]):
        raise InvalidClassesError(f"There is another class called “{changes['name']}”.")
    if changes.get("hotkey") and others.filter(hotkey=changes["hotkey"]).exists():
        raise InvalidClassesError(f"The key “{changes['hotkey']}” belongs to another class.")
    before = {field: getattr(label_class, field) for field in changes}
    for field, value in changes.items():
        setattr(label_class, field, value)
    label_class.save(update_fields=list(changes))
    events.record(
        kind="class.changed",
        project_id=label_class.project_id,
        actor_id=actor.pk,
        payload={
            "class": label_class.pk,
            "changes": {field: [before[field], changes[field]] for field in changes},
        },
    )
    return label_class


@transaction.atomic
def delete_class(*, label_class: LabelClass, actor: User, now: datetime) -> int | None:
    """Hide a class; images that have too few other labels go back to the queue.

    Their labels are withdrawn but stay in the history. A label that names another class as well
    stands.

    Returns:
        How many images went back to the queue; None when they are so many that a job brings them
        there, a few at a time.
    """
    # The class's row is locked before any image's, as in everything that gives labels.
    if not LabelClass.objects.filter(pk=label_class.pk, deleted_at=None).update(deleted_at=now):
        return 0
    image_ids = images_naming(label_class, at_most=AT_ONCE + 1)
    n_reopened = None
    if len(image_ids) <= AT_ONCE:
        n_reopened = withdraw_without_class(label_class, image_ids)
    else:
        settle_later(label_class, actor=actor)
    events.record(
        kind="class.deleted",
        project_id=label_class.project_id,
        actor_id=actor.pk,
        payload={
            "class": label_class.pk,
            "name": label_class.name,
            "images_reopened": n_reopened,
        },
    )
    return n_reopened


def settle_later(label_class: LabelClass, *, actor: User) -> None:
    """Queue the job that brings the labels in line with a class that was deleted or came back."""
    jobs.enqueue(
        kind="settle_class",
        queue="interactive",
        project_id=label_class.project_id,
        params={"class_id": label_class.pk},
        user_id=actor.pk,
    )


def images_naming(label_class: LabelClass, at_most: int | None = None) -> list[int]:
    """Return the images whose current labels name the class, in their order when all are asked."""
    naming = AnnotationRegion.objects.filter(label_class=label_class, annotation__is_current=True)
    image_ids = naming.order_by().values_list("annotation__image_id", flat=True).distinct()
    return sorted(image_ids[:at_most])


def withdraw_without_class(label_class: LabelClass, image_ids: Sequence[int]) -> int:
    """Withdraw those labels of a few images that name deleted classes only.

    Called in a transaction in which the class's row is locked.

    Returns:
        How many living images are open again.
    """
    images = locked_images(image_ids)
    authors = _withdraw_of(image_ids, label_class)
    project = locked_project(label_class.project_id)
    n_labels = n_labels_of(image_ids)
    n_lost = sum(len(authors[image.pk]) for image in images if not image.deleted_at)
    opened, _ = follow_labels(project, images, n_labels, n_more=-n_lost)
    withdrawn = [
        _withdrawn(project, image, authors[image.pk], n_labels[image.pk])
        for image in images
        if authors[image.pk]
    ]
    if withdrawn:
        hooks.labels_withdrawn(project.pk, withdrawn)
    return sum(not image.deleted_at for image in opened)


def _withdrawn(
    project: Project, image: Image, authors: Sequence[int], n_left: int
) -> hooks.Withdrawn:
    # Labels beyond the overlap did not count, and those of a deleted image do not any more.
    wanted = project.annotators_per_image
    counted = 0 if image.deleted_at else max(min(n_left + len(authors), wanted) - n_left, 0)
    return hooks.Withdrawn(image.pk, tuple(authors), counted, is_short=n_left < wanted)


def _withdraw_of(image_ids: Sequence[int], label_class: LabelClass) -> Mapping[int, list[int]]:
    """Return image id -> whose labels were withdrawn; the images are locked."""
    regions = AnnotationRegion.objects.filter(annotation=OuterRef("pk"))
    emptied = list(
        Annotation.objects.filter(
            Exists(regions.filter(label_class=label_class)),
            ~Exists(regions.filter(label_class__deleted_at=None)),
            image__in=image_ids,
            is_current=True,
        )
    )
    Annotation.objects.filter(pk__in=[former.pk for former in emptied]).update(is_current=False)
    Annotation.objects.bulk_create(
        Annotation(
            image_id=former.image_id, author_id=former.author_id, source=former.source,
            action=Annotation.Action.WITHDRAW, outcome=former.outcome, is_current=False,
            replaces=former, served={}, due_to_class=label_class,
        )
        for former in emptied
    )  # fmt: skip
    authors: dict[int, list[int]] = defaultdict(list)
    for former in emptied:
        authors[former.image_id].append(former.author_id)
    return authors


@transaction.atomic
def delete_image(*, image: Image, actor: User, now: datetime) -> None:
    """Take an image out of the project; its labels stay in the history."""
    locked = Image.objects.select_for_update(no_key=True).get(pk=image.pk)
    if locked.deleted_at is not None:
        return
    Image.objects.filter(pk=image.pk).update(deleted_at=now)
    was_labelled = int(locked.status == Image.Status.LABELLED)
    n_labels = n_labels_of([image.pk])[image.pk]
    Project.objects.filter(pk=image.project_id).update(
        n_labelled=Greatest(F("n_labelled") - was_labelled, 0),
        n_labels=Greatest(F("n_labels") - n_labels, 0),
        n_images=F("n_images") - 1,
    )
    events.record(
        kind="image.deleted",
        project_id=image.project_id,
        actor_id=actor.pk,
        payload={"image": image.pk, "file_name": image.file_name},
    )


@dataclass(frozen=True)
class Recorded:
    """A label that was just kept.

    Attributes:
        annotation: the label.
        n_labels: how many people's labels stand for the image by now.
        is_another: whether it is one more of them.
    """

    annotation: Annotation
    n_labels: int
    is_another: bool


def record_annotation(
    *,
    image: Image,
    author: User,
    classes: Sequence[LabelClass],
    source: str = Annotation.Source.PERSON,
    is_late: bool = False,
    was_removed: bool = False,
    served: dict[str, Any] | None = None,
    seconds: float | None = None,
) -> Recorded:
    """Keep what a person said of an image, whatever happened meanwhile.

    The caller holds the locks on the classes (from `check_classes`) and then on the image's row,
    and goes on with `count_label` in the same transaction. An earlier current annotation by the
    same person is replaced. The outcome tells what became of it: *accepted*; *late* when the lease
    had run out; *second* when as many other labels as wanted stand already; *orphaned* when the
    project, the image or one of the classes was deleted; *after_removal* when the person was
    removed from the project. The last two are kept beside what stands: the image is asked again.
    """
    standing = _STANDING.all(image=image)
    former = next((said for said in standing if said.author_id == author.pk), None)
    has_enough = former is None and len(standing) >= image.project.annotators_per_image
    outcome = _outcome(image, classes, has_enough=has_enough, is_late=is_late)
    if was_removed:
        outcome = Annotation.Outcome.AFTER_REMOVAL
    is_unused = outcome in UNUSED
    annotation = _append(
        image=image,
        author=author,
        classes=classes,
        action=Annotation.Action.EDIT if former and not is_unused else Annotation.Action.LABEL,
        outcome=outcome,
        source=source,
        is_current=not is_unused,
        replaces=None if is_unused else former,
        served=served or {},
        seconds=seconds,
    )
    is_another = not is_unused and former is None
    return Recorded(annotation, len(standing) + is_another, is_another)


def count_label(image: Image, recorded: Recorded) -> None:
    """Let the image's status and the project's counters follow a label that was just kept.

    The last of its transaction: everybody else who labels in the project waits from here on.
    """
    if recorded.is_another:
        project = locked_project(image.project_id)
        follow_labels(project, [image], {image.pk: recorded.n_labels}, n_more=+1)


def _outcome(
    image: Image, classes: Sequence[LabelClass], *, has_enough: bool, is_late: bool
) -> str:
    if image.deleted_at or image.project.deleted_at or any(c.deleted_at for c in classes):
        return Annotation.Outcome.ORPHANED
    if has_enough:
        return Annotation.Outcome.SECOND
    return Annotation.Outcome.LATE if is_late else Annotation.Outcome.ACCEPTED


def check_classes(project: Project, class_ids: Sequence[int]) -> list[LabelClass]:
    """Lock and return the classes, deleted ones included: none is deleted meanwhile.

    Call it before an image is locked: a class is deleted in that order too.

    Raises:
        InvalidClassesError: a class is not the project's, or their number does not fit its kind.
    """
    wanted = list(dict.fromkeys(class_ids))
    classes = {pk: _SHARED_CLASS.first(project=project, label_class=pk) for pk in sorted(wanted)}
    missing = [pk for pk, label_class in classes.items() if label_class is None]
    if missing:
        raise InvalidClassesError(f"Class {missing[0]} does not belong to this project.")
    if project.kind == Project.Kind.ONE_CLASS and len(wanted) != 1:
        raise InvalidClassesError("This project takes exactly one class per image.")
    return [label_class for pk in wanted if (label_class := classes[pk])]


def refuse_deleted(classes: Sequence[LabelClass]) -> None:
    """See that none of the classes was deleted.

    Raises:
        InvalidClassesError: one was.
    """
    deleted = [entry.name for entry in classes if entry.deleted_at]
    if deleted:
        raise InvalidClassesError(f"The class “{deleted[0]}” was deleted; choose another.")


def _append(
    *, classes: Sequence[LabelClass], replaces: Annotation | None, **fields: Any
) -> Annotation:
    if replaces is not None:
        Annotation.objects.filter(pk=replaces.pk).update(is_current=False)
    annotation = insert(Annotation(replaces=replaces, **fields))
    if classes:
        insert_all([AnnotationRegion(annotation=annotation, label_class=c) for c in classes])
    return annotation


@transaction.atomic
def edit_annotation(*, annotation: Annotation, actor: User, class_ids: Sequence[int]) -> Annotation:
    """Replace a current annotation by one with other classes; the former stays in the history.

    Raises:
        InvalidClassesError: the classes do not fit.
        StaleAnnotationError: somebody replaced or withdrew it first.
    """
    classes = check_classes(annotation.image.project, class_ids)
    image = (
        Image.objects.select_for_update(of=("self",), no_key=True)
        .select_related("project")
        .get(pk=annotation.image_id)
    )
    current = Annotation.objects.get(pk=annotation.pk)
    if not current.is_current:
        raise StaleAnnotationError(current_of(current))
    refuse_deleted(classes)
    edited = _append(
        image=image,
        author=current.author,
        classes=classes,
        action=Annotation.Action.EDIT,
        outcome=current.outcome,
        source=current.source,
        replaces=current,
        served=current.served,
        seconds=current.seconds,
    )
    events.record(
        kind="annotation.edited",
        project_id=image.project_id,
        actor_id=actor.pk,
        payload={
            "annotation": edited.pk,
            "replaces": current.pk,
            "image": image.pk,
            "classes": [entry.pk for entry in classes],
        },
    )
    return edited


def current_of(annotation: Annotation) -> Annotation | None:
    """Return what its author says of the image now, if anything."""
    return Annotation.objects.filter(
        image=annotation.image_id, author=annotation.author_id, is_current=True
    ).first()


@transaction.atomic
def withdraw_annotation(*, annotation: Annotation, actor: User) -> Image:
    """Take a label back: out of training too, and the image is open if it has too few then.

    Raises:
        StaleAnnotationError: it is not the current one any more.
    """
    image = (
        Image.objects.select_for_update(of=("self",), no_key=True)
        .select_related("project")
        .get(pk=annotation.image_id)
    )
    current = Annotation.objects.get(pk=annotation.pk)
    if not current.is_current:
        raise StaleAnnotationError(None)
    withdrawn = _append(
        image=image,
        author=current.author,
        classes=[],
        action=Annotation.Action.WITHDRAW,
        outcome=current.outcome,
        source=current.source,
        is_current=False,
        replaces=current,
        served={},
    )
    # The labels other people gave still stand for the image.
    n_more = 0 if image.deleted_at else -1
    project = locked_project(image.project_id)
    follow_labels(project, [image], n_labels_of([image.pk]), n_more=n_more)
    events.record(
        kind="annotation.withdrawn",
        project_id=image.project_id,
        actor_id=actor.pk,
        payload={"annotation": current.pk, "image": image.pk, "by": withdrawn.pk},
    )
    return image
