"""Plain functions that make things for tests."""

import hashlib
import itertools
import uuid
from datetime import timedelta

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from annotator.accounts.models import Membership, Role, User
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image, LabelClass, Project
from workqueue.models import RankedImage, Ranking
from workqueue.requests import state_of

_numbers = itertools.count(1)
HOUR = timedelta(hours=1)


def make_user(name: str = "", *, admin: bool = False) -> User:
    name = name or f"person{next(_numbers)}"
    return User.objects.create_user(name, password="correct horse", is_superuser=admin)


def make_project(
    *, lead: User | None = None, classes: tuple[str, ...] = ("cat", "dog", "bird"), **fields
) -> Project:
    fields = {"name": "Animals", "kind": Project.Kind.ONE_CLASS} | fields
    return labeling.create_project(
        actor=lead or make_user(),
        classes=[labeling.ClassSpec(name) for name in classes],
        **fields,
    )


def make_member(project: Project, role: Role = Role.ANNOTATOR, name: str = "") -> User:
    user = make_user(name)
    Membership.objects.create(project=project, user=user, role=role)
    return user


def make_images(project: Project, n: int) -> list[Image]:
    images = []
    for _ in range(n):
        key = uuid.uuid4()
        images.append(
            Image(
                project=project,
                key=key,
                random_key=Image.random_key_of(key),
                sha256=key.hex * 2,
                file_name=f"{next(_numbers)}.jpg",
                file_format="jpg",
                n_bytes=1000,
                width=640,
                height=480,
            )
        )
    images = Image.objects.bulk_create(images)
    Project.objects.filter(pk=project.pk).update(n_images=project.images.count())
    project.refresh_from_db()
    return images


def store_files(images: list[Image]) -> None:
    """Give the images files whose hashes their rows know."""
    for image in images:
        content = f"bytes of {image.pk}".encode()
        Image.objects.filter(pk=image.pk).update(sha256=hashlib.sha256(content).hexdigest())
        for name in (image.original_name, image.display_name, image.thumbnail_name):
            default_storage.save(name, ContentFile(content))


def make_ranking(project: Project, images: list[Image], **fields) -> Ranking:
    state = state_of(project)
    number = state.ranking.number + 1 if state.ranking else 1
    ranking = Ranking.objects.create(
        project=project,
        number=number,
        kind=Ranking.Kind.HEURISTIC,
        heuristic="margin",
        n_pool=len(images),
        n_candidates=len(images),
        n_positions=len(images),
        **fields,
    )
    RankedImage.objects.bulk_create(
        RankedImage(
            ranking=ranking,
            position=position,
            image=image,
            score=1.0 - position / 100,
            top_classes=[],
        )
        for position, image in enumerate(images, 1)
    )
    state.ranking = ranking
    state.save(update_fields=["ranking"])
    return ranking


@transaction.atomic
def make_label(image: Image, author: User, *classes: LabelClass, **fields) -> Annotation:
    """Let somebody label an image without the queue."""
    recorded = labeling.record_annotation(image=image, author=author, classes=classes, **fields)
    labeling.count_label(image, recorded)
    return recorded.annotation


def class_of(project: Project, name: str = "cat") -> LabelClass:
    return project.classes.get(name=name)


def now():
    return timezone.now()
