"""The JSON of projects, classes, images and annotations."""

from collections.abc import Sequence
from typing import Any

from django.urls import reverse

from annotator.accounts.models import Role
from annotator.labeling.models import Annotation, Image, LabelClass, Project


def present_class(label_class: LabelClass) -> dict[str, Any]:
    """Return one entry of the label set."""
    return {
        "id": label_class.pk,
        "name": label_class.name,
        "colour": label_class.colour,
        "hotkey": label_class.hotkey,
        "position": label_class.position,
    }


def present_deleted_class(label_class: LabelClass) -> dict[str, Any]:
    """Return a class that was deleted, and when."""
    gone = label_class.deleted_at
    return {**present_class(label_class), "deleted_at": gone.isoformat() if gone else None}


def present_project(project: Project, role: Role | None) -> dict[str, Any]:
    """Return a project with its classes and the asking person's role."""
    return {
        "id": project.pk,
        "name": project.name,
        "kind": project.kind,
        "instructions": project.instructions,
        "role": role.label.lower() if role else None,
        "n_images": project.n_images,
        "n_labelled": project.n_labelled,
        "n_labels": project.n_labels,
        "annotators_per_image": project.annotators_per_image,
        "created_at": project.created_at.isoformat(),
        "classes": [
            present_class(entry) for entry in project.classes.all() if entry.deleted_at is None
        ],
        "url": reverse("api:project", args=[project.pk]),
    }


def present_image(
    image: Image, annotation: Annotation | None, annotations: Sequence[Annotation] = ()
) -> dict[str, Any]:
    """Return an image with its addresses and what is said of it.

    Args:
        image: the image.
        annotation: the earliest current annotation, if there is one.
        annotations: the current annotations of everybody.
    """
    return {
        "id": image.pk,
        "key": str(image.key),
        "external_id": image.external_id or None,
        "file_name": image.file_name,
        "width": image.width,
        "height": image.height,
        "n_bytes": image.n_bytes,
        "format": image.file_format,
        "status": Image.DELETED if image.deleted_at else image.status,
        "note": image.note,
        "created_at": image.created_at.isoformat(),
        "display_url": reverse("image_file", args=[image.key, "display.jpg"]),
        "thumbnail_url": reverse("image_file", args=[image.key, "thumbnail.jpg"]),
        "original_url": reverse("image_file", args=[image.key, "original"]),
        "annotation": present_annotation(annotation) if annotation else None,
        "annotations": [present_annotation(entry) for entry in annotations],
    }


def present_annotation(annotation: Annotation) -> dict[str, Any]:
    """Return what somebody said of an image."""
    return {
        "id": annotation.pk,
        "image_id": annotation.image_id,
        "external_id": annotation.image.external_id or None,
        "class_ids": [region.label_class_id for region in annotation.regions.all()],
        "action": annotation.action,
        "outcome": annotation.outcome,
        "source": annotation.source,
        "author_id": annotation.author_id,
        "author": annotation.author.shown_name,
        "served": annotation.served,
        "seconds": annotation.seconds,
        "created_at": annotation.created_at.isoformat(),
    }
