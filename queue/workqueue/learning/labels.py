"""What a round works on: the pool, the labels, and which of them are a random sample."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet

from annotator.labeling.majority import majority
from annotator.labeling.models import Annotation, AnnotationRegion, Image, LabelClass, Project
from ml import embedding_store
from ml.arrays import BoolArray, FloatArray, IntArray
from ml.embedding_store import Places
from ml.ranking import LabelledView
from ml.replay import class_counts
from workqueue.models import Embedding, Segment
from workqueue.sampling import KEEPS, first_gap


@dataclasses.dataclass(frozen=True)
class Pool:
    """The embedded images nobody has labelled, in storage order."""

    image_ids: IntArray  # (n,)
    random_keys: IntArray  # (n,)
    places: Places

    def __len__(self) -> int:
        return len(self.image_ids)

    def vectors(self, which: IntArray) -> FloatArray:
        """Return the float16 embeddings of some images, (n, dim)."""
        return embedding_store.gather(settings.EMBEDDINGS_ROOT, self.places[which])


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """The labels a head is trained on, with the part of them that is a random sample."""

    class_ids: list[int]
    image_ids: IntArray  # (n,)
    random_keys: IntArray  # (n,)
    vectors: FloatArray  # (n, dim)
    targets: Any  # (n,) class indices, or (n, n_classes) of 0 and 1
    measured: BoolArray  # (n,) the image is in the random sample
    frame_until: int  # the newest image the random sample stands for
    kind: str

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def class_counts(self) -> IntArray:
        """Labels of each class, (n_classes,)."""
        if not len(self):
            return np.zeros(len(self.class_ids), dtype=np.int64)
        return class_counts(self.targets, len(self.class_ids), self.kind)

    @property
    def view(self) -> LabelledView:
        """What a ranking looks at."""
        return LabelledView(self.vectors, self.class_counts)


def load_pool(project: Project, begun: Sequence[int]) -> Pool:
    """Read which images nobody has labelled and where their embeddings are.

    Args:
        project: whose images.
        begun: open images to leave out, those with labels (``load_begun``): read once, since each
            image has one place in a ranking whatever people say meanwhile.
    """
    rows = (
        Embedding.objects.filter(
            image__project=project,
            image__status=Image.Status.OPEN,
            image__deleted_at=None,
            segment__isnull=False,
        )
        .order_by("segment_id", "row")
        .values_list("image_id", "image__random_key", "segment_id", "row")
    )
    # Straight into an array: a million rows as Python objects would take half a gigabyte.
    found: IntArray = np.fromiter(rows.iterator(chunk_size=10_000), dtype=np.dtype((np.int64, 4)))
    found = found[~np.isin(found[:, 0], list(begun))]
    segments = dict(Segment.objects.filter(project=project).values_list("pk", "name"))
    numbers = np.array(sorted(segments), dtype=np.int64)
    return Pool(
        image_ids=found[:, 0].copy(),
        random_keys=found[:, 1].copy(),
        places=Places(
            names=tuple(segments[pk] for pk in sorted(segments)),
            segment_of=np.searchsorted(numbers, found[:, 2]).astype(np.int32),
            rows=found[:, 3].copy(),
        ),
    )


def load_begun(project: Project) -> list[int]:
    """Return the open images that some people have labelled and more are wanted for.

    In the order in which they were begun: it is the order of the rankings they were served from.
    """
    if not has_begun_images(project):
        return []
    standing = Annotation.objects.filter(
        image__project=project,
        image__status=Image.Status.OPEN,
        image__deleted_at=None,
        is_current=True,
    )
    return list(dict.fromkeys(standing.order_by("pk").values_list("image_id", flat=True)))


def has_begun_images(project: Project) -> bool:
    """Return whether an open image can have labels."""
    project.refresh_from_db(fields=["annotators_per_image", "is_settling"])
    return project.annotators_per_image > 1 or project.is_settling


def load_labelled(project: Project, *, frame_before: int) -> LabelledSet:
    """Read the labels that count: current ones, of living images and living classes.

    Where several people's labels stand for one image their majority counts.

    Args:
        project: whose labels.
        frame_before: the newest image the last measured random sample stood for (0: none).
    """
    class_ids = list(
        LabelClass.objects.filter(project=project, deleted_at=None).values_list("pk", flat=True)
    )
    said = _labels_by_image(project)
    several = project.kind == Project.Kind.SEVERAL_CLASSES
    known = set(class_ids)
    usable = {
        image_id: [pk for pk in classes if pk in known]
        for image_id, classes in said.items()
        if several or (len(classes) == 1 and classes[0] in known)
    }
    places = (
        Embedding.objects.filter(image__in=usable, segment__isnull=False)
        if len(usable) < 500
        else _embeddings_of_labelled(project)
    )
    found = [
        row
        for row in places.order_by("segment_id", "row").values_list(
            "image_id", "image__random_key", "segment__name", "row"
        )
        if row[0] in usable
    ]
    image_ids = np.array([row[0] for row in found], dtype=np.int64)
    random_keys = np.array([row[1] for row in found], dtype=np.int64)
    measured, frame = _random_sample(project, image_ids, random_keys, frame_before)
    return LabelledSet(
        class_ids=class_ids,
        image_ids=image_ids,
        random_keys=random_keys,
        vectors=embedding_store.gather(
            settings.EMBEDDINGS_ROOT, Places.of([(row[2], row[3]) for row in found])
        )
        if found
        else np.empty((0, 1), dtype=np.float16),
        targets=_targets([usable[pk] for pk in image_ids.tolist()], class_ids, several=several),
        measured=measured,
        frame_until=frame,
        kind=project.kind,
    )


def _embeddings_of_labelled(project: Project) -> QuerySet[Embedding]:
    embeddings = Embedding.objects.filter(image__project=project, segment__isnull=False)
    if not has_begun_images(project):
        return embeddings.filter(image__status=Image.Status.LABELLED)
    standing = Annotation.objects.filter(image=OuterRef("image"), is_current=True)
    return embeddings.filter(Exists(standing))


def _labels_by_image(project: Project) -> dict[int, list[int]]:
    """Return image id -> the class ids that its labels give it together."""
    current = Annotation.objects.filter(
        image__project=project, image__deleted_at=None, is_current=True
    )
    image_of = dict(current.order_by("pk").values_list("pk", "image_id"))
    classes: dict[int, list[int]] = {pk: [] for pk in image_of}
    regions = AnnotationRegion.objects.filter(
        annotation__image__project=project,
        annotation__is_current=True,
        shape=AnnotationRegion.Shape.WHOLE_IMAGE,
    )
    for annotation_id, class_id in regions.values_list("annotation_id", "label_class_id"):
        if annotation_id in classes:
            classes[annotation_id].append(class_id)
    said: dict[int, list[list[int]]] = {}
    for pk, image_id in image_of.items():
        said.setdefault(image_id, []).append(classes[pk])
    several = project.kind == Project.Kind.SEVERAL_CLASSES
    return {image_id: majority(labels, several=several) for image_id, labels in said.items()}


def _targets(labels: list[list[int]], class_ids: list[int], *, several: bool) -> Any:
    index = {pk: position for position, pk in enumerate(class_ids)}
    if not several:
        return np.array([index[classes[0]] for classes in labels], dtype=np.int64)
    targets = np.zeros((len(labels), len(class_ids)), dtype=np.float32)
    for row, classes in enumerate(labels):
        targets[row, [index[pk] for pk in classes]] = 1.0
    return targets


def _random_sample(
    project: Project, image_ids: IntArray, random_keys: IntArray, frame_before: int
) -> tuple[BoolArray, int]:
    """Return which labelled images are a random sample, and the newest image it stands for.

    New images open gaps in the beginning of the random list; until the exploration share has closed
    them, the sample of the images that were there before is used, and the page says so. See
    `workqueue.sampling`.
    """
    newest = (
        Image.objects.filter(project=project).order_by("-pk").values_list("pk", flat=True).first()
    )
    of_all = random_keys < first_gap(project, newest or 0)
    if not frame_before or frame_before == newest:
        return of_all, newest or 0
    of_old = (random_keys < first_gap(project, frame_before)) & (image_ids <= frame_before)
    if of_all.sum() >= KEEPS * of_old.sum():
        return of_all, newest or 0
    return of_old, frame_before
