"""What is exported of each image, read a few hundred images at a time from one moment."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from annotator.clock import database_now
from annotator.exports.hooks import RandomSample, random_sample
from annotator.exports.snapshot import one_moment
from annotator.labeling.majority import majority
from annotator.labeling.models import Annotation, AnnotationRegion, Image, LabelClass, Project

AT_ONCE = 500

WITH_LABELS, LABELLED, ALL = "with_labels", "labelled", "all"
RANDOM, QUEUE = "random", "queue"

# What other programs call an image, where the product keeps such a name.
EXTERNAL_ID = "external_id"
HAS_EXTERNAL_ID = any(column.name == EXTERNAL_ID for column in Image._meta.concrete_fields)

Record = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What a person asks for.

    Attributes:
        images: those with a label, with labels of all wanted people, or all.
        class_ids: only images one of whose labels names one of these classes; empty for any.
        chosen: ``random`` for the random sample alone, ``queue`` for the rest, empty for both.
        history: with everything that was ever said of each image.
        names: with the names of people, who are numbers otherwise.
        pictures: ``originals`` or ``renditions`` (upright JPEG without the camera's notes).
        address: of this server, for formats that name pictures by their address.
    """

    images: str = WITH_LABELS
    class_ids: tuple[int, ...] = ()
    chosen: str = ""
    history: bool = False
    names: bool = False
    pictures: str = "originals"
    address: str = ""

    @classmethod
    def of(cls, options: dict[str, Any]) -> "Wanted":
        """Return what the options of an export say."""
        return cls(**{**options, "class_ids": tuple(options.get("class_ids", ()))})


