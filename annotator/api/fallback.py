"""Answers of the API where no view of it is reached."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework.decorators import api_view, schema
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.api.problems import Problem, body_of

API = "/api/"


@api_view(["GET", "POST", "PUT", "PATCH", "DELETE"])
@schema(None)
def no_such_route(request: Request) -> Response:
    """Answer 404 as problem+json, also below /api/.

    Raises:
        Problem: always.
    """
    raise Problem(404, "not-found", f"There is no API route {request.path} (mind the last slash).")


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer an error nobody expected: a program gets problem+json, a person the page."""
    if not request.path.startswith(API):
        return defaults.server_error(request)
    return _answer(
        request,
        Problem(500, "server-error", "It is in the server's log, under this request_id."),
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django refuses to read (too many files, too large, a forged host)."""
    if not request.path.startswith(API):
        return defaults.bad_request(request, exception)
    return _answer(request, Problem(400, "bad-request", "The request could not be read."))


def _answer(request: HttpRequest, problem: Problem) -> HttpResponse:
    return JsonResponse(
        body_of(problem, request),
        status=problem.status_code,
        content_type="application/problem+json",
    )
