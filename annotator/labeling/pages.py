"""The pages of a project that know nothing of its queue."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from annotator.accounts import access
from annotator.accounts import selectors as accounts
from annotator.accounts.models import Role
from annotator.labeling import selectors
from annotator.labeling.presenters import present_class
from annotator.labeling.serializers import TAKEN_KEYS
from annotator.labeling.services import PALETTE, version_of

SERVICE_SCOPES = [
    ("read", "Read"),
    ("annotate", "Annotate"),
    ("manage", "Manage"),
]


def project_context(project: Any, page: str, **more: Any) -> dict[str, Any]:
    """Return what every project page's template needs."""
    role = project.access_role
    return {
        "project": project,
        "role": role.label.lower(),
        "can_lead": role >= Role.LEAD,
        "can_review": role >= Role.REVIEWER,
        "page": page,
        **more,
    }


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """List the person's projects, and the archived ones they can bring back."""
    context = {
        "cards": selectors.project_cards(request.user),
        "archived": selectors.archived_cards(request.user),
    }
    return render(request, "labeling/home.html", context)


@login_required
def project_new(request: HttpRequest) -> HttpResponse:
    """Create a project on one page; the page talks to the API."""
    config = {"palette": PALETTE, "taken_keys": sorted(TAKEN_KEYS)}
    return render(request, "labeling/project_new.html", {"config": config})


@login_required
def people(request: HttpRequest, project_id: int) -> HttpResponse:
    """Show who is in the project; leads change roles and invite."""
    project = access.page_project(request, project_id, Role.REVIEWER)
    context = project_context(
        project,
        "people",
        members=selectors.people(project),
        invitations=selectors.open_invitations(project, timezone.now()),
        roles=[(role.label.lower(), role.label) for role in Role],
        tokens=accounts.service_tokens(project.pk) if project.access_role >= Role.LEAD else [],
        scopes=SERVICE_SCOPES,
    )
    return render(request, "labeling/people.html", context)


@login_required
def project_settings(request: HttpRequest, project_id: int) -> HttpResponse:
    """Change the name, the instructions and the classes, or archive the project."""
    project = access.page_project(request, project_id, Role.LEAD)
    alone = selectors.images_of_one_class(project)
    classes = [
        {**present_class(entry), "n_images_alone": alone.get(entry.pk, 0)}
        for entry in project.classes.filter(deleted_at=None)
    ]
    context = project_context(
        project,
        "settings",
        classes=classes,
        deleted_classes=selectors.deleted_classes(project)[:200],
        version=version_of(project),
    )
    return render(request, "labeling/project_settings.html", context)
