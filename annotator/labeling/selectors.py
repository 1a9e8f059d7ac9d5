"""Reads of projects, for pages."""

from dataclasses import dataclass
from typing import Any

from annotator.accounts import access
from annotator.accounts.models import Invitation, Membership, Role
from annotator.labeling.models import Project


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


def members(project: Project) -> list[Membership]:
    """Return the members, leads first."""
    return list(project.memberships.select_related("user"))


def open_invitations(project: Project, now: Any) -> list[Invitation]:
    """Return the invitations that can still be used."""
    return list(project.invitations.filter(revoked_at=None, uses_left__gt=0, expires_at__gt=now))