@dataclass
class Contents:
    """What is in an export, known once it was read."""

    project: str
    kind: str
    classes: list[dict[str, Any]]
    as_of: str
    n_images: int = 0
    n_labels: int = 0
    n_random: int = 0
    # Images by the class ids of their consensus, as text: keys of JSON are.
    n_of_class: dict[str, int] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether an image can have several classes."""
        return self.kind == Project.Kind.SEVERAL_CLASSES

    def count(self, record: Record) -> None:
        """Add one image."""
        self.n_images += 1
        self.n_labels += len(record["labels"])
        self.n_random += record["chosen"] == RANDOM
        for class_id in (record["consensus"] or {"class_ids": []})["class_ids"]:
            key = str(class_id)
            self.n_of_class[key] = self.n_of_class.get(key, 0) + 1

    def as_json(self) -> dict[str, Any]:
        """Return it for the row of the export."""
        return asdict(self)


def write_records(
    project_id: int, wanted: Wanted, target: Path, tell: Callable[[int, int], None]
) -> Contents:
    """Write a line of JSON for each image and return what they hold together.

    Args:
        project_id: whose images.
        wanted: which of them, and what of them.
        target: the file to write.
        tell: is told now and then how many images of how many are read; may raise to stop.
    """
    with one_moment(), target.open("w", encoding="utf-8", newline="\n") as lines:
        reading = _Reading(Project.objects.get(pk=project_id), wanted)
        for record in reading.records(tell):
            lines.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
    return reading.contents


def read_records(source: Path) -> Iterator[Record]:
    """Return the records of a file, one after the other."""
    with source.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


class _Reading:
    """One pass over the images of a project."""

    def __init__(self, project: Project, wanted: Wanted) -> None:
        self._project = project
        self._wanted = wanted
        self._sample: RandomSample = random_sample(project)
        classes = LabelClass.objects.filter(project=project)
        # The history may speak of deleted ones.
        self._name_of = dict(classes.values_list("pk", "name"))
        living = classes.filter(deleted_at=None)
        self._living = set(living.values_list("pk", flat=True))
        self.contents = Contents(
            project=project.name,
            kind=project.kind,
            classes=[dict(entry) for entry in living.values("id", "name", "colour")],
            as_of=database_now().isoformat(),
        )

    def records(self, tell: Callable[[int, int], None]) -> Iterator[Record]:
        """Return what is exported of each image, by ascending id."""
        images, last, n_read = self._images(), 0, 0
        total = images.count()
        while page := list(images.filter(pk__gt=last)[:AT_ONCE]):
            tell(n_read, total)
            for record in self._page(page):
                self.contents.count(record)
                yield record
            last, n_read = page[-1].pk, n_read + len(page)
        tell(total, total)

    def _images(self) -> QuerySet[Image]:
        images = Image.objects.filter(project=self._project, deleted_at=None).order_by("pk")
        standing = Annotation.objects.filter(image=OuterRef("pk"), is_current=True)
        in_sample = Q(random_key__lt=self._sample.below, pk__lte=self._sample.until)
        in_sample &= Q(Exists(standing))
        if self._wanted.images == LABELLED:
            images = images.filter(status=Image.Status.LABELLED)
        elif self._wanted.images == WITH_LABELS:
            images = images.filter(Exists(standing))
        if self._wanted.class_ids:
            named = standing.filter(regions__label_class__in=self._wanted.class_ids)
            images = images.filter(Exists(named))
        if self._wanted.chosen:
            images = images.filter(in_sample if self._wanted.chosen == RANDOM else ~in_sample)
        return images

    def _page(self, images: list[Image]) -> Iterator[Record]:
        ids = [image.pk for image in images]
        said = Annotation.objects.filter(image__in=ids).order_by("pk")
        if not self._wanted.history:
            said = said.filter(is_current=True)
        if self._wanted.names:
            said = said.select_related("author")
        of_image: dict[int, list[Annotation]] = defaultdict(list)
        for annotation in said:
            of_image[annotation.image_id].append(annotation)
        classes = _classes_of(said)
        for image in images:
            yield self._record(image, of_image[image.pk], classes)

    def _record(
        self, image: Image, said: list[Annotation], classes: dict[int, list[int]]
    ) -> Record:
        labels = [
            self._label(annotation, known)
            for annotation in said
            if annotation.is_current
            # A class that was just deleted takes its labels with it; some may not have followed.
            and (known := self._known(classes[annotation.pk])) is not None
        ]
        in_sample = bool(labels) and self._sample.holds(
            random_key=image.random_key, image_id=image.pk
        )
        record = {
            "id": image.pk,
            **({EXTERNAL_ID: getattr(image, EXTERNAL_ID)} if HAS_EXTERNAL_ID else {}),
            "key": str(image.key),
            "file_name": image.file_name,
            "sha256": image.sha256,
            "format": image.file_format,
            "width": image.width,
            "height": image.height,
            "n_bytes": image.n_bytes,
            "status": image.status,
            "created_at": image.created_at.isoformat(),
            "chosen": RANDOM if in_sample else QUEUE,
            "consensus": self._consensus([label["class_ids"] for label in labels]),
            "labels": labels,
        }
        if self._wanted.history:
            record["history"] = [
                self._label(annotation, classes[annotation.pk], in_history=True)
                for annotation in said
            ]
        return record

    def _known(self, class_ids: list[int]) -> list[int] | None:
        """Return the living ones of the classes of a label; None where the label says nothing."""
        living = [pk for pk in class_ids if pk in self._living]
        return living if living or self.contents.several else None

    def _label(
        self, annotation: Annotation, class_ids: list[int], *, in_history: bool = False
    ) -> Record:
        label = {
            "id": annotation.pk,
            "class_ids": class_ids,
            "classes": [self._name_of[pk] for pk in class_ids],
            "annotator": f"user-{annotation.author_id}",
            **({"annotator_name": annotation.author.shown_name} if self._wanted.names else {}),
            "at": annotation.created_at.isoformat(),
            "seconds": annotation.seconds,
            "action": annotation.action,
            "outcome": annotation.outcome,
            "source": annotation.source,
            "served": annotation.served,
        }
        if in_history:
            label |= {"stands": annotation.is_current, "replaces": annotation.replaces_id}
        return label

    def _consensus(self, labels: list[list[int]]) -> Record | None:
        """Return what most people say, and which share of them say exactly that."""
        if not labels:
            return None
        chosen = majority(labels, several=self.contents.several)
        n_agree = sum(set(label) == set(chosen) for label in labels)
        return {
            "class_ids": chosen,
            "classes": [self._name_of[pk] for pk in chosen],
            "n_labels": len(labels),
            "agreement": round(n_agree / len(labels), 4),
        }


def _classes_of(said: Iterable[Annotation]) -> dict[int, list[int]]:
    """Return the class ids each annotation names, in the order in which they were given."""
    classes: dict[int, list[int]] = defaultdict(list)
    regions = AnnotationRegion.objects.filter(
        annotation__in=[annotation.pk for annotation in said],
        shape=AnnotationRegion.Shape.WHOLE_IMAGE,
    )
    for pk, class_id in regions.order_by("pk").values_list("annotation", "label_class"):
        classes[pk].append(class_id)
    return classes
