"""Headers of every answer: what ties it to its log lines, and how much of a limit is left.

And the page of an archived project.
"""

import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from annotator.accounts.access import ProjectArchivedError
from annotator.accounts.models import Role


def request_id(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Give every request an id, repeated in the ``X-Request-ID`` header and in error bodies."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.META["annotator.request_id"] = uuid.uuid4().hex
        response = get_response(request)
        response["X-Request-ID"] = request.META["annotator.request_id"]
        return response

    return middleware


class ArchivedProjects:
    """Answers for every page of an archived project: that it is archived, and what to do."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Show the page; the API says it in its own words."""
        if not isinstance(error, ProjectArchivedError):
            return None
        project = error.project
        context = {"project": project, "can_lead": project.access_role == Role.LEAD}
        return render(request, "labeling/archived.html", context, status=410)


def rate_limit(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Send what the API has counted (see ``annotator.accounts.throttling``), with errors too."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        for name, value in request.META.get("annotator.rate_limit", {}).items():
            response[name] = value
        return response

    return middleware
