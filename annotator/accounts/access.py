"""The only way from a request to an object.

A stranger gets 404 (they must not learn that the object exists), a member with too small a role
gets 403, and a member of an archived project 410. Every model that belongs to a project names its
path to it with ``project_path``.
"""

from typing import Any, TypeVar

from django.apps import apps
from django.core.exceptions import PermissionDenied as PagePermissionDenied
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest
from rest_framework.exceptions import NotAuthenticated, NotFound, PermissionDenied
from rest_framework.request import Request

from annotator.accounts.models import Membership, Role, User
from annotator.api.problems import Problem
from annotator.prepared import Given, Prepared

AnyModel = TypeVar("AnyModel", bound=Model)

_MEMBERSHIP = Membership.objects.filter(project=OuterRef("pk"), user=Given("user")).order_by()
_PROJECT: Prepared[Any] = Prepared(
    lambda: (
        apps.get_model("labeling", "Project")
        ._default_manager.filter(pk=Given("project"))
        .annotate(member_role=Subquery(_MEMBERSHIP.values("role")[:1]))
    )
)


class ProjectArchivedError(Problem):
    """The project is hidden until a lead brings it back; said to its members only."""

    def __init__(self, project: Any) -> None:
        super().__init__(
            410,
            "project-archived",
            f"The project “{project.name}” is archived. "
            "Nothing of it is lost: a lead can bring it back on the page Projects.",
        )
        self.project = project


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


def archived_projects(user: Any) -> QuerySet[Any]:
    """Return the archived projects the user can bring back, the newest first."""
    projects = apps.get_model("labeling", "Project")._default_manager.exclude(deleted_at=None)
    if not user.is_superuser:
        projects = projects.filter(memberships__user=user, memberships__role=Role.LEAD)
    return projects.order_by("-deleted_at")


def role_in(user: Any, project_id: int) -> Role | None:
    """Return the user's role; a site admin is a lead everywhere, a service has one project."""
    memberships = Membership.objects.filter(user=user, project_id=project_id)
    return _role(user, project_id, memberships.values_list("role", flat=True).first())


def _role(user: Any, project_id: int, member_role: int | None) -> Role | None:
    if user.is_superuser:
        return Role.LEAD
    if user.service_of_id not in {None, project_id} or member_role is None:
        return None
    return Role(member_role)


def project_for(user: Any, project_id: int, at_least: Role = Role.ANNOTATOR) -> Any:
    """Return the project, with ``.access_role`` set.

    Raises:
        NotFound: it does not exist, or the user is not a member.
        ProjectArchivedError: it is archived.
        PermissionDenied: the user's role is too small.
    """
    project = project_even_if_closed(user, project_id)
    role = None if project is None else project.access_role
    if project is None or role is None:
        raise NotFound("There is no such project, or you are not a member of it.")
    if project.deleted_at is not None:
        raise ProjectArchivedError(project)
    if role < at_least:
        raise PermissionDenied(
            f"This needs the role {at_least.label.lower()}; you are {role.label.lower()} here. "
            "Ask a lead of the project."
        )
    return project


def project_even_if_closed(user: Any, project_id: int) -> Any | None:
    """Return the project though it may be archived or the user no member (then without a role).

    Only for what the user began while it was open to them: the caller makes sure of that.
    """
    found = _PROJECT.first(project=project_id, user=user)
    if found is not None:
        found.access_role = _role(user, project_id, found.member_role)
    return found


def archived_project_for(user: Any, project_id: int) -> Any:
    """Return an archived project its lead wants to bring back.

    Raises:
        NotFound: no archived project, or the user is not a member.
        PermissionDenied: the user is no lead.
    """
    project = project_even_if_closed(user, project_id)
    if project is None or project.access_role is None or project.deleted_at is None:
        raise NotFound("There is no such archived project, or you are not a member of it.")
    if project.access_role < Role.LEAD:
        raise PermissionDenied("Only a lead can bring a project back.")
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
    unknown = NotFound("There is no such object, or it is not yours to see.")
    found = queryset.filter(**lookup).select_related(project_path).first()
    if found is None:
        raise unknown
    project: Any = found
    for step in project_path.split("__"):
        project = getattr(project, step)
    try:
        project_for(user, project.pk, at_least)
    except NotFound:
        # In the same words: strangers must not learn which objects there are.
        raise unknown from None
    return found


def page_project(request: HttpRequest, project_id: int, at_least: Role = Role.ANNOTATOR) -> Any:
    """Return the project for a server-rendered page.

    Raises:
        ProjectArchivedError: it is archived; the middleware answers with a page that says so.
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
