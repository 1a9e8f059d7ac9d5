"""The only way from a request to an object.

A stranger gets 404 (they must not learn that the object exists), a member with too small a role
gets 403. Every model that belongs to a project names its path to it with ``project_path``.
"""

from typing import Any, TypeVar

from django.apps import apps
from django.core.exceptions import PermissionDenied as PagePermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest
from rest_framework.exceptions import NotAuthenticated, NotFound, PermissionDenied
from rest_framework.request import Request

from annotator.accounts.models import Membership, Role, User

AnyModel = TypeVar("AnyModel", bound=Model)


def person_of(request: Request) -> User:
    """Return who is signed in.

    Raises:
        NotAuthenticated: nobody is.
    """
    if not isinstance(request.user, User):
        raise NotAuthenticated
    return request.user


def human_of(request: Request) -> User:
    """Return the person who is signed in, for what is not about one project.

    Raises:
        NotAuthenticated: nobody is.
        PermissionDenied: it is a service.
    """
    person = person_of(request)
    if person.service_of_id:
        raise PermissionDenied(
            "A service token acts in its project alone. Use a personal token for this."
        )
    return person


def visible_projects(user: Any) -> QuerySet[Any]:
    """Return the living projects the user is a member of (all for a site admin)."""
    projects = apps.get_model("labeling", "Project")._default_manager.filter(deleted_at=None)
    if user.is_superuser:
        return projects
    if user.service_of_id:
        projects = projects.filter(pk=user.service_of_id)
    return projects.filter(memberships__user=user)


def role_in(user: Any, project_id: int) -> Role | None:
    """Return the user's role; a site admin is a lead everywhere, a service has one project."""
    if user.is_superuser:
        return Role.LEAD
    if user.service_of_id not in {None, project_id}:
        return None
    value = (
        Membership.objects.filter(user=user, project_id=project_id)
        .values_list("role", flat=True)
        .first()
    )
    return None if value is None else Role(value)


def project_for(user: Any, project_id: int, at_least: Role = Role.ANNOTATOR) -> Any:
    """Return the project, with ``.access_role`` set.

    Raises:
        NotFound: it does not exist, was deleted, or the user is not a member.
        PermissionDenied: the user's role is too small.
    """
    project = (
        apps.get_model("labeling", "Project")
        ._default_manager.filter(pk=project_id, deleted_at=None)
        .first()
    )
    role = None if project is None else role_in(user, project_id)
    if project is None or role is None:
        raise NotFound("There is no such project, or you are not a member of it.")
    if role < at_least:
        raise PermissionDenied(
            f"This needs the role {at_least.label.lower()}; you are {role.label.lower()} here. "
            "Ask a lead of the project."
        )
    project.access_role = role
    return project


def object_for(
    user: Any,
    queryset: QuerySet[AnyModel],
    /,
    *,
    project_path: str = "project",
    at_least: Role = Role.ANNOTATOR,
    **lookup: Any,
) -> AnyModel:
    """Return one object of a project the user may reach.

    Args:
        user: who asks.
        queryset: where to look.
        project_path: the lookup from the model to its project.
        at_least: the role needed.
        lookup: what identifies the object, for example ``pk=7``.

    Raises:
        NotFound: no such object, or not the user's to see.
        PermissionDenied: the role is too small.
    """
    found = queryset.filter(**lookup).select_related(project_path).first()
    if found is None:
        raise NotFound("There is no such object, or it is not yours to see.")
    project: Any = found
    for step in project_path.split("__"):
        project = getattr(project, step)
    project_for(user, project.pk, at_least)
    return found


def page_project(request: HttpRequest, project_id: int, at_least: Role = Role.ANNOTATOR) -> Any:
    """Return the project for a server-rendered page.

    Raises:
        Http404: as ``NotFound`` in :func:`project_for`.
        PermissionDenied: Django's own, so that the 403 page is shown.
    """
    try:
        return project_for(request.user, project_id, at_least)
    except NotFound as error:
        raise Http404(str(error.detail)) from error
    except PermissionDenied as error:
        raise PagePermissionDenied(str(error.detail)) from error


def is_site_admin(user: User) -> bool:
    """Return whether the user administers the whole installation."""
    return user.is_active and user.is_superuser
