"""Reads of projects, for pages."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, QuerySet, Subquery

from annotator.accounts import access
from annotator.accounts.models import Invitation, Membership, Role
from annotator.labeling.models import Annotation, AnnotationRegion, Image, LabelClass, Project


@dataclass(frozen=True)
class ProjectCard:
    """What the home page shows of a project."""

    project: Project
    role: Role | None

    @property
    def percent(self) -> int:
        """Return how much of it is labelled, rounded down so that 100 means all."""
        return self.project.n_labelled * 100 // max(self.project.n_images, 1)

    @property
    def n_open(self) -> int:
        """Return how many images wait for a label."""
        return self.project.n_images - self.project.n_labelled

    @property
    def can_lead(self) -> bool:
        """Return whether the person may change the project."""
        return self.role == Role.LEAD


def project_cards(user: Any) -> list[ProjectCard]:
    """Return the person's projects, newest first, with their role in each."""
    roles = dict(Membership.objects.filter(user=user).values_list("project_id", "role"))
    return [
        ProjectCard(
            project,
            Role.LEAD
            if user.is_superuser
            else (Role(roles[project.pk]) if project.pk in roles else None),
        )
        for project in access.visible_projects(user)[:200]
    ]


def archived_cards(user: Any) -> list[ProjectCard]:
    """Return the archived projects the person can bring back, the newest first."""
    return [ProjectCard(project, Role.LEAD) for project in access.archived_projects(user)[:200]]


def deleted_classes(project: Project) -> QuerySet[LabelClass]:
    """Return the classes that were deleted, the last one first."""
    return project.classes.exclude(deleted_at=None).order_by("-deleted_at", "-pk")


def people(project: Project) -> list[Membership]:
    """Return the members who are people, leads first."""
    return list(project.memberships.filter(user__service_of=None).select_related("user"))


def open_invitations(project: Project, now: Any) -> list[Invitation]:
    """Return the invitations that can still be used."""
    return list(project.invitations.filter(revoked_at=None, uses_left__gt=0, expires_at__gt=now))


def images_of_one_class(project: Project) -> dict[int, int]:
    """Return class id -> how many images would go back to the queue if the class were deleted."""
    if project.annotators_per_image > 1:
        return _images_short_of_labels(project)
    of_image = Annotation.objects.filter(image=OuterRef("annotation__image"), is_current=True)
    said = AnnotationRegion.objects.filter(
        annotation__is_current=True,
        annotation__image__project=project,
        annotation__image__status=Image.Status.LABELLED,
        annotation__image__deleted_at=None,
        label_class__deleted_at=None,
    )
    other_class = AnnotationRegion.objects.filter(
        annotation__image=OuterRef("annotation__image"),
        annotation__is_current=True,
        label_class__deleted_at=None,
    ).exclude(label_class=OuterRef("label_class"))
    alone = said.filter(~Exists(other_class), ~Exists(of_image.filter(regions=None)))
    counts = (
        alone.order_by().values("label_class").annotate(n=Count("annotation__image", distinct=True))
    )
    return dict(counts.values_list("label_class", "n"))


def _images_short_of_labels(project: Project) -> dict[int, int]:
    """The same where several people label an image: it may have some labels left, but too few."""
    standing = Annotation.objects.filter(image=OuterRef("annotation__image"), is_current=True)
    n_people = standing.order_by().values("image").annotate(n=Count("pk")).values("n")
    other_class = AnnotationRegion.objects.filter(
        annotation=OuterRef("annotation"), label_class__deleted_at=None
    ).exclude(label_class=OuterRef("label_class"))
    alone = AnnotationRegion.objects.filter(
        ~Exists(other_class),
        annotation__is_current=True,
        annotation__image__project=project,
        annotation__image__status=Image.Status.LABELLED,
        annotation__image__deleted_at=None,
        label_class__deleted_at=None,
    )
    lost = (
        alone.order_by()
        .values("label_class", "annotation__image")
        .annotate(n_lost=Count("annotation"), n_people=Subquery(n_people))
        .filter(n_people__lt=F("n_lost") + project.annotators_per_image)
    )
    return dict(Counter(lost.values_list("label_class", flat=True)))
